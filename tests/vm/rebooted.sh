# Sourced by guest.sh after the reboot: what was enabled runs, without any command.
failed=$(cat /var/lib/vm-rebooted)
echo "      rebooted"
check "it runs after the boot" soon systemctl is-active metactl-hello-web.service
check "status" says running metactl hello status
address=$(ip -4 route | sed -n 's/^\(10\.77\.[0-9.]*\) dev .*/\1/p' | head -n 1)
check "page" says "Hello, sandbox" curl -sS --retry 5 --retry-connrefused --max-time 20 "http://$address/"
check "what was disabled does not" fails_with 3 metactl ears status
check "stop" metactl hello stop
check "delete" metactl hello delete --data --yes
check "delete" metactl ears delete --data --yes
check "nothing is remembered of its boot jobs" not test -e /run/metactl/booted/ears.cron.at-first
check "no unit is left" same "" "$(find /etc/systemd/system -name 'metactl*')"
