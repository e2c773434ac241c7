#!/bin/bash
# install.sh install|uninstall PREFIX: both programs go side by side into PREFIX/bin, the manual pages and
# the completion of shells into PREFIX/share.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
action=${1:?install or uninstall} prefix=${2:?PREFIX}
bin=$prefix/bin man=$prefix/share/man
pages=(metactl.1 metactl.conf.5 metactl-keys.5)
# Of each shell: the script in cli/completions, and where the shell looks for it.
completions=(
  "metactl.bash $prefix/share/bash-completion/completions/metactl"
  "_metactl $prefix/share/zsh/site-functions/_metactl"
  "metactl.fish $prefix/share/fish/vendor_completions.d/metactl.fish"
)

# page NAME: where a manual page goes.
page() { echo "$man/man${1##*.}/$1"; }

put() {
  local name pair
  install -d "$bin" && install -m 755 "$built/metactl" "$built/metactl-runtime" "$bin/" || return
  for name in "${pages[@]}"; do
    "$built/metactl" manual "$name" | install -D -m 644 /dev/stdin "$(page "$name")" || return
  done
  for pair in "${completions[@]}"; do
    install -D -m 644 "$REPO/cli/completions/${pair%% *}" "${pair#* }" || return
  done
}

case $action in
  install)
    built=$(target_dir)/metactl
    [[ -x $built/metactl && -x $built/metactl-runtime ]] || die "nothing is built yet" "make build"
    put || DIE_CODE=77 die "cannot write to $prefix" "sudo make install PREFIX=$prefix"
    echo "installed $bin/metactl and $bin/metactl-runtime, manual pages and completions in $prefix/share"
    echo "Undo: make uninstall PREFIX=$prefix"
    ;;
  uninstall)
    rm -f "$bin/metactl" "$bin/metactl-runtime"
    for name in "${pages[@]}"; do rm -f "$(page "$name")"; done
    for pair in "${completions[@]}"; do rm -f "${pair#* }"; done
    echo "removed $bin/metactl and $bin/metactl-runtime; configuration and instances are still there"
    echo "Undo: make install PREFIX=$prefix"
    ;;
  *) die "usage: install.sh install|uninstall PREFIX" ;;
esac
