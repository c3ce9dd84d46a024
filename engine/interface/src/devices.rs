//! The network interfaces of this machine: [`all`] and [`default_name`].
//!
//! getifaddrs(3) asks the kernel by netlink, so the answer is that of the caller's network
//! namespace. `/sys` may show another one.

use std::io;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::link::ARPHRD_LOOPBACK;

/// A network interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Device {
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
pub fn all() -> io::Result<Vec<Device>> {
    let mut devices = Vec::new();
    for entry in getifaddrs()? {
        // Each interface has one address of the link layer, and any number of others.
        let Some(link) = entry.address.as_ref().and_then(|address| address.as_link_addr()) else {
            continue;
        };
        devices.push(Device {
            name: entry.interface_name,
            index: link.ifindex() as u32,
            hardware: link.hatype(),
            is_up: entry.flags.contains(InterfaceFlags::IFF_UP),
            is_running: entry.flags.contains(InterfaceFlags::IFF_RUNNING),
        });
    }
    devices.sort_by_key(|device| device.index);
    Ok(devices)
}

/// The first network interface that is up and running, other than the loopback.
pub fn default_name() -> io::Result<Option<String>> {
    let is_default =
        |device: &Device| device.is_up && device.is_running && device.hardware != ARPHRD_LOOPBACK;
    Ok(all()?.into_iter().find(is_default).map(|device| device.name))
}
