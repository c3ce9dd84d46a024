//! Receives packets from network interfaces, through rings that the kernel fills.
//!
//! [`Interface`] lends each packet as a [`Frame`](panoptes_packet_files::Frame) from the ring
//! itself (AF_PACKET with TPACKET_V3: `Documentation/networking/packet_mmap.rst` of Linux). A
//! packet costs no copy, no system call and no allocation.
//!
//! [`XdpInterface`] takes them away before they reach the kernel's stack (AF_XDP:
//! `Documentation/networking/af_xdp.rst`).
//!
//! [`MirrorSocket`] receives packets that a network mirrors as UDP datagrams, at a port of this
//! machine. They are copied, and a system call receives many.
//!
//! Several threads share an interface or a port by a [`Division`]: the kernel chooses to which of
//! them a packet comes.
//!
//! Link types and cooked headers are as libpcap has them, so the decoders read both alike.
//!
//! Not for: what the bytes of a packet mean, and captures in files.
//!
//! Start reading at [`Interface`]; `block` reads what the kernel wrote.

mod block;
mod clock;
mod devices;
mod division;
mod error;
mod filter;
mod interface;
mod link;
mod mirror;
mod names;
mod ring;
mod socket;
mod xdp;

pub use devices::{NetworkInterface, all, default_name};
pub use division::{Division, Group, PARTS_MAX};
pub use error::InterfaceError;
pub use interface::{Interface, InterfaceOptions, Losses};
pub use mirror::{MirrorOptions, MirrorPort, MirrorSocket};
pub use names::{NoAddress, is_name, mirror_of};
pub use xdp::{XdpInterface, XdpMode};
