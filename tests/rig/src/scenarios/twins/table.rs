//! The twins: what people's machines do all day.
//!
//! Each turn proves by its exit status that it did its work.
#![allow(
    clippy::needless_raw_string_hashes,
    reason = "scripts that change have quotes sooner or later"
)]

/// Harmless activity that looks like an attack, repeated.
#[derive(Clone, Copy, Debug)]
pub struct Twin {
    /// One word.
    pub name: &'static str,
    /// The description for people.
    pub about: &'static str,
    /// bash, once: prepares the turns, and starts servers.
    pub(super) prepare: &'static str,
    /// bash, repeated: status 0 means that the turn did all its work.
    pub(super) turn: &'static str,
}

/// Functions for all scripts of twins, in addition to those of scenarios.
pub(super) const FUNCTIONS: &str = r#"
port() { await "grep -q ':$(printf %04X $1) 0*:0000 0A' /proc/net/tcp /proc/net/tcp6"; }
serve() { "$@" < /dev/null > /dev/null 2>&1 & }
"#;

/// Servers that several twins use; ready before any of them.
pub(super) const COMMON: &str = r#"
mkdir -p /run/sshd /root/.ssh /srv/web; chmod 700 /root /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
printf 'Host *\nStrictHostKeyChecking no\nLogLevel ERROR\n' > /root/.ssh/config
[ -e /etc/ssh/sshd_config ] || touch /etc/ssh/sshd_config
/usr/sbin/sshd -o UsePAM=yes -o PermitRootLogin=yes -o MaxStartups=100 -E /var/log/sshd.log; port 22
cat > /srv/web/conf <<'CONF'
server.modules = ("mod_cgi")
server.document-root = "/srv/web"
server.port = 80
cgi.assign = (".sh" => "/bin/sh", ".pl" => "/usr/bin/perl", ".py" => "/usr/bin/python3", ".bin" => "")
CONF
printf 'echo Content-Type: text/plain\necho\nread line || true\nfor i in 1 2 3; do echo $i | cat; sleep 0.1; done\n' > /srv/web/a.sh
printf 'print "Content-Type: text/plain\\n\\n"; print `sh -c "sleep 0.2; id -u"`;' > /srv/web/b.pl
printf 'import subprocess\nprint("Content-Type: text/plain\\n", flush=True)\nsubprocess.run(["sh", "-c", "id -u"])\n' > /srv/web/c.py
printf '#!/bin/bash\nprintf "Content-Type: text/plain\\n\\n"; cat\n' > /srv/web/d.bin; chmod 755 /srv/web/d.bin
printf 'sleep 0.5\nid -u > /dev/null\n' > /srv/web/script.txt
serve lighttpd -D -f /srv/web/conf; port 80
"#;

pub(super) const TWINS: &[Twin] = &[
    Twin {
        name: "ssh",
        about: "logins and commands by ssh, with and without a terminal; files by scp",
        prepare: "",
        turn: r#"
ssh -n root@127.0.0.1 'id -u; ls / | wc -l'
(sleep 1; echo 'ls /; id'; sleep 1; echo exit) | TERM=dumb ssh -tt root@127.0.0.1
echo 'id -u; sleep 1' | ssh root@127.0.0.1 bash -s
scp -O -q /etc/hostname root@127.0.0.1:/tmp/scp-copy; cmp /etc/hostname /tmp/scp-copy
tar -c /etc/ssh 2> /dev/null | ssh root@127.0.0.1 'cat > /tmp/backup.tar'; tar -t < /tmp/backup.tar | grep -q ssh/moduli
"#,
    },
    Twin {
        name: "dropbear",
        about: "logins by dropbear",
        prepare: "mkdir -p /etc/dropbear; serve dropbear -R -F -p 2222; port 2222",
        turn: r#"
(sleep 1; echo 'ls /'; sleep 1; echo exit) | TERM=dumb ssh -tt -p 2222 root@127.0.0.1
ssh -n -p 2222 root@127.0.0.1 'id -u | grep -q 0'
"#,
    },
    Twin {
        name: "telnet",
        about: "logins by telnet",
        prepare: r#"
serve busybox telnetd -F -p 2323 -l /bin/sh; port 2323
"#,
        turn: r#"
(sleep 2; echo 'echo it-"works"'; sleep 2; echo exit; sleep 1) | busybox telnet 127.0.0.1 2323 > /tmp/telnet.out || true
grep -q it-works /tmp/telnet.out
"#,
    },
    Twin {
        name: "web",
        about: "a web server that runs scripts for requests",
        prepare: "",
        turn: r#"
for i in 1 2 3; do
  for path in a.sh b.pl c.py d.bin; do curl -sf --data hello http://127.0.0.1/$path > /tmp/web.$path; done
  curl -sf http://127.0.0.1/script.txt > /dev/null
done
grep -q 3 /tmp/web.a.sh; grep -q 0 /tmp/web.b.pl; grep -q 0 /tmp/web.c.py; grep -q hello /tmp/web.d.bin
"#,
    },
    Twin {
        name: "database",
        about: "a database server, its clients, and shells started by those",
        prepare: r#"
mkdir -p /srv/database /run/mysqld
mariadb-install-db --no-defaults --user=root --datadir=/srv/database --auth-root-authentication-method=normal > /tmp/database.log 2>&1
serve mariadbd --no-defaults --user=root --datadir=/srv/database --bind-address=127.0.0.1 --innodb-buffer-pool-size=16M
for i in {1..60}; do mariadb --no-defaults -h 127.0.0.1 -e 'select 1' && break; sleep 1; done > /dev/null 2>&1
mariadb --no-defaults -h 127.0.0.1 -e 'create database twins; create table twins.t (a int)'
"#,
        turn: r#"
client() { mariadb --no-defaults -h 127.0.0.1 "$@"; }
for i in {1..10}; do client -e "insert into twins.t values ($i)"; done
client -e 'select count(*) from twins.t' | grep -q 0
(echo 'select 1;'; echo '\! id -u'; echo '\! sh -c "sleep 1; id -u"'; echo 'select 2;') | client | grep -q 0
(sleep 1; echo '\! bash'; sleep 1; echo 'id -u; exit'; sleep 1; echo exit) | script -qc 'mariadb --no-defaults -h 127.0.0.1' /dev/null
"#,
    },
    Twin {
        name: "terminals",
        about: "tmux, screens of their own, expect, script; bash's history as it is used",
        prepare: "",
        turn: r#"
tmux -L twins -f /dev/null new-session -d -x 80 -y 24 'bash --norc'
for i in 1 2 3; do tmux -L twins send-keys "id -u" Enter; tmux -L twins split-window 'sleep 1' || true; sleep 0.5; done
tmux -L twins capture-pane -p > /dev/null; tmux -L twins kill-server
echo 'export HISTCONTROL=ignoreboth HISTSIZE=2000 HISTFILESIZE=4000' > /tmp/twin-rc
(sleep 1; echo 'ls /'; echo ' id'; echo history; sleep 1; echo exit) |
  script -qc 'bash --rcfile /tmp/twin-rc -i' /dev/null | grep -q history
expect -c 'spawn bash --norc; send "id -u\r"; expect 0; send "exit\r"; expect eof'
(sleep 3; echo exit) | TERM=xterm ssh -tt root@127.0.0.1 'tmux -L remote -f /dev/null new-session "bash --norc"' > /dev/null
bash -c 'HISTFILE=/dev/null; set +o history; true'
"#,
    },
    Twin {
        name: "containers",
        about: "containers start and stop, and commands are run in them",
        prepare: r#"
mkdir -p /srv/rootfs/bin /srv/rootfs/proc /srv/rootfs/dev /srv/rootfs/tmp; cp /bin/busybox /srv/rootfs/bin/
for applet in sh sleep cat id; do ln -sf busybox /srv/rootfs/bin/$applet; done
"#,
        turn: r#"
for i in 1 2 3; do
  id=$(echo $RANDOM$i | sha256sum | cut -c1-64); bundle=/run/twin-container-$i; mkdir -p $bundle
  cat > $bundle/config.json <<JSON
{"ociVersion":"1.0.0","process":{"terminal":false,"user":{"uid":0,"gid":0},"args":["/bin/sh","-c","sleep 60"],"env":["PATH=/bin"],"cwd":"/"},
"root":{"path":"/srv/rootfs"},"hostname":"twin","mounts":[{"destination":"/proc","type":"proc","source":"proc"},
{"destination":"/dev","type":"tmpfs","source":"tmpfs"}],"linux":{"cgroupsPath":"/docker/$id",
"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"uts"},{"type":"ipc"},{"type":"network"}]}}
JSON
  crun --cgroup-manager=cgroupfs run --no-pivot --detach --bundle $bundle $id < /dev/null > /tmp/container.out 2>&1
  crun --cgroup-manager=cgroupfs exec $id sh -c 'id; sleep 0.5' < /dev/null | grep -q uid=0
  echo 'id' | crun --cgroup-manager=cgroupfs exec $id sh | grep -q uid=0
  crun --cgroup-manager=cgroupfs delete --force $id
done
"#,
    },
    Twin {
        name: "python",
        about: "python's multiprocessing in each way of starting, and callbacks from C",
        prepare: r#"
mkdir -p /srv/python; cat > /srv/python/pool.py <<'PYTHON'
import multiprocessing, sys, time
def work(n): time.sleep(0.05); return n * n
if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert pool.map(work, range(8)) == [n * n for n in range(8)]
PYTHON
cat > /srv/python/callbacks.py <<'PYTHON'
import ctypes
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
numbers = (ctypes.c_int * 100)(*range(100, 0, -1))
ctypes.CDLL(None).qsort(numbers, 100, 4, compare(lambda a, b: a[0] - b[0]))
assert list(numbers) == list(range(1, 101))
PYTHON
"#,
        turn: r#"
for way in fork spawn forkserver; do python3 /srv/python/pool.py $way; done
python3 /srv/python/callbacks.py
"#,
    },
    Twin {
        name: "node",
        about: "node at work: compiled functions, workers, a server and its client",
        prepare: r#"
mkdir -p /srv/node; cat > /srv/node/work.js <<'NODE'
const { Worker, isMainThread } = require("worker_threads"), http = require("http"), { execSync } = require("child_process");
function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
function busy() { for (let i = 0; i < 5; i++) fibonacci(22); return [..."a1b2c3".repeat(500)].filter(c => /[a-z]\d?/.test(c)).length; }
busy();
if (isMainThread) {
  new Worker(__filename);
  const server = http.createServer((request, answer) => answer.end(String(busy()))).listen(8081, "127.0.0.1", () => {
    http.get("http://127.0.0.1:8081/", answer => { answer.resume(); answer.on("end", () => {
      if (execSync("id -u").toString().trim() !== "0") process.exit(1);
      server.close(); }); });
  });
}
NODE
"#,
        turn: "node /srv/node/work.js",
    },
    Twin {
        name: "java",
        about: "java at work: keys made by keytool",
        prepare: "",
        turn: r#"
rm -f /tmp/keys; java -version 2>&1 | grep -q OpenJDK
/usr/lib/jvm/java-17-openjdk-amd64/bin/keytool -genkeypair -alias a -keyalg RSA -keysize 2048 -dname CN=a \
  -keystore /tmp/keys -storepass secret -keypass secret > /dev/null 2>&1
/usr/lib/jvm/java-17-openjdk-amd64/bin/keytool -list -keystore /tmp/keys -storepass secret 2>/dev/null | grep -q PrivateKeyEntry
"#,
    },
    Twin {
        name: "interpreters",
        about: "interpreters and the code they compile at run time",
        prepare: "seq 20000 > /srv/numbers",
        turn: r#"
luajit -e 'local s = 0; for i = 1, 2e6 do s = s + i % 7 end; print(s)'
for i in {1..20}; do grep -cP '^(?:1|22)+\d(?=5)' /srv/numbers; done | tail -n 1 | grep -q '[0-9]'
php -d opcache.enable_cli=1 -r '$s = 0; for ($i = 0; $i < 200000; $i++) $s += preg_match("/^1\d+5$/", (string) $i); echo shell_exec("id -u");' | grep -q 0
perl -e 'my $s = 0; $s += $_ =~ /^1\d+5$/ for 1..100000; print `id -u`;' | grep -q 0
ruby -e 's = (1..100000).sum; puts s, `id -u`' | grep -q 0
gawk 'BEGIN { while (("seq 100" | getline line) > 0) s += line; print s | "cat" }' | grep -q 5050
lua -e 'local p = io.popen("id -u"); print(p:read("a"))' | grep -q 0
"#,
    },
    Twin {
        name: "compile",
        about: "a program is compiled and run",
        prepare: r#"
mkdir -p /srv/compile; cd /srv/compile
for i in 1 2 3; do printf '#include <stdio.h>\nint f%s(int a) { printf("%%d\\n", a); return a + %s; }\n' $i $i > f$i.c; done
printf 'int f1(int), f2(int), f3(int);\nint main(void) { return f1(f2(f3(0))) != 6; }\n' > main.c
printf 'main: f1.o f2.o f3.o main.o\n\tgcc -o $@ $^\n%%.o: %%.c\n\tgcc -O2 -c $<\nclean:\n\trm -f *.o main\n' > Makefile
"#,
        turn: "cd /srv/compile; make -s -j2; ./main; make -s clean",
    },
    Twin {
        name: "apt",
        about: "a package is upgraded and downgraded by apt while its program runs",
        prepare: r#"
mkdir -p /srv/apt /var/lib/apt/lists/partial /var/cache/apt/archives/partial /var/log/apt /etc/apt/preferences.d; cd /srv/apt
for version in 1.0 2.0; do
  mkdir -p p/DEBIAN p/usr/bin p/usr/lib
  cp /usr/bin/sleep p/usr/bin/twin; echo $version >> p/usr/bin/twin
  cp $(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1) p/usr/lib/libtwin.so; echo $version >> p/usr/lib/libtwin.so
  printf 'Package: twin\nVersion: %s\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\nDescription: a twin\n' $version > p/DEBIAN/control
  printf '#!/bin/sh\nset -e\n/sbin/ldconfig\n' > p/DEBIAN/postinst; chmod 755 p/DEBIAN/postinst
  dpkg-deb --root-owner-group -Znone --build p twin-$version.deb > /dev/null; rm -r p
done
for deb in *.deb; do
  dpkg-deb --field $deb; printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' $deb $(stat -c %s $deb) $(sha256sum < $deb | cut -d' ' -f1)
done > Packages
printf 'Origin: twins\nSHA256:\n %s %s Packages\n' $(sha256sum < Packages | cut -d' ' -f1) $(stat -c %s Packages) > Release
echo 'deb [trusted=yes] file:/srv/apt ./' > /etc/apt/sources.list.d/twins.list
echo 'APT::Sandbox::User "root";' > /etc/apt/apt.conf.d/99twins
"#,
        turn: r#"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq --yes --allow-downgrades install twin=1.0
LD_PRELOAD=/usr/lib/libtwin.so twin 300 & running=$!
apt-get -qq --yes install twin=2.0
grep -q 'twin.*(deleted)' /proc/$running/maps; kill $running
dpkg --status twin | grep -q 'Version: 2.0'
"#,
    },
    Twin {
        name: "cron",
        about: "jobs that cron starts, with pipes, and with input",
        prepare: r#"
touch /var/log/twin-cron
mkdir -p /var/spool/cron/crontabs /etc/cron.d
printf 'SHELL=/bin/bash\n* * * * * root echo input | cat > /dev/null; sleep 1; date >> /var/log/twin-cron\n* * * * * user sh -c "read a; true"%%some input\n' > /etc/cron.d/twins
serve cron -f
"#,
        turn: r#"
before=$(wc -l < /var/log/twin-cron)
for i in {1..140}; do [ $(wc -l < /var/log/twin-cron) = $before ] || exit 0; sleep 1; done
exit 1
"#,
    },
    Twin {
        name: "logs",
        about: "logs that are written and rotated",
        prepare: r#"
mkdir -p /var/log/twins
printf '/var/log/twins/a.log { rotate 3\n size 1\n create 600 root root\n missingok\n}\n/var/log/twins/b.log { rotate 2\n size 1\n copytruncate\n missingok\n}\n' > /etc/logrotate-twins
for name in a b; do (while sleep 0.5; do echo line >> /var/log/twins/$name.log; done) > /dev/null 2>&1 & done
"#,
        turn: r#"
sleep 2; /usr/sbin/logrotate -f -s /var/lib/logrotate/twins /etc/logrotate-twins
[ -s /var/log/twins/a.log.1 ] && [ -s /var/log/twins/b.log.1 ]
"#,
    },
    Twin {
        name: "rsync",
        about: "files by rsync over ssh",
        prepare: "mkdir -p /srv/rsync; for i in {1..20}; do head -c 100000 /dev/urandom > /srv/rsync/$i; done",
        turn: r#"
rm -rf /tmp/rsync; rsync -a /srv/rsync/ root@127.0.0.1:/tmp/rsync < /dev/null; cmp /srv/rsync/7 /tmp/rsync/7
rsync -a --delete root@127.0.0.1:/srv/rsync/ /tmp/rsync/ < /dev/null
"#,
    },
    Twin {
        name: "pipes",
        about: "scripts that are fetched and piped into a shell; health checks by bash's own connections",
        prepare: "",
        turn: r#"
curl -sf http://127.0.0.1/script.txt | bash
busybox wget -q -O- http://127.0.0.1/script.txt | sh
bash -c 'exec 3<>/dev/tcp/127.0.0.1/80; printf "GET /script.txt HTTP/1.0\r\n\r\n" >&3; cat <&3 | grep -q "200 OK"'
mkfifo /tmp/twin-fifo 2>/dev/null || true; (cat /tmp/twin-fifo | sh > /dev/null) & echo 'sleep 0.5' > /tmp/twin-fifo; wait
"#,
    },
    Twin {
        name: "sockets",
        about: "services started for each connection, scripts among them",
        prepare: r#"
printf '#!/bin/sh\nread line\necho got $line\nsleep 0.5\n' > /srv/service.sh; chmod 755 /srv/service.sh
serve systemd-socket-activate --accept --inetd -l 7001 /srv/service.sh; port 7001
serve tcpserver -H -R 0 7002 cat; port 7002
serve socat TCP-LISTEN:7003,fork,reuseaddr EXEC:/srv/service.sh; port 7003
"#,
        turn: r#"
for port in 7001 7002 7003; do (echo hello; sleep 1.5) | nc.openbsd -N 127.0.0.1 $port | grep -q hello; done
"#,
    },
    Twin {
        name: "agents",
        about: "agents that fetch jobs by a connection of their own and run their scripts",
        prepare: r#"
cat > /srv/jobs.py <<'PYTHON'
import socket, threading
server = socket.create_server(("", 7010))
def job(connection):
    connection.sendall(b"echo one; sleep 1; id -u; echo two\n")
    while connection.recv(4096): pass
while True:
    threading.Thread(target=job, args=(server.accept()[0],)).start()
PYTHON
cat > /srv/agent.py <<'PYTHON'
import socket, subprocess
connection = socket.create_connection(("127.0.0.1", 7010))
script = connection.recv(4096)
open("/tmp/job.sh", "wb").write(script)
for words, given in [(["bash", "-e", "/tmp/job.sh"], None), (["bash"], script), (["sh", "-c", script.decode()], None)]:
    job = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if given: job.stdin.write(given)
    job.stdin.close()
    said = job.stdout.read()
    connection.sendall(said)
    assert b"two" in said and job.wait() == 0
PYTHON
serve python3 /srv/jobs.py; port 7010
"#,
        turn: "python3 /srv/agent.py",
    },
    Twin {
        name: "tunnels",
        about: "tunnels by ssh and socat, and a connection under TLS",
        prepare: r#"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /srv/key.pem -out /srv/cert.pem -subj /CN=a -days 30 2> /dev/null
serve openssl s_server -accept 7021 -key /srv/key.pem -cert /srv/cert.pem -www; port 7021
serve socat TCP-LISTEN:7022,fork,reuseaddr TCP:127.0.0.1:80; port 7022
"#,
        turn: r#"
ssh -n -N -L 7023:127.0.0.1:80 root@127.0.0.1 & tunnel=$!
port 7023
for port in 7022 7023; do curl -sf http://127.0.0.1:$port/script.txt > /dev/null; done
kill $tunnel; wait $tunnel || true
curl -sfk https://127.0.0.1:7021/ > /dev/null
"#,
    },
    Twin {
        name: "storm",
        about: "many processes that end at once; threads; a login to another user",
        prepare: "",
        turn: r#"
for i in {1..150}; do /bin/true; done
(for i in {1..50}; do /bin/busybox true & done; wait)
setpriv --reuid 1000 --regid 1000 --clear-groups bash -c 'ls / > /dev/null; sleep 0.2; id -u' | grep -q 1000
runuser -u user -- bash -c 'sleep 0.2; id -u' | grep -q 1000
python3 -c 'import threading, time
threads = [threading.Thread(target=time.sleep, args=(0.5,)) for _ in range(30)]
for thread in threads: thread.start()
for thread in threads: thread.join()'
"#,
    },
];
