//! Records of network flows, and the formats in which they leave.
//!
//! [`FlowRecord`] is what is known of one flow since its last record. [`argus`] writes it as argus
//! clients read it, and [`filter`] selects some.

pub mod argus;
pub mod filter;
mod record;

pub use record::{
    Address, Arp, Cause, Detail, Direction, Esp, FlowKey, FlowRecord, Icmp, Interval, Intervals,
    Jitter, Kind, Side, Tcp, TcpSide, TcpState, status, tcp_status,
};
