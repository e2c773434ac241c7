#!/bin/bash
# bench.sh [ROUNDS]: metactl side by side with crun (benches/side-by-side/run.sh), then its command line beside
# Python's configparser (show.sh), and the resolver beside dnsmasq (resolver.sh).
set -euo pipefail
here=$(dirname "$0")/../benches/side-by-side
"$here/run.sh" "$@"
echo
"$here/show.sh"
echo
if command -v named >/dev/null && command -v dnsmasq >/dev/null; then
  "$here/resolver.sh"
else
  echo "the resolver: left out, as named or dnsmasq is missing (apt install bind9 dnsmasq-base)"
fi
