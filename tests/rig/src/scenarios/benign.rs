//! Twins of reverse shells: harmless logins, servers, clients and agents in which a connection and
//! a shell meet.
//!
//! Each act checks /proc itself, and each expects that the shell was seen until its end. cron (T09)
//! is among the twins that `cargo xtask twins` runs in a loop: its jobs begin with the minute.

use super::{Expected, Scenario, Stage, record};

/// A script that begins with functions: those of `looks`; `port NUMBER`, which waits for a
/// listener; and `finish PID`, which ends the held processes after the watcher has scanned them,
/// and waits for that process's end.
macro_rules! script {
    ($script:literal) => {
        concat!(
            looks!(),
            r#"
port() { await "grep -q ':$(printf %04X $1) 0*:0000 0A' /proc/net/tcp /proc/net/tcp6"; }
finish() { scanned; let_all; gone $1; }
gone() { await "! [ -e /proc/$1 ]"; }
serve() {
  python3 -c '
import os, socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
connection, _ = server.accept()
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' $1 > /dev/null 2>&1 &
  port $1
}
answer() {
  python3 -c '
import socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
for _ in range(int(sys.argv[2])):
    connection, _ = server.accept()
    connection.recv(4096); time.sleep(0.03)
    connection.sendall(b"200 UP\n"); connection.close()
' $1 $2 > /dev/null 2>&1 &
  port $1
}
ssh_server() {
  mkdir -p /run/sshd /root/.ssh; chmod 700 /root /root/.ssh
  [ -f /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
  [ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
  cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
  printf 'Host *\nStrictHostKeyChecking no\nLogLevel ERROR\n' > /root/.ssh/config
  /usr/sbin/sshd -f /usr/share/openssh/sshd_config -o UsePAM=yes -o PermitRootLogin=yes -p $1 -E /tmp/sshd.log
  port $1
}
"#,
            $script
        )
    };
}

/// The end of a process, with its attributes.
const fn ended(fields: &'static [(&'static str, &'static str)]) -> Expected {
    record("process_terminated").with(fields)
}

/// The shell's end.
const SHELL: &[Expected] = &[ended(&[("process.process_id", "$shell")])];

/// Two shells' ends.
const BOTH: &[Expected] = &[SHELL[0], ended(&[("process.process_id", "$second")])];

/// A scenario in which only behaviour counts.
const fn twin(id: &'static str, name: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Behaviour).expect(SHELL)
}

/// The same with programs that not every machine has.
const fn equipped(id: &'static str, name: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Equipped).expect(SHELL)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    twin("T01", "twin: a user logs in by telnet")
        .prepare(script!(
            "busybox telnetd -F -p 4501 -l /bin/sh > /dev/null 2>&1 & fact server $!; port 4501"
        ))
        .act(script!(
            r#"act
            (sleep 1; echo 'ls /'; hold; echo exit) | busybox telnet 127.0.0.1 4501 > /dev/null 2>&1 &
            await 'shell=$(pgrep -n -P $server)' && fact shell $shell
            await 'at $shell 0 /dev/pts/* && at $server 4 socket:* && at $server 5 /dev/ptmx'
            finish $shell"#
        ))
        .clean("kill $server"),
    equipped("T01b", "twin: a user logs in by ssh")
        .prepare(script!("ssh_server 4502; fact server $(pgrep -o sshd)"))
        .act(script!(
            r#"act
            (hold; echo exit) | TERM=dumb ssh -tt -p 4502 root@127.0.0.1 > /dev/null 2>&1 &
            who shell '-bash'
            await 'at $shell 0 /dev/pts/*'; [ "$(cat /proc/$shell/loginuid)" = 0 ]
            finish $shell"#
        ))
        .clean("kill $server"),
    equipped("T01c", "twin: commands by ssh without a terminal, and to a shell's input")
        .prepare(script!("ssh_server 4502; fact server $(pgrep -o sshd)"))
        .act(script!(
            r#"act
            ssh -p 4502 root@127.0.0.1 "hold=$hold; $pause; true" < /dev/null > /dev/null 2>&1 &
            who shell 'bash -c hold=.*; true'
            (hold; echo exit) | ssh -p 4502 root@127.0.0.1 bash -s > /dev/null 2>&1 &
            who second 'bash -s'
            finish $second; gone $shell"#
        ))
        .expect(BOTH)
        .clean("kill $server"),
    equipped("T01d", "twin: a user logs in by dropbear")
        .prepare(script!(
            "ssh_server 4502; kill $(pgrep -o sshd); mkdir -p /etc/dropbear
             dropbear -R -F -p 4503 > /dev/null 2>&1 & fact server $!; port 4503"
        ))
        .act(script!(
            r#"act
            (hold; echo exit) | TERM=dumb ssh -tt -p 4503 root@127.0.0.1 > /dev/null 2>&1 &
            who shell '-bash'
            await 'at $shell 0 /dev/pts/*'
            finish $shell"#
        ))
        .clean("kill $server"),
    equipped("T01e", "twin: a configured agent asks its peer for sessions")
        .prepare(script!(
            "mkdir -p /opt/sessions/1; cp /usr/bin/socat /opt/sessions/1/agent; serve 4540"
        ))
        .act(script!(
            r#"act
            /opt/sessions/1/agent TCP:127.0.0.1:4540 EXEC:/bin/bash,pty,stderr,setsid,sigint,sane > /dev/null 2>&1 &
            fact agent $!
            who shell /bin/bash
            await 'at $shell 0 /dev/pts/* && at $agent 6 /dev/ptmx && at $agent 5 socket:*'
            finish $shell"#
        )),
    equipped("T02", "twin: an ssh client in an interactive shell")
        .prepare(script!("ssh_server 4502; fact server $(pgrep -o sshd)"))
        .act(script!(
            r#"act
            (sleep 0.5; echo 'ssh -p 4502 root@127.0.0.1 sleep 6000'; hold; echo exit) | script -qc 'bash --norc -i' /dev/null > /dev/null 2>&1 &
            who shell 'bash --norc -i'; who client 'ssh -p 4502 root@127.0.0.1 sleep 6000'
            await 'at $client 0 /dev/pts/* && at $shell 0 /dev/pts/*'
            scanned; kill $client; gone $client; finish $shell"#
        ))
        .clean("kill $server; pkill -xf 'sleep 6000' || true"),
    twin("T03", "twin: a shell in a container, by its runtime")
        .prepare(script!(
            r#"
            mkdir -p /run/t03/rootfs/bin /run/t03/rootfs/dev /run/t03/rootfs/proc; cp /bin/busybox /run/t03/rootfs/bin/
            for applet in sh sleep; do ln -sf busybox /run/t03/rootfs/bin/$applet; done
            fact id $(echo t03 | sha256sum | cut -c1-64)
            cat > /run/t03/config.json <<JSON
{"ociVersion":"1.0.0","process":{"terminal":false,"user":{"uid":0,"gid":0},"args":["/bin/sleep","60"],"env":["PATH=/bin"],"cwd":"/"},
"root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"},
{"destination":"/dev","type":"tmpfs","source":"tmpfs"},{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["ptmxmode=0666"]}],
"linux":{"cgroupsPath":"/docker/$id","namespaces":[{"type":"pid"},{"type":"mount"},{"type":"uts"},{"type":"ipc"},{"type":"network"}]}}
JSON
            crun --cgroup-manager=cgroupfs run --no-pivot --detach --bundle /run/t03 $id < /dev/null > /tmp/t03.log 2>&1
            cat > /run/t03/server.py <<'PYTHON'
# As a container's manager does it: one process has the connection, another the terminal, FIFOs between them.
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
    subprocess.Popen(["crun", "--cgroup-manager=cgroupfs", "exec", "--tty", "--detach", "--console-socket",
                      "/run/t03/console", sys.argv[1], "/bin/sh"], stdin=subprocess.DEVNULL)
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
            port 4504"#
        ))
        .act(script!(
            r#"act
            (hold; echo exit; sleep 1) | busybox nc 127.0.0.1 4504 > /dev/null 2>&1 &
            # It may have been there before anybody connected.
            await 'shell=$(pgrep -nxf -- /bin/sh)'; fact shell $shell
            await 'at $shell 0 "*/[0-9]"'; grep -q docker/$id /proc/$shell/cgroup
            finish $shell"#
        ))
        .clean("crun --cgroup-manager=cgroupfs delete --force $id; pkill -f '^python3 /run/t03/server.py' || true; rm -rf /run/t03"),
    equipped("T05", "twin: a service started for each connection is no shell")
        .prepare(script!("tcpserver -HRl0 0 4505 cat > /dev/null 2>&1 & fact server $!; port 4505"))
        .act(script!(
            r#"act
            hold | nc.openbsd -N 127.0.0.1 4505 > /dev/null 2>&1 &
            who shell cat
            await 'at $shell 0 socket:* && same $shell 0 $shell 1'
            finish $shell"#
        ))
        .clean("kill $server"),
    equipped("T05b", "twin: a socket service that is a script")
        .prepare(script!(
            "printf '#!/bin/sh\\nread line\\necho got $line\\n%s\\n' \"hold=$hold; $pause\" > /tmp/t05.sh; chmod 755 /tmp/t05.sh
             systemd-socket-activate --accept --inetd -l 4506 /tmp/t05.sh > /dev/null 2>&1 & fact server $!; port 4506"
        ))
        .act(script!(
            r#"act
            (echo hello; hold) | nc.openbsd -N 127.0.0.1 4506 > /dev/null 2>&1 &
            who shell '/bin/sh /tmp/t05.sh'
            await 'at $shell 0 socket:* && same $shell 0 $shell 1'
            finish $shell"#
        ))
        .clean("kill $server; rm /tmp/t05.sh"),
    equipped("T05c", "twin: a command for each connection")
        .prepare(script!(
            "socat TCP-LISTEN:4524,reuseaddr 'SYSTEM:read line; echo got $line; read -r _ < $hold || true' > /dev/null 2>&1 & fact server $!; port 4524"
        ))
        .act(script!(
            r#"act
            (echo hello; hold) | nc.openbsd -N 127.0.0.1 4524 > /dev/null 2>&1 &
            who shell 'sh -c read line; .*'
            finish $shell"#
        )),
    twin("T06", "twin: an agent fetches jobs and runs their scripts")
        .prepare(script!(
            "printf 'echo one\\n%s\\necho two\\n' \"$pause\" > /tmp/t06.sh; serve 4507"
        ))
        .act(script!(
            r#"act
            python3 -c '
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4507))
job = subprocess.Popen(["bash", "-e", "/tmp/t06.sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
for line in job.stdout: s.sendall(line)
job.wait()' < /dev/null > /dev/null 2>&1 & fact agent $!
            who shell 'bash -e /tmp/t06.sh'
            await 'at $shell 0 pipe:* && at $shell 1 pipe:* && at $agent 3 socket:*'
            finish $shell"#
        ))
        .clean("rm /tmp/t06.sh"),
    twin("T06b", "twin: an agent gives a shell its script as input, and closes that")
        .prepare(script!("serve 4508"))
        .act(script!(
            r#"act
            python3 -c '
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4508))
job = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
job.stdin.write(b"echo one\nread -r _ < $hold || true\necho two\n"); job.stdin.close()
for line in job.stdout: s.sendall(line)
job.wait()' < /dev/null > /dev/null 2>&1 & fact agent $!
            who shell bash
            await 'at $shell 0 pipe:* && at $shell 1 pipe:* && at $agent 3 socket:*'
            finish $shell"#
        )),
    twin("T06c", "twin: an agent runs commands, without input from outside")
        .prepare(script!("serve 4509"))
        .act(script!(
            r#"act
            python3 -c '
import socket, subprocess
s = socket.create_connection(("127.0.0.1", 4509))
job = subprocess.Popen("echo one; read -r _ < $hold || true; echo two", shell=True, stdin=subprocess.DEVNULL, stdout=s, stderr=s)
job.wait()' < /dev/null > /dev/null 2>&1 &
            who shell '/bin/sh -c echo one.*'
            await 'at $shell 0 /dev/null && at $shell 1 socket:*'
            finish $shell"#
        )),
    twin("T07", "twin: a script that is fetched and piped into a shell")
        .prepare(script!(
            "mkdir -p /tmp/t07; echo \"$pause\" > /tmp/t07/x
             busybox httpd -f -p 4510 -h /tmp/t07 > /dev/null 2>&1 & fact server $!; port 4510"
        ))
        .act(script!(
            r#"act
            (busybox wget -q -O- http://127.0.0.1:4510/x | sh) < /dev/null > /dev/null 2>&1 &
            who shell sh
            await 'at $shell 0 pipe:*'
            finish $shell"#
        ))
        .clean("kill $server; rm -r /tmp/t07"),
    equipped("T07b", "twin: curl into bash, slowly")
        .prepare(script!(
            r#"python3 -c '
import os, socket, time
server = socket.create_server(("", 4511))
connection, _ = server.accept()
connection.recv(4096)
connection.sendall(b"HTTP/1.0 200 OK\r\n\r\ntrue\n")
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
connection.sendall(b"true\n")' > /dev/null 2>&1 &
            port 4511"#
        ))
        .act(script!(
            r#"act
            (curl -sN http://127.0.0.1:4511/x | bash) < /dev/null > /dev/null 2>&1 &
            who shell bash; who curl 'curl -sN .*'
            await 'at $shell 0 pipe:* && same $shell 0 $curl 1'
            finish $shell"#
        )),
    twin("T08", "twin: a web server runs a script for a request")
        .prepare(script!(
            r#"mkdir -p /tmp/t08/cgi-bin
            printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nread line\n%s\necho done\n' "hold=$hold; $pause" > /tmp/t08/cgi-bin/x
            chmod 755 /tmp/t08/cgi-bin/x
            busybox httpd -f -p 4512 -h /tmp/t08 > /dev/null 2>&1 & fact server $!; port 4512"#
        ))
        .act(script!(
            r#"act
            (printf 'POST /cgi-bin/x HTTP/1.0\r\nContent-Length: 50\r\n\r\nhello\n'; hold) | busybox nc 127.0.0.1 4512 > /dev/null 2>&1 &
            await 'shell=$(pgrep -nf "^/bin/sh .*x$")' && fact shell $shell
            await 'at $shell 0 pipe:* && at $shell 1 pipe:*'
            finish $shell"#
        ))
        .clean("kill $server; rm -r /tmp/t08"),
    equipped("T08b", "twin: lighttpd runs a script for a request")
        .prepare(script!(
            r#"mkdir -p /tmp/t08b
            printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\nread line\n%s\necho done\n' "hold=$hold; $pause" > /tmp/t08b/x.sh
            chmod 755 /tmp/t08b/x.sh
            printf 'server.modules=("mod_cgi")\nserver.document-root="/tmp/t08b"\nserver.port=4513\ncgi.assign=(".sh"=>"/bin/sh")\n' > /tmp/t08b/conf
            lighttpd -D -f /tmp/t08b/conf > /dev/null 2>&1 & fact server $!; port 4513"#
        ))
        .act(script!(
            r#"act
            curl -s --data hello http://127.0.0.1:4513/x.sh > /dev/null 2>&1 &
            who shell '/bin/sh /tmp/t08b/x.sh'
            await '[ -e /proc/$shell/fd/0 ]'
            finish $shell"#
        ))
        .clean("kill $server; rm -r /tmp/t08b"),
    equipped("T10", "twin: a shell started by a database client")
        .prepare(script!(
            r#"python3 -c '
import socket, struct, time
server = socket.create_server(("", 4514))
connection, _ = server.accept()
connection.recv(4096)
say = lambda kind, data: connection.sendall(kind + struct.pack(">I", 4 + len(data)) + data)
say(b"R", struct.pack(">I", 0)); say(b"S", b"server_version\x0015.0\x00"); say(b"Z", b"I")
connection.recv(4096)' > /dev/null 2>&1 &
            port 4514"#
        ))
        .act(script!(
            r#"act
            (sleep 1; echo '\! /bin/sh'; hold; echo exit; echo '\q'; sleep 0.5) | PGSSLMODE=disable PGGSSENCMODE=disable \
              script -qc 'psql -X -h 127.0.0.1 -p 4514 -U u d' /dev/null > /dev/null 2>&1 &
            who shell '/bin/sh'
            await 'at $shell 0 /dev/pts/*'
            finish $shell"#
        ))
        .clean("pkill psql || true"),
    equipped("T11", "twin: terminals without a connection")
        .act(script!(
            r#"act
            (hold; echo exit) | script -qc 'bash --norc -i' /dev/null > /dev/null 2>&1 &
            who shell 'bash --norc -i'
            expect -c 'spawn bash --norc; while {[file exists $env(hold)]} {sleep 0.1}; send "exit\r"; expect eof' < /dev/null > /dev/null 2>&1 &
            who second 'bash --norc'
            await 'at $shell 0 /dev/pts/* && at $second 0 /dev/pts/*'
            finish $shell; gone $second"#
        ))
        .expect(BOTH),
    equipped("T12", "twin: tunnels have no shell")
        .prepare(script!(
            "ssh_server 4502; fact server $(pgrep -o sshd); serve 4515; serve 4516
             socat TCP-LISTEN:4517 TCP:127.0.0.1:4515 > /dev/null 2>&1 &
             port 4517"
        ))
        .act(script!(
            r#"act
            ssh -N -L 4518:127.0.0.1:4516 -p 4502 root@127.0.0.1 > /dev/null 2>&1 & fact tunnel $!
            port 4518
            hold | nc.openbsd 127.0.0.1 4517 > /dev/null 2>&1 & fact shell $!
            hold | nc.openbsd 127.0.0.1 4518 > /dev/null 2>&1 &
            await 'grep -q ":11A3 01" /proc/net/tcp && grep -q ":11A4 01" /proc/net/tcp'
            finish $shell
            kill $tunnel"#
        ))
        .clean("kill $server"),
    equipped("T13", "twin: tmux, from a login by ssh")
        .prepare(script!("ssh_server 4502; fact server $(pgrep -o sshd)"))
        .act(script!(
            r#"act
            (hold; echo exit) | TERM=xterm ssh -tt -p 4502 root@127.0.0.1 'tmux -L t13 new-session "bash --norc"' > /dev/null 2>&1 &
            who shell 'bash --norc'
            await 'at $shell 0 /dev/pts/*'; pgrep tmux > /dev/null
            finish $shell"#
        ))
        .clean("kill $server; tmux -L t13 kill-server 2> /dev/null || true"),
    equipped("T14", "twin: rsync over ssh")
        .prepare(script!(
            "ssh_server 4502; fact server $(pgrep -o sshd)
             mkdir -p /tmp/t14; head -c 300000 /dev/urandom > /tmp/t14/a"
        ))
        .act(script!(
            r#"act
            (scanned; exec rsync -a --bwlimit=30 -e 'ssh -p 4502' /tmp/t14/a root@127.0.0.1:/tmp/t14/b < /dev/null > /dev/null 2>&1) &
            fact client $!
            who shell 'rsync --server .*'
            gone $client
            cmp /tmp/t14/a /tmp/t14/b"#
        ))
        .expect(&[ended(&[("process.process_id", "$client")])])
        .clean("kill $server; rm -r /tmp/t14"),
    twin("T15", "twin: a health check uses a connection on a descriptor of its own")
        .prepare(script!("serve 4519"))
        .act(script!(
            r#"act
            bash -c 'exec 3<>/dev/tcp/127.0.0.1/4519; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3 | grep -q UP; true' < /dev/null > /dev/null 2>&1 &
            fact shell $!
            await 'at $shell 3 socket:* && at $shell 0 /dev/null'
            finish $shell"#
        )),
    twin("T15b", "twin: a script uses a connection on a descriptor of its own")
        .prepare(script!(
            "serve 4520
             printf 'exec 3<>/dev/tcp/127.0.0.1/4520\\necho hello >&3\\nwhile read -r line <&3; do echo $line; done\\n' > /tmp/t15.sh"
        ))
        .act(script!(
            r#"act
            bash /tmp/t15.sh < /dev/null > /dev/null 2>&1 & fact shell $!
            await 'at $shell 3 socket:*'
            finish $shell"#
        ))
        .clean("rm /tmp/t15.sh"),
    equipped("T15c", "twin: a shell on a terminal has a connection at another descriptor")
        .prepare(script!("serve 4521"))
        .act(script!(
            r#"act
            (sleep 0.5; echo 'exec 3<>/dev/tcp/127.0.0.1/4521'; hold; echo exit) | script -qc 'bash --norc -i' /dev/null > /dev/null 2>&1 &
            who shell 'bash --norc -i'
            await 'at $shell 0 /dev/pts/* && at $shell 3 socket:*'
            finish $shell"#
        )),
    twin("T15d", "twin: forty health checks, one after the other")
        .prepare(script!("answer 4522 40"))
        .act(script!(
            r#"act
            for i in {1..40}; do
              bash -c 'exec 3<>/dev/tcp/127.0.0.1/4522; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3 | grep -q UP; true' < /dev/null > /dev/null 2>&1
            done
            sleep 600 & fact shell $!; scanned; over $shell"#
        )),
    twin("T15e", "twin: forty health checks that read a line themselves")
        .prepare(script!("answer 4523 40"))
        .act(script!(
            r#"act
            for i in {1..40}; do
              bash -c 'exec 3<>/dev/tcp/127.0.0.1/4523; printf "GET / HTTP/1.0\r\n\r\n" >&3; read -r line <&3; [[ $line = *UP* ]]' < /dev/null > /dev/null 2>&1
            done
            sleep 600 & fact shell $!; scanned; over $shell"#
        )),
    twin("T20", "twin: a terminal by datagrams from a client with the key")
        .act(script!(
            r#"act
            python3 -c '
import os, pty, socket, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("", 4525))
pid, terminal = pty.fork()
if pid == 0: os.execv("/bin/bash", ["bash", "--norc", "-i"])
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
os.write(terminal, b"exit\n"); os.waitpid(pid, 0)' < /dev/null > /dev/null 2>&1 & fact server $!
            who shell 'bash --norc -i'
            await 'at $shell 0 /dev/pts/*'
            finish $shell"#
        )),
    equipped("T22", "twin: a terminal of an editor, through a login by ssh")
        .prepare(script!(
            r#"ssh_server 4502; fact server $(pgrep -o sshd)
            cat > /tmp/t22.py <<'PYTHON'
import os, pty, select, socket
server = socket.create_server(("127.0.0.1", 4526))
connection, _ = server.accept()
pid, terminal = pty.fork()
if pid == 0:
    os.execv("/bin/bash", ["bash", "--norc", "-i"])
while True:
    ready, _, _ = select.select([connection, terminal], [], [])
    try:
        if connection in ready:
            data = connection.recv(4096)
            if not data:
                break
            os.write(terminal, data)
        if terminal in ready:
            connection.sendall(os.read(terminal, 4096))
    except OSError:
        break
PYTHON
            ssh -p 4502 -L 4527:127.0.0.1:4526 root@127.0.0.1 python3 /tmp/t22.py < /dev/null > /dev/null 2>&1 &
            port 4526; port 4527"#
        ))
        .act(script!(
            r#"act
            (hold; echo exit) | nc.openbsd 127.0.0.1 4527 > /dev/null 2>&1 &
            who shell 'bash --norc -i'
            await 'at $shell 0 /dev/pts/*'
            finish $shell"#
        ))
        .clean("kill $server; rm /tmp/t22.py"),
];
