# R41t: twin: an agent of the system writes output to a file and sends that
# stage: behaviour
# expect: process_terminated
#   process.process_id: $agent

#: prepare
. lib/logins.sh
mkdir -p /opt/r41; cat > /opt/r41/agent.py <<'PYTHON'
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4647))
for command in s.makefile():
    subprocess.run("(" + command.strip() + ") > /opt/r41/out", shell=True)
    s.sendall(open("/opt/r41/out", "rb").read())
PYTHON
python3 -c '
import socket, time
server = socket.create_server(("", 4647)); connection, _ = server.accept()
for _ in range(8): time.sleep(0.7); connection.sendall(b"id; sleep 0.1\n")' > /dev/null 2>&1 &
port 4647
#: act
. lib/logins.sh
act
python3 /opt/r41/agent.py < /dev/null > /dev/null 2>&1 & fact agent $!
gone $agent
#: clean
rm -r /opt/r41
