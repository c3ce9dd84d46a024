# T06b: twin: an agent gives a shell its script as input, and closes that
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
serve 4508
#: act
. lib/logins.sh
act
python3 -c '
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4508))
job = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT)
job.stdin.write(b"echo one\nread -r _ < $hold || true\necho two\n"); job.stdin.close()
for line in job.stdout: s.sendall(line)
job.wait()' < /dev/null > /dev/null 2>&1 & fact agent $!
who shell bash
await 'at $shell 0 pipe:* && at $shell 1 pipe:* && at $agent 3 socket:*'
finish $shell
