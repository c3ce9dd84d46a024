//! The network interfaces of the host, for `bluefield_system_information`.
//!
//! They are read from the operating system once, at start. Not for: the interfaces of a watched
//! machine, which the engine reads from its memory.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use panoptes_records::json::address::MacAddress;
use panoptes_records::record::interface::BluefieldInterface;

/// One network interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HostInterface {
    pub name: String,
    /// The hardware address, if this kind of interface has one.
    pub mac: Option<MacAddress>,
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
}

impl HostInterface {
    /// The interface in the form of records.
    pub fn record(&self) -> BluefieldInterface<'_> {
        BluefieldInterface {
            bluefield_network_interface_name: self.name.as_str().into(),
            bluefield_network_interface_mac_address: self.mac,
            bluefield_network_interface_ipv4_address: &self.ipv4,
            bluefield_network_interface_ipv6_address: &self.ipv6,
        }
    }

    fn has_address(&self) -> bool {
        !self.ipv4.is_empty() || !self.ipv6.is_empty()
    }
}

/// Reads the interfaces of this machine, in the kernel's order, and as many as a record can hold.
pub fn of_this_machine() -> io::Result<Vec<HostInterface>> {
    let mut list: Vec<HostInterface> = Vec::new();
    for entry in getifaddrs()? {
        // An address may have a label (`eth0:1`); the part before the colon is the interface.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        let index = list.iter().position(|interface| interface.name == name).unwrap_or_else(|| {
            list.push(HostInterface { name: name.to_owned(), ..HostInterface::default() });
            list.len() - 1
        });
        add_address(&mut list[index], &entry);
    }
    Ok(bounded(list))
}

fn add_address(interface: &mut HostInterface, entry: &InterfaceAddress) {
    let Some(address) = entry.address.as_ref() else { return };
    if let Some(link) = address.as_link_addr() {
        // A loopback interface has six zeros; a tunnel has no hardware address at all.
        interface.mac = link.addr().filter(|_| link.halen() == 6).map(MacAddress);
    } else if let Some(address) = address.as_sockaddr_in() {
        push_new(&mut interface.ipv4, address.ip());
    } else if let Some(address) = address.as_sockaddr_in6() {
        push_new(&mut interface.ipv6, address.ip());
    }
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if list.len() < ADDRESS_COUNT_MAX && !list.contains(&value) {
        list.push(value);
    }
}

/// Limits the list and keeps the kernel's order; interfaces without an address are dropped first.
fn bounded(mut list: Vec<HostInterface>) -> Vec<HostInterface> {
    while list.len() > INTERFACE_COUNT_MAX {
        let without = list.iter().rposition(|interface| !interface.has_address());
        list.remove(without.unwrap_or(list.len() - 1));
    }
    list
}

/// A machine with containers can have hundreds, and every record contains the list.
const INTERFACE_COUNT_MAX: usize = 32;

/// The limit for the addresses of one interface.
const ADDRESS_COUNT_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, address: Option<Ipv4Addr>) -> HostInterface {
        HostInterface {
            name: name.to_owned(),
            ipv4: address.into_iter().collect(),
            ..HostInterface::default()
        }
    }

    #[test]
    fn this_machine_has_what_the_kernel_lists() {
        let found = of_this_machine().unwrap();
        let Ok(listed) = std::fs::read_dir("/sys/class/net") else { return };
        let mut listed: Vec<String> = listed
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| std::fs::exists(format!("/sys/class/net/{name}/address")).unwrap())
            .collect();
        listed.sort();
        let mut names: Vec<String> = found.iter().map(|one| one.name.clone()).collect();
        names.sort();
        if names.len() < INTERFACE_COUNT_MAX {
            assert_eq!(names, listed);
        }
        for interface in &found {
            let path = format!("/sys/class/net/{}/address", interface.name);
            let address = std::fs::read_to_string(path).unwrap_or_default();
            if let Some(MacAddress(bytes)) = interface.mac {
                let shown = bytes.map(|byte| format!("{byte:02x}")).join(":");
                assert_eq!(shown, address.trim());
            }
            if interface.name == "lo" {
                assert!(interface.ipv4.contains(&Ipv4Addr::LOCALHOST), "{interface:?}");
            }
        }
    }

    #[test]
    fn too_many_interfaces_lose_those_without_an_address() {
        let mut list = vec![named("lo", Some(Ipv4Addr::LOCALHOST))];
        list.extend((0..40).map(|index| named(&format!("veth{index}"), None)));
        list.push(named("eth0", Some(Ipv4Addr::new(192, 0, 2, 7))));
        let kept = bounded(list);
        assert_eq!(kept.len(), 32);
        assert_eq!(kept[0].name, "lo");
        assert_eq!(kept[1].name, "veth0");
        assert_eq!(kept[31].name, "eth0");
    }

    #[test]
    fn a_record_has_what_the_interface_has() {
        let eth0 = named("eth0", Some(Ipv4Addr::new(192, 0, 2, 7)));
        let record = eth0.record();
        assert_eq!(record.bluefield_network_interface_ipv4_address, eth0.ipv4);
        assert_eq!(record.bluefield_network_interface_mac_address, None);
    }
}
