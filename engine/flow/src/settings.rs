//! What a table of flows is made with, and what it counts.

use crate::application::settings::ApplicationSettings;
use crate::identity::FlowIdentity;
use crate::user::ControlPorts;

/// How long idle flows are kept after their last report, in nanoseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    pub tcp_ns: i64,
    /// How long a TCP connection is remembered after that, so that its direction is known when it
    /// continues; 0: not at all. `ARGUS_TCP_FALLOW_TIMEOUT` of argus 5.0.3.
    pub tcp_fallow_ns: i64,
    pub ip_ns: i64,
    pub icmp_ns: i64,
    pub arp_ns: i64,
    pub fragment_ns: i64,
    pub other_ns: i64,
}

impl Default for Timeouts {
    /// Those of argus 3.0.8 (`argus/ArgusModeler.h`). Argus 5.0.3 remembers no idle connections,
    /// either, unless it is asked to.
    fn default() -> Self {
        let seconds = |count: i64| count * 1_000_000_000;
        Self {
            tcp_ns: seconds(60),
            tcp_fallow_ns: 0,
            ip_ns: seconds(30),
            icmp_ns: seconds(5),
            arp_ns: seconds(5),
            fragment_ns: seconds(5),
            other_ns: seconds(30),
        }
    }
}

/// What a table of flows is made with.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, not states")]
pub struct FlowTableSettings {
    /// The number of flows that are tracked at once.
    pub capacity: usize,
    /// How long a record of a flow may last, in nanoseconds.
    pub status_interval_ns: i64,
    pub timeouts: Timeouts,
    /// Whether times between packets are kept.
    pub has_jitter: bool,
    /// Whether the squared sizes of packets are added up.
    pub has_size_squares: bool,
    /// Bytes of data that are kept of each end.
    pub user_bytes: usize,
    /// The settings for applications.
    pub application: ApplicationSettings,
    /// The flows that keep all of their data.
    pub control: Option<ControlPorts>,
    pub identity: FlowIdentity,
    /// The packets of each direction are a flow of their own; those of ARP are not.
    pub is_unidirectional: bool,
    /// Packets of different overlays ([`Packet::vni`](panoptes_decoders::packet::Packet)) are of
    /// different flows.
    pub has_overlays: bool,
    /// Flows wait by the time that is passed to them alone: packets of live interfaces. Otherwise
    /// by the times of packets, too.
    pub waits_by_clock: bool,
    /// Which of several tables this is, and how many there are: a flow of each has a number of its
    /// own. Without others, both are 0.
    pub part: (u32, u32),
}

impl FlowTableSettings {
    /// Whether nothing is asked for but the counts of usual flows. No packet of theirs then asks,
    /// one by one, whether something else is.
    pub(crate) const fn are_plain(&self) -> bool {
        matches!(self.identity, FlowIdentity::Conversation)
            && !self.has_jitter
            && !self.has_size_squares
            && self.user_bytes == 0
            && !self.application.is_on()
            && self.control.is_none()
            && !self.is_unidirectional
            && !self.has_overlays
    }
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlowTableCounts {
    pub packets: u64,
    pub bytes: u64,
    /// Flows begun.
    pub flows: u64,
    pub records: u64,
    /// Flows that were removed because the table was full.
    pub evicted: u64,
    /// Bytes of control-plane flows that no record has, as there was no room.
    pub lost_user_bytes: u64,
    /// Packets without a flow: their link layer could not be read, or there was no room.
    pub unaccounted: u64,
    /// Flows that are tracked now, without those that are only remembered.
    pub tracked: u64,
    /// Idle connections that are remembered now ([`Timeouts::tcp_fallow_ns`]).
    pub fallow: u64,
    /// Those that were forgotten because other flows needed their room.
    pub forgotten: u64,
    /// Beginnings of streams that were given up, as too many others were put together.
    pub given_up: u64,
    /// How often the answers of DNS were reported early, as there were too many.
    pub resolutions_overflowed: u64,
}
