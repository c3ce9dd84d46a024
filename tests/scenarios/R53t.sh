# R53t: twin: a client of a database queues jobs, and a worker runs them
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
python3 -c '
import socket
server = socket.create_server(("", 4665)); connection, _ = server.accept()
for line in connection.makefile(): connection.sendall(b"read -r _ < $hold || true\n")' \
  > /dev/null 2>&1 &
port 4665
#: act
. lib/logins.sh
act
python3 -c '
import ctypes, os, socket, subprocess
libc = ctypes.CDLL(None)
jobs, results = libc.msgget(0, 0o1600), libc.msgget(0, 0o1600)
class Message(ctypes.Structure): _fields_ = [("type", ctypes.c_long), ("text", ctypes.c_char * 256)]
def send(queue, text): return libc.msgsnd(queue, ctypes.byref(Message(1, text)), 256, 0)
def receive(queue):
    message = Message()
    libc.msgrcv(queue, ctypes.byref(message), 256, 0, 0)
    return message.text
if os.fork() == 0:
    for number in range(2):
        job = ["/bin/sh", "-c", receive(jobs)]
        done = subprocess.run(job, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        send(results, done.stdout[:200] + b".")
    os._exit(0)
base = socket.create_connection(("127.0.0.1", 4665))
send(jobs, b"true"); receive(results)
base.sendall(b"SELECT job\n"); send(jobs, base.recv(100).strip())
receive(results); base.sendall(b"DONE\n")
for queue in (jobs, results): libc.msgctl(queue, 0, None)' < /dev/null > /dev/null 2>&1 &
who shell '/bin/sh -c read -r _ .*'
await 'at $shell 0 pipe:*'
finish $shell
