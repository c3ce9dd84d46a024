//! What takes packets as they come, and what is known of those that did not.

use panoptes_decoders::packet::mirror::MirrorPacket;
use panoptes_packet_files::Frame;

/// What takes packets as they come.
pub(super) trait Audit {
    /// Whether no more packets are needed.
    fn has_ended(&self) -> bool;

    /// Counts a packet of a stream.
    fn packet(&mut self, stream: usize, frame: &Frame<'_>);

    /// Counts a mirrored packet of a stream, with its time in nanoseconds since 1970.
    fn mirrored(&mut self, stream: usize, time_ns: i64, mirrored: &MirrorPacket<'_>);

    /// Counts a packet of a stream whose time is wrong, with the time when it was read.
    #[cold]
    fn packet_of_now(&mut self, stream: usize, frame: &Frame<'_>, now_ns: i64) {
        self.add_wrong_times(1);
        self.packet(stream, &Frame { time_ns: now_ns, ..*frame });
    }

    /// Adds packets whose times are wrong.
    fn add_wrong_times(&mut self, count: u64);

    /// The clock of packets was set by so many nanoseconds.
    fn set_clock(&mut self, by_ns: i64);

    /// Lets the time of flows pass, in nanoseconds of the clock by which they wait.
    fn pass_time(&mut self, now_ns: i64);

    /// Reports that something of the sensor has failed.
    fn report_failure(&mut self, reason: &str);
}

/// How many sources of packets there are, and what they have missed since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PacketSourceLosses {
    /// Number of interfaces that are open. A capture counts as one.
    pub(super) interfaces: u32,
    /// Packets that found no room.
    pub(super) packets: u64,
    /// Datagrams that held no mirrored packet.
    pub(super) mirrors: u64,
    /// Seconds in which an interface was away.
    pub(super) interface_seconds: u64,
}

impl PacketSourceLosses {
    /// Captures: they count as one interface, and miss nothing.
    pub(super) const NOTHING: Self =
        Self { interfaces: 1, packets: 0, mirrors: 0, interface_seconds: 0 };
}

/// The report that the clock of packets was set by so many nanoseconds.
pub(super) fn clock_was_set(by_ns: i64) -> String {
    let (seconds, way) = (by_ns.unsigned_abs() / 1_000_000_000, by_ns.signum());
    let way = if way < 0 { "back" } else { "forward" };
    format!("the clock of packets was set {way} by {seconds} s; flows go on")
}
