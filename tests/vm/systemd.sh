# Sourced by guest.sh: instances kept running by systemd itself.

prop() { systemctl show --property="$1" --value "$2"; }
# main UNIT NAME: the main process of the unit is the application
main() {
    local pid
    pid=$(prop MainPID "$1")
    same "$2" "$(cat "/proc/$pid/comm")" && same "$pid" "$(metactl "$3" pid "$4")"
}
# What of metactl runs outside of sandboxes, but for what answers for names.
metactls() {
    local exe pid
    for exe in /proc/[0-9]*/exe; do
        pid=${exe#/proc/}
        pid=${pid%/exe}
        case $(readlink "$exe") in
        *metactl*)
            grep -q 'NSpid:.*[0-9]\s[0-9]' "/proc/$pid/status" && continue
            [ "$(tr '\0' ' ' < "/proc/$pid/cmdline" | cut -d ' ' -f 2)" = resolve ] && continue
            tr '\0' ' ' < "/proc/$pid/cmdline"
            echo
            ;;
        esac
    done
}
repository() { (cd "$1" && git init -q && git add -A && git commit -q -m "$2" && git tag "$3"); }

mkdir -p /job/tell /job/ears
# Tells that it is ready, and that it is alive until a file says otherwise; says what it was given.
cat > /job/tell/.metactl <<'CONF'
[daemon.tell]
platform = exec
command = perl tell.pl
notify = yes
watchdog = 5s
restart = on-failure
CONF
cat > /job/tell/tell.pl <<'PERL'
use IO::Socket::UNIX; use strict; $| = 1;
sub tell_manager {
    my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET}) or die "notify: $!";
    $socket->send($_[0]);
}
$SIG{TERM} = sub { print "asked to stop\n"; exit 0 };
print "watchdog $ENV{WATCHDOG_USEC}\n";
tell_manager("READY=1\nSTATUS=tells");
while (1) { tell_manager("WATCHDOG=1") unless -e "$ENV{METACTL_DATA_DIR}/silent"; sleep 1 }
PERL
repository /job/tell First 1.0
# Serves the socket that it is given.
cat > /job/ears/.metactl <<'CONF'
[daemon.ears]
platform = exec
command = perl ears.pl
socket = 8080
port = 8080
limits.memory = 40m
[daemon.hog]
platform = exec
command = sh -c 'test ! -e /data/ill && exec sleep 3600'
after = ears
restart.limit = 1
[cron]
timezone = Australia/Sydney
missed = once
[crontab]
tick tock = * * * * * echo "tick by $(id -u)"; exit 3
now and then = 0 0 1 1 * echo "run by hand"; exit 7
at first = @reboot echo "once a boot"
CONF
cat > /job/ears/ears.pl <<'PERL'
use IO::Socket::INET; use strict; $| = 1;
print "got $ENV{LISTEN_FDS} for pid $ENV{LISTEN_PID}, am $$\n";
my $socket = IO::Socket::INET->new_from_fd(3, "r+") or die "socket: $!";
print "listening\n";
while (my $client = $socket->accept) {
    my $line = <$client> // "";
    # Perl makes constants before the program runs.
    if ($line =~ /eat (\d+)/) { my $x = "x" x ($1 << 20); print length $x }
    print $client "heard $$: $line";
}
PERL
repository /job/ears First 1.0
cat > /etc/metactl/nodes/tell.conf <<'CONF'
[build]
repo = /job/tell
[systemd.service]
LimitCORE = 0
CONF
printf '[build]\nrepo = /job/ears\n' > /etc/metactl/nodes/ears.conf
cat > /etc/metactl/nodes/hello.conf <<'CONF'
[build]
repo = /job/hello
[sandbox.limits]
memory = 48m
pids = 20
CONF
web=metactl-hello-web.service
slice=metactl.slice/metactl-hello.slice
# limited CONTROLLER DIRECTORY VALUE: by whichever version of cgroups has the controller
limited() {
    local file
    case $1 in memory) file=memory.limit_in_bytes ;; *) file=$1.max ;; esac
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        is "$3" "/sys/fs/cgroup/$2/$1.max"
    else
        is "$3" "/sys/fs/cgroup/$1/$2/$file"
    fi
}
tracked=/sys/fs/cgroup
[ -e /sys/fs/cgroup/cgroup.controllers ] || tracked=/sys/fs/cgroup/systemd

echo "      systemd"
check "doctor says which" shows "service manager: systemd" metactl doctor
check "deploy" metactl hello deploy 1.0
check "status" says running metactl hello status
check "units are in order" same "" "$(systemd-analyze verify /etc/systemd/system/metactl* 2>&1)"
check "the unit is active" same active "$(prop ActiveState $web)"
check "main process of the unit" same "$(prop MainPID $web)" "$(metactl hello pid)"
check "no process of metactl stays" same "" "$(metactls)"
check "the unit's cgroup is the sandbox's" grep -qx "$(metactl hello pid)" $tracked/$slice/$web/cgroup.procs
check "and there is no other" same "" "$(find $tracked/$slice/$web -mindepth 1 -type d)"
check "memory limit of the instance" limited memory $slice $((48 << 20))
check "memory limit of the unit" limited memory $slice/$web $((48 << 20))
check "process limit" limited pids $slice/$web 20
address=$(ip -4 route | sed -n 's/^\(10\.77\.[0-9.]*\) dev .*/\1/p' | head -n 1)
page() { curl -sS --retry 5 --retry-connrefused --max-time 20 "http://$address/"; }
check "page" says "Hello, sandbox" page
check "outbound refused" says "refused" curl -sS --max-time 10 "http://$address/connect?to=10.9.9.9:443"
check "refusal counted" says "10.9.9.9:443" metactl hello firewall
check "logs" says "listening on port 80" metactl hello logs
check "journal" says "listening on port 80" journalctl --quiet -t hello-web --output=cat
check "exec" says "uid=66" metactl hello exec -- id
check "exec is in the unit's cgroup" says "0::/" metactl hello exec -- cat /proc/self/cgroup
check "memory hog is killed" fails_with 137 metactl hello exec -- perl -e 'my $x = "x" x (200 << 20); print length $x'
check "still answers" says "Hello, sandbox" page

# It follows from when it has printed what was.
metactl hello events -f -n 1 > /tmp/followed 2>&1 &
follower=$!
check "events are followed" soon test -s /tmp/followed
pid=$(metactl hello pid)
check "kill by systemctl" systemctl kill --signal=KILL $web
# gone PID: nothing says that it runs
gone() { not says "\"pid\": $1," metactl hello status --json; }
check "status is true at once" gone "$pid"
check "and list is" not says running metactl list
restarted() { local now; now=$(metactl hello pid) && [ -n "$now" ] && [ "$now" != "$pid" ]; }
check "it is started again" soon restarted
check "status says why" says "SIGKILL" metactl hello status
check "restarts are counted" says '"restarts": 1' metactl hello status --json
check "page after that" says "Hello, sandbox" page

events() { metactl hello events | tail -n "$1"; }
check "its end is an event, with the signal" says "SIGKILL" events 2
check "and so is its start" says "for the 1. time" events 1
check "who follows sees its end" soon says "SIGKILL" cat /tmp/followed
check "and its start, from the journal" soon says "for the 1. time" cat /tmp/followed
check "and goes on" kill "$follower"
wait "$follower"
check "nobody follows any more" soon not pgrep -f "journalctl.*--follow"

pid=$(metactl hello pid)
check "daemon-reload" systemctl daemon-reload
check "another systemd takes over" systemctl daemon-reexec
check "status after that" says '"restarts": 1' metactl hello status --json
check "list agrees" says running metactl list
check "nothing was restarted" same "$pid" "$(metactl hello pid)"
check "limit stays" limited memory $slice/$web $((48 << 20))

mkdir -p /etc/systemd/system/$web.d
printf '[Service]\nTasksMax=19\n' > /etc/systemd/system/$web.d/own.conf
systemctl daemon-reload
check "restart" metactl hello restart
check "another process" not same "$pid" "$(metactl hello pid)"
check "the drop-in counts" limited pids $slice/$web 19
rm -r /etc/systemd/system/$web.d
systemctl daemon-reload

# As a command leaves it that is killed between writing a unit and telling systemd.
cp "/etc/systemd/system/$web" right
sed -i 's/^Description=.*/Description=other/' "/etc/systemd/system/$web"
systemctl daemon-reload
cp right "/etc/systemd/system/$web"
check "start with a unit that systemd has not read" metactl hello restart
check "it has read it" same "$(sed -n 's/^Description=//p' right)" "$(prop Description $web)"

often() { for _ in 1 2 3 4 5 6; do metactl hello stop && metactl hello start || return; done; }
check "stopped and started as often as somebody likes" often

check "stop by hand" systemctl stop $web
check "status knows" not says running metactl hello status
check "it was not its own end" says "stopped" events 1
check "start by hand" systemctl start $web
check "status knows that too" says running metactl hello status
check "page" says "Hello, sandbox" page

echo "      a second instance: notify and watchdog"
check "deploy" metactl tell deploy 1.0
check "it was waited for" says "tells" systemctl status metactl-tell-tell.service
check "watchdog is passed on" says "watchdog 5000000" metactl tell logs
check "what it says of itself" says '"says": "tells"' metactl tell status --json
check "a setting of its own" same 0 "$(prop LimitCORE metactl-tell-tell.service)"
check "the first one still answers" says "Hello, sandbox" page
touch /var/lib/metactl/tell/data/silent
check "who is silent is killed" soon says "did not say in time that it is alive" metactl tell status
rm /var/lib/metactl/tell/data/silent
check "and runs again" soon says running metactl tell status

echo "      a third one: sockets, cron, out of memory"
check "deploy" metactl ears deploy 1.0
ears=$(ip -4 route | sed -n 's/^\(10\.77\.[0-9.]*\) dev .*/\1/p' | tail -n 1)
ask() { perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => 8080, Timeout => 10) or die "connect: $!"; print $s "$ARGV[1]\n"; print scalar <$s>' "$ears" "$1"; }
check "it got the socket" says "got 1" metactl ears logs ears
check "it answers" says "heard" ask hello
check "restart" metactl ears restart ears
check "the socket stayed" same "active" "$(prop ActiveState metactl-ears-ears.socket)"
check "it answers again" says "heard" ask hello
ask "eat 300" > /dev/null 2>&1
check "out of memory is told" soon says "out of memory" metactl ears status
check "and it runs again" soon says "heard" ask hello
# Every minute.
TRIES=160 check "cron job ran" soon says "tick by 66" metactl ears logs cron.tick-tock
check "its failure is told" soon says "exit code 3" metactl ears status
check "cron list" says "exit code 3" metactl ears cron
check "in its time zone" says "Australia/Sydney" systemctl cat metactl-ears-cron.now-and-then.timer
check "a job that was missed is made up for" same yes "$(prop Persistent metactl-ears-cron.now-and-then.timer)"
check "a job by hand, with its exit code" fails_with 7 metactl ears cron run "now and then"
check "and what it writes" shows "run by hand" metactl ears cron run "now and then"
check "its result is remembered" says "exit code 7" metactl ears cron
check "the job of the boot ran" soon says "once a boot" metactl ears logs cron.at-first
check "all anew" metactl ears restart
sleep 3
check "it runs once a boot" same 1 "$(metactl ears logs cron.at-first | grep -c 'once a boot')"
check "stopped" metactl ears stop
check "no job without its instance" fails_with 69 metactl ears cron run "now and then"
check "started" metactl ears start
check "it ran once a boot" same 1 "$(metactl ears logs cron.at-first | grep -c 'once a boot')"
check "events" says "exit code 7" metactl ears events
check "one daemon alone" metactl ears stop hog
check "the other one runs" says "heard" ask hello
check "partial" fails_with 4 metactl ears status
check "start" metactl ears start
check "list" says "ears" metactl list
touch /var/lib/metactl/ears/data/ill
systemctl kill --signal=KILL metactl-ears-hog.service
check "one that fails too often is given up" soon shows "again too often" metactl ears status
check "which is an event" says "given up" metactl ears events
rm /var/lib/metactl/ears/data/ill
check "started by somebody it counts anew" metactl ears restart hog
check "and runs" says running metactl ears status
groupadd --force metactl
metactl list > /dev/null
list_as() { setpriv --reuid=65534 --regid="$1" --clear-groups metactl list; }
check "who may read what is published sees what runs" says running list_as metactl
check "who may not does not" fails_with 77 list_as nogroup

echo "      deployments"
(cd hello && sed -i 's/command = .*/command = perl nothing.pl/' .metactl && git add -A && git commit -q -m Broken && git tag 2.0)
check "one that does not come up goes back" fails_with 10 metactl hello deploy 2.0
check "the old one runs" says "1.0" metactl hello status
check "page" says "Hello, sandbox" page
(cd hello && sed -i 's/command = .*/command = perl server.pl/' .metactl && sed -i 's/Hello, sandbox/Hello, three/' server.pl && git add -A && git commit -q -m Third && git tag 3.0)
check "the next release" metactl hello deploy 3.0
check "page" says "Hello, three" page
check "rollback" metactl hello rollback
check "page" says "Hello, sandbox" page
check "allowed at once" metactl hello allow x=10.9.9.9:443
check "nothing was restarted for that" same 0 "$(prop NRestarts $web)"

echo "      the end"
check "stop" metactl ears stop --disable
check "delete" metactl tell delete --data --yes
check "no unit of it is left" same "" "$(find /etc/systemd/system -name 'metactl*tell*')"
check "stop" metactl hello stop
check "stopped" fails_with 3 metactl hello status
check "enabled still" says enabled systemctl is-enabled metactl-hello.target
check "not enabled any more" not says enabled systemctl is-enabled metactl-ears.target
check "nothing left behind" same_machine
check "start" metactl hello start
