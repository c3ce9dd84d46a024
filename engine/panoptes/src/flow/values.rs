//! Values of options and of variables.
//!
//! Options and `argus.conf` share these functions, so that both have the same mistakes in the same
//! words. `what` is the name of the option or of the variable.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use panoptes_sinks::flow::argus::SourceId;

use crate::exit::{Exit, Failure};

/// A mistake on the command line or in a variable.
pub(super) fn mistake(what: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, what)
}

/// A number in a range.
pub(super) fn number(what: &str, text: &str, least: u64, most: u64) -> Result<u64, Failure> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    let message = || format!("{what} needs a number from {least} to {most}, not `{text}`");
    number.ok_or_else(|| mistake(message()))
}

/// `HOST[:PORT]`; without a host, this one.
pub(super) fn address(what: &str, text: &str, default: u16) -> Result<SocketAddr, Failure> {
    // There is one at least.
    addresses(what, text, default).map(|all| all[0])
}

/// All addresses of `HOST[:PORT]`; without a host, this one.
pub(super) fn addresses(what: &str, text: &str, default: u16) -> Result<Vec<SocketAddr>, Failure> {
    let text = text.trim_end_matches('/');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
            (host, number(what, port, 1, 0xffff)? as u16)
        }
        _ => (text, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let found: Vec<_> = (host, port).to_socket_addrs().into_iter().flatten().collect();
    if found.is_empty() {
        return Err(mistake(format!("{what}: no host has the name `{host}`")));
    }
    Ok(found)
}

/// `-N 27`: the first 27 packets; `-N 5-9`: the fifth to the ninth, both included.
pub(super) fn range(what: &str, text: &str) -> Result<(u64, u64), Failure> {
    let (first, last) = text.split_once('-').unwrap_or(("1", text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 1 <= first && first <= last => Ok((first, last)),
        _ => Err(mistake(format!("{what} needs a count or FIRST-LAST, not `{text}`"))),
    }
}

/// The sensor's id: a text in double quotes, an address, a UUID, a number, this host's address or
/// UUID in backquotes (`hostname`, `hostuuid`), or a host's name.
pub(super) fn source_id(what: &str, text: &str) -> Result<SourceId, Failure> {
    if let Some(quoted) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        let mut id = [0; 4];
        let room = id.get_mut(..quoted.len()).filter(|room| !room.is_empty());
        let message = || format!("{what}: a text has one to four bytes, not `{quoted}`");
        room.ok_or_else(|| mistake(message()))?.copy_from_slice(quoted.as_bytes());
        return Ok(SourceId::Text(id));
    }
    if let Ok(number) = text.parse() {
        return Ok(SourceId::Number(number));
    }
    if text.trim_matches('`') == "hostuuid" {
        return host_uuid(what, &HOST_IDS);
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(SourceId::Address6(address.octets()));
    }
    if let Some(id) = uuid(text) {
        return Ok(SourceId::Uuid(id));
    }
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = if text == "`hostname`" { own.trim() } else { text };
    let addresses = (name, 0).to_socket_addrs();
    let address = addresses.ok().and_then(|mut all| {
        all.find_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address.to_bits()),
            IpAddr::V6(_) => None,
        })
    });
    let message =
        || format!("{what}: `{name}` is no number, UUID, address, or name of a host with IPv4");
    address.map(SourceId::Address).ok_or_else(|| mistake(message()))
}

/// Where Linux has an id of the machine: machine-id(5), and the firmware's (SMBIOS).
const HOST_IDS: [&str; 3] =
    ["/etc/machine-id", "/var/lib/dbus/machine-id", "/sys/class/dmi/id/product_uuid"];

fn host_uuid(what: &str, files: &[&str]) -> Result<SourceId, Failure> {
    let mut ids = files.iter().filter_map(|file| uuid(std::fs::read_to_string(file).ok()?.trim()));
    let message = || format!("{what}: this machine has no UUID in {}", files.join(", "));
    ids.next().map(SourceId::Uuid).ok_or_else(|| mistake(message()))
}

/// 32 digits; hyphens may be where RFC 9562 has them.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let is_hyphen =
        |(place, letter): (usize, u8)| (letter == b'-') == [8, 13, 18, 23].contains(&place);
    if text.len() != 32 && !(text.len() == 36 && text.bytes().enumerate().all(is_hyphen)) {
        return None;
    }
    let digits = text.replace('-', "");
    let is_number = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u128::from_str_radix(&digits, 16).ok().filter(|_| is_number).map(u128::to_be_bytes)
}

/// An id, and behind a slash the interface for records of argus 5: a name with up to four bytes, or
/// `inf` for that of the stream.
pub(super) fn id_and_interface<'a>(
    what: &str,
    text: &'a str,
) -> Result<(SourceId, Option<&'a str>), Failure> {
    let slash = text.rfind('/').filter(|at| !text[*at..].contains('"'));
    let Some(at) = slash else { return Ok((source_id(what, text)?, None)) };
    let (id, name) = (&text[..at], &text[at + 1..]);
    if !(1..=4).contains(&name.len()) {
        let message =
            format!("{what}: the name of an interface has one to four bytes, not `{name}`");
        return Err(mistake(message));
    }
    Ok((source_id(what, id)?, Some(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_numbers_addresses_or_texts() {
        let id = |text: &str| source_id("-e", text).map_err(|failure| failure.to_string());
        assert_eq!(id("7"), Ok(SourceId::Number(7)));
        assert_eq!(id("10.1.0.1"), Ok(SourceId::Address(0x0a01_0001)));
        assert_eq!(id("localhost"), Ok(SourceId::Address(0x7f00_0001)));
        assert_eq!(id("\"arg1\""), Ok(SourceId::Text(*b"arg1")));
        let uuid = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
        assert_eq!(id("00112233-4455-6677-8899-AABBCCDDEEFF"), Ok(SourceId::Uuid(uuid)));
        assert_eq!(id("00112233445566778899aabbccddeeff"), Ok(SourceId::Uuid(uuid)));
        assert!(id("0011223344556677-8899-aabbccddeeff--").is_err());
        let address = 0x2001_0db8_0000_0000_0000_0000_0000_0001_u128.to_be_bytes();
        assert_eq!(id("2001:db8::1"), Ok(SourceId::Address6(address)));
        assert!(id("\"argus\"").is_err_and(|message| message.contains("one to four bytes")));
    }

    #[test]
    fn interfaces_follow_ids() {
        let id = |text: &'static str| {
            id_and_interface("-e", text).map_err(|failure| failure.to_string())
        };
        assert_eq!(id("7/en0"), Ok((SourceId::Number(7), Some("en0"))));
        assert_eq!(id("\"a/b\""), Ok((SourceId::Text(*b"a/b\0"), None)));
        assert_eq!(id("\"a/b\"/inf"), Ok((SourceId::Text(*b"a/b\0"), Some("inf"))));
        assert!(id("7/eth00").is_err_and(|message| message.contains("one to four bytes")));
    }

    #[test]
    fn the_first_id_of_the_host_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
        let (empty, id) = (path("empty"), path("id"));
        std::fs::write(&empty, "uninitialized\n").expect("there is room");
        std::fs::write(&id, "00112233445566778899aabbccddeeff\n").expect("there is room");
        let found = |files: &[&str]| host_uuid("-e", files).map_err(|failure| failure.to_string());
        let uuid = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
        assert_eq!(found(&[&path("none"), &empty, &id]), Ok(SourceId::Uuid(uuid)));
        let message = found(&[&empty]).expect_err("there is no id");
        assert!(message.starts_with("-e: this machine has no UUID in /"), "{message}");
    }
}
