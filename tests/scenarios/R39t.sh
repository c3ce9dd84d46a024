# R39t: twin: a client of a slow server that greets runs something for each answer
# stage: behaviour
# expect: process_terminated
#   process.process_id: $client

#: prepare
. lib/logins.sh
python3 -c '
import socket, time
server = socket.create_server(("", 4645)); connection, _ = server.accept()
time.sleep(0.6); connection.sendall(b"220 mail\n")
for line in connection.makefile(): time.sleep(0.6); connection.sendall(b"250 OK\n")' \
  > /dev/null 2>&1 &
port 4645
#: act
. lib/logins.sh
act
python3 -c 'import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4645)); answers = s.makefile()
answers.readline(); s.sendall(b"EHLO here\n")
for _ in range(9):
    answers.readline(); subprocess.run("(id; sleep 0.1) > /tmp/r39t", shell=True)
    s.sendall(open("/tmp/r39t", "rb").readline())' < /dev/null > /dev/null 2>&1 & fact client $!
gone $client
#: clean
rm -f /tmp/r39t
