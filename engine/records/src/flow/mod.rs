//! Records of network flows, as data.
//!
//! [`FlowRecord`] has what is known of one flow since its last record; [`Extra`] has what stands
//! outside it. The formats of these records are in `panoptes-sinks`.

pub mod application;
mod extra;
mod labels;
mod record;
mod resolution;
mod sequence;

pub use extra::{Exporter, Extra, FlowProcess, USER_BYTES_MAX};
pub use labels::{LABELS_BYTES_MAX, Labels};
pub use record::{
    Address, Arp, Cause, Detail, Esp, FlowDirection, FlowKey, FlowKeyKind, FlowRecord, FlowSide,
    Icmp, Interval, Intervals, Jitter, Rtp, RtpSide, Tcp, TcpSide, TcpState, header, rtp_status,
    status, tcp_status,
};
pub use resolution::NameResolution;
pub use sequence::{SEQUENCE_PACKETS_MAX, Sequence, SequencePacket};
