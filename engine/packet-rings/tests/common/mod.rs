//! Network namespaces with a pair of virtual Ethernet interfaces, and what sends on one of them.
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(clippy::print_stderr, reason = "it prints what it leaves out")]
#![allow(dead_code, reason = "each program uses a part")]

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType};
use nix::sys::socket::{bind, send, socket};
use panoptes_bounded as bounded;
use panoptes_packet_files::Frame;
use panoptes_packet_rings::{Interface, InterfaceOptions};

/// The two ends of the pair.
pub(crate) const LEFT: &str = "left0";
pub(crate) const RIGHT: &str = "right0";

/// Longest time that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Moves this thread, and those that it starts, into a new network namespace with a pair of
/// interfaces on which nothing sends by itself. `false` without the permission.
pub(crate) fn enter_namespace() -> bool {
    if !nix::unistd::geteuid().is_root() || unshare(CloneFlags::CLONE_NEWNET).is_err() {
        panoptes_needs::skip::test("network namespaces");
        return false;
    }
    // Else the kernel sends neighbour discovery.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    ip(&format!("link add {LEFT} type veth peer name {RIGHT}"));
    for name in [LEFT, RIGHT, "lo"] {
        ip(&format!("link set {name} up"));
    }
    true
}

pub(crate) fn ip(arguments: &str) {
    let output = bounded::output(Command::new("ip").args(arguments.split(' '))).unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// Sends frames on an interface as they are.
pub(crate) struct Sender(OwnedFd);

impl Sender {
    pub(crate) fn new(name: &str) -> Self {
        let none = SockFlag::empty();
        let sender = socket(AddressFamily::Packet, SockType::Raw, none, None).unwrap();
        bind(sender.as_raw_fd(), &address(name)).unwrap();
        Self(sender)
    }

    pub(crate) fn send_all(&self, frames: &[Vec<u8>]) {
        for frame in frames {
            self.send(frame);
        }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = send(self.0.as_raw_fd(), frame, MsgFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
    }
}

fn address(name: &str) -> LinkAddr {
    let mut all = getifaddrs().unwrap().filter(|entry| entry.interface_name == name);
    all.find_map(|entry| entry.address?.as_link_addr().copied()).unwrap()
}

pub(crate) fn options(name: &str) -> InterfaceOptions {
    InterfaceOptions { name: name.to_owned(), ..InterfaceOptions::default() }
}

pub(crate) fn started(options: &InterfaceOptions) -> Interface {
    let mut interface = Interface::open(options).unwrap();
    interface.start(&[]).unwrap();
    interface
}

/// Gives each packet to `see` until that returns `false` or none comes for a second.
pub(crate) fn receive(interface: &mut Interface, mut see: impl FnMut(Frame<'_>) -> bool) {
    let begin = Instant::now();
    loop {
        while let Some(frame) = interface.next() {
            if !see(frame) {
                return;
            }
        }
        assert!(begin.elapsed() < PATIENCE, "packets without end");
        if !wait(interface, Duration::from_secs(1)) {
            return;
        }
    }
}

/// Waits for packets, or for an error; `false` after the time.
pub(crate) fn wait(interface: &Interface, time: Duration) -> bool {
    use std::os::fd::AsFd as _;
    let mut polled = [PollFd::new(interface.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::try_from(time).unwrap()).unwrap() > 0
}

/// Tries until something holds.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "it does not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The packets that come within a second, without their times.
pub(crate) fn all(interface: &mut Interface) -> Vec<(Vec<u8>, u32)> {
    let mut all = Vec::new();
    receive(interface, |frame| {
        all.push((frame.bytes.to_vec(), frame.wire_length));
        true
    });
    all
}

/// A frame of this length with a number, of an Ethernet type for experiments (IEEE 802).
pub(crate) fn frame(number: u32, length: usize) -> Vec<u8> {
    let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.extend(number.to_be_bytes());
    let mut state = number.wrapping_mul(0x9e37_79b9) | 1;
    while frame.len() < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        frame.push(state as u8);
    }
    frame.truncate(length);
    frame
}

/// The number of a [`frame`].
pub(crate) fn number_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(*frame[14..].first_chunk().unwrap())
}

/// Sends so many frames of 96 bytes with the same bytes behind their numbers, beside this thread.
pub(crate) fn send_burst(count: u32) -> JoinHandle<()> {
    thread::spawn(move || {
        let sender = Sender::new(LEFT);
        let mut sent = frame(0, 96);
        for number in 0..count {
            sent[14..18].copy_from_slice(&number.to_be_bytes());
            sender.send(&sent);
        }
    })
}

/// A frame with a VLAN tag of 802.1Q or 802.1ad.
pub(crate) fn tagged(kind: u16, tag: u16, frame: &[u8]) -> Vec<u8> {
    let mut all = frame[..12].to_vec();
    all.extend(kind.to_be_bytes());
    all.extend(tag.to_be_bytes());
    all.extend(&frame[12..]);
    all
}

pub(crate) fn now_ns() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64
}
