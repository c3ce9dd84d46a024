# T10: twin: a shell started by a database client
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
python3 -c '
import socket, struct, time
server = socket.create_server(("", 4514))
connection, _ = server.accept()
connection.recv(4096)
say = lambda kind, data: connection.sendall(kind + struct.pack(">I", 4 + len(data)) + data)
say(b"R", struct.pack(">I", 0)); say(b"S", b"server_version\x0015.0\x00"); say(b"Z", b"I")
connection.recv(4096)' > /dev/null 2>&1 &
port 4514
#: act
. lib/logins.sh
act
(sleep 1; echo '\! /bin/sh'; hold; echo exit; echo '\q'; sleep 0.5) |
  PGSSLMODE=disable PGGSSENCMODE=disable \
  script -qc 'psql -X -h 127.0.0.1 -p 4514 -U u d' /dev/null > /dev/null 2>&1 &
who shell '/bin/sh'
await 'at $shell 0 /dev/pts/*'
finish $shell
#: clean
pkill psql || true
