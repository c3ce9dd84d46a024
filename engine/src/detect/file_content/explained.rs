//! What was reported, or is in a package manager's event: a changed path with that content is no
//! second record.

use panoptes_decoders::address::KernelVa;

/// The content of a file whose change was reported, or is in a package manager's event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ReportedContent {
    /// `struct inode *`, and its number: the kernel reuses addresses.
    pub(super) inode: KernelVa,
    pub(super) number: u64,
    pub(super) modify_time_ns: i64,
    pub(super) size: u64,
}
