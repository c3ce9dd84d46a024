//! Network flows: packets in, flow records out.
//!
//! [`Flows::packet`] finds the flow of a packet, counts it there, and follows TCP. A flow is
//! reported when its status interval has passed, and at the end ([`Flows::finish`]). The model of a
//! flow is that of argus(8) 3.0.8: what identifies one ([`identity`]), its directions, its states
//! and its times. Where argus has a fault, this crate does what argus documents:
//!
//! - Sequence numbers are compared modulo 2^32.
//! - A SYN begins a new connection in every state in which the old one has been closed.
//! - AH is followed by the ports that it protects.
//!
//! Memory is allocated at the start, for [`FlowTableSettings::capacity`] flows. If all are in use,
//! the flow that is idle for longest is reported and removed, and that is counted.
//!
//! What the data say about a flow's application is read if [`FlowTableSettings::application`] asks
//! for it.
//!
//! Not for: reading captures, formats of records, files.
//!
//! Start reading at [`Flows::packet`].

mod application;
mod clock;
mod flow;
mod flows;
pub mod identity;
pub mod netflow;
mod prefetch;
mod queues;
mod reports;
mod rtp;
mod settings;
mod tcp;
#[cfg(test)]
mod tests;
mod user;

pub use application::settings::{ApplicationSettings, DNS_SERVERS_MAX, DnsServers, Protocols};
pub use clock::{CaptureClock, ClockJump, UNCLEAR_MAX};
pub use flows::Flows;
pub use reports::Reports;
pub use settings::{FlowTableCounts, FlowTableSettings, Timeouts};
pub use user::ControlPorts;
