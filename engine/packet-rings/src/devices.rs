//! The network interfaces of this machine: [`all`] and [`default_name`].
//!
//! getifaddrs(3) asks the kernel by netlink, so the answer is that of the caller's network
//! namespace. `/sys` may show another one.

use std::io;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use crate::link::ARPHRD_LOOPBACK;
use crate::socket;

/// A network interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetworkInterface {
    pub name: String,
    /// The kernel's number of it, from 1.
    pub index: u32,
    /// The kind of its hardware: ARPHRD_ in `include/uapi/linux/if_arp.h`.
    pub hardware: u16,
    /// It was switched on.
    pub is_up: bool,
    /// It has a carrier.
    pub is_running: bool,
}

/// All network interfaces, by index.
pub fn all() -> io::Result<Vec<NetworkInterface>> {
    let mut devices: Vec<NetworkInterface> = Vec::new();
    for entry in getifaddrs()? {
        let name = entry.interface_name;
        // One that was removed in the meantime is left out.
        let index = if_nametoindex(name.as_str()).ok();
        let Some((index, hardware)) = index.zip(socket::hardware(&name).ok()) else { continue };
        // The entries of addresses come after those of interfaces. Their names may be labels, as
        // `eth0:1`, which also lead to the interface.
        if devices.iter().any(|device| device.index == index) {
            continue;
        }
        devices.push(NetworkInterface {
            name,
            index,
            hardware,
            is_up: entry.flags.contains(InterfaceFlags::IFF_UP),
            is_running: entry.flags.contains(InterfaceFlags::IFF_RUNNING),
        });
    }
    devices.sort_by_key(|device| device.index);
    Ok(devices)
}

/// The first network interface that is up and running, other than the loopback.
pub fn default_name() -> io::Result<Option<String>> {
    let is_default = |device: &NetworkInterface| {
        device.is_up && device.is_running && device.hardware != ARPHRD_LOOPBACK
    };
    Ok(all()?.into_iter().find(is_default).map(|device| device.name))
}
