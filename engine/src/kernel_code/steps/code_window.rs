//! A window of code: reading it, leaving out the places that the kernel patches, and putting back
//! what kprobes have replaced.
//!
//! Not here: what the code was ([`crate::kernel_code::baseline`]).

use core::ops::Range;

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;

use super::kprobes::PROBE_BUCKETS;
use super::lists::{OBJECTS_MAX, follow_hlist};
use super::module_space::TRAP;
use super::sites::{JUMP, PatchSite, SiteTables, visit_sites, visit_trampolines};
use crate::kernel_code::baseline::{BlockHash, MARGIN, PIECE_BYTES, hash_with};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, READ_BYTES_MAX};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::{CodeBytes, Violation};

/// Maximum number of illegal patches of a window that are reported.
const PATCHES_MAX: usize = 16;
/// Bytes of a jump to a slot of a kprobe.
const JUMP_BYTES: u64 = 5;
/// Longest patch in bytes.
const PATCH_BYTES_MAX: usize = 6;
/// A window of code, divided into blocks.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) range: Range<u64>,
    /// All of the code that it is a part of.
    pub(super) code: Range<u64>,
    /// Bytes of a block, and the number of the first one.
    pub(super) block: u64,
    pub(super) first: usize,
    /// Whether its places are judged even if nothing has changed.
    pub(super) has_turn: bool,
}

impl Window {
    pub(super) fn blocks(&self) -> usize {
        (self.range.end - self.range.start).div_ceil(self.block) as usize
    }

    /// Addresses of one of its blocks.
    pub(super) fn addresses_of(&self, index: usize) -> Range<u64> {
        let start = self.range.start + index as u64 * self.block;
        start..(start + self.block).min(self.range.end)
    }

    /// The index of a byte in memory, where the window begins behind a margin.
    pub(super) const fn index_of(&self, address: u64) -> usize {
        (address + MARGIN - self.range.start) as usize
    }

    /// Addresses of what is read: with the margins, as far as there is code.
    fn known(&self) -> Range<u64> {
        let start = self.range.start.saturating_sub(MARGIN).max(self.code.start);
        start..self.range.end.saturating_add(MARGIN).min(self.code.end)
    }

    /// The bytes of one of its blocks.
    fn bytes_of(&self, index: usize) -> Range<usize> {
        let Range { start, end } = self.addresses_of(index);
        self.index_of(start)..self.index_of(end)
    }
}

/// What the places of a window have shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sites {
    /// Not all of their tables could be read.
    Unread,
    Legal,
    Illegal,
}

impl Sites {
    /// The hash of a whole block as it is remembered. After illegal places it equals none, so that
    /// the next round judges them, too.
    pub(super) const fn remembered(self, whole: u32) -> u32 {
        if matches!(self, Self::Legal) { whole } else { !whole }
    }
}

/// Reads a window of code, with the margins that patches at its ends reach into. Returns whether
/// all of it was read.
pub(super) fn read_window(cx: &mut CheckContext<'_>, window: &Window) -> bool {
    let Range { start: mut at, end } = window.known();
    while at < end {
        let part = (end - at).min(READ_BYTES_MAX.into());
        let index = window.index_of(at);
        if !cx.read_into_window(KernelVa(at), index..index + part as usize) {
            return false;
        }
        at += part;
    }
    true
}

pub(super) fn hash_of(cx: &CheckContext<'_>, window: &Window, index: usize) -> u32 {
    hash_with(cx.baseline.key, cx.window.bytes(window.bytes_of(index)))
}

/// The hash of a block without the places that are patched.
pub(super) fn masked_hash_of(cx: &CheckContext<'_>, window: &Window, index: usize) -> BlockHash {
    let range = window.bytes_of(index);
    let mut hash = BlockHash::default();
    let mut piece = [0; PIECE_BYTES];
    for (number, start) in range.clone().step_by(PIECE_BYTES).enumerate() {
        let end = (start + PIECE_BYTES).min(range.end);
        for (at, byte) in (start..end).zip(&mut piece) {
            *byte = if cx.window.is_masked(at) { 0 } else { cx.window.byte(at) };
        }
        hash.add(cx.baseline.key, number, piece.get(..end - start).unwrap_or(&[]));
    }
    hash
}

/// Masks the places of a window that are patched, and judges what stands there.
pub(super) fn mask_sites(
    cx: &mut CheckContext<'_>,
    window: &Window,
    tables: &SiteTables,
    check: Check,
) -> Sites {
    let mut illegal = ArrayVec::<(PatchSite, CodeBytes), PATCHES_MAX>::new();
    let (code, mut masks) = cx.window.take();
    masks.fill(0);
    let owners = core::mem::take(cx.owners);
    let mut visit = |site: PatchSite| {
        let at = site.at.0;
        if at.saturating_add(MARGIN) <= window.range.start || at >= window.range.end {
            return;
        }
        let at = window.index_of(at);
        let bytes = code.get(at..at + PATCH_BYTES_MAX).unwrap_or(&[]);
        for masked in at..at + site.bytes(bytes) {
            if let Some(word) = masks.get_mut(masked / 64) {
                *word |= 1 << (masked % 64);
            }
        }
        if !site.is_legal(&owners, bytes) {
            // Further ones are reported when these are legal again.
            let _ = illegal.try_push((site, bytes.iter().copied().collect()));
        }
    };
    let is_whole = visit_sites(cx, tables, &window.range, &mut visit);
    if matches!(tables, SiteTables::Module { .. }) {
        let known = window.known();
        let bytes = code.get(window.index_of(known.start)..window.index_of(known.end));
        visit_trampolines((KernelVa(known.start), bytes.unwrap_or(&[])), &mut visit);
    }
    *cx.owners = owners;
    cx.window.put(code, masks);
    let sites = match (is_whole, illegal.is_empty()) {
        (false, _) => Sites::Unread,
        (true, true) => Sites::Legal,
        (true, false) => Sites::Illegal,
    };
    if cx.owners.is_full() && !illegal.is_empty() {
        cx.not_checked(check, "there are too many modules and BPF images");
        illegal.clear();
    }
    for (site, after) in illegal {
        let target = site.target(&after).unwrap_or(KernelVa::NULL);
        let violation = Violation::new(check, site.at, target);
        cx.violation(Violation { after, ..violation });
    }
    sites
}

/// Puts back what kprobes have replaced in a window: the first byte of an instruction, or all five
/// bytes that a jump to a slot takes.
pub(super) fn restore_probes(cx: &mut CheckContext<'_>, window: &Window) {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let (Some(table), Some(layout)) = (symbols.kprobe_table, &layouts.kprobe) else { return };
    let mut probes = 0;
    for bucket in 0..PROBE_BUCKETS {
        follow_hlist(cx, table.plus(8 * bucket), &mut |cx, link| {
            probes += 1;
            if probes > OBJECTS_MAX {
                return;
            }
            let probe = link.minus(layout.hlist.offset.into());
            let Some(view) = cx.structure(probe, &layout.packing) else { return };
            let (at, opcode) = (view.unsigned(layout.addr), view.unsigned(layout.opcode) as u8);
            // The jump of a probe may begin in the margin.
            let is_near = at.saturating_add(JUMP_BYTES) > window.range.start;
            if is_near && at < window.range.end {
                restore_probe(cx, probe, (KernelVa(at), window.index_of(at)), opcode);
            }
        });
        if probes > OBJECTS_MAX {
            return;
        }
    }
}

/// Puts back what one kprobe has replaced at a place of the window.
fn restore_probe(
    cx: &mut CheckContext<'_>,
    probe: KernelVa,
    (at, index): (KernelVa, usize),
    opcode: u8,
) {
    match cx.window.byte(index) {
        TRAP => cx.window.set(index, &[opcode]),
        JUMP if leads_to_slot(cx, at, index) => {
            let Some(layout) = &cx.kernel().layouts.optimized_kprobe else { return };
            let Some(view) = cx.structure(probe, &layout.packing) else { return };
            let mut bytes = [opcode, 0, 0, 0, 0];
            for (to, from) in bytes.iter_mut().skip(1).zip(view.bytes(layout.copied_insn)) {
                *to = *from;
            }
            cx.window.set(index, &bytes);
        }
        _ => (),
    }
}

/// Whether a jump leads to a slot of a kprobe. Another one is no probe's, but a change.
fn leads_to_slot(cx: &CheckContext<'_>, at: KernelVa, index: usize) -> bool {
    let offset = cx.window.bytes(index + 1..index + JUMP_BYTES as usize).first_chunk().copied();
    let offset = i64::from(offset.map_or(0, i32::from_le_bytes));
    let target = at.plus(JUMP_BYTES).plus(offset.cast_unsigned());
    cx.owner_of(target) == Owner::Trampoline
}
