#!/bin/bash
# bench.sh [ROUNDS]: metactl side by side with crun (benches/side-by-side/run.sh), then its command line beside
# Python's configparser (show.sh).
set -euo pipefail
here=$(dirname "$0")/../benches/side-by-side
"$here/run.sh" "$@"
echo
"$here/show.sh"
