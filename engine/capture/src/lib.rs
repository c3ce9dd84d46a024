//! Packets from capture files, one after the other.
//!
//! [`CaptureFile`] reads classic pcap files: of both byte orders, with microseconds or nanoseconds.
//! It reads large blocks into one buffer and gives each packet as a part of it, so a packet costs
//! no allocation and no copy.
//!
//! The content of a file is hostile: every length is checked. A file that ends within a packet
//! gives all packets before it, and the rest is counted ([`CaptureFile::cut_bytes`]).
//!
//! Not for: decoding packets (`panoptes-decoders`), live interfaces.
//!
//! Start reading at [`CaptureFile::next`].
#![forbid(unsafe_code)]

mod buffer;
mod file;

pub use file::{CaptureError, CaptureFile, Frame};
