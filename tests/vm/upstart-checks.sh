# Sourced by upstart.sh: instances kept running by Upstart itself.

state() { initctl status "$1" | head -n 1; }
upstart_pid() { state "$1" | sed -n 's/.*, process \([0-9]*\)$/\1/p'; }
repository() { (cd "$1" && git init -q && git add -A && git commit -q -m "$2" && git tag "$3"); }
# What of metactl runs outside of sandboxes, but for what answers for names and the runtimes that wait.
metactls() { ps -eo args= | grep -E '^[^ ]*/metactl( |$)' | grep -v grep; }
page() { curl -sS --retry 5 --retry-connrefused --max-time 20 "http://$(address)/"; }
address() { metactl hello status --json | tr -d ' \n' | sed -n 's/.*"addresses":\["\([0-9.]*\)".*/\1/p'; }
cat > /etc/metactl/nodes/hello.conf <<'CONF'
[build]
repo = /job/hello
[sandbox.limits]
memory = 48m
pids = 20
CONF

check "Upstart is process 1" says "(upstart 1." initctl version
check "doctor says who, and why" shows "service manager: upstart: Upstart runs here (process 1 is init (upstart" metactl doctor
check "deploy" metactl hello deploy 1.0
check "status" says running metactl hello status
web=$(ls /etc/init | sed -n 's/^\(metactl-hello-.*\)\.conf$/\1/p' | head -n 1)
check "a job of it" says "$web start/running, process" state "$web"
check "the instance" says "metactl@hello start/running" state metactl@hello
check "page" says "Hello, sandbox" page
check "own user" says "uid 66" curl -sS --max-time 10 "http://$(address)/whoami"
check "outbound refused" says "refused" curl -sS --max-time 10 "http://$(address)/connect?to=10.9.9.9:443"
check "refusal counted" says "10.9.9.9:443" metactl hello firewall
check "names are answered" says "metactl-resolver start/running" state metactl-resolver
check "no metactl stays" same "" "$(metactls)"
check "main process is the runtime" same metactl-runtime "$(basename "$(readlink "/proc/$(upstart_pid "$web")/exe")")"
check "pid is that of the application" not same "$(upstart_pid "$web")" "$(metactl hello pid)"
check "it is a child of the runtime" same "$(upstart_pid "$web")" "$(ps -o ppid= -p "$(metactl hello pid)" | tr -d ' ')"
check "memory limit" shows "$((48 << 20))" sh -c 'cat /sys/fs/cgroup/memory/metactl/hello/memory.limit_in_bytes || find /sys/fs/cgroup/memory'
check "logs" metactl hello logs
check "enabled" says '"enabled": true' metactl hello status --json
before=$(metactl hello pid)
check "killed" kill -KILL "$before"
again() { local pid; pid=$(metactl hello pid) && [ "$pid" != "$before" ]; }
check "started again" soon again
check "page" says "Hello, sandbox" page
check "how it ended is told" says "SIGKILL" metactl hello status
check "and how often" says '"restarts": 1' metactl hello status --json
restarted=$(metactl hello status --json | sed -n 's/.*"restarts": \([0-9]*\),/\1/p')
check "allowed at once" metactl hello allow x=10.9.9.9:443
check "nothing was restarted for that" says "\"restarts\": $restarted" metactl hello status --json
before=$(metactl hello pid)
check "restart" metactl hello restart
check "another process" again
check "page" says "Hello, sandbox" page

echo "      by hand"
check "stopped by hand" initctl stop "$web"
check "told" fails_with 4 metactl hello status
check "started by hand" initctl start "$web"
check "page" says "Hello, sandbox" page
check "stopped as a whole" initctl stop metactl@hello
check "with its daemon" soon says "stop/waiting" state "$web"
check "told" fails_with 3 metactl hello status
check "nothing left behind" same_machine
check "started as a whole" initctl start metactl@hello
check "with its daemon" soon says "start/running" state "$web"
check "page" says "Hello, sandbox" page
check "running" soon metactl hello status

echo "      deployments"
(cd hello && sed -i 's/command = .*/command = perl nothing.pl/' .metactl && git add -A && git commit -q -m Broken && git tag 2.0)
check "one that does not come up goes back" fails_with 10 metactl hello deploy 2.0
check "the old one runs" says "1.0" metactl hello status
check "page" says "Hello, sandbox" page
(cd hello && git checkout -q 1.0 -- .metactl && sed -i 's/Hello, sandbox/Hello, three/' server.pl && git add -A && git commit -q -m Third && git tag 3.0)
check "the next release" metactl hello deploy 3.0
check "page" says "Hello, three" page
check "rollback" metactl hello rollback
check "page" says "Hello, sandbox" page

echo "      the boot"
check "stop" metactl hello stop
check "not running" fails_with 3 metactl hello status
check "nothing left behind" same_machine
check "enabled still" says '"enabled": true' sh -c 'metactl hello status --json; true'
check "a runlevel comes" initctl emit runlevel RUNLEVEL=2
check "it starts" soon says "start/running" state "$web"
check "page" says "Hello, sandbox" page
check "disable" metactl hello disable
check "a word for it" says manual cat /etc/init/metactl@hello.override
check "stop" metactl hello stop
check "a runlevel comes" initctl emit runlevel RUNLEVEL=2
sleep 1
check "it does not start" says "stop/waiting" state "$web"

echo "      daemons and cron jobs"
mkdir /job/many
cat > /job/many/.metactl <<'CONF'
[env]
GREETING = it's a "quoted" \ value # no comment
[daemon.db]
platform = exec
command = sh -c 'echo db is up; trap "echo db ends; exit 0" TERM; while :; do sleep 0.2; done'
[daemon.web]
platform = exec
command = perl -e '$SIG{TERM} = "IGNORE"; sleep 3600'
requires = db
stop.timeout = 1s
[daemon.crash]
platform = exec
command = sh -c 'sleep 3; exit 3'
restart = never
[crontab]
say it = 5 0 * * * echo "$GREETING"; exit 7
tick = * * * * * echo tick by $(id -u)
at first = @reboot echo once a boot
zoned = 5 0 * * * true
CONF
repository /job/many First 1.0
printf '[build]\nrepo = /job/many\n' > /etc/metactl/nodes/many.conf
check "deploy" metactl many deploy 1.0
check "in its order" says "start on started metactl@many BOOT=yes and started metactl-many-db" cat /etc/init/metactl-many-web.conf
check "crontab" says "root /usr/bin/env METACTL_SERVICE_MANAGER=upstart" cat /etc/cron.d/metactl-many
check "a job by hand, with its exit code" fails_with 7 metactl many cron run "say it"
check "and what it writes" shows "it's a \"quoted\" \\ value # no comment" metactl many cron run "say it"
check "its result is remembered" says "exit code 7" metactl many cron
check "the job of the boot ran" soon says "once a boot" metactl many logs cron.at-first
check "as cron calls it" sh -c "$(sed -n 's/^\* \* \* \* \* root //p' /etc/cron.d/metactl-many)"
check "it ran" soon says "tick by 66" metactl many logs cron.tick
check "one that ended is told" soon shows "exit code 3" metactl many status
check "partial" fails_with 4 metactl many status
check "stop a daemon that others need" initctl stop metactl-many-db
check "they stop, and in time" soon says "stop/waiting" state metactl-many-web
check "what was killed is told" shows "SIGKILL" metactl many status
check "start" metactl many start
check "they run" says "start/running" state metactl-many-web
if [ -x /usr/sbin/cron ]; then
    printf 'auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n' > /etc/pam.d/cron
    ticks() { metactl many logs cron.tick | grep -c tick; }
    ticked=$(ticks)
    mkdir -p /var/spool/cron/crontabs
    cron
    more() { [ "$(ticks)" -gt "$ticked" ]; }
    TRIES=140 check "cron(8) starts it every minute" soon more
    pkill -x cron
fi
check "stop" metactl many stop
check "no job without its instance" fails_with 69 metactl many cron run "say it"
check "and cron starts none" sh -c "$(sed -n 's/^\* \* \* \* \* root //p' /etc/cron.d/metactl-many)"
check "delete" metactl many delete --data --yes
check "no file of it is left" same "" "$(ls /etc/init /etc/cron.d | grep many)"
check "nothing left behind" same_machine

echo "      without a sandbox"
useradd --system --no-create-home plain
mkdir /job/plain
cat > /job/plain/.metactl <<'CONF'
[env]
GREETING = it's a "quoted" \ value # no comment
[daemon.web]
platform = exec
command = perl web.pl "a  b" '#c' $HOME
port = 8090
[crontab]
say it = 5 0 * * * echo "$GREETING by $(id -un) in $METACTL_APP_DIR"; exit 7
CONF
cat > /job/plain/web.pl <<'PERL'
use IO::Socket::INET; $| = 1;
my $server = IO::Socket::INET->new(LocalPort => 8090, Listen => 5, ReuseAddr => 1) or die;
print "words: ", join("|", @ARGV), "\n";
while (my $client = $server->accept) { <$client>; print $client "HTTP/1.0 200 OK\r\n\r\n$ENV{GREETING} $< $ENV{METACTL_DATA_DIR}\n"; close $client }
PERL
repository /job/plain First 1.0
printf '[build]\nrepo = /job/plain\n[upstart]\nsandbox = no\n' > /etc/metactl/nodes/plain.conf
check "a policy that is asked for is not dropped silently" fails_with 78 metactl plain deploy 1.0
printf '[sandbox.net]\nmode = host\n' >> /etc/metactl/nodes/plain.conf
check "nor is the firewall" shows "policy = accept" metactl plain deploy 1.0
printf '[firewall.out]\npolicy = accept\n' >> /etc/metactl/nodes/plain.conf
check "nor is it started as nobody" shows "useradd" metactl plain deploy 1.0
printf '[sandbox]\nuser = plain\n' >> /etc/metactl/nodes/plain.conf
check "deploy" metactl plain deploy 1.0
check "status says it loudly" says "WITHOUT A SANDBOX" metactl plain status
check "doctor too" shows "plain runs without a sandbox" metactl doctor
check "page, as the account" says "it's a \"quoted\" \\ value # no comment $(id -u plain) /var/lib/metactl/plain/data" curl -sS --max-time 10 http://127.0.0.1:8090/
check "words as they were meant" says 'words: a  b|#c|$HOME' metactl plain logs web
check "main process is the application" same perl "$(cat "/proc/$(upstart_pid metactl-plain-web)/comm")"
check "pid" same "$(upstart_pid metactl-plain-web)" "$(metactl plain pid)"
check "others do not read its environment" same 600 "$(stat -c %a /etc/init/metactl-plain-web.conf)"
check "a job by hand, with its exit code" fails_with 7 metactl plain cron run "say it"
check "and what it writes" shows "by plain in /var/lib/metactl/plain/releases/" metactl plain cron run "say it"
check "killed" sh -c 'kill -KILL $(metactl plain pid)'
check "started again" soon says "value" curl -sS --max-time 10 http://127.0.0.1:8090/
check "stop" metactl plain stop
check "delete" metactl plain delete --data --yes
check "delete" metactl hello delete --data --yes
check "no file is left" same "" "$(ls /etc/init /etc/cron.d | grep metactl)"
check "nothing left behind" same_machine
