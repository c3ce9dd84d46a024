# R40t: twin: a client that asks for jobs writes their output to a file and sends that
# stage: behaviour
# expect: process_terminated
#   process.process_id: $client

#: prepare
. lib/logins.sh
python3 -c '
import socket, time
server = socket.create_server(("", 4646)); connection, _ = server.accept()
for line in connection.makefile(): time.sleep(0.6); connection.sendall(b"id; sleep 0.1\n")' \
  > /dev/null 2>&1 &
port 4646
#: act
. lib/logins.sh
act
python3 -c 'import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4646)); jobs = s.makefile()
s.sendall(b"LISTEN jobs\n")
for _ in range(9):
    subprocess.run("(" + jobs.readline().strip() + ") > /tmp/r40t", shell=True)
    s.sendall(open("/tmp/r40t", "rb").readline())' < /dev/null > /dev/null 2>&1 & fact client $!
gone $client
#: clean
rm -f /tmp/r40t
