#!/bin/bash
# bench.sh [ROUNDS]: metactl side by side with crun; see benches/side-by-side/run.sh.
set -euo pipefail
exec "$(dirname "$0")/../benches/side-by-side/run.sh" "$@"
