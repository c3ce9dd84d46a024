//! Network interfaces, in the two namings that the guide has: the watched machine's and that of the
//! machine that watches.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::json::address::MacAddress;
use crate::json::text::Text;

use super::macros::details;
use super::value::Numbered;

details! {
    /// An interface of the watched machine.
    pub struct WorkloadInterface<'a> "workload_network_interface" {
        /// `eth0`
        workload_network_interface_name: Text<'a>,
        /// Left out for what has none.
        workload_network_interface_mac_address: Option<MacAddress>,
        /// Always an array.
        workload_network_interface_ipv4_address: &'a [Ipv4Addr],
        /// Always an array.
        workload_network_interface_ipv6_address: &'a [Ipv6Addr],
    }
}

details! {
    /// An interface of the machine that watches, whatever that is.
    pub struct BluefieldInterface<'a> "bluefield_network_interface" {
        /// `oob_net0`
        bluefield_network_interface_name: Text<'a>,
        /// Left out for what has none.
        bluefield_network_interface_mac_address: Option<MacAddress>,
        /// Always an array.
        bluefield_network_interface_ipv4_address: &'a [Ipv4Addr],
        /// Always an array.
        bluefield_network_interface_ipv6_address: &'a [Ipv6Addr],
    }
}

details! {
    /// The machine that watches.
    pub struct BluefieldSystem<'a> "bluefield_system_information" {
        /// Keyed "0", "1", …
        bluefield_networking_interfaces: Numbered<'a, BluefieldInterface<'a>>,
    }
}
