//! Packet captures with the truth about their flows, and what real argus makes of them.
#![forbid(unsafe_code)]

mod argus;
mod between;
mod capture;
mod differences;
mod headers;
mod icmp;
mod kinds;
mod link;
mod mix;
mod other;
mod random;
mod row;
mod tcp;
mod truth;
mod udp;
mod wire;

pub use argus::Argus;
pub use between::{Between, Host, Layer};
pub use capture::{Capture, Clock, Conversation};
pub use differences::{Difference, Tolerance, differences};
pub use icmp::{Discovery, Echo, Neighbour, Redirect, TimeExceeded, Timestamp};
pub use kinds::{BEGIN_NS, Kind, kinds};
pub use link::{Arp, Content, Frames, Rarp};
pub use other::{Esp, Igmp, Sctp};
pub use row::{FIELDS, Row};
pub use tcp::{Closing, Exchange, Opening, Tcp};
pub use truth::{Flow, Side};
pub use udp::{Datagram, Dhcp, Dns, Fragments, Order, Udp};
