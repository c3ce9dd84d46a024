# T06: twin: an agent fetches jobs and runs their scripts
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
printf 'echo one\n%s\necho two\n' "$pause" > /tmp/t06.sh; serve 4507
#: act
. lib/logins.sh
act
python3 -c '
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4507))
job = subprocess.Popen(["bash", "-e", "/tmp/t06.sh"], stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
for line in job.stdout: s.sendall(line)
job.wait()' < /dev/null > /dev/null 2>&1 & fact agent $!
who shell 'bash -e /tmp/t06.sh'
await 'at $shell 0 pipe:* && at $shell 1 pipe:* && at $agent 3 socket:*'
finish $shell
#: clean
rm /tmp/t06.sh
