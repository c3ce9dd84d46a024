//! Numbers of protocols above IP, as the C library has them (IANA).

pub(super) const ICMP: u8 = libc::IPPROTO_ICMP as u8;
pub(super) const TCP: u8 = libc::IPPROTO_TCP as u8;
pub(super) const UDP: u8 = libc::IPPROTO_UDP as u8;
pub(super) const ESP: u8 = libc::IPPROTO_ESP as u8;
pub(super) const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
pub(super) const SCTP: u8 = libc::IPPROTO_SCTP as u8;
