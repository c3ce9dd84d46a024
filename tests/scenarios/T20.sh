# T20: twin: a terminal by datagrams from a client with the key
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: act
. lib/logins.sh
act
python3 -c '
import os, pty, socket, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("", 4525))
pid, terminal = pty.fork()
if pid == 0: os.execv("/bin/bash", ["bash", "--norc", "-i"])
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
os.write(terminal, b"exit\n"); os.waitpid(pid, 0)' < /dev/null > /dev/null 2>&1 & fact server $!
who shell 'bash --norc -i'
await 'at $shell 0 /dev/pts/*'
finish $shell
