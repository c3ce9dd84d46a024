//! A network of its own: pairs of interfaces, and what sends on them.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType};
use nix::sys::socket::{bind, send, socket};
use panoptes_bounded as bounded;

/// Ends of pairs. What is sent on the left one is received on the right one. The first pair stays;
/// the second one is removed and made again.
pub(crate) const LEFT: [&str; 2] = ["left0", "left1"];
pub(crate) const RIGHT: [&str; 2] = ["right0", "right1"];

/// Moves this thread, and what it starts from now on, into a new network with all pairs.
pub(crate) fn enter() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("a network of its own needs root: {error}"))?;
    // Else the kernel sends neighbour discovery.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
        .map_err(|error| format!("IPv6 cannot be switched off: {error}"))?;
    ip("link set lo up")?;
    (0..LEFT.len()).try_for_each(add)
}

/// Makes a pair, and returns when packets pass.
pub(crate) fn add(number: usize) -> Result<(), String> {
    let (left, right) = (LEFT[number], RIGHT[number]);
    ip(&format!("link add {left} type veth peer name {right}"))?;
    ip(&format!("link set {left} up"))?;
    ip(&format!("link set {right} up"))?;
    let begin = Instant::now();
    while !(is_up(left)? && is_up(right)?) {
        if begin.elapsed() > bounded::BOUND {
            return Err(format!("{left} has no carrier"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Removes both ends of a pair.
pub(crate) fn remove(number: usize) -> Result<(), String> {
    ip(&format!("link del {}", LEFT[number])).map(drop)
}

fn is_up(name: &str) -> Result<bool, String> {
    Ok(ip(&format!("link show {name}"))?.contains("state UP"))
}

fn ip(arguments: &str) -> Result<String, String> {
    let wrong = |why: String| format!("ip {arguments}: {why}");
    let output = bounded::output(Command::new("ip").args(arguments.split(' ')))
        .map_err(|error| wrong(error.to_string()))?;
    if !output.status.success() {
        return Err(wrong(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends frames on an interface as they are.
#[derive(Debug)]
pub(crate) struct Sender(OwnedFd);

impl Sender {
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let wrong = |error| format!("cannot send on {name}: {error}");
        let none = SockFlag::empty();
        let sender = socket(AddressFamily::Packet, SockType::Raw, none, None).map_err(wrong)?;
        let mut all = getifaddrs().map_err(wrong)?.filter(|entry| entry.interface_name == name);
        let address: Option<LinkAddr> =
            all.find_map(|entry| entry.address?.as_link_addr().copied());
        let address = address.ok_or_else(|| format!("there is no interface {name}"))?;
        bind(sender.as_raw_fd(), &address).map_err(wrong)?;
        Ok(Self(sender))
    }

    /// Sends a frame; whether the kernel has accepted it.
    pub(crate) fn send(&self, frame: &[u8]) -> bool {
        send(self.0.as_raw_fd(), frame, MsgFlags::empty()).is_ok()
    }
}
