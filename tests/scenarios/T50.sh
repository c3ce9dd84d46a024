# T50: twin: a client of a database puts jobs into memory, and a worker runs them
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
python3 -c '
import socket
server = socket.create_server(("", 4653)); connection, _ = server.accept()
for line in connection.makefile(): connection.sendall(b"read -r _ < $hold || true\n")' \
  > /dev/null 2>&1 &
port 4653; : > /dev/shm/t50
#: act
. lib/logins.sh
act
python3 -c '
import mmap, os, socket, subprocess, time
def box():
    file = open("/dev/shm/t50", "r+b"); file.truncate(4096)
    return mmap.mmap(file.fileno(), 4096)
if os.fork() == 0:
    jobs = box()
    while jobs[0] == 0: time.sleep(0.02)
    job = jobs[1:1 + jobs[0]].decode()
    done = subprocess.run(["/bin/sh", "-c", job], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    jobs[0] = 0
    os._exit(0)
jobs = box()
base = socket.create_connection(("127.0.0.1", 4653))
base.sendall(b"SELECT job\n"); job = base.recv(100).strip()
jobs[1:1 + len(job)] = job; jobs[0] = len(job)
while jobs[0]: time.sleep(0.02)
base.sendall(b"DONE\n")' < /dev/null > /dev/null 2>&1 &
who shell '/bin/sh -c read -r _ .*'
await 'at $shell 0 pipe:*'
finish $shell
#: clean
rm /dev/shm/t50
