//! The programs of eBPF that the kernel's IDR lacks, and when that is certain.
//!
//! The kernel adds a program to the IDR before it has a symbol, a descriptor or a link
//! (`bpf_prog_load`, kernel/bpf/syscall.c). It removes it after the last reference is gone, and
//! frees it later by RCU (`bpf_prog_put_deferred`). So a program with references is in the IDR. One
//! scan may still read a program and the IDR at two moments, between which others load and unload.

use panoptes_decoders::address::KernelVa;

use crate::time::{RealTime, SECOND_NS};
use crate::walk::{BpfScan, Snapshot, bpf_view};

/// Number of quiet reads in which the IDR must lack a program.
const QUIET_BPF_READS: u8 = 2;
/// Number of any reads that must lack it, and the time from the first to the last of them.
const BPF_READS: u8 = 8;
const READS_NS: i64 = SECOND_NS;

/// What a read of programs proves.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of a read, not states")]
pub(super) struct BpfRead {
    /// Whether the IDR of programs was followed to its end.
    pub(super) is_complete: bool,
    /// The same of the IDR of links.
    pub(super) has_links: bool,
    /// Whether all places were read that have programs without a link.
    pub(super) has_attachments: bool,
    /// Whether the scan has looked at all descriptors. A light scan leaves those of processes that
    /// rest.
    pub(super) has_descriptors: bool,
    /// Whether nothing was loaded meanwhile.
    pub(super) is_quiet: bool,
    /// How often the scan counts: 1, or 0.
    counts: u8,
    is_copied: bool,
    /// Nanoseconds since boot, by the machine's clock.
    boot_ns: Option<i64>,
    now: RealTime,
}

impl BpfRead {
    pub(super) fn of(snapshot: &Snapshot, now: RealTime) -> Self {
        let BpfScan { complete, quiet, .. } = snapshot.bpf;
        Self {
            is_complete: complete & bpf_view::PROGRAM_IDR != 0,
            has_links: complete & bpf_view::LINK_IDR != 0,
            has_attachments: complete & bpf_view::ATTACHMENT != 0,
            has_descriptors: !snapshot.is_light && !snapshot.is_partial(),
            is_quiet: quiet,
            counts: snapshot.counts(),
            is_copied: snapshot.copied.is_copy(),
            boot_ns: snapshot.machine.boot_ns(),
            now,
        }
    }
}

/// A program that the IDR has lacked in each of the last reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct SuspectedProgram {
    /// `struct bpf_prog *`
    pub(super) address: KernelVa,
    /// Number of these reads, and of the quiet ones among them, saturating.
    pub(super) reads: u8,
    quiet_reads: u8,
    /// When the first of them was, and by the machine's clock.
    pub(super) since: RealTime,
    since_boot_ns: Option<i64>,
    /// Whether the present read lacks it, too.
    pub(super) is_current: bool,
}

impl SuspectedProgram {
    pub(super) const fn new(address: KernelVa, at: &BpfRead) -> Self {
        let (since, since_boot_ns) = (at.now, at.boot_ns);
        Self { address, reads: 0, quiet_reads: 0, since, since_boot_ns, is_current: true }
    }

    /// Counts a read of a complete IDR that lacks the program. Returns whether that is certain now.
    pub(super) fn note(&mut self, at: &BpfRead) -> bool {
        self.is_current = true;
        self.reads = self.reads.saturating_add(at.counts);
        self.quiet_reads = self.quiet_reads.saturating_add(at.counts * u8::from(at.is_quiet));
        if at.is_copied {
            // A copy never changes, so its first read shows as much as all others together.
            return at.is_quiet;
        }
        let clocks = self.since_boot_ns.zip(at.boot_ns);
        let elapsed_ns = clocks.map_or(0, |(since, now)| now.saturating_sub(since));
        self.quiet_reads >= QUIET_BPF_READS || self.reads >= BPF_READS && elapsed_ns >= READS_NS
    }
}
