//! What the service asks of the writer while it runs.

use std::sync::Arc;

use panoptes_records::filter::Filter;
use panoptes_records::queue::Consumer;

use crate::output::{Output, OutputCounters};

/// A change of the outputs while the writer runs.
///
/// Numbers of blocks are those of [`panoptes_records::queue::Waker::next`].
#[derive(Debug)]
pub enum OutputChange {
    /// One more output. It takes the blocks from this number on.
    Add(Box<dyn Output>, u64),
    /// No more records follow for the output of a system's records. The writer ends it when all
    /// that were passed on before are written.
    End(u32),
    /// No block from this number on is for the output with these counters. One
    /// that makes no progress ends soon: its receiver is away, or its disk is full.
    Remove(Arc<OutputCounters>, u64),
    /// The same, and another output with this filter follows in its place: later records wait for
    /// that. When the output has ended, its counters show it ([`OutputCounters::is_released`]).
    Release(Arc<OutputCounters>, u64, Filter),
    /// All outputs that write files open them again: another program has moved them.
    Reopen,
    /// An output in the place of the one with these counters, which has panicked or was released.
    Replace(Arc<OutputCounters>, Box<dyn Output>),
    /// One more queue, which shares the waker of the others. It goes when its producer is gone and
    /// all its blocks were taken.
    AddQueue(Consumer),
}
