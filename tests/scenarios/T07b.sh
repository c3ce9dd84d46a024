# T07b: twin: curl into bash, slowly
# stage: equipped
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
python3 -c '
import os, socket, time
server = socket.create_server(("", 4511))
connection, _ = server.accept()
connection.recv(4096)
connection.sendall(b"HTTP/1.0 200 OK\r\n\r\ntrue\n")
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
connection.sendall(b"true\n")' > /dev/null 2>&1 &
port 4511
#: act
. lib/logins.sh
act
(curl -sN http://127.0.0.1:4511/x | bash) < /dev/null > /dev/null 2>&1 &
who shell bash; who curl 'curl -sN .*'
await 'at $shell 0 pipe:* && same $shell 0 $curl 1'
finish $shell
