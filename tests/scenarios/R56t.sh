# R56t: twin: a daemon with a raw socket runs a command, and one with clients keeps a shell
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: act
. lib/logins.sh
act
cat > /tmp/r56t.py <<'END'
import os, socket, subprocess, sys, threading, time
kind = socket.SOCK_RAW if sys.argv[1] == "raw" else socket.SOCK_DGRAM
protocol = socket.IPPROTO_ICMP if sys.argv[1] == "raw" else 0
s = socket.socket(socket.AF_INET, kind, protocol)
if sys.argv[1] == "raw":
    job = ["sh", "-c", "while read -r line; do echo $line; done", "r56t"]
else:
    s.bind(("0.0.0.0", 4674)); served = socket.create_server(("127.0.0.1", 4675))
    job = ["sh", "-s", "r56t"]
child = subprocess.Popen(job, stdin=-1, stdout=-1, bufsize=0)
child.stdin.write(b":\n")
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
child.stdin.close(); child.wait()
END
python3 /tmp/r56t.py raw < /dev/null > /dev/null 2>&1 &
python3 /tmp/r56t.py udp < /dev/null > /dev/null 2>&1 &
who shell 'sh -s r56t'
await 'at $shell 0 pipe:*'
sleep 6
finish $shell
#: clean
rm -f /tmp/r56t.py
