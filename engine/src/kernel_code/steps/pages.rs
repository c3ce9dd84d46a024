//! Executable pages of the kernel: each has an owner, none is writable, and the direct map has
//! none.
//!
//! The step walks the kernel's own page tables, whatever else says where code is. So it finds code
//! that left every list. A page that the kernel cannot execute is of no interest here.
//!
//! Not here: code that nothing maps as executable, and page tables of user programs.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::layout::u64_at;
use panoptes_decoders::paging::{PageAccess, PageTableEntry, PageTableLevels};
use panoptes_decoders::source::PAGE_BYTES;

use super::module_space::TRAP;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Number of entries that are read at once: a table with pages of 4 KiB.
const ENTRIES: usize = 512;
/// Bytes of the code that starts processors, at most, and of the memory that it lies in.
const REAL_MODE_BYTES: u64 = 64 << 10;
const LOW_BYTES: u64 = 1 << 20;
/// Most levels of tables.
const LEVELS_MAX: usize = 5;
/// Maximum number of pieces of tables that one walk reads. The way down to a lowest table is read
/// again for each, so these are those of 32 GiB in pages of 4 KiB.
const TABLES_MAX: u64 = 1 << 16;
/// The bit of an entry that the processor uses, on x86-64 and on arm64.
const IN_USE: u64 = 1;
/// Maximum number of runs of pages that one round reports.
const RUNS_MAX: u64 = 64;

/// The places in [`Cursor::more`]: the end of the last reported run, its check, and their number.
const RUN_END: usize = 0;
const RUN_CHECK: usize = 1;
const RUNS: usize = 2;

/// An executable page, or a larger piece that one entry maps.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    bytes: u64,
    physical: PhysicalAddress,
    access: PageAccess,
}

type Table = [u64; ENTRIES];

/// Walks the page tables.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if cursor.at == 0 {
        cursor.at = cx.kernel().space.levels.kernel_half();
    }
    while cx.has_budget() {
        if cursor.count >= TABLES_MAX {
            cx.not_checked(Check::ExecutablePages, "the page tables are too large");
            return Progress::Done;
        }
        match walk(cx, cursor) {
            Some(next) => cursor.at = next,
            None => return Progress::Done,
        }
    }
    Progress::More
}

/// Reads the tables that map an address, and judges the rest of the lowest one. Returns the next
/// address, or `None` at the end of all addresses.
fn walk(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Option<u64> {
    let levels = cx.kernel().space.levels;
    let mut level = levels.top();
    let mut address = cursor.at;
    let mut table = cx.kernel().space.root;
    let mut access = PageAccess::ALL;
    for _ in 0..LEVELS_MAX {
        let bytes = levels.bytes(level);
        let (entries, first) = read_entries(cx, levels.entry_address(table, address, level));
        let Some(entries) = entries else {
            cx.unread(Check::ExecutablePages);
            return next_of(address, bytes, ENTRIES - first);
        };
        cursor.count += 1;
        if cx.kernel().space.direct_map.contains(&address) {
            cx.checked(Check::DirectMap, 1);
        }
        let mut index = first;
        let (lower, of_entry) = loop {
            let Some(&entry) = entries.get(index) else { return Some(address) };
            let start = address & !(bytes - 1);
            let step = levels.step(entry, start, level);
            let of_entry = access.and(levels.access(entry, step));
            match step {
                _ if !of_entry.is_executable => {}
                PageTableEntry::Table(lower) => break (lower, of_entry),
                PageTableEntry::Page(physical) if entry & IN_USE != 0 => {
                    judge(cx, cursor, &Piece { start, bytes, physical, access: of_entry });
                    // A piece may have been read: the others wait for the next slice.
                    if !cx.has_budget() {
                        return next_of(address, bytes, 1);
                    }
                }
                PageTableEntry::Page(_) | PageTableEntry::NotPresent => (),
            }
            index += 1;
            address = start.checked_add(bytes)?;
        };
        (table, access, level) = (lower, of_entry, level - 1);
    }
    next_of(address, PAGE_BYTES, 1)
}

/// The next address behind so many entries from that of an address on.
fn next_of(address: u64, bytes: u64, entries: usize) -> Option<u64> {
    (address & !(bytes - 1)).checked_add(bytes.checked_mul(entries as u64)?)
}

/// Reads the entries around one, of a table or of a part of it, and returns the place of that one.
fn read_entries(cx: &mut CheckContext<'_>, entry: PhysicalAddress) -> (Option<Table>, usize) {
    let start = PhysicalAddress(entry.0 & !(PAGE_BYTES - 1));
    let entries = cx.read_physical(start, PAGE_BYTES as u32).map(|bytes| {
        let mut entries = [0; ENTRIES];
        let words = entries.iter_mut().enumerate();
        words.for_each(|(index, entry)| *entry = u64_at(bytes, 8 * index));
        entries
    });
    (entries, ((entry.0 - start.0) / 8) as usize)
}

/// Judges one executable piece.
fn judge(cx: &mut CheckContext<'_>, cursor: &mut Cursor, piece: &Piece) {
    let space = &cx.kernel().space;
    if space.direct_map.contains(&piece.start) {
        if !is_real_mode(cx, piece) {
            report(cx, cursor, piece, Check::DirectMap);
        }
        return;
    }
    cx.checked(Check::ExecutablePages, 1);
    cx.checked(Check::WritableExecutablePages, 1);
    if piece.access.is_writable {
        report(cx, cursor, piece, Check::WritableExecutablePages);
    }
    // Without all owners, a page may have one.
    if cx.is_checked(Check::ExecutablePages)
        && !is_owned(cx, piece)
        && !is_filled_with_traps(cx, piece)
        && !is_bpf_area(cx, piece)
    {
        report(cx, cursor, piece, Check::ExecutablePages);
    }
}

/// Whether a piece of the direct map is the code that starts further processors: the kernel makes
/// it executable there (`set_real_mode_permissions`, arch/x86/realmode/init.c).
fn is_real_mode(cx: &mut CheckContext<'_>, piece: &Piece) -> bool {
    let Some(at) = cx.kernel().symbols.real_mode_header else { return false };
    let header = cx.word(at).unwrap_or(0);
    piece.physical.0 < LOW_BYTES && piece.start.wrapping_sub(header) < REAL_MODE_BYTES
}

/// Whether the kernel's image or an owner has a part of a piece. Memory that is a part of the
/// kernel's code is rounded to pages.
fn is_owned(cx: &CheckContext<'_>, piece: &Piece) -> bool {
    let kernel = cx.kernel();
    let end = piece.start.saturating_add(piece.bytes);
    let text = kernel.space.image.start..kernel.text().end;
    if piece.start < text.end.next_multiple_of(PAGE_BYTES) && end > text.start {
        return !piece.access.is_user;
    }
    if is_alias_of_text(cx, piece) {
        return true;
    }
    let is_in = cx.owner_of(KernelVa(piece.start)) != Owner::Nobody;
    // A page that programs execute has an owner only as a whole.
    is_in
        || !piece.access.is_user
            && cx.owners.next_from(piece.start).is_some_and(|it| it.start < end)
}

/// Whether a piece of arm64 is the kernel's code at another address: the entry that every program
/// has in its tables (`map_entry_trampoline`, arch/arm64/mm/mmu.c). It is in the read-only data
/// since v6.0.
fn is_alias_of_text(cx: &CheckContext<'_>, piece: &Piece) -> bool {
    let (space, text) = (&cx.kernel().space, cx.kernel().text());
    let text = text.start..cx.kernel().symbols.end_rodata.map_or(text.end, |end| end.0);
    let offset = piece.physical.0.wrapping_sub(space.image_physical.0);
    let at = space.image.start.saturating_add(offset);
    matches!(space.levels, PageTableLevels::Aarch64(_))
        && !piece.access.is_writable
        && text.contains(&at)
        && piece.bytes <= text.end - at
}

/// Whether a piece has nothing but traps: the kernel's cache of executable memory fills what is not
/// used (`execmem`, mm/execmem.c, since v6.13), in pieces of `PMD_SIZE` at most.
fn is_filled_with_traps(cx: &mut CheckContext<'_>, piece: &Piece) -> bool {
    /// Pieces are read in parts of so many bytes.
    const PART: u64 = 32 << 10;
    const PIECE_MAX: u64 = 2 << 20;
    if piece.bytes > PIECE_MAX {
        return false;
    }
    let mut at = 0;
    while at < piece.bytes {
        let length = (piece.bytes - at).min(PART);
        let physical = PhysicalAddress(piece.physical.0.wrapping_add(at));
        let bytes = cx.read_physical(physical, length as u32);
        if bytes.is_none_or(|bytes| bytes.iter().any(|&byte| byte != TRAP)) {
            return false;
        }
        at += length;
    }
    true
}

/// Whether a piece is in an area that BPF has asked for. Before it had memory for many images
/// (v5.18), each image had an area, and those of classic filters have no symbol. What forges an
/// area can pass for one.
fn is_bpf_area(cx: &mut CheckContext<'_>, piece: &Piece) -> bool {
    /// Bytes of the functions that ask for memory, at most.
    const FUNCTION_BYTES: u64 = 1024;
    let symbols = &cx.kernel().symbols;
    // On arm64, images have areas up to v6.8, although the list is there.
    let is_x86 = matches!(cx.kernel().space.levels, PageTableLevels::X86_64(_));
    if is_x86 && symbols.pack_list.is_some() {
        return false;
    }
    let functions = [symbols.bpf_jit_alloc_exec, symbols.bpf_jit_binary_alloc];
    let caller = caller_of(cx, piece.start).unwrap_or(0);
    let mut functions = functions.into_iter().flatten();
    functions.any(|function| caller.wrapping_sub(function.0) < FUNCTION_BYTES)
}

/// The address of the code that has asked for the area with an address.
fn caller_of(cx: &mut CheckContext<'_>, address: u64) -> Option<u64> {
    /// Most levels of a tree with a billion areas.
    const LEVELS_MAX: usize = 64;
    let layouts = &cx.kernel().layouts;
    let (area, memory) = (layouts.vmap_area.as_ref()?, layouts.vm_struct.as_ref()?);
    let tree = layouts.rb_node.as_ref()?;
    let mut node = KernelVa(cx.word(cx.kernel().symbols.vmap_area_root?)?);
    for _ in 0..LEVELS_MAX {
        if node.is_null() {
            return None;
        }
        let at = node.minus(area.rb_node.offset.into());
        let view = cx.structure(at, &area.packing)?;
        let (start, end) = (view.unsigned(area.va_start), view.unsigned(area.va_end));
        if (start..end).contains(&address) {
            let memory_at = view.pointer(area.vm);
            let view = cx.structure(memory_at, &memory.packing)?;
            return Some(view.unsigned(memory.caller));
        }
        let view = cx.structure(node, &tree.packing)?;
        let side = if address < start { tree.left } else { tree.right };
        node = view.pointer(side);
    }
    None
}

/// Notes a violation, one for each run of pages.
fn report(cx: &mut CheckContext<'_>, cursor: &mut Cursor, piece: &Piece, check: Check) {
    let Cursor { more, .. } = cursor;
    let end = piece.start.saturating_add(piece.bytes);
    let goes_on = more[RUN_END] == piece.start && more[RUN_CHECK] == check as u64;
    (more[RUN_END], more[RUN_CHECK]) = (end, check as u64);
    if goes_on {
        return;
    }
    more[RUNS] += 1;
    if more[RUNS] > RUNS_MAX {
        cx.not_checked(check, "there are too many such pages to name all");
        return;
    }
    let place = KernelVa(piece.start);
    let owner = cx.owner_of(place);
    cx.violation(Violation { owner, ..Violation::new(check, place, KernelVa::NULL) });
}

#[cfg(test)]
mod tests;
