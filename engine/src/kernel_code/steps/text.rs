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

use super::lists::{OBJECTS_MAX, follow_hlist};
use super::sites::{self, PatchSite, are_known, visit_sites};
use crate::kernel_code::baseline::{CODE_BLOCKS_MAX, CodeBlock, DATA_BLOCKS_MAX};
use crate::kernel_code::baseline::{MARGIN, WINDOW_BYTES, block_bytes, hash_with};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress, READ_BYTES_MAX};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::{CodeBytes, SHOWN_BYTES, Violation};

/// Number of buckets of `kprobe_table` (kernel/kprobes.c).
const PROBE_BUCKETS: u64 = 64;
/// Maximum number of illegal patches of a window that are reported.
const PATCHES_MAX: usize = 16;
/// What a kprobe puts at the start of an instruction.
const TRAP: u8 = 0xcc;
const JUMP: u8 = 0xe9;
/// Bytes of a jump to a slot of a kprobe.
const JUMP_BYTES: u64 = 5;
/// Longest patch in bytes.
const PATCH_BYTES_MAX: usize = 6;
/// Maximum size of the code in bytes: what the image has addresses for (`KERNEL_IMAGE_SIZE`,
/// arch/x86/include/asm/page_64_types.h).
const TEXT_BYTES_MAX: u64 = 1 << 30;
const NO_BASELINE: &str = "there is nothing to compare with: this is the first look";
/// Bytes to remember of the functions that dispatch system calls.
const DISPATCH_BYTES: u32 = 10 << 10;
const SMALL_DISPATCH_BYTES: u32 = 4 << 10;
const ENTRY_BYTES: u32 = 768;

/// A window of code, divided into blocks.
#[derive(Clone, Debug)]
struct Window {
    range: Range<u64>,
    /// Bytes of a block, and the number of the first one.
    block: u64,
    first: usize,
    /// Whether its places are judged even if nothing has changed.
    has_turn: bool,
}

impl Window {
    fn blocks(&self) -> usize {
        (self.range.end - self.range.start).div_ceil(self.block) as usize
    }

    /// Addresses of one of its blocks.
    fn addresses_of(&self, index: usize) -> Range<u64> {
        let start = self.range.start + index as u64 * self.block;
        start..(start + self.block).min(self.range.end)
    }

    /// The index of a byte in memory, where the window begins behind a margin.
    const fn index_of(&self, address: u64) -> usize {
        (address + MARGIN - self.range.start) as usize
    }

    /// The bytes of one of its blocks.
    fn bytes_of(&self, index: usize) -> Range<usize> {
        let Range { start, end } = self.addresses_of(index);
        self.index_of(start)..self.index_of(end)
    }
}

/// What the places of a window have shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sites {
    /// Not all of their tables could be read.
    Unread,
    Legal,
    Illegal,
}

impl Sites {
    /// The hash of a whole block as it is remembered. After illegal places it equals none, so that
    /// the next round judges them, too.
    const fn remembered(self, whole: u32) -> u32 {
        if matches!(self, Self::Legal) { whole } else { !whole }
    }
}

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
    if !is_x86 || !are_known(cx) || !(1..=TEXT_BYTES_MAX).contains(&bytes) {
        cx.not_checked(Check::KernelText, sites::UNKNOWN);
        return Progress::Done;
    }
    let block = block_bytes(bytes, CODE_BLOCKS_MAX);
    let windows = bytes.div_ceil(WINDOW_BYTES as u64);
    while cursor.at < windows {
        if !cx.has_budget() {
            return Progress::More;
        }
        let offset = cursor.at * WINDOW_BYTES as u64;
        let start = text.start + offset;
        let window = Window {
            range: start..text.end.min(start + WINDOW_BYTES as u64),
            block,
            first: (offset / block) as usize,
            has_turn: cx.baseline.has_turn(cursor.at, windows),
        };
        check_window(cx, &window);
        cursor.at += 1;
    }
    Progress::Done
}

/// Reads a window of code, with the margins that patches at its ends reach into. Returns whether all
/// of it was read.
fn read_window(cx: &mut CheckContext<'_>, window: &Window) -> bool {
    let text = cx.kernel().text();
    let end = text.end.min(window.range.end + MARGIN);
    let mut at = text.start.max(window.range.start - MARGIN);
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
    let sites = mask_sites(cx, window);
    if sites == Sites::Unread {
        return false;
    }
    for index in 0..window.blocks() {
        let whole = sites.remembered(hash_of(cx, window, index));
        cx.baseline.code.push(CodeBlock { whole, fixed: 0 });
    }
    restore_probes(cx, window);
    for index in 0..window.blocks() {
        let fixed = masked_hash_of(cx, window, index);
        if let Some(block) = cx.baseline.code.get_mut(window.first + index) {
            block.fixed = fixed;
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
    let sites = mask_sites(cx, window);
    if sites == Sites::Unread {
        cx.unread(Check::KernelText);
        return;
    }
    let mut is_more_changed = false;
    for index in 0..window.blocks() {
        let whole = hash_of(cx, window, index);
        let is_same = whole_before(cx, window, index) == whole
            || fixed_before(cx, window, index) == masked_hash_of(cx, window, index);
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
        if fixed_before(cx, window, index) != masked_hash_of(cx, window, index) {
            report(cx, window, index);
        }
    }
}

/// Reports a block that has changed, with the first byte that has, if that is known.
fn report(cx: &mut CheckContext<'_>, window: &Window, index: usize) {
    let block = window.addresses_of(index);
    let has_changed = |address: &u64| {
        let at = window.index_of(*address);
        let before = cx.baseline.copies.byte_at(*address);
        !cx.window.is_masked(at) && before.is_some_and(|before| before != cx.window.byte(at))
    };
    let Some(start) = block.clone().find(has_changed) else {
        let mut violation =
            Violation::new(Check::KernelText, KernelVa(block.start), KernelVa::NULL);
        violation.set_label(format_args!("in {} bytes from there", block.end - block.start));
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

/// The hash of all bytes of a block, as it is remembered.
fn whole_before(cx: &CheckContext<'_>, window: &Window, index: usize) -> u32 {
    cx.baseline.code.get(window.first + index).map_or(0, |block| block.whole)
}

/// The hash of the bytes of a block that nothing may change, as it is remembered.
fn fixed_before(cx: &CheckContext<'_>, window: &Window, index: usize) -> u32 {
    cx.baseline.code.get(window.first + index).map_or(0, |block| block.fixed)
}

fn hash_of(cx: &CheckContext<'_>, window: &Window, index: usize) -> u32 {
    hash_with(cx.baseline.key, cx.window.bytes(window.bytes_of(index)))
}

/// The hash of a block without the places that are patched.
fn masked_hash_of(cx: &CheckContext<'_>, window: &Window, index: usize) -> u32 {
    // In pieces, which have room on the stack.
    const PIECE: usize = 1024;
    let range = window.bytes_of(index);
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

/// Masks the places of a window that are patched, and judges what stands there.
fn mask_sites(cx: &mut CheckContext<'_>, window: &Window) -> Sites {
    let mut illegal = ArrayVec::<(PatchSite, CodeBytes), PATCHES_MAX>::new();
    let (code, mut masks) = cx.window.take();
    masks.fill(0);
    let owners = core::mem::take(cx.owners);
    let is_whole = visit_sites(cx, &mut |site| {
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
    });
    *cx.owners = owners;
    cx.window.put(code, masks);
    let sites = match (is_whole, illegal.is_empty()) {
        (false, _) => Sites::Unread,
        (true, true) => Sites::Legal,
        (true, false) => Sites::Illegal,
    };
    if cx.owners.is_full() && !illegal.is_empty() {
        cx.not_checked(Check::KernelText, "there are too many modules and BPF images");
        illegal.clear();
    }
    for (site, after) in illegal {
        let target = site.target(&after).unwrap_or(KernelVa::NULL);
        let violation = Violation::new(Check::KernelText, site.at, target);
        cx.violation(Violation { after, ..violation });
    }
    sites
}

/// Puts back what kprobes have replaced in a window: the first byte of an instruction, or all five
/// bytes that a jump to a slot takes.
fn restore_probes(cx: &mut CheckContext<'_>, window: &Window) {
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

/// Checks read-only data, which nothing changes.
fn check_data(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let check = Check::ReadOnlyData;
    let symbols = &cx.kernel().symbols;
    let image = &cx.kernel().space.image;
    let range = symbols.start_rodata.zip(symbols.end_rodata).map(|(start, end)| start.0..end.0);
    let is_in = |range: &Range<u64>| image.start <= range.start && range.end <= image.end;
    let is_small = |range: &Range<u64>| (1..=TEXT_BYTES_MAX).contains(&(range.end - range.start));
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

#[cfg(test)]
mod tests;
