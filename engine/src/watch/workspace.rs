//! What scans use only while they run.
//!
//! A [`Workspace`] belongs to a thread. The systems that the thread scans in turn share it; each of
//! them owns only what it must remember. It is allocated for the largest limits of these systems. A
//! scan of a system with smaller limits fills no more of it than those allow, so a system reports
//! the same whichever others there are.

use panoptes_tables::{HashKey, room};

use crate::detect;
use crate::kernel_code::CodeBuffers;
use crate::limits::Limits;
use crate::page_cache::HashBuffers;
use crate::state;
use crate::walk::{Snapshot, Walker};

/// What the systems of one thread use in turn. Nothing in it has a meaning for the next scan, which
/// may be one of another system.
#[derive(Debug)]
pub struct Workspace {
    pub(super) walker: Walker,
    pub(super) state: state::StateScratch,
    pub(super) detectors: detect::DetectorScratch,
    pub(super) buffers: Option<Box<HashBuffers>>,
    pub(super) code: CodeBuffers,
}

impl Workspace {
    /// Allocates for systems with these limits, or smaller ones. No guest must know `key`.
    pub fn new(limits: &Limits, key: HashKey) -> Self {
        Self {
            walker: Walker::new(limits, key),
            state: state::StateScratch::new(limits),
            detectors: detect::DetectorScratch::new(limits),
            buffers: Some(room::boxed(HashBuffers::new())),
            code: CodeBuffers::new(),
        }
    }

    /// The result of the last scan, whichever system it was of.
    pub fn snapshot(&self) -> &Snapshot {
        self.walker.snapshot()
    }
}
