//! Networks of their own: pairs of interfaces, and what sends on them.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType};
use nix::sys::socket::{bind, send, socket};
use panoptes_bounded as bounded;
use panoptes_traffic::Capture;

use crate::programs::until;

/// Ends of pairs. What is sent on the left one is received on the right one.
pub(crate) const LEFT: [&str; 3] = ["left0", "left1", "left2"];
pub(crate) const RIGHT: [&str; 3] = ["right0", "right1", "right2"];

/// Moves this thread, and the programs that it starts, into a new network with so many pairs of
/// interfaces. `false` without the permission.
#[must_use]
pub(crate) fn enter(pairs: usize) -> bool {
    if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
        panoptes_needs::skip::test("network namespaces");
        return false;
    }
    // Else the kernel sends neighbour discovery.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    ip("link set lo up");
    for number in 0..pairs {
        add(number);
    }
    true
}

/// Makes a pair.
pub(crate) fn add(number: usize) {
    let (left, right) = (LEFT[number], RIGHT[number]);
    ip(&format!("link add {left} type veth peer name {right}"));
    ip(&format!("link set {left} up"));
    ip(&format!("link set {right} up"));
    // Else a program may find no interface that is up.
    let is_up = |name: &str| ip(&format!("link show {name}")).contains("state UP");
    until(|| "the pair has no carrier".to_owned(), || is_up(left) && is_up(right));
}

pub(crate) fn ip(arguments: &str) -> String {
    let output = bounded::output(Command::new("ip").args(arguments.split(' '))).expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Number of packets for which every sensor has room.
const PART: usize = 512;

/// Sends the packets of a capture on an interface, without pauses.
pub(crate) fn send_all(interface: &str, capture: &Capture) {
    send_in_parts(interface, capture, || ());
}

/// Sends the packets of a capture on an interface, with a pause behind each part of them.
pub(crate) fn send_in_parts(interface: &str, capture: &Capture, pause: impl Fn()) {
    let sender = Sender::new(interface);
    for part in capture.frames().chunks(PART) {
        for frame in part {
            sender.send(frame);
        }
        pause();
    }
}

/// Sends frames on an interface as they are.
pub(crate) struct Sender(OwnedFd);

impl Sender {
    pub(crate) fn new(name: &str) -> Self {
        let none = SockFlag::empty();
        let sender = socket(AddressFamily::Packet, SockType::Raw, none, None).expect("a socket");
        bind(sender.as_raw_fd(), &address(name)).expect("an interface");
        Self(sender)
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty()).expect("sent");
        assert_eq!(sent, frame.len());
    }
}

fn address(name: &str) -> LinkAddr {
    let mut all = getifaddrs().expect("a list").filter(|entry| entry.interface_name == name);
    all.find_map(|entry| entry.address?.as_link_addr().copied()).expect(name)
}
