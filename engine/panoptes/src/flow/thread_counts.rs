//! Counts and records of threads, as the auditor sees them, which writes them.

use panoptes_flow::FlowTableCounts;
use panoptes_records::flow::{Extra, FlowRecord, NameResolution};

use super::audit::PacketSourceLosses;
use super::links::UnreadLinks;
use super::tables::add;

/// The counts of threads together.
#[derive(Clone, Debug, Default)]
pub(super) struct ThreadCounts {
    pub(super) counts: FlowTableCounts,
    pub(super) wrong_times: u64,
    pub(super) unread: UnreadLinks,
    pub(super) last_sequence: u32,
    /// Records that found no room on their way to the main thread.
    pub(super) lost_records: u64,
    /// Packets that came to another thread than their own.
    pub(super) passed: u64,
    pub(super) missing: PacketSourceLosses,
}

impl ThreadCounts {
    /// Adds what the next thread has counted. Interfaces are there if they are for the last one.
    pub(super) fn add(&mut self, next: &Self) {
        self.counts = add(self.counts, next.counts);
        self.wrong_times += next.wrong_times;
        self.unread.add_all(&next.unread);
        self.last_sequence = self.last_sequence.max(next.last_sequence);
        self.lost_records += next.lost_records;
        self.passed += next.passed;
        self.missing = PacketSourceLosses {
            packets: self.missing.packets + next.missing.packets,
            mirrors: self.missing.mirrors + next.missing.mirrors,
            ..next.missing
        };
    }
}

/// What a thread has reported.
#[derive(Debug)]
pub(super) enum ThreadReport<'a> {
    Flow(&'a FlowRecord, &'a Extra<'a>),
    Answer(NameResolution<'a>),
}
