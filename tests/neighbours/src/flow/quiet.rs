//! The well-behaved neighbour: its conversations, and the truth about their flows.

use std::collections::BTreeMap;

use panoptes_traffic::{BEGIN_NS, Between, Capture, Closing, Dns, Flow, Opening, Tcp, Udp};

/// Hosts of the neighbour. Its network is 10.1.0.0/16; nobody else has these addresses.
const HOSTS: u32 = 60_000;
/// The filter of its flows: what is malformed may have one such address by chance.
pub(crate) const FILTER: &str = "src net 10.1.0.0/16 and dst net 10.1.0.0/16";

/// What distinguishes a flow: protocol, source and its port, destination and its port.
pub(crate) type Key = [String; 5];
/// Packets and bytes of the source and of the destination.
pub(crate) type Sums = [u64; 4];
/// Flows, and what both ends have sent.
pub(crate) type Flows = BTreeMap<Key, Sums>;

/// Conversations in the order of their numbers, each with hosts or ports of its own.
#[derive(Debug, Default)]
pub(crate) struct Neighbour {
    next: u32,
    /// What was sent.
    pub(crate) truth: Flows,
    pub(crate) packets: u64,
}

impl Neighbour {
    /// One whose conversations have other ports than those of the neighbours with another number.
    pub(crate) fn new(number: u32) -> Self {
        Self { next: number * HOSTS, ..Self::default() }
    }

    /// The frames of the next conversations. They count as sent.
    pub(crate) fn next(&mut self) -> Vec<Vec<u8>> {
        let capture = conversations(self.next);
        self.next += 1;
        for flow in capture.flows() {
            add(&mut self.truth, key(flow), sums(flow));
        }
        let frames = capture.frames();
        self.packets += frames.len() as u64;
        frames
    }
}

fn conversations(number: u32) -> Capture {
    let host = (number % HOSTS) as u16 + 1;
    let port = 10_000 + (number / HOSTS) as u16;
    let between = |to| Between::v4(host, [port, to]);
    let dns = Dns {
        between: between(53),
        start_ns: BEGIN_NS,
        ids: vec![number as u16],
        interval_ns: 1_000_000,
        answer_after_ns: Some(3_000_000),
    };
    Capture::new(u64::from(number))
        .with(&Tcp::new(between(443), BEGIN_NS))
        .with(&Tcp { closing: Closing::Reset, ..Tcp::new(between(22), BEGIN_NS) })
        .with(&Tcp { opening: Opening::Refused, ..Tcp::new(between(23), BEGIN_NS) })
        .with(&Udp::alternating(between(6000), BEGIN_NS, &[100, 200, 300]))
        .with(&dns)
}

fn key(flow: &Flow) -> Key {
    flow.key().map(ToOwned::to_owned)
}

fn sums(flow: &Flow) -> Sums {
    [flow.packets[0], flow.packets[1], flow.bytes[0], flow.bytes[1]]
}

/// Adds what a record has to its flow.
pub(crate) fn add(flows: &mut Flows, key: Key, sums: Sums) {
    let all = flows.entry(key).or_default();
    for (all, more) in all.iter_mut().zip(sums) {
        *all += more;
    }
}

/// The differences between records and the truth: the first ones as text, and the number of all.
pub(crate) fn differences(records: &Flows, truth: &Flows) -> (Vec<String>, usize) {
    let of_truth = truth.iter().filter(|(key, sums)| records.get(*key) != Some(sums));
    let shown = |(key, sums): (&Key, &Sums)| {
        format!("{}: sent {sums:?}, recorded {:?}", key.join(" "), records.get(key))
    };
    let strangers = records.keys().filter(|key| !truth.contains_key(*key));
    let stranger = |key: &Key| format!("{}: never sent", key.join(" "));
    let mut all = of_truth.map(shown).chain(strangers.map(stranger));
    let first: Vec<_> = all.by_ref().take(3).collect();
    let count = first.len() + all.count();
    (first, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flow_is_sent_once() {
        let (mut first, mut second) = (Neighbour::new(0), Neighbour::new(1));
        for _ in 0..200 {
            first.next();
            second.next();
        }
        assert_eq!((first.truth.len(), second.truth.len()), (1000, 1000));
        assert!(first.truth.keys().all(|key| !second.truth.contains_key(key)));
        let sent: u64 = first.truth.values().map(|sums| sums[0] + sums[1]).sum();
        assert_eq!(sent, first.packets);
    }

    #[test]
    fn missing_changed_and_strange_flows_differ() {
        let key = |word: &str| [word, "", "", "", ""].map(str::to_owned);
        let truth = Flows::from([(key("a"), [1; 4]), (key("b"), [2; 4])]);
        assert_eq!(differences(&truth, &truth), (Vec::new(), 0));
        let records = Flows::from([(key("b"), [3; 4]), (key("c"), [2; 4])]);
        let (shown, count) = differences(&records, &truth);
        assert_eq!((shown.len(), count), (3, 3), "{shown:?}");
    }
}
