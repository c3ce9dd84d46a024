//! What a flow auditor should report.

/// One of the two ends of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The end that opened the conversation.
    Source,
    /// The end that was addressed.
    Destination,
}

impl Side {
    /// 0 for the source, 1 for the destination.
    pub const fn index(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Destination => 1,
        }
    }

    /// The opposite end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// The truth about one flow. Pairs are for the source and the destination. Texts are as `ra -n`
/// prints them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Flow {
    pub protocol: String,
    pub source: String,
    pub destination: String,
    pub source_port: String,
    pub destination_port: String,
    pub packets: [u64; 2],
    /// Lengths of frames, as they were on the wire.
    pub bytes: [u64; 2],
    /// Lengths of payloads: behind the header of TCP and UDP, and behind the IP header of other
    /// protocols. None without IP.
    pub application_bytes: [u64; 2],
    /// `FIN`, `RST`, `REQ`, `CON`, `INT`, `ECO`, `URP` and so on.
    pub state: String,
    /// `->`, `<->`, `<?>`, `who` and so on.
    pub direction: String,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    pub last_ns: u64,
    /// From the SYN to the SYN and ACK; 0 where they were not seen.
    pub syn_ack_us: u64,
    /// From the SYN and ACK to the ACK; 0 where they were not seen.
    pub ack_data_us: u64,
    /// Segments that were sent again; for RTP and ESP, packets that were lost.
    pub retransmissions: [u64; 2],
}

impl Flow {
    pub(crate) fn count(&mut self, side: Side, at_ns: u64, bytes: usize, application_bytes: usize) {
        if self.packets == [0, 0] {
            self.start_ns = at_ns;
        }
        self.start_ns = self.start_ns.min(at_ns);
        self.last_ns = self.last_ns.max(at_ns);
        self.packets[side.index()] += 1;
        self.bytes[side.index()] += bytes as u64;
        self.application_bytes[side.index()] += application_bytes as u64;
    }

    /// The direction that packet counts give, as for UDP.
    pub(crate) fn direction_by_counts(&self) -> String {
        match self.packets {
            [_, 0] => "->",
            [0, _] => "<-",
            _ => "<->",
        }
        .to_owned()
    }

    /// The state that packet counts give, as for UDP.
    pub(crate) fn state_by_counts(&self) -> String {
        if self.packets.contains(&0) { "INT" } else { "CON" }.to_owned()
    }

    /// What distinguishes the flow from others at the same time.
    pub fn key(&self) -> [&str; 5] {
        [&self.protocol, &self.source, &self.source_port, &self.destination, &self.destination_port]
    }
}
