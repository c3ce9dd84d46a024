//! Facts about a flow that stand outside its record.

use super::application::Application;
use super::labels::Labels;
use super::record::Jitter;
use super::sequence::Sequence;

/// The most bytes of user data of each end. Two of them and the rest fit into a record.
pub const USER_BYTES_MAX: usize = 0xffff;

/// What belongs to a flow and is kept apart from it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extra<'a> {
    /// `-J`: times between packets.
    pub jitter: Option<&'a Jitter>,
    /// `-U`: the first bytes of data of both ends, at most [`USER_BYTES_MAX`] of each.
    pub user: [&'a [u8]; 2],
    /// Set if the flow was exported as NetFlow, IPFIX or sFlow.
    pub exporter: Option<Exporter>,
    /// The processes that hold the sockets of both ends, as far as they are known.
    pub owners: [Option<FlowProcess<'a>>; 2],
    /// What the data tell. Records of argus have no place for it.
    pub application: Option<&'a Application>,
    /// What the connection became later, if `application` says how it began: TLS behind `CONNECT`.
    pub later_application: Option<&'a Application>,
    /// Sizes and times of the first packets; likewise.
    pub sequence: Option<&'a Sequence>,
    /// `-Z`: the sums of the squared sizes of the packets of both ends. Records of argus have none.
    pub size_squares: Option<[u64; 2]>,
    /// What others say of the flow.
    pub labels: Labels<'a>,
}

/// A process that holds a socket.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlowProcess<'a> {
    pub id: u32,
    pub name: &'a [u8],
    /// Its real user id.
    pub user_id: Option<u32>,
    /// The id of its container; empty if it is in none.
    pub container_id: &'a [u8],
}

/// The exporter of a flow, and what only exporters tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Exporter {
    /// Its IPv4 address; 0 if it has none.
    pub address: u32,
    /// Numbers of autonomous systems; 0 if they are not known.
    pub source_as: u32,
    pub destination_as: u32,
}
