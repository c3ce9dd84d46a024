//! Packet filters: the expressions of tcpdump (pcap-filter(7)), compiled by libpcap and run here.
//!
//! [`PacketFilter::compile`] loads libpcap when it is first needed, so the program is not linked to
//! it. An empty expression needs no library. [`PacketFilter::matches`] decides about a packet,
//! [`PacketFilter::instructions`] are for a kernel (`SO_ATTACH_FILTER`), and
//! [`PacketFilter::dump`] is what `argus -b` and `tcpdump -d` print.
//!
//! Not for: the filters of argus clients, which are about records.
//!
//! Start reading at [`PacketFilter`]. The interpreter is in `panoptes_decoders::packet::program`.

mod dump;
mod error;
mod filter;
mod library;
mod options;

pub use error::FilterError;
pub use filter::PacketFilter;
pub use options::{FilterOptions, PacketOrigin, SNAP_LENGTH_MAX};
