//! Text of network addresses: IPv4, IPv6 (RFC 5952) and Ethernet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Full, HEX, JsonWriter};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MacAddress(pub [u8; 6]);

impl JsonWriter<'_> {
    /// A quoted IP address. An IPv4 address mapped into IPv6 is written as IPv4.
    pub fn ip_address(&mut self, address: IpAddr) -> Result<(), Full> {
        let mut text = AddressText { bytes: [0; 48], length: 0 };
        text.push(b'"');
        match address.to_canonical() {
            IpAddr::V4(address) => text.push_ipv4(address),
            IpAddr::V6(address) => text.push_ipv6(address),
        }
        text.push(b'"');
        self.raw(&text.bytes[..text.length])
    }

    /// `52:54:00:12:34:56`, quoted.
    pub fn mac_address(&mut self, address: MacAddress) -> Result<(), Full> {
        let mut text = *b"\"00:00:00:00:00:00\"";
        for (index, octet) in address.0.iter().enumerate() {
            text[1 + 3 * index] = HEX[usize::from(octet >> 4)];
            text[2 + 3 * index] = HEX[usize::from(octet & 15)];
        }
        self.raw(&text)
    }
}

/// An address being written, with room for the longest: 39 characters and two quotes.
struct AddressText {
    bytes: [u8; 48],
    length: usize,
}

impl AddressText {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn push_ipv4(&mut self, address: Ipv4Addr) {
        for (index, octet) in address.octets().into_iter().enumerate() {
            if index > 0 {
                self.push(b'.');
            }
            if octet >= 100 {
                self.push(b'0' + octet / 100);
            }
            if octet >= 10 {
                self.push(b'0' + octet / 10 % 10);
            }
            self.push(b'0' + octet % 10);
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
            let digits = (16 - (group | 1).leading_zeros()).div_ceil(4);
            for digit in (0..digits).rev() {
                self.push(HEX[usize::from(group >> (4 * digit)) & 15]);
            }
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
        writer.ip_address(address).unwrap();
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
