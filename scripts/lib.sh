# Shared by the scripts beside it; sourced, never run. Needs bash.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Colours only for people who want them.
if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  GOOD=$'\e[32m' BAD=$'\e[1;31m' FAINT=$'\e[2m' STRONG=$'\e[1m' PLAIN=$'\e[0m' LIVE=1
else
  GOOD='' BAD='' FAINT='' STRONG='' PLAIN='' LIVE=
fi

# Microseconds since the epoch.
now() { local t=$EPOCHREALTIME; echo "${t/[.,]/}"; }

# took START [END]: a time as people say it: 11 ms, 2.1 s, 1m 52s.
took() {
  local us=$((${2:-$(now)} - $1))
  if ((us < 100000)); then echo "$((us / 1000)) ms"
  elif ((us < 60000000)); then echo "$((us / 1000000)).$((us / 100000 % 10)) s"
  else printf '%dm %02ds\n' $((us / 60000000)) $((us / 1000000 % 60)); fi
}

# die MESSAGE [HINT...]
die() {
  echo "${BAD}error:${PLAIN} $1" >&2
  shift
  local hint; for hint in "$@"; do echo "  $hint" >&2; done
  exit "${DIE_CODE:-1}"
}

# step NAME DETAIL COMMAND...: runs it with a running clock; its output is shown only when it fails.
step() {
  local name=$1 detail=$2 start log pid code=0
  shift 2
  start=$(now)
  log=$(mktemp "${TMPDIR:-/tmp}/metactl-step.XXXXXX")
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  if [[ $LIVE ]]; then
    while kill -0 "$pid" 2>/dev/null; do
      printf '\r\e[K  · %-9s %8s  %s' "$name" "$(took "$start")" \
        "$(tail -c 300 "$log" | tr '\r' '\n' | tail -n 1 | tr -cd '[:print:]' | cut -c 1-50)"
      sleep 0.2
    done
    printf '\r\e[K'
  else
    echo "  · $name: $detail"
  fi
  wait "$pid" || code=$?
  if ((code == 0)); then
    printf '  %s✓%s %-9s %8s  %s\n' "$GOOD" "$PLAIN" "$name" "$(took "$start")" "$detail"
    rm -f "$log"
  else
    printf '  %s✗%s %-9s %8s  %s (exit code %d)\n' "$BAD" "$PLAIN" "$name" "$(took "$start")" "$detail" "$code"
    tail -n "${STEP_TAIL:-60}" "$log" >&2
    rm -f "$log"
  fi
  return "$code"
}

# The account that owns the work: with sudo, the person behind it.
if [[ $EUID -eq 0 && -n ${SUDO_USER:-} && ${SUDO_USER:-} != root ]]; then
  PERSON=$SUDO_USER PERSON_HOME=$(getent passwd "$SUDO_USER" | cut -d: -f6)
else
  PERSON= PERSON_HOME=${HOME:-/root}
fi
# rustup puts cargo where sudo and non-login shells do not look.
export PATH=$PATH:${CARGO_HOME:-$PERSON_HOME/.cargo}/bin:/usr/sbin:/sbin

# as_person COMMAND...: not as root when there is somebody behind sudo: a checkout and a cargo
# registry full of root's files would be in their way from then on.
as_person() {
  if [[ -n $PERSON ]]; then
    runuser -u "$PERSON" -- env HOME="$PERSON_HOME" PATH="$PATH" "$@"
  else
    "$@"
  fi
}

# The directory that cargo builds into.
target_dir() {
  (cd "$REPO" && as_person cargo metadata --no-deps --format-version 1 --locked) |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
