//! Real programs talk through a cable that loses, delays and reorders packets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;

use panoptes_rig::boxes::NETWORK_TOOLS;
use panoptes_traffic::{Contact, Difference, NoCapture, Row, real_capture};

use super::versions::five;
use super::{Sensor, check, is_known, is_known_of_five};

fn is_of(row: &Row, contact: &Contact) -> bool {
    let key = row.key();
    key[0] == contact.protocol
        && key.contains(&contact.server)
        && (contact.port.is_empty() || key.contains(&contact.port))
}

/// Both addresses and ports, the sender's first.
type Ends = (String, String);

/// What one end of a connection over IPv4 has sent: Linux numbers its packets one by one, so their
/// ids give the order in which they were sent, whatever order they arrived in.
#[derive(Debug, Default)]
struct Sent {
    /// The time of the last packet, in nanoseconds since 1970.
    last_ns: i64,
    syns: u64,
    /// Segments that were overtaken and came after a pause, as those that are sent again do: beside
    /// other load the cable may hold a packet for so long.
    late: u64,
    /// Ids of packets with data, counted on from 2^16, with their first and next number.
    data: Vec<(i64, u32, u32)>,
}

/// An overtaken packet that comes later than this after the last one of its end, in nanoseconds,
/// looks as one that was sent again (docs/flow.md).
const OVERTAKEN_NS: i64 = 100_000_000;

impl Sent {
    fn add(&mut self, id: u16, first: u32, length: u32, is_soon: bool) {
        let (last, _, _) = self.data.last().copied().unwrap_or((i64::from(id), 0, 0));
        let id = last + i64::from(id.wrapping_sub(last as u16) as i16);
        self.late += u64::from(!is_soon && self.data.iter().any(|(other, ..)| *other > id));
        self.data.push((id, first, first.wrapping_add(length)));
    }

    /// How many segments were sent again. One that was overtaken itself looks as one that was sent
    /// once, and a SYN with ACK may come when the connection is already closed: the least leaves
    /// those out, as well as a copy that overtook what it repeats. Of two copies of which the later
    /// one came first, both may be counted: the most has both.
    fn again(&self) -> RangeInclusive<u64> {
        let is_before = |one: u32, other: u32| (one.wrapping_sub(other) as i32) < 0;
        let mut data: Vec<_> = self.data.iter().enumerate().collect();
        data.sort_unstable_by_key(|(_, segment)| *segment);
        let (mut least, mut most, mut largest) = (0, self.late + self.syns.saturating_sub(1), None);
        for (place, &(id, first, next)) in data {
            let known = largest.unwrap_or(first);
            let (before, behind) = (&self.data[..place], &self.data[place + 1..]);
            let mut later = before.iter().filter(|(other, ..)| *other > id);
            let mut earlier = behind.iter().filter(|(other, ..)| *other < id);
            if is_before(first, known) {
                let has_overtaken = earlier.any(|one| is_before(one.1, next));
                most += 1;
                least += u64::from(!has_overtaken && later.clone().next().is_none());
            }
            let is_copy =
                |copy: &(i64, u32, u32)| !is_before(first, copy.1) && !is_before(copy.2, next);
            most += u64::from(later.any(is_copy));
            largest = Some(if is_before(known, next) { next } else { known });
        }
        least..=most
    }
}

/// The segments of a capture's connections over IPv4.
#[derive(Default)]
struct Segments {
    /// The segments of each end.
    sent: BTreeMap<Ends, Sent>,
    /// Ends that were reset by the other one.
    reset: BTreeSet<Ends>,
    /// Ends that have sent a SYN and ACK after they were reset.
    answered_again: BTreeSet<Ends>,
}

/// A packet's time in nanoseconds since 1970. The magic number has the unit of fractions.
fn time_of(file: &[u8], seconds: u32, fraction: u32) -> i64 {
    let unit = if file[..4] == 0xa1b2_3c4d_u32.to_le_bytes() { 1 } else { 1000 };
    i64::from(seconds) * 1_000_000_000 + i64::from(fraction) * unit
}

fn segments(capture: &Path) -> Segments {
    let file = std::fs::read(capture).expect("a capture");
    let mut rest = &file[24..];
    let mut all = Segments::default();
    while let Some((header, after)) = rest.split_at_checked(16) {
        let [seconds, fraction, length] = [0, 4, 8].map(|at| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        });
        let (time_ns, length) = (time_of(&file, seconds, fraction), length as usize);
        let (frame, next) = after.split_at(length);
        rest = next;
        // Ethernet, IPv4 without options, TCP.
        if frame.len() < 54 || frame[12..15] != [8, 0, 0x45] || frame[23] != 6 {
            continue;
        }
        let short = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let end = |address: usize, port: usize| {
            let parts = frame[address..address + 4].iter().map(ToString::to_string);
            format!("{}:{}", parts.collect::<Vec<_>>().join("."), short(port))
        };
        let (from, to) = (end(26, 34), end(30, 36));
        if frame[47] & 4 != 0 {
            all.reset.insert((to.clone(), from.clone()));
        }
        let ends = (from, to);
        if frame[47] & 0x12 == 0x12 && all.reset.contains(&ends) {
            all.answered_again.insert(ends.clone());
        }
        let sent = all.sent.entry(ends).or_default();
        let data = u32::from(short(16)) - 20 - u32::from(frame[46] >> 4) * 4;
        sent.syns += u64::from(frame[47] & 2 != 0);
        let is_soon = time_ns - sent.last_ns < OVERTAKEN_NS;
        sent.last_ns = time_ns;
        if data > 0 {
            sent.add(short(18), u32::from(short(38)) << 16 | u32::from(short(40)), data, is_soon);
        }
    }
    all
}

/// Compares losses over IPv4 with the truth; how many there are.
fn check_losses(Segments { sent, .. }: &Segments, own: &[Row]) -> u64 {
    let mut sum = 0;
    for row in own.iter().filter(|row| row.text("proto") == "tcp") {
        let [_, source, source_port, destination, destination_port] = row.key();
        let source = format!("{source}:{source_port}");
        let destination = format!("{destination}:{destination_port}");
        let of = |from: &String, to: &String| sent.get(&(from.clone(), to.clone()));
        let both = [of(&source, &destination), of(&destination, &source)];
        for (field, sent) in ["sloss", "dloss"].into_iter().zip(both) {
            let Some(sent) = sent else { continue };
            let (counted, truth) = (row.number(field), sent.again());
            // The capture is another one each time, so the message has what was sent.
            assert!(
                truth.contains(&counted),
                "{source} {destination} {field}: {counted}, {truth:?}: {sent:?}"
            );
            sum += counted;
        }
    }
    sum
}

/// What differs only where packets overtake each other. Losses over IPv4 are compared with the
/// truth. Behind a packet that was overtaken, argus counts the next one as sent again. Over IPv6
/// there are no ids, and we count more: what is sent again after its acknowledgement.
fn is_loss(difference: &Difference) -> bool {
    let is_tcp = difference.record.split(' ').nth(1) == Some("tcp");
    is_tcp && ["sloss", "dloss", "flgs"].contains(&&difference.field[..])
}

/// The deviation of intervals: of regular ones, as those of ping, argus has only some digits right,
/// as it subtracts large squares. Those of generated captures are compared.
fn is_deviation(difference: &Difference) -> bool {
    ["sjit", "djit"].contains(&&difference.field[..])
}

/// Whether a difference is about a connection whose destination answered after a reset: argus 5
/// begins another record there.
fn is_answered_again(difference: &Difference, segments: &Segments) -> bool {
    let words: Vec<_> = difference.record.split(' ').collect();
    let [_, "tcp", source, source_port, destination, destination_port] = words[..] else {
        return false;
    };
    let ends = (format!("{destination}:{destination_port}"), format!("{source}:{source_port}"));
    segments.answered_again.contains(&ends)
}

#[test]
fn records_of_real_programs_are_those_of_argus() {
    let sensor = Sensor::new();
    let file = sensor.file("real", "pcap");
    let programs = NETWORK_TOOLS.in_cache().unwrap_or_else(|error| panic!("{error}"));
    if programs.is_none() {
        println!("`cargo xtask test` fetches programs: only the machine's own talk");
    }
    let real = match real_capture(&file, programs.as_deref()) {
        Ok(real) => real,
        Err(NoCapture::NotPermitted(error)) => {
            panoptes_needs::skip::test_for("network namespaces", error);
            return;
        }
        Err(NoCapture::Failed(error)) => panic!("{error}"),
    };
    println!("{} lost, {} reordered; {:?}", real.lost, real.reordered, real.missing);
    assert!(real.missing.is_empty() || programs.is_none(), "{:?}", real.missing);
    assert!(real.lost > 0 && real.reordered > 0, "{} {}", real.lost, real.reordered);
    let [theirs, own] = sensor.both("real", &file);
    for contact in &real.contacts {
        assert!(own.iter().any(|row| is_of(row, contact)), "{contact:?} has no record");
    }
    let segments = segments(&file);
    assert!(check_losses(&segments, &own) > 0);
    let known = |one: &Difference, lone: &BTreeSet<String>| {
        is_loss(one) || is_deviation(one) || is_known(one, lone)
    };
    check("real", [&theirs, &own], known);
    let Some(sensor) = five() else { return };
    let [theirs, own] = sensor.both("real", &file);
    check_losses(&segments, &own);
    let known = |one: &Difference, lone: &BTreeSet<String>| {
        is_loss(one) || is_answered_again(one, &segments) || is_known_of_five(one, lone)
    };
    check("real, argus 5", [&theirs, &own], known);
}
