# T22: twin: a terminal of an editor, through a login by ssh
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
ssh_server 4502; fact server $(pgrep -o sshd)
cat > /tmp/t22.py <<'PYTHON'
import os, pty, select, socket
server = socket.create_server(("127.0.0.1", 4526))
connection, _ = server.accept()
pid, terminal = pty.fork()
if pid == 0:
    os.execv("/bin/bash", ["bash", "--norc", "-i"])
while True:
    ready, _, _ = select.select([connection, terminal], [], [])
    try:
        if connection in ready:
            data = connection.recv(4096)
            if not data:
                break
            os.write(terminal, data)
        if terminal in ready:
            connection.sendall(os.read(terminal, 4096))
    except OSError:
        break
PYTHON
ssh -p 4502 -L 4527:127.0.0.1:4526 root@127.0.0.1 python3 /tmp/t22.py < /dev/null > /dev/null 2>&1 &
port 4526; port 4527
#: act
. lib/logins.sh
act
(hold; echo exit) | nc.openbsd 127.0.0.1 4527 > /dev/null 2>&1 &
who shell 'bash --norc -i'
await 'at $shell 0 /dev/pts/*'
finish $shell
#: clean
kill $server; rm /tmp/t22.py
