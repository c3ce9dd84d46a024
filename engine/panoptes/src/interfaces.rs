//! The network interfaces of the host, for `bluefield_system_information`.
//!
//! They are read from the operating system once, at start. Not for: the interfaces of a watched
//! machine, which the engine reads from its memory.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use panoptes_sinks::json::address::MacAddress;
use panoptes_sinks::record::interface::BluefieldInterface;

/// One network interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    pub name: String,
    /// The hardware address, if this kind of interface has one.
    pub mac: Option<MacAddress>,
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
}

/// The interfaces of a machine, as many as a record can hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interfaces {
    /// In the kernel's order.
    pub list: Vec<Interface>,
    /// How many were left out: every record contains the list, and its size is bounded.
    pub omitted_count: usize,
}

impl Interfaces {
    /// The interfaces in the form of records.
    pub fn records(&self) -> Vec<BluefieldInterface<'_>> {
        self.list
            .iter()
            .map(|interface| BluefieldInterface {
                bluefield_network_interface_name: interface.name.as_str().into(),
                bluefield_network_interface_mac_address: interface.mac,
                bluefield_network_interface_ipv4_address: &interface.ipv4,
                bluefield_network_interface_ipv6_address: &interface.ipv6,
            })
            .collect()
    }
}

impl Interface {
    fn has_address(&self) -> bool {
        !self.ipv4.is_empty() || !self.ipv6.is_empty()
    }
}

/// Reads the interfaces of this machine.
pub fn of_this_machine() -> io::Result<Interfaces> {
    let mut list: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        // An address may have a label (`eth0:1`); the part before the colon is the interface.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        let index = list.iter().position(|interface| interface.name == name).unwrap_or_else(|| {
            list.push(Interface { name: name.to_owned(), ..Interface::default() });
            list.len() - 1
        });
        add_address(&mut list[index], &entry);
    }
    Ok(bounded(list))
}

fn add_address(interface: &mut Interface, entry: &InterfaceAddress) {
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
fn bounded(list: Vec<Interface>) -> Interfaces {
    let mut omitted_count = list.len().saturating_sub(INTERFACE_COUNT_MAX);
    let omitted = omitted_count;
    let mut list: Vec<Interface> = list
        .into_iter()
        .rev()
        .filter(|interface| {
            let drop = omitted_count > 0 && !interface.has_address();
            omitted_count -= usize::from(drop);
            !drop
        })
        .collect();
    list.reverse();
    list.truncate(INTERFACE_COUNT_MAX);
    Interfaces { list, omitted_count: omitted }
}

/// A machine with containers can have hundreds, and every record contains the list.
const INTERFACE_COUNT_MAX: usize = 32;

/// The limit for the addresses of one interface.
const ADDRESS_COUNT_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, address: Option<Ipv4Addr>) -> Interface {
        Interface {
            name: name.to_owned(),
            ipv4: address.into_iter().collect(),
            ..Interface::default()
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
        let mut names: Vec<String> = found.list.iter().map(|one| one.name.clone()).collect();
        names.sort();
        if found.omitted_count == 0 {
            assert_eq!(names, listed);
        }
        for interface in &found.list {
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
        assert_eq!((kept.list.len(), kept.omitted_count), (32, 10));
        assert_eq!(kept.list[0].name, "lo");
        assert_eq!(kept.list[1].name, "veth0");
        assert_eq!(kept.list[31].name, "eth0");
    }

    #[test]
    fn a_record_has_what_the_interface_has() {
        let eth0 = named("eth0", Some(Ipv4Addr::new(192, 0, 2, 7)));
        let interfaces = Interfaces { list: vec![eth0], omitted_count: 0 };
        let records = interfaces.records();
        assert_eq!(records[0].bluefield_network_interface_ipv4_address, interfaces.list[0].ipv4);
        assert_eq!(records[0].bluefield_network_interface_mac_address, None);
    }
}
