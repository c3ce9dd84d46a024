//! Numbers of protocols above IP (IANA).

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ESP: u8 = 50;
pub(super) const ICMPV6: u8 = 58;
pub(super) const SCTP: u8 = 132;
