//! What was reported, or is in a package manager's event: a changed path with that content is no
//! second record.

use panoptes_decoders::address::KernelVa;
use panoptes_tables::room;

use super::REPORTED_MAX;

/// The content of a file whose change was reported, or is in a package manager's event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ReportedContent {
    /// `struct inode *`, and its number: the kernel reuses addresses.
    pub(super) inode: KernelVa,
    pub(super) number: u64,
    pub(super) modify_time_ns: i64,
    pub(super) size: u64,
}

/// The last reported changes of files that matter, and the place of the next one.
#[derive(Debug)]
pub(super) struct ReportedContents {
    list: Vec<ReportedContent>,
    next: usize,
}

impl ReportedContents {
    pub(super) fn new() -> Self {
        Self { list: room::list(REPORTED_MAX), next: 0 }
    }

    pub(super) fn push(&mut self, content: ReportedContent) {
        if self.list.contains(&content) {
            return;
        }
        match self.list.get_mut(self.next) {
            Some(oldest) => *oldest = content,
            None => self.list.push(content),
        }
        self.next = (self.next + 1) % REPORTED_MAX;
    }

    pub(super) fn contains(&self, content: ReportedContent) -> bool {
        self.list.contains(&content)
    }
}
