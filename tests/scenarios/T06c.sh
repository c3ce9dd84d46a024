# T06c: twin: an agent runs commands, without input from outside
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
serve 4509
#: act
. lib/logins.sh
act
python3 -c '
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4509))
job = subprocess.Popen("echo one; read -r _ < $hold || true; echo two", shell=True,
                       stdin=subprocess.DEVNULL, stdout=s, stderr=s)
job.wait()' < /dev/null > /dev/null 2>&1 &
who shell '/bin/sh -c echo one.*'
await 'at $shell 0 /dev/null && at $shell 1 socket:*'
finish $shell
