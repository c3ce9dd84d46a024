//! Names of hosts, when an expression is compiled.

use std::net::{IpAddr, ToSocketAddrs};

/// The most addresses of a name that are compared.
const ADDRESSES_MAX: usize = 64;

/// The addresses of a host. The resolver may take seconds.
pub(super) fn addresses(name: &str) -> Result<Vec<IpAddr>, String> {
    let shown = name.escape_default();
    let found = (name, 0).to_socket_addrs().map_err(|error| format!("host {shown}: {error}"))?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    if addresses.is_empty() { Err(format!("host {shown} has no address")) } else { Ok(addresses) }
}

/// The hardware address of a host in `/etc/ethers` (ethers(5)).
pub(super) fn hardware(name: &str) -> Result<[u8; 6], String> {
    let shown = name.escape_default();
    let text = std::fs::read_to_string("/etc/ethers")
        .map_err(|error| format!("host {shown}: cannot read /etc/ethers: {error}"))?;
    hardware_in(&text, name).ok_or_else(|| format!("host {shown} is not in /etc/ethers"))
}

fn hardware_in(text: &str, name: &str) -> Option<[u8; 6]> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?;
        (words.next()? == name).then(|| super::words::hardware(address)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_are_read_from_ethers() {
        let text = "# ethers(5)\n\n08:00:20:00:61:CA  pal # a comment\n2:0:0:0:0:1 other\n";
        assert_eq!(hardware_in(text, "pal"), Some([8, 0, 0x20, 0, 0x61, 0xca]));
        assert_eq!(hardware_in(text, "other"), Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(hardware_in(text, "comment"), None);
    }
}
