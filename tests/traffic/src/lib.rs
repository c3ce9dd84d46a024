//! Packet captures with the truth about their flows, and what real argus makes of them.
//!
//! For: tests and benchmarks of flow records. A [`Capture`] has conversations such as [`Tcp`] and
//! [`Dns`]; each adds its packets, and the [`Flow`] that an auditor should report. The truth
//! follows from what a conversation means to send, never from its bytes. [`kinds()`] has one
//! capture for each kind, and [`Capture::mix`] many conversations at a time. [`Argus`] runs the
//! real sensor and its clients, whose records are [`Row`]s. [`differences()`] compares two sensors,
//! for example over what real programs send ([`real_capture()`]).
//!
//! Not for: reading packets. Nothing here parses a capture.
//!
//! ```
//! use panoptes_traffic::{BEGIN_NS, Between, Capture, Clock, Tcp};
//!
//! let tcp = Tcp { retransmitted: [0, 1], ..Tcp::new(Between::v4(1, [40000, 443]), BEGIN_NS) };
//! let capture = Capture::of(&tcp);
//! let [flow] = capture.flows() else { panic!("one flow") };
//! assert_eq!((&flow.state[..], flow.retransmissions), ("FIN", [0, 1]));
//! assert!(capture.pcap(Clock::Microseconds).len() > 24);
//! ```
//!
//! Start reading at [`Capture`] and `tcp.rs`.
#![forbid(unsafe_code)]

mod argus;
mod between;
mod capture;
mod check;
mod differences;
mod headers;
mod icmp;
mod kinds;
mod link;
mod mix;
mod other;
mod random;
mod real;
mod row;
mod tcp;
mod truth;
mod udp;
mod wire;

pub use argus::Argus;
pub use between::{Between, Host, Layer};
pub use capture::{Capture, Clock, Conversation};
pub use check::{FieldFault, wrong};
pub use differences::{Difference, Tolerance, differences};
pub use icmp::{Discovery, Echo, Neighbour, Redirect, TimeExceeded, Timestamp};
pub use kinds::{BEGIN_NS, Kind, kinds};
pub use link::{Arp, Content, Frames, Rarp};
pub use other::{Esp, Igmp, Sctp};
pub use random::Random;
pub use real::{Contact, NoCapture, RealCapture, real_capture};
pub use row::{FIELDS, Row};
pub use tcp::{Closing, Exchange, Opening, Tcp};
pub use truth::{Flow, Side};
pub use udp::{Datagram, Dhcp, Dns, Fragments, Order, Rtp, Udp};
