//! Attacks by connections.

use std::net::{Ipv4Addr, SocketAddr};

use crate::hostile::Hostile;

/// C12: more connections in TIME_WAIT than a scan has rows.
pub(super) fn time_wait(host: &mut Hostile<'_>) {
    for number in 0..90_000_u32 {
        let source = SocketAddr::from((Ipv4Addr::new(10, 0, 2, 15), 443));
        let [_, b, c, d] = number.to_be_bytes();
        let peer = SocketAddr::from((Ipv4Addr::new(11, b, c, d), 30_000));
        host.machine().time_wait(source, peer);
        if number % 256 == 0 && !host.goes_on() {
            return;
        }
    }
    host.act();
    host.rest_on();
}
