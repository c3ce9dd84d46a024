# units: systemd, as process 1 of a container, runs services and timers

#: prepare
mkdir -p /sys/fs/cgroup/units
cat > /srv/systemd.sh <<'SCRIPT'
echo $$ > /sys/fs/cgroup/units/cgroup.procs
exec unshare --cgroup --mount --uts --ipc --pid --fork bash -c '
  mount -t proc proc /proc; mount -t cgroup2 cgroup2 /sys/fs/cgroup; mount -t tmpfs tmpfs /run
  mkdir -p /etc/systemd/system; printf "[Unit]\nDefaultDependencies=no\n" > /run/twin.target
  mkdir -p /run/systemd/system; mv /run/twin.target /run/systemd/system
  exec env container=twin /lib/systemd/systemd --unit=twin.target'
SCRIPT
serve bash /srv/systemd.sh
await 'pgrep -xf "/lib/systemd/systemd --unit=twin.target" > /run/units.pid'
await 'nsenter -a -t $(cat /run/units.pid) systemctl list-units twin.target | grep -q active'
#: turn
inside() { nsenter -a -t "$(cat /run/units.pid)" "$@"; }
rm -f /tmp/unit-*; name=twin-$$-$SECONDS
inside systemd-run -q -p DefaultDependencies=no --unit $name \
  sh -c 'sleep 0.5; id -u | cat > /tmp/unit-service'
inside systemd-run -q -p DefaultDependencies=no --timer-property=DefaultDependencies=no \
  --on-active=1 sh -c 'id -u > /tmp/unit-timer'
await '[ -s /tmp/unit-service ] && [ -s /tmp/unit-timer ]'
