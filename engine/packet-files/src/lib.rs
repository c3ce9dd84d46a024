//! Reads capture files packet by packet: pcap, pcapng, snoop, ERF and TSH, plain or compressed.
//!
//! [`CaptureFile`] detects the format and the compression from the content. It reads into one
//! buffer that never grows, and lends each packet as a [`Frame`]. Plain files cost no allocation
//! per packet; the decoders of compressed ones allocate per block.
//!
//! Captures may be hostile or damaged: each length is checked, and what cannot be returned is an
//! error ([`CaptureError`]) or is counted ([`SkippedCounts`]).
//!
//! The crate `pcap-parser` covers two of the five formats, and neither files that still grow nor
//! those that end within a packet. Its users need code for both, so all formats are read here.
//!
//! Not for: what the bytes of a packet mean, and packets from a live interface.
//!
//! Start reading at [`CaptureFile`]; [`pcap`] is the simplest and the fastest of its formats.
#![forbid(unsafe_code)]

mod buffer;
mod bytes;
mod erf;
mod error;
mod file;
mod follow;
mod frame;
mod header;
mod pcap;
mod pcapng;
mod snoop;
mod tsh;
mod unpack;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use error::{CaptureError, Problem};
pub use file::{CaptureFile, CaptureFormat, CaptureOptions};
pub use frame::{Frame, PACKET_BYTES_MAX, SkippedCounts};
