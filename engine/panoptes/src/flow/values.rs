//! Values of options and of variables.
//!
//! Options and `argus.conf` share these functions, so that both have the same mistakes in the same
//! words. `what` is the name of the option or of the variable.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

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
    let text = text.trim_end_matches('/');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
            (host, number(what, port, 1, 0xffff)? as u16)
        }
        _ => (text, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    let found = (host, port).to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| mistake(format!("{what}: no host has the name `{host}`")))
}

/// `-N 27`: the first 27 packets; `-N 5-9`: the fifth to the ninth, both included.
pub(super) fn range(what: &str, text: &str) -> Result<(u64, u64), Failure> {
    let (first, last) = text.split_once('-').unwrap_or(("1", text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 1 <= first && first <= last => Ok((first, last)),
        _ => Err(mistake(format!("{what} needs a count or FIRST-LAST, not `{text}`"))),
    }
}

/// The sensor's id: a text in double quotes, an address, a number, this host's address in
/// backquotes (`hostname`), or a host's name.
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
        || format!("{what}: `{name}` is no number, IPv4 address, or name of a host with one");
    address.map(SourceId::Address).ok_or_else(|| mistake(message()))
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
        assert!(id("\"argus\"").is_err_and(|message| message.contains("one to four bytes")));
    }
}
