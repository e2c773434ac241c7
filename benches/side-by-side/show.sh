#!/bin/bash
# show.sh [ROUNDS]: what `metactl myapp show` costs end to end, in processor time, beside Python's
# configparser reading, merging and printing the same four files. Needs no root: it makes a metactl of its
# own in a temporary folder, with an instance that is deployed as far as reading it goes.
#
# METACTL names the program; without it the release build is made.
set -euo pipefail
source "$(dirname "$0")/../../scripts/lib.sh"
rounds=${1:-200}

if [[ -z ${METACTL:-} ]]; then
  step build "metactl, as it is installed" as_person env -C "$REPO" cargo build --release --locked -p metactl --bin metactl
  METACTL=$(target_dir)/release/metactl
fi
command -v python3 >/dev/null || DIE_CODE=69 die "python3 is missing" "apt install python3"

root=$(mktemp -d "${TMPDIR:-/tmp}/metactl-show.XXXXXX")
trap 'rm -rf "$root"' EXIT
export METACTL_ROOT=$root
etc=$root/etc/metactl state=$root/var/lib/metactl/myapp
seed=$REPO/bundles/testdata/seed
mkdir -p "$etc"/{nodes,sites/prod} "$state"/{releases/1,bundles/0}
cat "$seed/app.metactl" "$seed"/sandbox-app.metactl |
  sed '/^\[webapp\]/,/^$/d' >"$state/releases/1/.metactl"
{ cat "$seed/sandbox-site.conf"; sed 's/^DB_URL/&/; /svn/d' "$seed/site.conf"; } >"$etc/sites/prod/myapp.conf"
cat "$seed"/{local,sandbox-local}.conf >"$etc/nodes/myapp.conf"
printf '[server]\nsite = prod\n\n[sandbox.limits]\nmemory = 2g\n' >"$etc/metactl.conf"
cat >"$state/bundles/0/manifest.json" <<END
{ "format": 1, "version": "0", "instance": "myapp", "app": "myapp", "release": "1",
  "releasePath": "$state/releases/1", "uid": 66000, "gid": 66000, "hostname": "myapp",
  "entries": [], "layers": [], "settings": [] }
END
ln -s bundles/0 "$state/bundle"
cat >"$root/show.py" <<'END'
import configparser, sys
merged = {}
for path in sys.argv[1:]:
    layer = configparser.RawConfigParser(strict=False, delimiters="=")
    layer.optionxform = str
    layer.read(path)
    for section in layer.sections():
        merged.setdefault(section, {}).update(layer.items(section))
for section, keys in merged.items():
    print(f"[{section}]")
    for key, value in keys.items():
        print(key, "=", value)
END
files=("$state/releases/1/.metactl" "$etc/sites/prod/myapp.conf" "$etc/metactl.conf" "$etc/nodes/myapp.conf")

"$METACTL" myapp show >"$root/shown" || die "metactl myapp show failed"
grep -q '^JOB_MANAGER_PORT = 9001$' "$root/shown" || die "metactl myapp show does not show what it should"

# cpu COMMAND...: user and system time of one run, in microseconds, the mean of all rounds.
cpu() {
  local user system TIMEFORMAT='%3U %3S'
  read -r user system < <({ time for ((n = 0; n < rounds; n++)); do "$@" >/dev/null; done; } 2>&1)
  awk -v u="$user" -v s="$system" -v n="$rounds" 'BEGIN { printf "%d\n", (u + s) * 1e6 / n }'
}

# nothing: what starting any program costs here.
floor=$(cpu /bin/true)
show=$(cpu "$METACTL" myapp show)
why=$(cpu "$METACTL" myapp why mysql.example.org:3306)
python=$(cpu python3 -I "$root/show.py" "${files[@]}")
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }
printf '%-34s %8s  %s\n' "processor time of one run, $rounds runs" "µs" "to Python"
printf '%-34s %8d\n' "/bin/true" "$floor"
printf '%-34s %8d  %s\n' "metactl myapp show" "$show" "$(ratio "$show" "$python")"
printf '%-34s %8d  %s\n' "metactl myapp why" "$why" "$(ratio "$why" "$python")"
printf '%-34s %8d  1\n' "python3, configparser" "$python"
if ((show > 5000)); then
  die "metactl myapp show takes $show µs of processor time; at most 5000 are allowed"
fi
