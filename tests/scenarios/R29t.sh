# R29t: twin: a client of a server measures something and sends it, again and again
# stage: behaviour
# expect: process_terminated
#   process.process_id: $client

#: prepare
. lib/logins.sh
python3 -c '
import socket, time
server = socket.create_server(("", 4624)); connection, _ = server.accept()
for line in connection.makefile(): time.sleep(0.02); connection.sendall(b"OK\n")' \
  > /dev/null 2>&1 &
port 4624
#: act
. lib/logins.sh
act
bash -c 'exec 3<>/dev/tcp/127.0.0.1/4624
for i in {1..15}; do
  echo "SET uid $(sleep 0.05; id -u)" >&3; read -r answer <&3; sleep 0.2
  echo "SET host $(sleep 0.05; hostname)" >&3; read -r answer <&3
done' < /dev/null > /dev/null 2>&1 & fact client $!
gone $client
