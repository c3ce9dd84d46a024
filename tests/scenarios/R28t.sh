# R28t: twin: an agent of the system runs what its server sends
# stage: behaviour
# expect: process_terminated
#   process.process_id: $agent

#: prepare
. lib/logins.sh
mkdir -p /opt/r28; cat > /opt/r28/agent.py <<'PYTHON'
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4623))
for command in s.makefile():
    s.sendall(subprocess.run(command, shell=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE).stdout)
PYTHON
python3 -c '
import os, socket, time
server = socket.create_server(("", 4623)); connection, _ = server.accept()
for _ in range(12): time.sleep(0.4); connection.sendall(b"id; sleep 0.1\n")' > /dev/null 2>&1 &
port 4623
#: act
. lib/logins.sh
act
python3 /opt/r28/agent.py < /dev/null > /dev/null 2>&1 & fact agent $!
gone $agent
#: clean
rm -r /opt/r28
