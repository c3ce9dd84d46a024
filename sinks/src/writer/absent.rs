//! The placeholder of an output that has panicked or was released.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use panoptes_records::filter::Filter;
use panoptes_records::queue::RecordBlock;

use crate::output::backlog::Backlog;
use crate::output::{Output, OutputCounters, OutputKind, OutputStatus};

/// In the place of an output that has panicked or was released: records wait for the next one.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) kind: OutputKind,
    pub(super) filter: Filter,
    pub(super) counters: Arc<OutputCounters>,
    /// What waits for the receiver of both outputs.
    pub(super) waiting: Option<Backlog>,
}

impl Output for Absent {
    fn kind(&self) -> OutputKind {
        self.kind
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.counters
    }

    fn append(&mut self, _: &RecordBlock, _: Range<usize>, _: u64) -> usize {
        0
    }

    fn filter(&self) -> Filter {
        self.filter
    }

    fn advance(&mut self, _: u64, _: Duration) -> OutputStatus {
        OutputStatus::Failing
    }

    fn hand_over(&mut self) -> Option<Backlog> {
        self.waiting.take()
    }

    fn finish(&mut self) {
        let waiting = self.waiting.take().map_or(0, |waiting| waiting.waiting().entries);
        self.counters.add_dropped(waiting);
    }
}
