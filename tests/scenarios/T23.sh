# T23: twin: sixteen terminals of one program, whose shells inherit the masters of those before
# stage: behaviour
# expect: process_terminated
#   process.process_id: $driver

#: prepare
. lib/looks.sh
cat > /tmp/t23.py <<'PYTHON'
import os, pty, time
for _ in range(16):
    pid, master = pty.fork()
    if pid == 0:
        os.execv("/bin/sh", ["sh"])
    os.set_inheritable(master, True)
time.sleep(4)
PYTHON
#: act
. lib/logins.sh
act
python3 /tmp/t23.py < /dev/null > /dev/null 2>&1 & fact driver $!
gone $driver
#: clean
rm /tmp/t23.py
