//! Streams of argus records: what `ra` prints of the flows, and what management records have.
//!
//! `ra` prints little of management records, so they are read here. Their places are those that
//! argus 3.0.8.2 was seen to write: `struct ArgusMarStruct` (`include/argus_def.h`).

use std::path::Path;

use panoptes_traffic::{BEGIN_NS, Between, Capture, Closing, Dns, Opening, Tcp, Udp};
use panoptes_traffic::{Row, Tolerance, differences};

use crate::programs::{argus, bytes};

/// The cause of a management record, and of the first one.
pub(crate) const START: u8 = 0x10;
pub(crate) const STATUS: u8 = 0x20;
pub(crate) const STOP: u8 = 0x30;

/// Bytes of a management record.
const MANAGEMENT_BYTES: usize = 128;
/// Fields that argus 3 writes in the byte order of the machine.
const REVERSED: &[&str] = &["sipid", "dipid"];

/// A management record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Management {
    pub(crate) cause: u8,
    /// Which kind of id it has, and the id.
    pub(crate) id: (u32, [u8; 4]),
    pub(crate) intervals_s: (u16, u16),
    pub(crate) packets: u64,
    pub(crate) records: u32,
    pub(crate) flows: u32,
    pub(crate) dropped: u32,
    pub(crate) clients: u32,
}

/// The management records of a file.
pub(crate) fn management(path: &Path) -> Vec<Management> {
    records(&bytes(path)).filter_map(Management::read).collect()
}

/// The records of a stream. Each has its length in words in its second half word.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let words = rest.get(2..4)?;
        let length = 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        let record = rest.get(..length).filter(|record| !record.is_empty())?;
        rest = &rest[length..];
        Some(record)
    })
}

impl Management {
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        if record.len() != MANAGEMENT_BYTES || record[0] != 0x83 {
            return None;
        }
        let array = |at: usize| [record[at], record[at + 1], record[at + 2], record[at + 3]];
        let word = |at: usize| u32::from_be_bytes(array(at));
        let cause = record[1];
        // The first one has a mark in the place of the id.
        let id = array(if cause == START { 120 } else { 8 });
        Some(Self {
            cause,
            id: (word(4) & 0x00e0_0000, id),
            intervals_s: ((word(44) >> 16) as u16, word(44) as u16),
            packets: u64::from(word(48)) << 32 | u64::from(word(52)),
            records: word(72),
            flows: word(76),
            dropped: word(80),
            clients: word(92),
        })
    }
}

/// Conversations of which both sensors report the same in all fields.
pub(crate) fn plain() -> Capture {
    (0..4).fold(Capture::new(5), add_group)
}

/// A part of them: those that begin and end within 300 ms. Number 0 is the first one.
pub(crate) fn group(number: u16) -> Capture {
    add_group(Capture::new(5), number)
}

fn add_group(capture: Capture, number: u16) -> Capture {
    let start_ns = BEGIN_NS + u64::from(number) * 300_000_000;
    let between = |ports| Between::v4(10 * number + 1, ports);
    let tcp = |port| Tcp::new(between([40_000 + number, port]), start_ns);
    let dns = Dns {
        between: between([33_000 + number, 53]),
        start_ns,
        ids: vec![0x1234],
        interval_ns: 1_000_000,
        answer_after_ns: Some(3_000_000),
    };
    capture
        .with(&tcp(443))
        .with(&Tcp { retransmitted: [0, 1], ..tcp(80) })
        .with(&Tcp { closing: Closing::Reset, ..tcp(22) })
        .with(&Tcp { opening: Opening::Refused, ..tcp(23) })
        .with(&Tcp { closing: Closing::Unseen, ..tcp(25) })
        .with(&Tcp::new(Between::v6(10 * number + 1, [40_100, 443]), start_ns))
        .with(&Udp::alternating(between([5000, 6000]), start_ns, &[100, 200, 300, 400]))
        .with(&Udp::one_way(between([5001, 6000]), start_ns, &[100, 200]))
        .with(&dns)
}

/// The flow records of a file, as `ra` reads them.
pub(crate) fn rows(path: &Path) -> Vec<Row> {
    argus().ra(path).unwrap_or_else(|error| panic!("{error}"))
}

/// Fails unless both files have the same flow records; those records.
#[track_caller]
pub(crate) fn same([theirs, own]: &[impl AsRef<Path>; 2]) -> Vec<Row> {
    same_but([theirs.as_ref(), own.as_ref()], &[])
}

/// Fails unless both files have the same flow records, but for some fields; those records.
#[track_caller]
pub(crate) fn same_but([theirs, own]: [&Path; 2], ignored: &[&str]) -> Vec<Row> {
    let (theirs, own) = (rows(theirs), rows(own));
    agree(&theirs, &own, ignored);
    own
}

/// Fails unless records are the same, but for some fields.
#[track_caller]
pub(crate) fn agree(left: &[Row], right: &[Row], ignored: &[&str]) {
    let ignored = [REVERSED, ignored].concat();
    let found = differences(left, right, Tolerance::default(), &ignored);
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty() && !left.is_empty(), "{}", found.join("\n"));
}
