//! The examples of the manual argus(8), run as they are printed, by a program of the name `argus`.
//!
//! Names of files, of hosts and of groups are those of the tests. A shell needs quotes around
//! `( )`.

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use panoptes_bounded as bounded;
use panoptes_traffic::{BEGIN_NS, Between, Capture, Echo, Host, Tcp, Udp};

use crate::live::{connection, facts, truth};
use crate::network::{self, LEFT, send_all};
use crate::programs::{Folder, Running, argus, client, run, settle, signal_to, until};
use crate::stream::rows;

/// Moves this thread into a new network; `false` without the permission for that, or for the
/// mounts of [`shell`].
fn enter(pairs: usize) -> bool {
    panoptes_needs::skip::can_mount() && network::enter(pairs)
}

/// A folder with a program of the name `argus`.
fn folder() -> Folder {
    let folder = Folder::new();
    symlink(env!("CARGO_BIN_EXE_panoptes"), folder.path("argus")).expect("a link");
    folder
}

/// A line for the shell, in the folder. It has no system configuration, and a `/run` of its own.
fn shell(folder: &Folder, line: &str) -> Command {
    let searched = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("unshare");
    let empty = folder.write("argus.conf", b"");
    let hidden = format!(
        "mount -t tmpfs none /run && if test -e /etc/argus.conf; then mount --bind {empty} \
         /etc/argus.conf; fi; {line}"
    );
    command.args(["-m", "sh", "-c", &hidden]).current_dir(folder.path("."));
    command.env("PATH", format!("{}:{searched}", folder.text("")));
    command
}

/// Starts a line of the shell that audits until the test ends it.
#[track_caller]
fn listening(folder: &Folder, line: &str) -> Running {
    let running = Running::start(&mut shell(folder, &format!("exec {line}")));
    running.wait_for("right0: auditing");
    running
}

/// ICMP and UDP.
fn echo_and_udp() -> Capture {
    let between = |ports| Between::v4(1, ports);
    let echo = Echo { interval_ns: 10_000_000, ..Echo::new(between([0, 0]), BEGIN_NS, 0x1212, 3) };
    Capture::of(&echo).with(&Udp::alternating(between([5000, 6000]), BEGIN_NS, &[100, 200]))
}

/// The protocols of a file's flows.
fn protocols(records: &Path) -> Vec<String> {
    let mut all: Vec<_> = rows(records).iter().map(|row| row.text("proto").to_owned()).collect();
    all.sort();
    all
}

#[test]
fn example_of_a_daemon() {
    if !enter(1) {
        return;
    }
    let hosts = bounded::output(
        Command::new("sh").args(["-c", "getent --no-addrconfig ahostsv4 `hostname`"]),
    );
    let hosts = String::from_utf8(hosts.expect("a shell").stdout).expect("text");
    let Some(address) = hosts.split_whitespace().next() else {
        panoptes_needs::skip::test("/etc/hosts");
        return;
    };
    let folder = folder();
    let line = "argus -d -e `hostname` -w output-file && cat /run/argus.right0.0.pid";
    let printed = run(&mut shell(&folder, line));
    let daemon = printed.lines().find_map(|line| line.parse().ok()).expect("a PID file");
    send_all(LEFT[0], &connection(1));
    settle(daemon);
    signal_to(daemon, Signal::SIGTERM);
    until(|| "it does not end".to_owned(), || !Path::new(&format!("/proc/{daemon}/exe")).exists());
    assert_eq!(facts(&folder.path("output-file")), truth(connection(1).flows(), address));
}

#[test]
fn example_of_a_filter() {
    if !enter(1) {
        return;
    }
    let folder = folder();
    let running = listening(&folder, "argus -w output-file - ip and not icmp");
    send_all(LEFT[0], &echo_and_udp());
    running.end(Signal::SIGTERM).succeeded();
    assert_eq!(protocols(&folder.path("output-file")), ["udp"]);
}

#[test]
fn example_of_two_streams() {
    if !enter(1) {
        return;
    }
    let folder = folder();
    let ports = [5612, 5613];
    let received = ports.map(|port| {
        let file = folder.path(&port.to_string());
        let address = format!("argus-udp://127.0.0.1:{port}");
        let ra = Running::start(client("ra", &["-S", &address, "-w"]).arg(&file));
        let place = format!(":{port:04X} ");
        let listens = || {
            let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap_or_default();
            table.contains(&place)
        };
        until(|| "ra does not listen".to_owned(), listens);
        (ra, file)
    });
    let line = "argus -w argus-udp://127.0.0.1:5612 \"icmp\" \\\n -w argus-udp://127.0.0.1:5613 \
                \"not icmp\" - ip";
    let running = listening(&folder, line);
    send_all(LEFT[0], &echo_and_udp());
    running.end(Signal::SIGTERM).succeeded();
    let found = received.map(|(ra, file)| {
        ra.settle();
        ra.end(Signal::SIGINT);
        protocols(&file)
    });
    assert_eq!(found, [vec!["icmp"; 3], vec!["udp"]]);
}

#[test]
fn example_of_two_gateways() {
    if !enter(1) {
        return;
    }
    let folder = folder();
    let line = "argus -P 430 ether host '(0:8:3:2d:42:1 and 0:0:c:18:29:f1)'";
    let running = listening(&folder, line);
    let file = folder.path("records");
    let ra = Running::start(client("ra", &["-S", "127.0.0.1:430", "-w"]).arg(&file));
    running.wait_for("receives all records");
    let gateways = [
        Host::v4(1).with_mac([0, 8, 3, 0x2d, 0x42, 1]),
        Host::v4(2).with_mac([0, 0, 0xc, 0x18, 0x29, 0xf1]),
    ];
    let between = Capture::of(&Tcp::new(Between::new(gateways, [40_000, 443]), BEGIN_NS));
    send_all(LEFT[0], &between);
    send_all(LEFT[0], &connection(3));
    running.end(Signal::SIGTERM).succeeded();
    ra.settle();
    ra.end(Signal::SIGINT);
    assert_eq!(facts(&file), truth(between.flows(), "0.0.0.0"));
}

#[test]
fn example_of_a_folder() {
    if !panoptes_needs::skip::can_mount() {
        return;
    }
    let folder = folder();
    std::fs::create_dir(folder.path("dir")).expect("a folder");
    folder.capture("dir/a.pcap", &echo_and_udp());
    run(&mut shell(&folder, "argus -R dir -w output-file \"echo\" - icmp"));
    let rows = argus().ra(&folder.path("output-file")).expect("records");
    // Each request and its reply is a flow; the reply took 20 ms.
    assert_eq!(rows.len(), 3);
    assert!(
        rows.iter().all(|row| row.nanoseconds("ltime") - row.nanoseconds("stime") == 20_000_000)
    );
}

#[test]
fn example_of_a_server() {
    if !enter(1) {
        return;
    }
    let folder = folder();
    let server = Ipv4Addr::new(10, 1, 0, 101);
    let line = format!("argus -S 3600 -w output-file - host {server} and udp and port 2049");
    let running = listening(&folder, &line);
    let between = Between::v4(1, [700, 2049]);
    let wanted = Capture::of(&Udp::alternating(between.clone(), BEGIN_NS, &[100, 200]));
    send_all(LEFT[0], &wanted);
    send_all(LEFT[0], &echo_and_udp());
    send_all(LEFT[0], &Capture::of(&Tcp::new(between, BEGIN_NS)));
    running.end(Signal::SIGTERM).succeeded();
    assert_eq!(facts(&folder.path("output-file")), truth(wanted.flows(), "0.0.0.0"));
}
