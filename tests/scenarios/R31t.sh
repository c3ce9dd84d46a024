# R31t: twin: a busy agent gives a shell its script as input, and closes that
# stage: behaviour
# expect: process_terminated
#   process.process_id: $agent

#: prepare
. lib/logins.sh
python3 -c '
import socket, time
server = socket.create_server(("", 4626)); connection, _ = server.accept()
while True: connection.sendall(b"alive\n"); time.sleep(0.5)' > /dev/null 2>&1 & kept $!
port 4626
#: act
. lib/logins.sh
act
python3 -c '
import socket, subprocess, threading, time
s = socket.create_connection(("127.0.0.1", 4626)); end = time.monotonic() + 8
def spin():
    while time.monotonic() < end: pass
threading.Thread(target=spin).start()
while time.monotonic() < end:
    job = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    job.stdin.write(b"id; sleep 0.1; id\n" * 3); job.stdin.close()
    for line in job.stdout: s.sendall(line)
    job.wait(); s.recv(4096)' < /dev/null > /dev/null 2>&1 & fact agent $!
gone $agent
