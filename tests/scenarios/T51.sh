# T51: twin: a desktop's program with a terminal shares memory with one that has a connection
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
. lib/peers.sh
peer 4654 'HTTP/1.1 200 OK'
#: act
. lib/logins.sh
act
python3 -c '
import mmap, os, pty, socket, time
shown = mmap.mmap(-1, 1 << 20)
buses = [socket.socketpair() for _ in range(12)]
if os.fork() == 0:
    for own, other in buses: own.close()
    while os.path.exists(os.environ["hold"]): time.sleep(0.1)
    os._exit(0)
for own, other in buses: other.close()
if os.fork() == 0:
    for own, other in buses[:6]: own.close()
    net = socket.create_connection(("127.0.0.1", 4654))
    net.sendall(b"GET /\n"); shown[0] = 1
    while os.path.exists(os.environ["hold"]): time.sleep(0.1)
    os._exit(0)
for own, other in buses[6:]: own.close()
pid, master = pty.fork()
if pid == 0: os.execv("/bin/bash", ["bash", "--norc", "-i"])
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
os.write(master, b"exit\n")
os.waitpid(pid, 0)' < /dev/null > /dev/null 2>&1 &
who shell 'bash --norc -i'
await 'at $shell 0 /dev/pts/* && grep -q ":122E 01" /proc/net/tcp'
finish $shell
