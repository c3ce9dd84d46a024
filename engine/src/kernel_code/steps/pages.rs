//! Executable pages of the kernel: each has an owner, none is writable, and the direct map has
//! none.
//!
//! The step walks the kernel's own page tables, whatever else says where code is. So it finds code
//! that left every list. A page that the kernel cannot execute is of no interest here.
//!
//! Not here: code that nothing maps as executable, and page tables of user programs.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::layout::u64_at;
use panoptes_decoders::paging::{PageTableEntry, PageTableLevels};
use panoptes_decoders::source::PAGE_BYTES;

use super::module_space::TRAP;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// The first address of the kernel's half.
const KERNEL_HALF: u64 = 1 << 63;
/// Number of entries in a table.
const ENTRIES: usize = 512;
/// Bytes of the code that starts processors, at most, and of the memory that it lies in.
const REAL_MODE_BYTES: u64 = 64 << 10;
const LOW_BYTES: u64 = 1 << 20;
/// Bits of an entry (arch/x86/include/asm/pgtable_types.h).
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const NOT_EXECUTABLE: u64 = 1 << 63;
/// Most levels of tables.
const LEVELS_MAX: usize = 5;
/// Maximum number of tables that one walk reads: those of 128 GiB in small pages.
const TABLES_MAX: u64 = 1 << 16;
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
    is_writable: bool,
    is_user: bool,
}

type Table = [u64; ENTRIES];

/// Walks the page tables.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if !matches!(cx.kernel().space.levels, PageTableLevels::X86_64(_)) {
        for check in [Check::ExecutablePages, Check::WritableExecutablePages, Check::DirectMap] {
            cx.not_checked(check, "page tables are checked on x86-64 only");
        }
        return Progress::Done;
    }
    if cursor.at == 0 {
        cursor.at = KERNEL_HALF;
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
    let mut address = sign_extended(cursor.at, level);
    let mut table = cx.kernel().space.root;
    let mut flags = WRITABLE | USER;
    for _ in 0..LEVELS_MAX {
        let bytes = levels.bytes(level);
        let Some(entries) = read_table(cx, table) else {
            cx.unread(Check::ExecutablePages);
            return next_of(address, bytes * ENTRIES as u64);
        };
        cursor.count += 1;
        let mut index = (address / bytes) as usize % ENTRIES;
        let down = loop {
            let Some(&entry) = entries.get(index) else {
                return next_of(address - 1, bytes * ENTRIES as u64);
            };
            let of_entry = flags & entry;
            if entry & NOT_EXECUTABLE == 0 {
                match levels.step(entry, address & !(bytes - 1), level) {
                    PageTableEntry::Table(lower) => break Some((lower, of_entry)),
                    PageTableEntry::Page(physical) if entry & 1 != 0 => {
                        let piece = Piece {
                            start: address & !(bytes - 1),
                            bytes,
                            physical,
                            is_writable: of_entry & WRITABLE != 0,
                            is_user: of_entry & USER != 0,
                        };
                        judge(cx, cursor, &piece);
                    }
                    PageTableEntry::Page(_) | PageTableEntry::NotPresent => (),
                }
            }
            index += 1;
            address = (address & !(bytes - 1)).checked_add(bytes)?;
        };
        let (lower, of_entry) = down?;
        (table, flags, level) = (lower, of_entry, level - 1);
    }
    next_of(address, PAGE_BYTES)
}

/// The next address behind the aligned piece that has this one.
fn next_of(address: u64, bytes: u64) -> Option<u64> {
    (address & !(bytes - 1)).checked_add(bytes)
}

/// The first canonical address from one of the kernel's half on.
fn sign_extended(address: u64, levels: u32) -> u64 {
    let bits = 12 + 9 * levels;
    address | !((1_u64 << (bits - 1)) - 1)
}

fn read_table(cx: &mut CheckContext<'_>, table: PhysicalAddress) -> Option<Table> {
    let bytes = cx.read_physical(table, PAGE_BYTES as u32)?;
    let mut entries = [0; ENTRIES];
    let words = entries.iter_mut().enumerate();
    words.for_each(|(index, entry)| *entry = u64_at(bytes, 8 * index));
    Some(entries)
}

/// Judges one executable piece.
fn judge(cx: &mut CheckContext<'_>, cursor: &mut Cursor, piece: &Piece) {
    let space = &cx.kernel().space;
    if space.direct_map.contains(&piece.start) {
        cx.checked(Check::DirectMap, 1);
        if !is_real_mode(cx, piece) {
            report(cx, cursor, piece, Check::DirectMap);
        }
        return;
    }
    cx.checked(Check::ExecutablePages, 1);
    cx.checked(Check::WritableExecutablePages, 1);
    if piece.is_writable {
        report(cx, cursor, piece, Check::WritableExecutablePages);
    }
    if !is_owned(cx, piece) && !is_filled_with_traps(cx, piece) && !is_bpf_area(cx, piece) {
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
        return !piece.is_user;
    }
    let is_in = cx.owner_of(KernelVa(piece.start)) != Owner::Nobody;
    // A page that programs execute has an owner only as a whole.
    is_in || !piece.is_user && cx.owners.next_from(piece.start).is_some_and(|it| it.start < end)
}

/// Whether a piece has nothing but traps: the kernel's cache of executable memory fills what is not
/// used (`execmem`, mm/execmem.c, since v6.13).
fn is_filled_with_traps(cx: &mut CheckContext<'_>, piece: &Piece) -> bool {
    /// Pieces are read in parts of so many bytes.
    const PART: u64 = 32 << 10;
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
    if symbols.pack_list.is_some() {
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
