//! IPFIX messages, against a collector: `nfcapd` receives them, `nfdump` prints the flows.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use panoptes_bounded as bounded;
use panoptes_records::flow::Extra;
use panoptes_sinks::flow::ipfix::{MESSAGE_BYTES_MAX, Session};
use panoptes_traffic::{Flow, kinds};
use rustix::process::{Pid, Signal, kill_process};

use super::audit;

/// How long a collector may take.
const TIME_MAX: Duration = bounded::BOUND;
const POLL: Duration = Duration::from_millis(50);
const NOW_NS: i64 = 1_700_000_100_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

/// Kinds of conversations whose truth has the same flows as the records.
const KINDS: &[&str] = &[
    "tcp",
    "tcp over ipv6",
    "tcp retransmitted by both",
    "tcp unanswered",
    "udp",
    "udp over ipv6",
    "udp dhcp",
    "vlan",
    "vlan with ipv6",
    "mpls",
];

/// A collector that ends with the test.
struct Collector(Child);

impl Collector {
    fn start(port: u16, folder: &Path) -> Self {
        let child = Command::new("nfcapd")
            .args(["-b", "127.0.0.1", "-p", &port.to_string(), "-t", "3600", "-l"])
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("nfcapd starts"))
    }

    /// Asks for the end, when the file is written.
    fn end(mut self) {
        let process = Pid::from_child(&self.0);
        kill_process(process, Signal::TERM).expect("the process is a child");
        wait(|| self.0.try_wait().expect("the process is a child").is_some());
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(bounded::wait(&mut self.0));
    }
}

fn wait(mut is_done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_done() {
        assert!(begin.elapsed() < TIME_MAX, "nfcapd takes too long");
        thread::sleep(POLL);
    }
}

/// Whether a process listens on a port (`/proc/net/udp`).
fn is_bound(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    sockets.contains(&format!("0100007F:{port:04X} "))
}

/// The flows that nfdump prints: protocol, both ends, packets and bytes of both directions.
fn printed(folder: &Path) -> Vec<String> {
    let mut command = Command::new("nfdump");
    let output = bounded::output(command.arg("-R").arg(folder).args(["-q", "-o", "csv"]));
    let text = String::from_utf8(output.expect("nfdump starts").stdout).expect("UTF-8");
    let mut found = Vec::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.split(',').map(str::trim).collect();
        // ts,te,td,sa,da,sp,dp,pr,flg,fwd,stos,ipkt,ibyt,opkt,obyt
        if let [_, _, _, sa, da, sp, dp, pr, _, _, _, packets, bytes, back, back_bytes, ..] =
            columns[..]
        {
            let protocol = pr.to_lowercase();
            let ends = format!("{protocol} {sa} {sp} {da} {dp}");
            found.push(format!("{ends} {packets} {bytes} {back} {back_bytes}"));
        }
    }
    found.sort();
    found
}

fn expected(flow: &Flow) -> String {
    let [packets, back] = flow.packets;
    let [bytes, back_bytes] = flow.bytes;
    format!("{} {packets} {bytes} {back} {back_bytes}", flow.key().join(" "))
}

#[test]
fn nfcapd_receives_the_flows() {
    if !panoptes_needs::skip::has("nfcapd") || !panoptes_needs::skip::has("nfdump") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let port = free.expect("a free port").port();
    let collector = Collector::start(port, folder.path());
    wait(|| is_bound(port));
    let send = |message: &[u8]| {
        let sent = socket.send_to(message, ("127.0.0.1", port));
        assert_eq!(sent.ok(), Some(message.len()));
    };
    let (mut session, mut out) = (Session::new(7, MINUTE_NS), [0; MESSAGE_BYTES_MAX]);
    let mut truth = Vec::new();
    for (_, capture) in kinds().into_iter().filter(|(name, _)| KINDS.contains(name)) {
        truth.extend(capture.flows().iter().map(expected));
        audit(&capture, &mut |record, _| {
            session
                .write(&mut out, record, &Extra::default(), NOW_NS)
                .expect("a message has room for some");
        });
        // Only the first one has templates.
        let length = session.finish(&mut out, NOW_NS).expect("records");
        send(&out[..length]);
    }
    assert!(truth.len() >= KINDS.len(), "{truth:?}");
    // The collector reads its socket before it sees the signal.
    wait(|| is_drained(port));
    collector.end();
    truth.sort();
    assert_eq!(printed(folder.path()), truth, "(left: nfdump, right: the truth)");
}

/// Whether the collector has read everything that was sent to it.
fn is_drained(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let name = format!("0100007F:{port:04X} ");
    let line = sockets.lines().find(|line| line.contains(&name)).unwrap_or_default();
    // Bytes in its queues: `00000000:00000000`, to be sent and received.
    line.split_whitespace().nth(4).is_some_and(|queues| queues.ends_with(":00000000"))
}
