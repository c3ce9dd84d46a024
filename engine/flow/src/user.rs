//! The data of both ends of each flow: the first bytes, or all of control-plane protocols.

use panoptes_decoders::packet::transport::protocol;
use panoptes_records::flow::{FlowKey, FlowKeyKind, USER_BYTES_MAX};
use panoptes_tables::room;

/// The most ports of [`ControlPorts`].
const PORTS_MAX: usize = 64;
/// Bytes of a part of the data of a control-plane flow, and how many parts all of them have
/// together: 64 MiB.
const PART_BYTES: usize = 512;
const PARTS: usize = 1 << 17;

/// The ports of protocols that control networks: their flows keep all of their data (`-C`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ControlPorts {
    all: [(u8, u16); PORTS_MAX],
    count: usize,
}

impl Default for ControlPorts {
    fn default() -> Self {
        Self { all: [(0, 0); PORTS_MAX], count: 0 }
    }
}

impl ControlPorts {
    /// Adds a port of TCP or of UDP. Returns whether there was room.
    pub fn add(&mut self, protocol: u8, port: u16) -> bool {
        let Some(place) = self.all.get_mut(self.count) else { return false };
        *place = (protocol, port);
        self.count += 1;
        true
    }

    /// Whether one of the ports of a flow is in the list.
    fn has(&self, key: &FlowKey) -> bool {
        matches!(key.kind, FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6)
            && matches!(key.protocol, protocol::TCP | protocol::UDP)
            && self.all[..self.count].iter().any(|(protocol, port)| {
                key.protocol == *protocol
                    && (key.source_port == *port || key.destination_port == *port)
            })
    }
}

/// The data of all flows.
#[derive(Debug)]
pub(crate) struct UserData {
    /// Bytes that are kept of each end, unless its flow is one of [`ControlPorts`].
    size: usize,
    bytes: Box<[u8]>,
    lengths: Box<[[u32; 2]]>,
    control: Option<Box<ControlData>>,
}

/// The data of control-plane flows: chains of parts.
#[derive(Debug)]
struct ControlData {
    ports: ControlPorts,
    chains: Box<[[ControlChain; 2]]>,
    parts: Box<[u8]>,
    /// The part behind each one, plus one; 0 behind the last one.
    next: Box<[u32]>,
    /// The first free part, plus one, of those that were in use; parts from `used` on never were.
    free: u32,
    used: u32,
    /// Both ends of the flow that is reported, one behind the other.
    whole: Box<[u8]>,
    lost_bytes: u64,
}

/// The data of one end.
#[derive(Clone, Copy, Debug, Default)]
struct ControlChain {
    /// The first and the last part, plus one; 0 if there is none.
    first: u32,
    last: u32,
    length: u32,
    is_kept: bool,
}

impl UserData {
    /// `size` is the number of bytes of each end.
    pub(crate) fn new(capacity: usize, size: usize, ports: Option<&ControlPorts>) -> Self {
        let flows = if size > 0 { capacity } else { 0 };
        Self {
            size,
            bytes: room::copies(0, flows * 2 * size),
            lengths: room::copies([0; 2], flows),
            control: ports.map(|ports| {
                room::boxed(ControlData {
                    ports: *ports,
                    chains: room::copies([ControlChain::default(); 2], capacity),
                    parts: room::copies(0, PARTS * PART_BYTES),
                    next: room::copies(0, PARTS),
                    free: 0,
                    used: 0,
                    whole: room::copies(0, 2 * USER_BYTES_MAX),
                    lost_bytes: 0,
                })
            }),
        }
    }

    /// Bytes of control-plane flows for which there was no room.
    pub(crate) fn lost_bytes(&self) -> u64 {
        self.control.as_ref().map_or(0, |control| control.lost_bytes)
    }

    /// Begins a flow.
    pub(crate) fn begin(&mut self, flow: u32, key: &FlowKey) {
        self.clear(flow);
        if let Some(control) = &mut self.control {
            let is_kept = control.ports.has(key);
            control.chains[flow as usize] =
                [ControlChain { is_kept, ..ControlChain::default() }; 2];
        }
    }

    /// Forgets the data of a flow: its record is written.
    #[inline]
    pub(crate) fn clear(&mut self, flow: u32) {
        if let Some(lengths) = self.lengths.get_mut(flow as usize) {
            *lengths = [0; 2];
        }
        if let Some(control) = &mut self.control {
            control.clear(flow);
        }
    }

    /// Keeps the data of a packet from one end.
    #[inline]
    pub(crate) fn add(&mut self, flow: u32, end: usize, data: &[u8]) {
        if let Some(control) = &mut self.control
            && control.chains[flow as usize][end].is_kept
        {
            return control.add(flow, end, data);
        }
        let Some(lengths) = self.lengths.get_mut(flow as usize) else { return };
        let begin = (flow as usize * 2 + end) * self.size;
        let known = lengths[end] as usize;
        let room = &mut self.bytes[begin + known..begin + self.size];
        let count = room.len().min(data.len());
        room[..count].copy_from_slice(&data[..count]);
        lengths[end] += count as u32;
    }

    /// The data of both ends.
    pub(crate) fn of(&mut self, flow: u32) -> [&[u8]; 2] {
        if let Some(control) = &mut self.control
            && control.chains[flow as usize][0].is_kept
        {
            return control.of(flow);
        }
        let Some(lengths) = self.lengths.get(flow as usize) else { return [&[]; 2] };
        [0, 1].map(|end| {
            let begin = (flow as usize * 2 + end) * self.size;
            self.bytes.get(begin..begin + lengths[end] as usize).unwrap_or_default()
        })
    }
}

impl ControlData {
    fn clear(&mut self, flow: u32) {
        for chain in &mut self.chains[flow as usize] {
            if chain.first != 0 {
                self.next[chain.last as usize - 1] = self.free;
                self.free = chain.first;
            }
            *chain = ControlChain { is_kept: chain.is_kept, ..ControlChain::default() };
        }
    }

    /// A part that is in no chain, plus one.
    fn take(&mut self) -> Option<u32> {
        if self.free != 0 {
            let part = self.free;
            self.free = std::mem::take(&mut self.next[part as usize - 1]);
            return Some(part);
        }
        if self.used as usize == PARTS {
            return None;
        }
        self.used += 1;
        Some(self.used)
    }

    fn add(&mut self, flow: u32, end: usize, data: &[u8]) {
        let mut chain = self.chains[flow as usize][end];
        let room = USER_BYTES_MAX - chain.length as usize;
        let mut rest = &data[..data.len().min(room)];
        self.lost_bytes += (data.len() - rest.len()) as u64;
        while !rest.is_empty() {
            let at = chain.length as usize % PART_BYTES;
            if at == 0 {
                let Some(part) = self.take() else {
                    self.lost_bytes += rest.len() as u64;
                    break;
                };
                match chain.last {
                    0 => chain.first = part,
                    last => self.next[last as usize - 1] = part,
                }
                chain.last = part;
            }
            let count = rest.len().min(PART_BYTES - at);
            let begin = (chain.last as usize - 1) * PART_BYTES + at;
            self.parts[begin..begin + count].copy_from_slice(&rest[..count]);
            chain.length += count as u32;
            rest = &rest[count..];
        }
        self.chains[flow as usize][end] = chain;
    }

    /// Copies the data of both ends to one place.
    fn of(&mut self, flow: u32) -> [&[u8]; 2] {
        let chains = self.chains[flow as usize];
        let mut to = 0;
        for chain in &chains {
            let end = to + chain.length as usize;
            let mut part = chain.first as usize;
            while to < end {
                let count = (end - to).min(PART_BYTES);
                let begin = (part - 1) * PART_BYTES;
                self.whole[to..to + count].copy_from_slice(&self.parts[begin..begin + count]);
                to += count;
                part = self.next[part - 1] as usize;
            }
        }
        let (source, rest) = self.whole.split_at(chains[0].length as usize);
        [source, &rest[..chains[1].length as usize]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(protocol: u8, ports: [u16; 2]) -> FlowKey {
        let [source_port, destination_port] = ports;
        FlowKey { protocol, source_port, destination_port, ..FlowKey::default() }
    }

    fn made(capacity: usize, size: usize) -> UserData {
        let mut ports = ControlPorts::default();
        assert!(ports.add(protocol::TCP, 6633) && ports.add(protocol::UDP, 53));
        UserData::new(capacity, size, Some(&ports))
    }

    #[test]
    fn flows_of_control_keep_all_of_their_data() {
        let mut user = made(3, 4);
        let keys = [key(6, [6633, 9]), key(17, [6633, 9]), key(17, [9, 53])];
        for (flow, key) in (0..).zip(&keys) {
            user.begin(flow, key);
        }
        let data: Vec<u8> = (0..=255).cycle().take(3000).collect();
        for part in data.chunks(700) {
            for flow in 0..3 {
                user.add(flow, 0, part);
                user.add(flow, 1, &part[..1]);
            }
        }
        let ends = data.chunks(700).map(|part| part[0]).collect::<Vec<_>>();
        for (flow, expected) in [(0, &data[..]), (1, &data[..4]), (2, &data[..])] {
            let answers = if flow == 1 { &ends[..4] } else { &ends[..] };
            assert_eq!(user.of(flow), [expected, answers], "{flow}");
        }
        // Its parts are used again.
        let used = user.control.as_ref().expect("it is on").used;
        user.clear(0);
        assert_eq!(user.of(0), [b""; 2]);
        user.add(0, 1, &data);
        assert_eq!(user.of(0), [b"", &data[..]]);
        assert_eq!(user.control.as_ref().expect("it is on").used, used);
        assert_eq!(user.lost_bytes(), 0);
    }

    #[test]
    fn data_without_room_is_counted() {
        let flows = PARTS * PART_BYTES / USER_BYTES_MAX + 1;
        let mut user = made(flows, 0);
        let data = vec![1; USER_BYTES_MAX + 1];
        for flow in 0..flows as u32 {
            user.begin(flow, &key(6, [6633, 9]));
            user.add(flow, 0, &data);
        }
        // One byte of each is too much, and the last one has only what is left.
        let kept: usize = (0..flows as u32).map(|flow| user.of(flow)[0].len()).sum();
        assert_eq!(user.lost_bytes(), (flows * data.len() - kept) as u64);
        assert!(user.of(flows as u32 - 1)[0].len() < USER_BYTES_MAX);
        assert_eq!(user.of(0)[0].len(), USER_BYTES_MAX);
        assert_eq!(kept, flows.min(PARTS / 128) * USER_BYTES_MAX);
    }
}
