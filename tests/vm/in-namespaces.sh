# Sourced by namespaces.sh and upstart.sh: what a service manager as PID 1 in namespaces of its own needs of this machine,
# and gives back. Its root is the lower layer of an overlay (own-root.sh), and its cgroups get a directory that goes at the
# end. Who sources it has set `here`, and `subject` for messages.
top=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}

skip() {
    echo "SKIP $subject: $*" >&2
    [ -z "${METACTL_SKIPS:-}" ] || echo "$subject: $*" >> "$METACTL_SKIPS"
    exit 77
}
newest() { ls -t "$target/release/$1" "$target/debug/$1" 2> /dev/null | head -n 1 || true; }

# need_binaries: sets metactl and runtime
need_binaries() {
    local binary
    metactl=${METACTL_BIN:-$(newest metactl)}
    runtime=${METACTL_RUNTIME_BIN:-$(newest metactl-runtime)}
    for binary in "$metactl" "$runtime"; do
        [ -x "$binary" ] || { echo "metactl and metactl-runtime are not built (cargo build)" >&2; exit 1; }
    done
    [ "$(id -u)" = 0 ] || skip "needs root"
}

# need_controllers: sets controllers, those of cgroup v1, and trees, those hierarchies and systemd's own
need_controllers() {
    local one
    controllers=
    for one in cpu cpuacct cpuset memory devices freezer blkio pids; do
        if mountpoint -q "/sys/fs/cgroup/$one"; then controllers="$controllers $one"; fi
    done
    case " $controllers " in *" memory "*) ;; *) skip "the memory controller of this machine is not in cgroup v1" ;; esac
    trees=$controllers
    for one in systemd unified; do
        if mountpoint -q "/sys/fs/cgroup/$one"; then trees="$trees $one"; fi
    done
}

# make_place NAME: sets name, that of its cgroups, and work, a directory whose job/ it sees as /job
make_place() {
    name=metactl-$1-$$
    work=$(mktemp -d "${TMPDIR:-/tmp}/metactl-$1.XXXXXX")
    trap give_back EXIT
    mkdir "$work/job" "$work/memory" "$work/root"
    cp "$here"/*.sh "$work/job/"
    cp "$metactl" "$work/job/metactl"
    cp "$runtime" "$work/job/metactl-runtime"
    cp -R "$top/examples/hello" "$work/job/hello"
}
give_back() {
    local tree _
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        for tree in $trees; do
            [ ! -d "/sys/fs/cgroup/$tree/$name" ] ||
                find "/sys/fs/cgroup/$tree/$name" -depth -type d -exec rmdir {} \; 2> /dev/null || true
        done
        compgen -G "/sys/fs/cgroup/*/$name" > /dev/null || break
        sleep 0.2
    done
    rm -rf "$work"
}

# make_cgroups: a directory in every hierarchy, which what is made inside is below
make_cgroups() {
    local tree file
    for tree in $trees; do
        mkdir "/sys/fs/cgroup/$tree/$name"
        if [ "$tree" = cpuset ]; then
            for file in mems cpus; do
                cat "/sys/fs/cgroup/cpuset/cpuset.$file" > "/sys/fs/cgroup/cpuset/$name/cpuset.$file"
            done
            echo 1 > "/sys/fs/cgroup/cpuset/$name/cgroup.clone_children"
        fi
    done
}
# enter_cgroups: for a subshell, which does not leave them any more
enter_cgroups() {
    local tree
    for tree in $trees; do echo "$BASHPID" > "/sys/fs/cgroup/$tree/$name/cgroup.procs"; done
}

# tell_result WHO PREFIX: what the checks said, and their exit code
tell_result() {
    local code
    [ ! -e "$work/job/said" ] || sed "s/^/$2| /" "$work/job/said"
    code=$(cat "$work/job/code" 2> /dev/null || true)
    if [ -z "$code" ]; then
        echo "$1 in namespaces: no result; its console ends with" >&2
        tail -n 30 "$work/console" >&2
        exit 1
    fi
    [ "$code" = 0 ] && echo "$subject: passed" || echo "$subject: FAILED" >&2
    exit "$code"
}
