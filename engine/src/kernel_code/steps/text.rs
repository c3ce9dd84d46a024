//! The kernel's code and read-only data are what they were when they were seen first.
//!
//! Code has a hash for each block, and another one without the places that the kernel patches by
//! itself. A block that has changed is read with these places left out, and with the bytes that
//! kprobes have replaced put back. What stands at the places must be one of the kernel's patches.
//!
//! Not here: the code of modules. What was changed before the first look is not noticed, unless it
//! stands at a place that is patched.

use core::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::paging::PageTableLevels;

use super::code_window::restore_probes;
use super::code_window::{Sites, Window, hash_of, mask_sites, masked_hash_of, read_window};
use super::sites::{self, SiteTables, are_known};
use crate::kernel_code::baseline::{
    Baseline, BlockHash, CODE_WINDOW_BYTES, PIECE_BYTES, block_bytes,
};
use crate::kernel_code::baseline::{CODE_BLOCKS_MAX, CodeBlock, DATA_BLOCKS_MAX};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress, READ_BYTES_MAX};
use crate::kernel_code::violations::{SHOWN_BYTES, Violation};

/// Maximum size of the code in bytes: what the image has addresses for (`KERNEL_IMAGE_SIZE`,
/// arch/x86/include/asm/page_64_types.h).
const CODE_BYTES_MAX: u64 = 1 << 30;
const NO_BASELINE: &str = "there is nothing to compare with: this is the first look";
/// Bytes to remember of the functions that dispatch system calls.
const DISPATCH_BYTES: u32 = 10 << 10;
const SMALL_DISPATCH_BYTES: u32 = 4 << 10;
const ENTRY_BYTES: u32 = 768;

/// Checks code, then read-only data.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if cursor.part == 0 {
        if cursor.count == 0 {
            begin(cx);
            cursor.count = 1;
        }
        if check_code(cx, cursor) == Progress::More {
            return Progress::More;
        }
        *cursor = Cursor { part: 1, ..Cursor::default() };
    }
    check_data(cx, cursor)
}

/// Begins a round.
fn begin(cx: &mut CheckContext<'_>) {
    let kernel = cx.kernel();
    let symbols = &kernel.symbols;
    let functions = [
        (symbols.entry_syscall_64, ENTRY_BYTES),
        (symbols.do_syscall_64, ENTRY_BYTES),
        (symbols.x64_sys_call, DISPATCH_BYTES),
        (symbols.ia32_sys_call, SMALL_DISPATCH_BYTES),
    ];
    cx.baseline.begin(kernel.text(), &functions);
}

/// Checks the windows of code, from the cursor on.
fn check_code(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let text = cx.kernel().text();
    let is_x86 = matches!(cx.kernel().space.levels, PageTableLevels::X86_64(_));
    let bytes = text.end.saturating_sub(text.start);
    if !is_x86 || !are_known(cx) || !(1..=CODE_BYTES_MAX).contains(&bytes) {
        cx.not_checked(Check::KernelText, sites::UNKNOWN);
        return Progress::Done;
    }
    let block = block_bytes(bytes, CODE_BLOCKS_MAX);
    let windows = bytes.div_ceil(CODE_WINDOW_BYTES as u64);
    while cursor.at < windows {
        if !cx.has_budget() {
            return Progress::More;
        }
        let offset = cursor.at * CODE_WINDOW_BYTES as u64;
        let start = text.start + offset;
        let window = Window {
            range: start..text.end.min(start + CODE_WINDOW_BYTES as u64),
            code: text.clone(),
            block,
            first: (offset / block) as usize,
            has_turn: cx.baseline.has_turn(cursor.at, windows),
        };
        check_window(cx, &window);
        cursor.at += 1;
    }
    Progress::Done
}

/// Checks one window: all of it at the first look, and later the blocks that have changed.
fn check_window(cx: &mut CheckContext<'_>, window: &Window) {
    let check = Check::KernelText;
    if !read_window(cx, window) {
        cx.unread(check);
        return;
    }
    cx.checked(check, window.blocks() as u64);
    if cx.baseline.code.len() < window.first + window.blocks() {
        cx.not_checked(check, NO_BASELINE);
        // Else a window before this one could not be read.
        if cx.baseline.code.len() == window.first && !look_first(cx, window) {
            cx.baseline.code.truncate(window.first);
            cx.baseline.code_places.truncate(window.first);
            cx.unread(check);
        }
        return;
    }
    let is_as_before = |index| whole_before(cx, window, index) == hash_of(cx, window, index);
    if window.has_turn || !(0..window.blocks()).all(is_as_before) {
        compare(cx, window);
    }
}

/// Remembers what a window is. Returns whether it could be read, and held still.
fn look_first(cx: &mut CheckContext<'_>, window: &Window) -> bool {
    let sites = mask_sites(cx, window, &SiteTables::Kernel, Check::KernelText);
    if sites == Sites::Unread {
        return false;
    }
    for index in 0..window.blocks() {
        let whole = sites.remembered(hash_of(cx, window, index));
        cx.baseline.code.push(CodeBlock { whole, fixed: 0 });
        cx.baseline.code_places.push(0);
    }
    restore_probes(cx, window);
    for index in 0..window.blocks() {
        let fixed = masked_hash_of(cx, window, index);
        let Baseline { code, code_places, .. } = &mut *cx.baseline;
        let block = code.get_mut(window.first + index);
        if let Some((block, place)) = block.zip(code_places.get_mut(window.first + index)) {
            (block.fixed, *place) = (fixed.sum, fixed.place);
        }
    }
    let (start, end) = (window.index_of(window.range.start), window.index_of(window.range.end));
    cx.baseline.copies.remember(window.range.start, cx.window.bytes(start..end));
    // A probe that was removed meanwhile was in the code, and no longer in the table.
    read_window(cx, window)
        && (0..window.blocks()).all(|index| {
            let whole = hash_of(cx, window, index);
            whole_before(cx, window, index) == sites.remembered(whole)
        })
}

/// Compares a window with what it was.
fn compare(cx: &mut CheckContext<'_>, window: &Window) {
    let sites = mask_sites(cx, window, &SiteTables::Kernel, Check::KernelText);
    if sites == Sites::Unread {
        cx.unread(Check::KernelText);
        return;
    }
    let mut is_more_changed = false;
    for index in 0..window.blocks() {
        let whole = hash_of(cx, window, index);
        let is_same = whole_before(cx, window, index) == whole
            || fixed_before(cx, window, index).sum == masked_hash_of(cx, window, index).sum;
        is_more_changed |= !is_same;
        if is_same && let Some(block) = cx.baseline.code.get_mut(window.first + index) {
            block.whole = sites.remembered(whole);
        }
    }
    if !is_more_changed {
        return;
    }
    restore_probes(cx, window);
    for index in 0..window.blocks() {
        let (before, now) = (fixed_before(cx, window, index), masked_hash_of(cx, window, index));
        if before.sum != now.sum {
            report(cx, window, index, (before, now));
        }
    }
}

/// Reports a block that has changed, with the first byte that has, or else the piece, if that is
/// known.
fn report(
    cx: &mut CheckContext<'_>,
    window: &Window,
    index: usize,
    (before, now): (BlockHash, BlockHash),
) {
    let block = window.addresses_of(index);
    let has_changed = |address: &u64| {
        let at = window.index_of(*address);
        let before = cx.baseline.copies.byte_at(*address);
        !cx.window.is_masked(at) && before.is_some_and(|before| before != cx.window.byte(at))
    };
    let Some(start) = block.clone().find(has_changed) else {
        let length = (block.end - block.start) as usize;
        let (mut violation, piece) =
            changed(Check::KernelText, &block, now.changed_piece(before, pieces_of(length)));
        let start = window.index_of(piece.start);
        let end = start + SHOWN_BYTES.min((piece.end - piece.start) as usize);
        violation.after.extend(cx.window.bytes(start..end).iter().copied());
        cx.violation(violation);
        return;
    };
    let mut violation = Violation::new(Check::KernelText, KernelVa(start), KernelVa::NULL);
    for address in start..(start + SHOWN_BYTES as u64).min(block.end) {
        let Some(before) = cx.baseline.copies.byte_at(address) else { break };
        violation.before.push(before);
        violation.after.push(cx.window.byte(window.index_of(address)));
    }
    cx.violation(violation);
}

const fn pieces_of(bytes: usize) -> usize {
    bytes.div_ceil(PIECE_BYTES)
}

/// A violation by a block, or by the piece of it that has changed, with the addresses of what is
/// named.
fn changed(check: Check, block: &Range<u64>, piece: Option<usize>) -> (Violation, Range<u64>) {
    let named = piece.map_or(block.clone(), |piece| {
        let start = block.start + (piece * PIECE_BYTES) as u64;
        start..block.end.min(start + PIECE_BYTES as u64)
    });
    let mut violation = Violation::new(check, KernelVa(named.start), KernelVa::NULL);
    violation.set_label(format_args!("in {} bytes from there", named.end - named.start));
    (violation, named)
}

/// The hash of all bytes of a block, as it is remembered.
fn whole_before(cx: &CheckContext<'_>, window: &Window, index: usize) -> u32 {
    cx.baseline.code.get(window.first + index).map_or(0, |block| block.whole)
}

/// The hash of the bytes of a block that nothing may change, as it is remembered.
fn fixed_before(cx: &CheckContext<'_>, window: &Window, index: usize) -> BlockHash {
    let Baseline { code, code_places, .. } = &*cx.baseline;
    let index = window.first + index;
    let sum = code.get(index).map_or(0, |block| block.fixed);
    BlockHash { sum, place: code_places.get(index).copied().unwrap_or(0) }
}

/// Checks read-only data, which nothing changes.
fn check_data(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let check = Check::ReadOnlyData;
    let symbols = &cx.kernel().symbols;
    let image = &cx.kernel().space.image;
    let range = symbols.start_rodata.zip(symbols.end_rodata).map(|(start, end)| start.0..end.0);
    let is_in = |range: &Range<u64>| image.start <= range.start && range.end <= image.end;
    let is_small = |range: &Range<u64>| (1..=CODE_BYTES_MAX).contains(&(range.end - range.start));
    let is_valid = |range: &Range<u64>| range.start < range.end && is_in(range) && is_small(range);
    let Some(data) = range.filter(is_valid) else {
        cx.not_checked(check, "the addresses of read-only data are unknown");
        return Progress::Done;
    };
    let block = block_bytes(data.end - data.start, DATA_BLOCKS_MAX);
    if block > READ_BYTES_MAX.into() {
        cx.not_checked(check, "there is too much read-only data");
        return Progress::Done;
    }
    loop {
        let start = data.start + cursor.at;
        let index = (cursor.at / block) as usize;
        if start >= data.end || index >= DATA_BLOCKS_MAX {
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
    let Some(hash) = bytes.map(|bytes| BlockHash::of(key, bytes)) else {
        cx.unread(check);
        return;
    };
    cx.checked(check, 1);
    let Baseline { data, data_places, .. } = &mut *cx.baseline;
    match data.get(index) {
        Some(&sum) if sum == hash.sum => (),
        Some(&sum) => {
            let place = data_places.get(index).copied().unwrap_or(0);
            let piece = hash.changed_piece(BlockHash { sum, place }, pieces_of(length));
            let (mut violation, piece) = changed(check, &block, piece);
            let bytes = (piece.end - piece.start).min(SHOWN_BYTES as u64) as u32;
            let after = cx.read(KernelVa(piece.start), bytes).unwrap_or(&[]);
            violation.after.extend(after.iter().copied());
            cx.violation(violation);
        }
        None => {
            if data.len() == index {
                data.push(hash.sum);
                data_places.push(hash.place);
            }
            cx.not_checked(check, NO_BASELINE);
        }
    }
}

#[cfg(test)]
mod tests;
