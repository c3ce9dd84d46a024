# R27t: twin: a server runs commands on connections that it accepts
# stage: behaviour
# expect: process_terminated
#   process.process_id: $server

#: prepare
. lib/logins.sh
python3 -c '
import socket, subprocess
server = socket.create_server(("", 4621)); s, _ = server.accept()
for command in s.makefile():
    subprocess.run(command, shell=True, stdin=s, stdout=s, stderr=s)' \
  < /dev/null > /dev/null 2>&1 & fact server $!
port 4621
#: act
. lib/logins.sh
act
(for i in {1..12}; do sleep 0.4; echo 'id; sleep 0.1'; done; hold) |
  busybox nc 127.0.0.1 4621 > /dev/null 2>&1 &
sleep 6; finish $server
