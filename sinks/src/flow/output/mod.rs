//! Where flow records go: files, standard output, receivers of datagrams, and clients that connect.
//!
//! The caller passes each record as bytes. A file accepts all of them and waits for its disk;
//! [`Background`] does that on a thread of its own, for callers that must not wait. A receiver of
//! datagrams and a client never make the caller wait: what they cannot take in time is counted, and
//! a client that lags too far behind is disconnected.

mod background;
mod client_thread;
mod clients;
mod datagrams;
mod file;

pub use background::{Background, BlockingOutput, Health, QUEUE_BYTES, each_record};
pub use client_thread::{ClientSettings, ClientThread};
pub use clients::{AllowedNetworks, ClientEvent, Clients, ClientsError, PORT};
pub use datagrams::Datagrams;
pub use file::RecordFile;
