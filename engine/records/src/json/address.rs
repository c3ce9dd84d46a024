//! Text of network addresses: IPv4, IPv6 (RFC 5952) and Ethernet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::digits::HEX;
use super::{Full, JsonWriter};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MacAddress(pub [u8; 6]);

impl JsonWriter<'_> {
    /// A quoted IP address. An IPv4 address mapped into IPv6 is written as IPv4.
    pub fn ip_address(&mut self, before: &str, address: IpAddr) -> Result<(), Full> {
        if self.after_some(before, |room| Some(write_address(room, address))) {
            return Ok(());
        }
        let mut text = [0; ROOM];
        let length = write_address(&mut text, address);
        self.raw(before.as_bytes())?;
        self.raw(&text[..length])
    }

    /// `52:54:00:12:34:56`, quoted.
    pub fn mac_address(&mut self, before: &str, address: MacAddress) -> Result<(), Full> {
        let text = self.after(before)?;
        *text = *b"\"00:00:00:00:00:00\"";
        for (index, octet) in address.0.iter().enumerate() {
            text[1 + 3 * index..3 + 3 * index].copy_from_slice(&HEX[usize::from(*octet)]);
        }
        Ok(())
    }
}

/// Room for the longest address, with 39 characters and two quotes, and for what is written beyond
/// the end of a short number.
const ROOM: usize = 48;

/// Writes a quoted address and returns its length. What follows it is undefined.
fn write_address(room: &mut [u8; ROOM], address: IpAddr) -> usize {
    let mut text = AddressText { bytes: room, length: 0 };
    text.push(b'"');
    match address.to_canonical() {
        IpAddr::V4(address) => text.push_ipv4(address),
        IpAddr::V6(address) => text.push_ipv6(address),
    }
    text.push(b'"');
    text.length
}

/// An address being written.
struct AddressText<'a> {
    bytes: &'a mut [u8; ROOM],
    length: usize,
}

/// Each octet in decimal: its characters are in front, and their number is the last byte.
const OCTETS: [[u8; 4]; 256] = {
    let mut octets = [[0; 4]; 256];
    let mut octet = 0;
    while octet < octets.len() {
        let value = octet as u8;
        let (hundreds, tens, ones) =
            (b'0' + value / 100, b'0' + value / 10 % 10, b'0' + value % 10);
        octets[octet] = match value {
            0..10 => [ones, 0, 0, 1],
            10..100 => [tens, ones, 0, 2],
            100.. => [hundreds, tens, ones, 3],
        };
        octet += 1;
    }
    octets
};

impl AddressText<'_> {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// Adds the first `count` of four characters.
    #[inline]
    fn push_some(&mut self, characters: [u8; 4], count: usize) {
        self.bytes[self.length..self.length + 4].copy_from_slice(&characters);
        self.length += count;
    }

    fn push_ipv4(&mut self, address: Ipv4Addr) {
        for (index, octet) in address.octets().into_iter().enumerate() {
            if index > 0 {
                self.push(b'.');
            }
            let digits = OCTETS[usize::from(octet)];
            self.push_some(digits, digits[3].into());
        }
    }

    fn push_ipv6(&mut self, address: Ipv6Addr) {
        let groups = address.segments();
        let (gap_start, gap_end) = longest_zero_run(&groups);
        let mut index = 0;
        while index < groups.len() {
            if index == gap_start && gap_end > gap_start {
                self.push(b':');
                self.push(b':');
                index = gap_end;
                continue;
            }
            if index > 0 && index != gap_end {
                self.push(b':');
            }
            let group = groups[index];
            let zeros = (group | 1).leading_zeros() / 4;
            let [high, low] = group.to_be_bytes().map(|byte| HEX[usize::from(byte)]);
            let digits = u32::from_le_bytes([high[0], high[1], low[0], low[1]]) >> (8 * zeros);
            self.push_some(digits.to_le_bytes(), 4 - zeros as usize);
            index += 1;
        }
    }
}

/// Start and end of the longest run of at least two zero groups, the first of equal ones (RFC 5952
/// §4.2.3); empty when there is none.
const fn longest_zero_run(groups: &[u16; 8]) -> (usize, usize) {
    let (mut best_start, mut best_end) = (0, 0);
    let mut start = 0;
    let mut index = 0;
    while index < groups.len() {
        if groups[index] == 0 {
            let end = index + 1;
            if end - start > best_end - best_start && end - start >= 2 {
                (best_start, best_end) = (start, end);
            }
        } else {
            start = index + 1;
        }
        index += 1;
    }
    (best_start, best_end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Limits;

    fn text(address: &str) -> String {
        written(address.parse().unwrap())
    }

    fn written(address: IpAddr) -> String {
        let mut out = [0; 64];
        let mut writer = JsonWriter::new(&mut out, Limits::new(64));
        writer.ip_address("", address).unwrap();
        let length = writer.length();
        std::str::from_utf8(&out[1..length - 1]).unwrap().to_owned()
    }

    #[test]
    fn addresses_are_written_as_rfc_5952_requires() {
        for address in [
            "10.0.2.15",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "::1",
            "2001:db8::7",
            "fe80::5054:ff:fe12:3456",
            "2001:db8:0:1:1:1:1:1",
            "2001:0:0:1::1",
            "2001:db8::1:0:0:1",
            "1::",
            "0:1::",
            "1:2:3:4:5:6:7:8",
        ] {
            assert_eq!(text(address), address);
        }
        assert_eq!(text("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(text("::2:3:4:5:6:7:8"), "0:2:3:4:5:6:7:8");
    }

    #[test]
    fn every_octet_is_written_as_the_standard_library_does() {
        for octet in 0..=255 {
            let address = Ipv4Addr::new(octet, 255 - octet, 0, octet);
            assert_eq!(written(address.into()), address.to_string());
        }
    }

    proptest! {
        #[test]
        fn any_ipv6_address_is_written_as_the_standard_library_does(
            groups in proptest::array::uniform8(prop_oneof![Just(0_u16), any::<u16>()]),
        ) {
            let address = IpAddr::from(Ipv6Addr::from(groups)).to_canonical();
            prop_assert_eq!(written(address), address.to_string());
        }
    }
}
