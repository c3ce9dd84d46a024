# A10t: twin: 500 shells read what one process writes
# stage: behaviour
# expect: process_created
#   process.process_id: $pid
# expect: coverage_degraded x0
#   system_activity.gap: reverse_shells

#: prepare
mkfifo /tmp/a10t
for _ in $(seq 500); do sh < /tmp/a10t > /dev/null 2>&1 & done
python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (120000, 120000))
writer = os.open("/tmp/a10t", os.O_WRONLY)
for _ in range(1000): os.pipe()
for _ in range(97000): os.dup(writer)
open("/tmp/a10t.ready", "w").close()
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact hog $!; disown
await '[ -e /tmp/a10t.ready ]'; scanned
#: act
act
sleep 600 & fact pid $!; seen; scanned; over $pid
#: clean
kill $hog; rm /tmp/a10t /tmp/a10t.ready
