//! Sizes and times of a flow's first packets, by which programs that learn tell applications apart
//! even if all is encrypted (SPLT in Cisco's Joy, `pstats` in ipfixprobe).

use super::record::FlowDirection;

/// Number of packets that are kept, as in ipfixprobe.
pub const SEQUENCE_PACKETS_MAX: usize = 30;

/// The first packets of a flow, in the order in which they were seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sequence {
    /// In bytes.
    sizes: [u16; SEQUENCE_PACKETS_MAX],
    /// Microseconds since the packet before.
    gaps_us: [u32; SEQUENCE_PACKETS_MAX],
    /// A bit for each packet, the first one lowest. It is set if the destination sent it.
    from_destination: u32,
    count: u8,
    /// Time of the last packet in nanoseconds since 1970.
    last_ns: i64,
}

const _: () = assert!(SEQUENCE_PACKETS_MAX <= u32::BITS as usize);

/// A packet of a [`Sequence`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SequencePacket {
    /// In bytes; 65,535 stands for all larger ones.
    pub size: u16,
    pub direction: FlowDirection,
    /// Microseconds since the packet before, 0 for the first one. It is also 0 for a packet whose
    /// time is not later, and the largest number for 71 minutes and more.
    pub gap_us: u32,
}

impl Sequence {
    /// Adds a packet, if there is room. The caller chooses which packets and which size of them
    /// count: all, or only those with data. Its time is in nanoseconds since 1970.
    #[inline]
    pub fn push(&mut self, size: u32, direction: FlowDirection, time_ns: i64) {
        let at = usize::from(self.count);
        let (Some(kept), Some(gap)) = (self.sizes.get_mut(at), self.gaps_us.get_mut(at)) else {
            return;
        };
        *kept = u16::try_from(size).unwrap_or(u16::MAX);
        if at > 0 {
            let gap_us = time_ns.saturating_sub(self.last_ns).max(0) / 1000;
            *gap = u32::try_from(gap_us).unwrap_or(u32::MAX);
        }
        self.from_destination |= u32::from(direction == FlowDirection::FromDestination) << at;
        self.last_ns = time_ns;
        self.count += 1;
    }

    /// The packets, in their order.
    pub fn packets(&self) -> impl ExactSizeIterator<Item = SequencePacket> {
        (0..usize::from(self.count)).map(|at| SequencePacket {
            size: self.sizes[at],
            direction: if self.from_destination >> at & 1 == 1 {
                FlowDirection::FromDestination
            } else {
                FlowDirection::FromSource
            },
            gap_us: self.gaps_us[at],
        })
    }
}
