//! A capture: packets in the order of time, and the truth about their flows.

use crate::truth::Flow;

/// Something that sends packets, and knows what they mean.
pub trait Conversation {
    /// Adds the packets and the flows.
    fn write(&self, capture: &mut Capture);
}

/// Unit of the times in a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clock {
    Microseconds,
    Nanoseconds,
}

/// Packets and the flows that they belong to.
#[derive(Clone, Debug)]
pub struct Capture {
    seed: u64,
    snap: usize,
    /// The first bytes of all frames.
    bytes: Vec<u8>,
    packets: Vec<Packet>,
    flows: Vec<Flow>,
    outer_flows: Vec<Flow>,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    at_ns: u64,
    offset: usize,
    captured: u32,
    length: u32,
}

/// Bytes of a frame that a file has where no other limit is set.
const SNAP_MAX: usize = 262_144;
/// The link type of Ethernet.
const ETHERNET: u32 = 1;

impl Capture {
    /// An empty capture. The seed determines what conversations leave open, such as their first
    /// IP ids.
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            snap: SNAP_MAX,
            bytes: Vec::new(),
            packets: Vec::new(),
            flows: Vec::new(),
            outer_flows: Vec::new(),
        }
    }

    /// Keeps only the first `snap` bytes of each frame that is added from now on.
    #[must_use]
    pub const fn snapped(mut self, snap: usize) -> Self {
        self.snap = snap;
        self
    }

    /// Adds a conversation.
    pub fn add(&mut self, conversation: &dyn Conversation) {
        conversation.write(self);
    }

    /// A capture of one conversation.
    #[must_use]
    pub fn of(conversation: &dyn Conversation) -> Self {
        Self::new(1).with(conversation)
    }

    /// The capture with one conversation more.
    #[must_use]
    pub fn with(mut self, conversation: &dyn Conversation) -> Self {
        conversation.write(&mut self);
        self
    }

    /// The flows inside of all tunnels, in the order in which their conversations were added.
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The outermost flows of tunnels, as an auditor sees them that does not open tunnels.
    pub fn outer_flows(&self) -> &[Flow] {
        &self.outer_flows
    }

    /// How many packets were added.
    pub const fn packets(&self) -> usize {
        self.packets.len()
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed.wrapping_add(self.packets.len() as u64)
    }

    pub(crate) fn push(&mut self, at_ns: u64, frame: &[u8]) {
        let captured = frame.len().min(self.snap);
        self.packets.push(Packet {
            at_ns,
            offset: self.bytes.len(),
            captured: captured as u32,
            length: frame.len() as u32,
        });
        self.bytes.extend_from_slice(&frame[..captured]);
    }

    pub(crate) fn push_flow(&mut self, flow: Flow) {
        self.flows.push(flow);
    }

    pub(crate) fn push_outer_flow(&mut self, flow: Flow) {
        self.outer_flows.push(flow);
    }

    /// The packets in the order of time.
    fn ordered(&self) -> impl Iterator<Item = Packet> {
        let mut order: Vec<(u64, u32)> =
            self.packets.iter().zip(0..).map(|(packet, number)| (packet.at_ns, number)).collect();
        order.sort_unstable();
        order.into_iter().map(move |(_, number)| self.packets[number as usize])
    }

    /// The captured bytes of a packet.
    fn frame(&self, packet: Packet) -> &[u8] {
        &self.bytes[packet.offset..][..packet.captured as usize]
    }

    /// The captured bytes of each frame, in the order of time.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.ordered().map(|packet| self.frame(packet).to_vec()).collect()
    }

    /// The capture as a pcap file.
    pub fn pcap(&self, clock: Clock) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + 16 * self.packets.len() + self.bytes.len());
        let (magic, unit_ns) = match clock {
            Clock::Microseconds => (0xa1b2_c3d4_u32, 1000),
            Clock::Nanoseconds => (0xa1b2_3c4d, 1),
        };
        out.extend(magic.to_le_bytes());
        out.extend(2_u16.to_le_bytes());
        out.extend(4_u16.to_le_bytes());
        out.extend([0; 8]);
        out.extend((self.snap as u32).to_le_bytes());
        out.extend(ETHERNET.to_le_bytes());
        for packet in self.ordered() {
            out.extend(((packet.at_ns / 1_000_000_000) as u32).to_le_bytes());
            out.extend(((packet.at_ns % 1_000_000_000 / unit_ns) as u32).to_le_bytes());
            out.extend(packet.captured.to_le_bytes());
            out.extend(packet.length.to_le_bytes());
            out.extend(self.frame(packet));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_in_the_order_of_time() {
        let mut capture = Capture::new(1).snapped(3);
        capture.push(2, b"second");
        capture.push(1, b"first");
        assert_eq!(capture.frames(), [b"fir", b"sec"]);
    }
}
