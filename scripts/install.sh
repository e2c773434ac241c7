#!/bin/bash
# install.sh install|uninstall PREFIX: both programs go side by side into PREFIX/bin.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
action=${1:?install or uninstall} bin=${2:?PREFIX}/bin

case $action in
  install)
    built=$(target_dir)/metactl
    [[ -x $built/metactl && -x $built/metactl-runtime ]] || die "nothing is built yet" "make build"
    install -d "$bin" && install -m 755 "$built/metactl" "$built/metactl-runtime" "$bin/" ||
      DIE_CODE=77 die "cannot write to $bin" "sudo make install PREFIX=${2}"
    echo "installed $bin/metactl and $bin/metactl-runtime"
    echo "Undo: make uninstall PREFIX=$2"
    ;;
  uninstall)
    rm -f "$bin/metactl" "$bin/metactl-runtime"
    echo "removed $bin/metactl and $bin/metactl-runtime; configuration and instances are still there"
    echo "Undo: make install PREFIX=$2"
    ;;
  *) die "usage: install.sh install|uninstall PREFIX" ;;
esac
