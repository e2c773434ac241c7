#!/bin/bash
# A FAKE of Upstart's initctl, for tests on machines without Upstart: there is no init behind it. It reads the jobs in
# /etc/init, and runs their processes in the background itself; what it knows of a job is in a folder beside it. It
# knows the stanzas that metactl writes, and no others. tests/vm/upstart.sh has the same done by a real Upstart.
set -u
here=$(cd "$(dirname "$0")" && pwd)
jobs=/etc/init
mkdir -p "$here/state" /var/log/upstart
quiet_fail() { echo "initctl: $*" >&2; exit 1; }

# stanza JOB NAME: what stands behind it
stanza() { sed -n "s/^$2 //p" "$jobs/$1.conf"; }
has() { grep -q "^$2\( \|\$\)" "$jobs/$1.conf"; }
# know JOB GOAL STATE [PID]
know() { echo "$2 $3 ${4:-}" > "$here/state/.$1.new" && mv "$here/state/.$1.new" "$here/state/$1"; }
goal() { local goal rest; read -r goal rest < "$here/state/$1" 2> /dev/null && echo "$goal" || echo stop; }
status() {
    local goal=stop state=waiting pid=
    [ ! -e "$here/state/$1" ] || read -r goal state pid < "$here/state/$1"
    echo "$1 $goal/$state${pid:+, process $pid}"
}
# step JOB STANZA: what stands behind it, run to its end
step() {
    local command
    command=$(stanza "$1" "$2 exec")
    [ -z "$command" ] || /bin/sh -e -c "exec $command"
}
# events JOB EVENT: the jobs that start or stop on it. Those of an event that holds the job up are waited for.
stopped_on() { grep -l "^stop on .*$1" "$jobs"/*.conf 2> /dev/null; }
name_of() { basename "$1" .conf; }

# What Upstart does between the start of a job and its end.
run() {
    local job=$1 boot=${2:-yes} command code pid file
    while :; do
        know "$job" start pre-start
        if ! step "$job" pre-start; then
            step "$job" post-stop
            know "$job" stop waiting
            return 1
        fi
        command=$(stanza "$job" exec)
        if [ -z "$command" ]; then
            know "$job" start running
            step "$job" post-start
            [ "$boot" != yes ] || for file in $(grep -l "^start on started $job BOOT=yes" "$jobs"/*.conf); do
                begin "$(name_of "$file")"
            done
            return
        fi
        account "$job" setsid /bin/sh -e -c "exec $command" &
        pid=$!
        know "$job" start running "$pid"
        wait "$pid"
        code=$?
        if [ "$(goal "$job")" = start ] && has "$job" respawn && ! has "$job" "normal exit.*\b$code\b"; then
            know "$job" start post-stop
            step "$job" post-stop
            [ "$(goal "$job")" = start ] || break
            continue
        fi
        result=ok
        [ "$(goal "$job")" = stop ] || [ "$code" = 0 ] || result=failed
        know "$job" stop post-stop
        step "$job" post-stop
        break
    done
    know "$job" stop waiting
    for file in $(stopped_on "stopped $job\( \|\$\)"); do end "$(name_of "$file")"; done
    told "$job" "${result:-ok}" "$code"
    [ "${result:-ok}" = ok ]
}
# account JOB COMMAND...: as the stanzas of a job without a sandbox say
account() {
    local job=$1 user
    shift
    user=$(stanza "$job" setuid)
    [ -n "$user" ] || exec "$@"
    cd "$(eval "echo $(stanza "$job" chdir)")" || exit 1
    local variables=()
    while read -r line; do eval "variables+=($(sed 's/\\\\/\\/g' <<< "$line"))"; done < <(stanza "$job" env)
    exec setpriv --reuid "$user" --regid "$(stanza "$job" setgid)" --init-groups env -i "${variables[@]}" "$@"
}
# told JOB RESULT CODE: by the event `stopped`
told() {
    local file watch
    for file in $(grep -l '^start on stopped JOB=' "$jobs"/*.conf 2> /dev/null); do
        watch=$(name_of "$file")
        JOB=$1 RESULT=$2 PROCESS=main EXIT_STATUS=$3 /bin/sh -e -c "exec $(stanza "$watch" exec)"
    done
}
begin() {
    [ "$(goal "$1")" = stop ] || return 1
    know "$1" start starting
    rm -f "$here/state/.$1.failed"
    (run "$1" "${2:-yes}" || touch "$here/state/.$1.failed") > /dev/null 2>> "/var/log/upstart/$1.log" >> "/var/log/upstart/$1.log" < /dev/null &
}
end() {
    local file pid state rest seconds
    [ "$(goal "$1")" = start ] || return 1
    read -r rest state pid < "$here/state/$1"
    know "$1" stop stopping "$pid"
    for file in $(stopped_on "stopping $1\( \|\$\)"); do end "$(name_of "$file")"; done
    for file in $(stopped_on "stopping $1\( \|\$\)"); do settled "$(name_of "$file")"; done
    if [ -z "$pid" ]; then
        step "$1" post-stop
        know "$1" stop waiting
        return
    fi
    kill "-$(stanza "$1" 'kill signal' | grep . || echo TERM)" -- "-$pid" 2> /dev/null
    seconds=$(stanza "$1" 'kill timeout')
    (
        for ((tenth = 0; tenth < ${seconds:-5} * 10; tenth++)); do
            kill -0 -- "-$pid" || exit
            sleep 0.1
        done
        kill -KILL -- "-$pid"
    ) > /dev/null 2>&1 < /dev/null &
}
# settled JOB: waits until it runs, or does not any more
settled() { while ! status "$1" | grep -qE 'start/running|stop/waiting'; do sleep 0.05; done; }

verb=$1
shift
wait=yes
[ "${1:-}" != --no-wait ] || { wait=no; shift; }
case $verb in
version) echo "init (upstart 1.5-fake)" ;;
reload-configuration) ;;
list) for file in "$jobs"/*.conf; do [ ! -e "$file" ] || status "$(name_of "$file")"; done ;;
status) status "$1" ;;
emit)
    for file in $(grep -l "^start on $1 " "$jobs"/*.conf); do
        job=$(name_of "$file")
        grep -qsx manual "$jobs/$job.override" || begin "$job"
    done
    ;;
start)
    [ -e "$jobs/$1.conf" ] || quiet_fail "Unknown job: $1"
    begin "$1" "$(sed -n 's/^BOOT=//p' <<< "${2:-}" | grep . || echo yes)" || quiet_fail "Job is already running: $1"
    [ "$wait" = yes ] || exit 0
    settled "$1"
    [ ! -e "$here/state/.$1.failed" ] || quiet_fail "Job failed to start"
    status "$1"
    ;;
stop)
    [ -e "$jobs/$1.conf" ] || quiet_fail "Unknown job: $1"
    end "$1" || quiet_fail "Unknown instance: "
    [ "$wait" = no ] || settled "$1"
    ;;
*) quiet_fail "invalid command: $verb" ;;
esac
