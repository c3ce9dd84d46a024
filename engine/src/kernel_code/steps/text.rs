//! The kernel's code and read-only data are what they were when they were seen first.
//!
//! Code has a hash for each block, and another one without the places that the kernel patches by
//! itself. A block that has changed is read with these places left out, and with the bytes that
//! kprobes have replaced put back. What stands at the places must be one of the kernel's patches.
//!
//! Not here: the code of modules. What was changed before the first look is not noticed, unless it
//! stands at a place that is patched.

use core::ops::Range;

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::paging::PageTableLevels;

use super::kprobes::PROBE_BUCKETS;
use super::lists::follow_hlist;
use super::module_space::TRAP;
use super::sites::{self, PatchSite, are_known, visit_sites};
use crate::kernel_code::baseline::{BLOCKS_MAX, CodeBlock, block_bytes, hash_with};
use crate::kernel_code::baseline::{CODE_WINDOW_BYTES, MARGIN};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress, READ_BYTES_MAX};
use crate::kernel_code::violations::{CodeBytes, Violation};

/// Maximum number of illegal patches of a window that are reported.
const PATCHES_MAX: usize = 16;
/// Bytes of a block that are copied at once.
const PIECE: usize = 1024;
/// What a kprobe puts at the start of an instruction.
const JUMP: u8 = 0xe9;
/// Longest patch in bytes.
const PATCH_BYTES_MAX: usize = 6;
const NO_BASELINE: &str = "there is nothing to compare with: this is the first look";

/// Checks code, then read-only data.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if cursor.part == 0 {
        let text = cx.kernel().text();
        let is_x86 = matches!(cx.kernel().space.levels, PageTableLevels::X86_64(_));
        if text.is_empty() || !is_x86 || !are_known(cx) {
            cx.not_checked(Check::KernelText, sites::UNKNOWN);
            *cursor = Cursor { part: 1, ..Cursor::default() };
        }
        while cursor.part == 0 {
            if !cx.has_budget() {
                return Progress::More;
            }
            let start = text.start + cursor.at;
            if start >= text.end {
                *cursor = Cursor { part: 1, ..Cursor::default() };
                break;
            }
            let end = text.end.min(start + CODE_WINDOW_BYTES as u64);
            check_window(cx, start..end, (text.start, block_bytes(text.end - text.start)));
            cursor.at += CODE_WINDOW_BYTES as u64;
        }
    }
    check_data(cx, cursor)
}

/// Reads a window of code, with the margins that patches at its ends reach into. Returns whether
/// all of it was read.
fn read_window(cx: &mut CheckContext<'_>, window: &Range<u64>) -> bool {
    let text = cx.kernel().text();
    let start = text.start.max(window.start - MARGIN);
    let end = text.end.min(window.end + MARGIN);
    let mut at = start;
    while at < end {
        let part = (end - at).min(READ_BYTES_MAX.into());
        let index = index_of(window, at);
        if !cx.read_into_window(KernelVa(at), index..index + part as usize) {
            return false;
        }
        at += part;
    }
    true
}

/// The index of a byte of the window, which begins behind a margin.
const fn index_of(window: &Range<u64>, address: u64) -> usize {
    (address + MARGIN - window.start) as usize
}

/// Checks one window: all of it at the first look, and later the blocks that have changed.
fn check_window(cx: &mut CheckContext<'_>, window: Range<u64>, (text_start, block): (u64, u64)) {
    let check = Check::KernelText;
    let first = ((window.start - text_start) / block) as usize;
    let blocks = (window.end - window.start).div_ceil(block) as usize;
    if !read_window(cx, &window) {
        cx.unread(check);
        return;
    }
    cx.checked(check, blocks as u64);
    let is_new = cx.baseline.code.len() < first + blocks;
    if is_new {
        cx.not_checked(check, NO_BASELINE);
        // A window before this one could not be read.
        if cx.baseline.code.len() != first {
            return;
        }
    }
    let is_changed = |cx: &CheckContext<'_>, index: usize| {
        let known = cx.baseline.code.get(first + index);
        known.is_some_and(|known| known.whole != hash_of(cx, &window, block, index))
    };
    if !is_new && !(0..blocks).any(|index| is_changed(cx, index)) {
        return;
    }
    if !mask_sites(cx, &window) {
        cx.unread(check);
        return;
    }
    if is_new {
        for index in 0..blocks.min(BLOCKS_MAX - first) {
            let whole = hash_of(cx, &window, block, index);
            let fixed = masked_hash_of(cx, &window, block, index);
            cx.baseline.code.push(CodeBlock { whole, fixed });
        }
        return;
    }
    let mut are_restored = false;
    for index in 0..blocks {
        let whole = hash_of(cx, &window, block, index);
        let Some(known) = cx.baseline.code.get(first + index).copied() else { return };
        if known.whole == whole {
            continue;
        }
        if masked_hash_of(cx, &window, block, index) == known.fixed {
            if let Some(known) = cx.baseline.code.get_mut(first + index).filter(|_| !are_restored) {
                known.whole = whole;
            }
            continue;
        }
        if !are_restored {
            restore_probes(cx, &window);
            are_restored = true;
        }
        if masked_hash_of(cx, &window, block, index) != known.fixed {
            let place = KernelVa(window.start + index as u64 * block);
            let mut violation = Violation::new(check, place, KernelVa::NULL);
            violation.set_label(format_args!("in {block} bytes from there"));
            cx.violation(violation);
        }
    }
}

/// The bytes of a block in a window.
fn bytes_of(window: &Range<u64>, block: u64, index: usize) -> Range<usize> {
    let start = window.start + index as u64 * block;
    index_of(window, start)..index_of(window, (start + block).min(window.end))
}

fn hash_of(cx: &CheckContext<'_>, window: &Range<u64>, block: u64, index: usize) -> u32 {
    let bytes = cx.window.bytes(bytes_of(window, block, index));
    hash_with(cx.baseline.key, bytes)
}

/// The hash of a block without the places that are patched.
fn masked_hash_of(cx: &mut CheckContext<'_>, window: &Range<u64>, block: u64, index: usize) -> u32 {
    let range = bytes_of(window, block, index);
    let mut hash = 0;
    let mut piece = [0; PIECE];
    for start in range.clone().step_by(PIECE) {
        let end = (start + PIECE).min(range.end);
        for (at, byte) in (start..end).zip(&mut piece) {
            *byte = if cx.window.is_masked(at) { 0 } else { cx.window.byte(at) };
        }
        let bytes = piece.get(..end - start).unwrap_or(&[]);
        hash = u32::rotate_left(hash, 5) ^ hash_with(cx.baseline.key, bytes);
    }
    hash
}

/// Masks the places of a window that are patched, and judges what stands there. Returns whether all
/// tables could be read.
fn mask_sites(cx: &mut CheckContext<'_>, window: &Range<u64>) -> bool {
    let mut illegal = ArrayVec::<(PatchSite, CodeBytes), PATCHES_MAX>::new();
    let (code, mut masks) = cx.window.take();
    masks.fill(0);
    let owners = core::mem::take(cx.owners);
    let is_whole = visit_sites(cx, &mut |site| {
        let at = site.at.0;
        if at.saturating_add(MARGIN) <= window.start || at >= window.end {
            return;
        }
        let at = index_of(window, at);
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
    });
    *cx.owners = owners;
    cx.window.put(code, masks);
    for (site, after) in illegal {
        let target = site.target(&after).unwrap_or(KernelVa::NULL);
        let violation = Violation::new(Check::KernelText, site.at, target);
        cx.violation(Violation { after, ..violation });
    }
    is_whole
}

/// Puts back what kprobes have replaced in a window: the first byte of an instruction, or all five
/// bytes that a jump to a slot takes.
fn restore_probes(cx: &mut CheckContext<'_>, window: &Range<u64>) {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let (Some(table), Some(layout)) = (symbols.kprobe_table, &layouts.kprobe) else { return };
    for bucket in 0..PROBE_BUCKETS {
        follow_hlist(cx, table.plus(8 * bucket), &mut |cx, link| {
            let probe = link.minus(layout.hlist.offset.into());
            let Some(view) = cx.structure(probe, &layout.packing) else { return };
            let (at, opcode) = (view.unsigned(layout.addr), view.unsigned(layout.opcode) as u8);
            if window.contains(&at) {
                restore_probe(cx, probe, (index_of(window, at), opcode));
            }
        });
    }
}

/// Puts back what one kprobe has replaced at a place of the window.
fn restore_probe(cx: &mut CheckContext<'_>, probe: KernelVa, (at, opcode): (usize, u8)) {
    let layouts = &cx.kernel().layouts;
    match cx.window.byte(at) {
        TRAP => cx.window.set(at, &[opcode]),
        JUMP => {
            let Some(layout) = &layouts.optimized_kprobe else { return };
            let Some(view) = cx.structure(probe, &layout.packing) else { return };
            let mut bytes = [opcode, 0, 0, 0, 0];
            for (to, from) in bytes.iter_mut().skip(1).zip(view.bytes(layout.copied_insn)) {
                *to = *from;
            }
            cx.window.set(at, &bytes);
        }
        _ => (),
    }
}

/// Checks read-only data, which nothing changes.
fn check_data(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let check = Check::ReadOnlyData;
    let symbols = &cx.kernel().symbols;
    let image = &cx.kernel().space.image;
    let range = symbols.start_rodata.zip(symbols.end_rodata).map(|(start, end)| start.0..end.0);
    let is_in = |range: &Range<u64>| image.start <= range.start && range.end <= image.end;
    let Some(data) = range.filter(is_in).filter(|range| !range.is_empty()) else {
        cx.not_checked(check, "the addresses of read-only data are unknown");
        return Progress::Done;
    };
    let block = block_bytes(data.end - data.start).min(READ_BYTES_MAX.into());
    loop {
        let start = data.start + cursor.at;
        let index = (cursor.at / block) as usize;
        if start >= data.end || index >= BLOCKS_MAX {
            return Progress::Done;
        }
        if !cx.has_budget() {
            return Progress::More;
        }
        check_data_block(cx, start..data.end.min(start + block), index);
        cursor.at += block;
    }
}

fn check_data_block(cx: &mut CheckContext<'_>, block: Range<u64>, index: usize) {
    let check = Check::ReadOnlyData;
    let length = (block.end - block.start) as usize;
    let key = cx.baseline.key;
    let bytes = cx.read(KernelVa(block.start), length as u32);
    let Some(hash) = bytes.map(|bytes| hash_with(key, bytes)) else {
        cx.unread(check);
        return;
    };
    cx.checked(check, 1);
    match cx.baseline.data.get(index) {
        Some(&known) if known == hash => (),
        Some(_) => {
            let mut violation = Violation::new(check, KernelVa(block.start), KernelVa::NULL);
            violation.set_label(format_args!("in {length} bytes from there"));
            cx.violation(violation);
        }
        None => {
            cx.not_checked(check, NO_BASELINE);
            if cx.baseline.data.len() == index {
                cx.baseline.data.push(hash);
            }
        }
    }
}
