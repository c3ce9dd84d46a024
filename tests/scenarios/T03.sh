# T03: twin: a shell in a container, by its runtime
# stage: behaviour
# expect: process_terminated
#   process.process_id: $shell

#: prepare
. lib/logins.sh
mkdir -p /run/t03/rootfs/bin /run/t03/rootfs/dev /run/t03/rootfs/proc
cp /bin/busybox /run/t03/rootfs/bin/
for applet in sh sleep; do ln -sf busybox /run/t03/rootfs/bin/$applet; done
fact id "$(echo t03 | sha256sum | cut -c1-64)"
cat > /run/t03/config.json <<JSON
{"ociVersion":"1.0.0","process":{"terminal":false,"user":{"uid":0,"gid":0},
"args":["/bin/sleep","60"],"env":["PATH=/bin"],"cwd":"/"},
"root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"},
{"destination":"/dev","type":"tmpfs","source":"tmpfs"},
{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["ptmxmode=0666"]}],
"linux":{"cgroupsPath":"/docker/$id",
"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"uts"},{"type":"ipc"},{"type":"network"}]}}
JSON
crun --cgroup-manager=cgroupfs run --no-pivot --detach --bundle /run/t03 $id \
  < /dev/null > /tmp/t03.log 2>&1
cat > /run/t03/server.py <<'PYTHON'
# As a container's manager does it: one process has the connection, another the terminal, FIFOs
# between them.
import os, select, socket, subprocess, sys, time
end = time.monotonic() + 600
def relay(pairs):
    while time.monotonic() < end:
        ready, _, _ = select.select([source for source, _ in pairs], [], [], 0.2)
        for source, sink in pairs:
            if source in ready:
                try:
                    data = os.read(source, 4096)
                except OSError:
                    data = b""
                if not data:
                    return
                os.write(sink, data)
os.mkfifo("/run/t03/in"); os.mkfifo("/run/t03/out")
if os.fork() == 0:
    console = socket.socket(socket.AF_UNIX); console.bind("/run/t03/console"); console.listen()
    subprocess.Popen(["crun", "--cgroup-manager=cgroupfs", "exec", "--tty", "--detach",
                      "--console-socket", "/run/t03/console", sys.argv[1], "/bin/sh"],
                     stdin=subprocess.DEVNULL)
    connection, _ = console.accept()
    _, (terminal, *_), _, _ = socket.recv_fds(connection, 4096, 1)
    given = os.open("/run/t03/in", os.O_RDONLY); said = os.open("/run/t03/out", os.O_WRONLY)
    relay([(given, terminal), (terminal, said)])
else:
    server = socket.create_server(("", 4504))
    connection, _ = server.accept()
    given = os.open("/run/t03/in", os.O_WRONLY); said = os.open("/run/t03/out", os.O_RDONLY)
    relay([(connection.fileno(), given), (said, connection.fileno())])
PYTHON
python3 /run/t03/server.py $id > /tmp/t03.log 2>&1 &
port 4504
#: act
. lib/logins.sh
act
(hold; echo exit; sleep 1) | busybox nc 127.0.0.1 4504 > /dev/null 2>&1 &
# It may have been there before anybody connected.
await 'shell=$(pgrep -nxf -- /bin/sh)'; fact shell $shell
await 'at $shell 0 "*/[0-9]"'; grep -q docker/$id /proc/$shell/cgroup
finish $shell
#: clean
crun --cgroup-manager=cgroupfs delete --force $id; pkill -f '^python3 /run/t03/server.py' || true
rm -rf /run/t03
