//! What a step of a round may do: read, judge targets, note violations.

use arrayvec::ArrayString;
use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::layout::{PackedLayout, View, u64_at};
use panoptes_decoders::paging::PageTableEntry;
use panoptes_decoders::source::MemorySource;

use super::baseline::{Baseline, CodeWindow};
use super::check::{CHECKS, Check, CheckFacts, ViolationKind};
use super::owners::{CodeRange, Owner, Owners};
use super::violations::{Violation, Violations};
use crate::address::MemoryReader;
use crate::time::Monotonic;
use crate::walk::Kernel;

/// Maximum number of bytes of one read.
pub(super) const READ_BYTES_MAX: u32 = 64 << 10;
/// Bytes that each read counts as at least: what a batch costs.
pub(super) const READ_COST_BYTES: usize = 1024;
/// Bytes behind which a slice reads nothing any more: a guest can nest lists that lead to
/// themselves, which no step follows to their bounds.
pub(super) const SLICE_BYTES_MAX: usize = 64 << 20;

/// Whether a step is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// It is to be called again, with the same cursor.
    More,
    Done,
}

/// Where a step continues. It begins with zeros.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Cursor {
    /// Number of the part, as the step divides its work.
    pub(super) part: u32,
    /// An address, or whatever the step wants.
    pub(super) at: u64,
    /// Number of objects so far, which bounds a list.
    pub(super) count: u64,
    pub(super) more: [u64; 4],
}

/// One slice of a round.
pub(super) struct CheckContext<'a> {
    pub(super) source: &'a mut dyn MemorySource,
    pub(super) kernel: &'a Kernel,
    pub(super) reader: &'a mut MemoryReader,
    pub(super) owners: &'a mut Owners,
    pub(super) facts: &'a mut [CheckFacts; CHECKS],
    pub(super) violations: &'a mut Violations,
    pub(super) baseline: &'a mut Baseline,
    pub(super) window: &'a mut CodeWindow,
    pub(super) now: Monotonic,
    /// Bytes that may still be read in this slice.
    pub(super) bytes_left: usize,
    /// Bytes that were read in this slice: more than it had if a step could not stop before.
    pub(super) bytes_read: usize,
}

impl<'a> CheckContext<'a> {
    /// Whether the slice has bytes left. A step without returns [`Progress::More`] soon.
    pub(super) const fn has_budget(&self) -> bool {
        self.bytes_left > 0
    }

    /// The kernel, for longer than this borrow.
    pub(super) const fn kernel(&self) -> &'a Kernel {
        self.kernel
    }

    /// Runs the batch that was added to the reader.
    pub(super) fn run(&mut self) {
        if self.bytes_read >= SLICE_BYTES_MAX {
            self.reader.fail_all();
            return;
        }
        let cost = self.reader.run(self.source, self.kernel.space.levels);
        let bytes = (cost.bytes as usize).max(READ_COST_BYTES);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.bytes_read = self.bytes_read.saturating_add(bytes);
    }

    /// Reads bytes at a kernel address: at most [`READ_BYTES_MAX`].
    pub(super) fn read(&mut self, at: KernelVa, length: u32) -> Option<&[u8]> {
        if length > READ_BYTES_MAX {
            return None;
        }
        self.reader.clear();
        self.reader.push_bytes(&self.kernel.space, at, length)?;
        self.run();
        self.reader.object(0)
    }

    /// Reads bytes into the window, from a place in it on. Returns whether they could be read.
    pub(super) fn read_into_window(&mut self, at: KernelVa, to: core::ops::Range<usize>) -> bool {
        self.reader.clear();
        let length = to.end.saturating_sub(to.start) as u32;
        if self.reader.push_bytes(&self.kernel.space, at, length).is_none() {
            return false;
        }
        self.run();
        let Some(bytes) = self.reader.object(0) else { return false };
        self.window.set(to.start, bytes);
        true
    }

    /// Reads bytes of physical memory: at most [`READ_BYTES_MAX`].
    pub(super) fn read_physical(&mut self, at: PhysicalAddress, length: u32) -> Option<&[u8]> {
        if length > READ_BYTES_MAX {
            return None;
        }
        self.reader.clear();
        self.reader.push_physical(at, length)?;
        self.run();
        self.reader.object(0)
    }

    /// Reads a packed structure.
    pub(super) fn structure(&mut self, at: KernelVa, packing: &PackedLayout) -> Option<View<'_>> {
        self.reader.clear();
        self.reader.push(&self.kernel.space, at, packing)?;
        self.run();
        self.reader.object(0).map(View::new)
    }

    /// Reads a pointer or another word.
    pub(super) fn word(&mut self, at: KernelVa) -> Option<u64> {
        self.read(at, 8).map(|bytes| u64_at(bytes, 0))
    }

    /// Reads a C string, as far as it has room and is printable.
    pub(super) fn text<const ROOM: usize>(&mut self, at: KernelVa) -> ArrayString<ROOM> {
        let mut text = ArrayString::new();
        // A text at the end of a page has no readable bytes behind it.
        let in_page = 4096 - (at.0 % 4096) as u32;
        if let Some(bytes) = self.read(at, in_page.min(ROOM as u32)) {
            let letters = bytes.iter().take_while(|byte| byte.is_ascii_graphic() || **byte == b' ');
            letters.for_each(|&byte| _ = text.try_push(char::from(byte)));
        }
        text
    }

    /// Whether the kernel may execute the page with an address. A pointer that was read amid a
    /// change, or that was left behind, leads to memory that nobody can execute.
    pub(super) fn is_executable(&mut self, address: KernelVa) -> bool {
        let levels = self.kernel.space.levels;
        if address.0 < levels.kernel_half() {
            return false;
        }
        let mut table = self.kernel.space.root;
        for level in (1..=levels.top()).rev() {
            let at = levels.entry_address(table, address.0, level);
            let Some(entry) = self.read_physical(at, 8).map(|bytes| u64_at(bytes, 0)) else {
                return false;
            };
            let step = levels.step(entry, address.0, level);
            if !levels.access(entry, step).is_executable {
                return false;
            }
            match step {
                PageTableEntry::Table(lower) => table = lower,
                PageTableEntry::Page(_) => return true,
                PageTableEntry::NotPresent => return false,
            }
        }
        false
    }

    /// Whether nothing yet keeps a check from being made wholly.
    pub(super) fn is_checked(&self, check: Check) -> bool {
        self.facts.get(check as usize).is_some_and(|facts| facts.not_checked.is_none())
    }

    pub(super) fn owner_of(&self, address: KernelVa) -> Owner {
        self.owners.owner_of(address)
    }

    /// Adds the owner of executable memory. [`Owners::sort`] must follow.
    pub(super) fn add_owner(&mut self, range: CodeRange) {
        self.owners.add(range);
    }

    fn facts(&mut self, check: Check) -> Option<&mut CheckFacts> {
        self.facts.get_mut(check as usize)
    }

    /// Counts places that were checked.
    pub(super) fn checked(&mut self, check: Check, places: u64) {
        if let Some(facts) = self.facts(check) {
            facts.places += places;
        }
    }

    /// Counts a place that could not be read.
    pub(super) fn unread(&mut self, check: Check) {
        if let Some(facts) = self.facts(check) {
            facts.unread += 1;
        }
    }

    /// Notes why a check was not made, or not wholly. The first reason of a round stays.
    pub(super) fn not_checked(&mut self, check: Check, why: &'static str) {
        if let Some(facts) = self.facts(check) {
            facts.not_checked.get_or_insert(why);
        }
    }

    /// Checks one pointer to code, and counts it. A null pointer leads nowhere. `label` is what the
    /// pointer belongs to.
    pub(super) fn pointer(
        &mut self,
        check: Check,
        (place, label): (KernelVa, &str),
        target: KernelVa,
    ) {
        self.checked(check, 1);
        let is_owned = target.is_null() || self.owner_of(target) != Owner::Nobody;
        if is_owned || !self.is_executable(target) {
            return;
        }
        let mut violation = Violation::new(check, place, target);
        set_text(&mut violation.label, label);
        self.violation(violation);
    }

    /// Checks one hook of a function, and counts it. A hook that a module owns is noted, too: the
    /// policy knows which functions no module may hook.
    pub(super) fn hook(
        &mut self,
        check: Check,
        (place, label): (KernelVa, &str),
        function: KernelVa,
        target: KernelVa,
    ) {
        self.checked(check, 1);
        let owner = self.owner_of(target);
        let may_violate = match owner {
            Owner::Nobody => !target.is_null() && self.is_executable(target),
            Owner::Module(_) => true,
            _ => false,
        };
        if !may_violate {
            return;
        }
        let mut violation = Violation { function, owner, ..Violation::new(check, place, target) };
        set_text(&mut violation.label, label);
        self.violation(violation);
    }

    /// Notes a violation. Does not count its place.
    pub(super) fn violation(&mut self, violation: Violation) {
        // Hooks that somebody owns are judged later.
        let is_certain = violation.check.kind() == ViolationKind::TextModified;
        if (violation.owner == Owner::Nobody || is_certain)
            && let Some(facts) = self.facts(violation.check)
        {
            facts.violations += 1;
        }
        self.violations.note(violation, self.now);
    }
}

/// Sets a text, cut to the room that it has.
pub(super) fn set_text<const ROOM: usize>(to: &mut ArrayString<ROOM>, from: &str) {
    to.clear();
    for letter in from.chars() {
        if to.try_push(letter).is_err() {
            break;
        }
    }
}
