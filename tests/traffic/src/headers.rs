//! The bytes of headers, with right lengths and checksums.

use std::net::IpAddr;

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const RARP: u16 = 0x8035;
pub(crate) const IPV6: u16 = 0x86dd;

pub(crate) const ICMP: u8 = 1;
pub(crate) const IGMP: u8 = 2;
pub(crate) const IPIP: u8 = 4;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const IPV6_IN: u8 = 41;
pub(crate) const IPV6_FRAGMENT: u8 = 44;
pub(crate) const GRE: u8 = 47;
pub(crate) const ESP: u8 = 50;
pub(crate) const AH: u8 = 51;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;

/// The sum of 16-bit words, to be folded by [`folded`].
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0_u64;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut rest = [0_u8; 4];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    total + u64::from(u32::from_be_bytes(rest))
}

/// The checksum that a sum of words gives.
pub(crate) fn folded(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

/// The IP header of a packet.
#[derive(Clone, Debug)]
pub(crate) struct Network<'o> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// The time to live, or the hop limit.
    pub(crate) ttl: u8,
    /// The type of service, or the traffic class.
    pub(crate) tos: u8,
    pub(crate) id: u16,
    /// The offset in bytes, and whether more fragments follow. An IPv6 packet gets a fragment
    /// header.
    pub(crate) fragment: Option<(u16, bool)>,
    /// IPv4 options, or the content of IPv6 hop-by-hop options; a multiple of 4, or 8 n + 6 bytes.
    pub(crate) options: &'o [u8],
}

impl Network<'_> {
    pub(crate) const fn ethertype(&self) -> u16 {
        match self.source {
            IpAddr::V4(_) => IPV4,
            IpAddr::V6(_) => IPV6,
        }
    }

    /// Appends the header and the payload.
    pub(crate) fn write(&self, payload: &[u8], out: &mut Vec<u8>) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.write_v4(source.octets(), destination.octets(), payload, out);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.write_v6(source.octets(), destination.octets(), payload, out);
            }
            _ => panic!("both addresses of a packet are of one family"),
        }
    }

    fn write_v4(&self, source: [u8; 4], destination: [u8; 4], payload: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let header = 20 + self.options.len();
        let fragment = match self.fragment {
            None => 0x4000, // do not fragment
            Some((offset, more)) => (offset / 8) | (u16::from(more) << 13),
        };
        out.extend([0x40 | (header / 4) as u8, self.tos]);
        out.extend(((header + payload.len()) as u16).to_be_bytes());
        out.extend(self.id.to_be_bytes());
        out.extend(fragment.to_be_bytes());
        out.extend([self.ttl, self.protocol, 0, 0]);
        out.extend(source);
        out.extend(destination);
        out.extend(self.options);
        let checksum = folded(sum(&out[start..]));
        out[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
        out.extend(payload);
    }

    fn write_v6(&self, source: [u8; 16], destination: [u8; 16], payload: &[u8], out: &mut Vec<u8>) {
        let hop_by_hop = if self.options.is_empty() { 0 } else { self.options.len() + 2 };
        let fragment = if self.fragment.is_some() { 8 } else { 0 };
        let after_hops = if self.fragment.is_some() { IPV6_FRAGMENT } else { self.protocol };
        let first = if hop_by_hop > 0 { 0 } else { after_hops };
        out.extend([0x60 | (self.tos >> 4), self.tos << 4, 0, 0]);
        out.extend(((hop_by_hop + fragment + payload.len()) as u16).to_be_bytes());
        out.extend([first, self.ttl]);
        out.extend(source);
        out.extend(destination);
        if hop_by_hop > 0 {
            out.extend([after_hops, (hop_by_hop / 8 - 1) as u8]);
            out.extend(self.options);
        }
        if let Some((offset, more)) = self.fragment {
            out.extend([self.protocol, 0]);
            out.extend((offset | u16::from(more)).to_be_bytes());
            out.extend(u32::from(self.id).to_be_bytes());
        }
        out.extend(payload);
    }

    /// The sum of the pseudo header before a transport header and payload of `length` bytes.
    fn pseudo(&self, length: usize) -> u64 {
        let addresses = match (self.source, self.destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => sum(&a.octets()) + sum(&b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => sum(&a.octets()) + sum(&b.octets()),
            _ => 0,
        };
        addresses + u64::from(self.protocol) + length as u64
    }

    /// Sets the checksum in a transport header at an offset, over the pseudo header as well.
    pub(crate) fn seal(&self, transport: &mut [u8], offset: usize) {
        let checksum = folded(self.pseudo(transport.len()) + sum(transport));
        transport[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A TCP header, without its ports.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TcpHeader<'o> {
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    /// A multiple of 4 bytes.
    pub(crate) options: &'o [u8],
}

pub(crate) fn tcp(network: &Network, ports: [u16; 2], header: TcpHeader, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + header.options.len() + data.len());
    out.extend(ports[0].to_be_bytes());
    out.extend(ports[1].to_be_bytes());
    out.extend(header.sequence.to_be_bytes());
    out.extend(header.acknowledgement.to_be_bytes());
    out.extend([((5 + header.options.len() / 4) << 4) as u8, header.flags]);
    out.extend(header.window.to_be_bytes());
    out.extend([0, 0]);
    out.extend(header.urgent.to_be_bytes());
    out.extend(header.options);
    out.extend(data);
    network.seal(&mut out, 16);
    out
}

pub(crate) fn udp(network: &Network, ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + data.len());
    out.extend(ports[0].to_be_bytes());
    out.extend(ports[1].to_be_bytes());
    out.extend(((8 + data.len()) as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(data);
    network.seal(&mut out, 6);
    out
}

/// An ICMP, ICMPv6 or IGMP message: type, code, checksum, a word and a body.
pub(crate) fn icmp(network: &Network, kind: [u8; 2], word: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + body.len());
    out.extend(kind);
    out.extend([0, 0]);
    out.extend(word);
    out.extend(body);
    if network.protocol == ICMPV6 {
        network.seal(&mut out, 2);
    } else {
        let checksum = folded(sum(&out));
        out[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    out
}

/// Payload that is a text, so that no program takes it for a header.
pub(crate) fn text(length: usize) -> Vec<u8> {
    const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
    let mut out = Vec::with_capacity(length + 26);
    while out.len() < length {
        out.extend(LETTERS);
    }
    out.truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_1071() {
        // Its example, without the final complement: ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(folded(sum(&bytes)), !0xddf2);
        assert_eq!(folded(sum(&[0x12, 0x34, 0x56])), !(0x1234 + 0x5600));
    }
}
