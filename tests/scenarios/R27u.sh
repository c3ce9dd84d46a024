# R27u: twin: a check by a command that only reads from a connection, and one that only writes
# stage: behaviour
# expect: process_terminated
#   process.process_id: $client

#: prepare
. lib/logins.sh
serve 4622
#: act
. lib/logins.sh
act
python3 -c '
import os, socket, subprocess
s = socket.create_connection(("127.0.0.1", 4622))
for _ in range(10):
    subprocess.run("sleep 0.1", shell=True, stdin=subprocess.DEVNULL, stdout=s)
    subprocess.run("sleep 0.1", shell=True, stdin=s, stdout=subprocess.DEVNULL)' \
  < /dev/null > /dev/null 2>&1 & fact client $!
gone $client
