# What the checks inside the virtual machine have in common; sourced.
set -uo pipefail
export HOME=/root LC_ALL=C.UTF-8
failed=0

# check WHAT COMMAND...: one line of result; the output of a command that fails
check() {
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok    $what"
    else
        echo "FAIL  $what: $*"
        printf '%s\n' "$output" | tail -n 30 | sed 's/^/      /'
        failed=1
    fi
}
# is VALUE FILE: the file holds just this
is() { [ "$(cat "$2")" = "$1" ] || { echo "$2: $(cat "$2"), not $1"; return 1; }; }
# same A B
same() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }
# says TEXT COMMAND...: the output contains it
says() {
    local text=$1 output
    shift
    output=$("$@" 2>&1) || { printf '%s\n' "$output"; return 1; }
    [[ $output == *"$text"* ]] || { echo "no \"$text\" in: $output"; return 1; }
}
# shows TEXT COMMAND...: the same, whatever its exit code
shows() {
    local text=$1 output
    shift
    output=$("$@" 2>&1)
    [[ $output == *"$text"* ]] || { echo "no \"$text\" in: $output"; return 1; }
}
not() { ! "$@"; }
fails_with() {
    local code=$1 got=0
    shift
    "$@" || got=$?
    [ "$got" = "$code" ] || { echo "exit code $got, not $code"; return 1; }
}
# soon COMMAND...: it succeeds within 20 seconds, or $TRIES half seconds
soon() {
    local _
    for _ in $(seq "${TRIES:-40}"); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.5
    done
    "$@"
}

# What a machine has that metactl could leave behind.
state_of_machine() {
    echo "== mounts"; awk '{print $3, $4, $5}' /proc/self/mountinfo | sort
    echo "== links"; ip -o link | cut -d: -f2 | sort
    echo "== routes"; ip route; ip -6 route
    echo "== tables"; nft list tables
    echo "== cgroups"; find /sys/fs/cgroup -type d -name 'metactl*' -not -name '*.slice'
    echo "== forwarding"; sysctl -a 2> /dev/null | grep -E 'forwarding|ip_forward |proxy_arp |proxy_ndp ' | sort
    echo "== processes"; ps -eo args= | grep -E '^[^ ]*(metactl|perl)( |$|-)' | grep -v grep
    # Which jobs have run since the boot is known until the next one.
    echo "== run"; find /run/metactl -type f -not -name "*.lock" -not -path "/run/metactl/booted/*" 2> /dev/null
}
# same_machine: as it was when `state_of_machine > /tmp/before` was said
same_machine() {
    # The network of a sandbox dies a moment after its last process.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        state_of_machine > /tmp/after
        diff -q /tmp/before /tmp/after > /dev/null && return
        sleep 0.5
    done
    diff /tmp/before /tmp/after
}
