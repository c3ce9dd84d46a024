//! Places in the code that the kernel itself patches while it runs, and what may stand there.

use core::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u32_at;

use super::lists::{OBJECTS_MAX, follow_list};
use super::module_space::TRAP;
use crate::kernel_code::context::{CheckContext, READ_BYTES_MAX};
use crate::kernel_code::owners::{Owner, Owners};

/// Bytes of a `struct jump_entry` (include/linux/jump_label.h), of a `struct static_call_site`
/// (include/linux/static_call_types.h), and of a trampoline of static calls
/// (arch/x86/include/asm/static_call.h).
pub(super) const JUMP_ENTRY_BYTES: u32 = 16;
pub(super) const CALL_SITE_BYTES: u32 = 8;
const TRAMPOLINE_BYTES: u64 = 8;
/// Bytes of the place of a lock prefix (arch/x86/include/asm/alternative.h).
const LOCK_PLACE_BYTES: u32 = 4;
/// What follows the branch of a trampoline of static calls (arch/x86/include/asm/static_call.h):
/// since v6.0 and in stable releases of then, and in v5.18 and v5.19.
const TRAMPOLINE_ENDS: [[u8; 3]; 2] = [[0x0f, 0xb9, 0xcc], [0x53, 0x43, 0x54]];
/// Maximum size of all tables, in bytes.
const TABLES_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a call or jump.
const BRANCH_BYTES: usize = 5;

/// Instructions of five bytes that do nothing (arch/x86/include/asm/nops.h, 5.10 to 7.2).
const NOPS: [[u8; BRANCH_BYTES]; 3] = [
    [0x0f, 0x1f, 0x44, 0x00, 0x00],
    [0x66, 0x66, 0x66, 0x66, 0x90],
    [0x3e, 0x8d, 0x74, 0x26, 0x00],
];
/// Instructions that make a static call return 0 (arch/x86/kernel/static_call.c), up to v5.17 and
/// later.
const ZEROS: [[u8; BRANCH_BYTES]; 2] =
    [[0x66, 0x66, 0x48, 0x31, 0xc0], [0x2e, 0x2e, 0x2e, 0x31, 0xc0]];
/// The trap of a static call that warns (arch/x86/include/asm/bug.h, since v6.19).
const WARNING: [u8; BRANCH_BYTES] = [0x67, 0x48, 0x0f, 0xb9, 0x3a];
const RETURN: u8 = 0xc3;
/// Opcodes of a call, a jump, and a short jump.
const CALL: u8 = 0xe8;
pub(super) const JUMP: u8 = 0xe9;
const SHORT_JUMP: u8 = 0xeb;
/// The prefix that locks the bus, and the one that replaces it while there is one processor
/// (arch/x86/kernel/alternative.c).
const LOCK: u8 = 0xf0;
const NO_LOCK: u8 = 0x3e;

/// What a place is patched for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SiteKind {
    /// A branch that leads here, or does nothing.
    JumpLabel(KernelVa),
    /// A call of a function that is chosen at run time.
    StaticCall,
    /// The trampoline of such calls.
    StaticTrampoline,
    /// The start of a function that ftrace may trace, or the place where ftrace calls its handler.
    Ftrace,
    /// A lock prefix, which a machine with one processor lacks until it has a second.
    LockPrefix,
}

/// A place that is patched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PatchSite {
    pub(super) at: KernelVa,
    pub(super) kind: SiteKind,
}

impl PatchSite {
    /// Number of bytes that may change, from what stands there.
    pub(super) fn bytes(&self, code: &[u8]) -> usize {
        match (self.kind, code) {
            // Short branches since v5.14.
            (SiteKind::JumpLabel(_), [SHORT_JUMP, ..] | [0x66, 0x90, ..]) => 2,
            // Conditional calls since v6.2.
            (SiteKind::StaticCall, [0x0f, 0x80..=0x8f, ..]) => 6,
            // Other instructions may have replaced the one with the prefix.
            (SiteKind::LockPrefix, code) => usize::from(matches!(code, [LOCK | NO_LOCK, ..])),
            _ => BRANCH_BYTES,
        }
    }

    /// Where the instruction leads that stands there, if it is a branch.
    pub(super) fn target(&self, code: &[u8]) -> Option<KernelVa> {
        let near =
            |skip: usize, offset: i64| Some(self.at.plus(skip as u64).plus(offset.cast_unsigned()));
        let word = |from: usize| {
            let bytes = code.get(from..from + 4)?.first_chunk().copied()?;
            Some(i64::from(i32::from_le_bytes(bytes)))
        };
        match code {
            [CALL | JUMP, ..] => near(5, word(1)?),
            [SHORT_JUMP, offset, ..] => near(2, i64::from(offset.cast_signed())),
            [0x0f, 0x80..=0x8f, ..] => near(6, word(2)?),
            _ => None,
        }
    }

    /// Whether what stands there is one of the kernel's patches.
    pub(super) fn is_legal(&self, owners: &Owners, code: &[u8]) -> bool {
        let five = code.first_chunk::<BRANCH_BYTES>();
        // A place that is being patched begins with a trap.
        if code.first() == Some(&TRAP) || five.is_some_and(|five| NOPS.contains(five)) {
            return true;
        }
        let target = self.target(code);
        let is_owned = target.is_some_and(|target| owners.owner_of(target) != Owner::Nobody);
        match (self.kind, code) {
            (SiteKind::JumpLabel(wanted), [JUMP | SHORT_JUMP, ..]) => target == Some(wanted),
            (SiteKind::JumpLabel(_), code) => matches!(code, [0x66, 0x90, ..]),
            (SiteKind::StaticCall, [CALL | JUMP | 0x0f, ..])
            | (SiteKind::StaticTrampoline, [JUMP, ..])
            | (SiteKind::Ftrace, [CALL | JUMP, ..]) => is_owned,
            (SiteKind::StaticCall, code) => {
                let is_known = |five| ZEROS.contains(five) || *five == WARNING;
                code.first() == Some(&RETURN) || five.is_some_and(is_known)
            }
            (SiteKind::StaticTrampoline, code) => code.first() == Some(&RETURN),
            (SiteKind::Ftrace, _) => false,
            // Another byte is not left out of the block's hash.
            (SiteKind::LockPrefix, _) => true,
        }
    }
}

/// Why the places are not known.
pub(super) const UNKNOWN: &str = "the places that the kernel patches are unknown";

/// Whether the kernel's tables of places are known.
pub(super) fn are_known(cx: &CheckContext<'_>) -> bool {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    symbols.start_jump_table.is_some()
        && symbols.stop_jump_table.is_some()
        && symbols.ftrace_pages_start.is_some()
        && layouts.ftrace_page.is_some()
        && layouts.dyn_ftrace.is_some()
}

/// The tables of the places in some code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SiteTables {
    /// Those that the kernel's own code has.
    Kernel,
    /// The jump labels and the static calls of a module, each from the first to the end.
    Module { jumps: (KernelVa, KernelVa), calls: (KernelVa, KernelVa) },
}

/// Calls `visit` with every place in a range of code; further places may be among them. Returns
/// whether all tables could be read.
pub(super) fn visit_sites(
    cx: &mut CheckContext<'_>,
    tables: &SiteTables,
    range: &Range<u64>,
    visit: &mut dyn FnMut(PatchSite),
) -> bool {
    let mut reads = TableReads { bytes_left: TABLES_BYTES_MAX };
    let (jumps, calls) = match *tables {
        SiteTables::Kernel => {
            visit_kernel(cx, visit);
            let symbols = &cx.kernel().symbols;
            let jumps = symbols.start_jump_table.zip(symbols.stop_jump_table);
            let calls = symbols.start_static_call_sites.zip(symbols.stop_static_call_sites);
            (jumps.unwrap_or_default(), calls.unwrap_or_default())
        }
        SiteTables::Module { jumps, calls } => (jumps, calls),
    };
    let are_jumps_read = reads.visit(cx, jumps, JUMP_ENTRY_BYTES, &mut |place, entry| {
        let at = relative(place, u32_at(entry, 0));
        let target = relative(place.plus(4), u32_at(entry, 4));
        visit(PatchSite { at, kind: SiteKind::JumpLabel(target) });
    });
    let are_calls_read = reads.visit(cx, calls, CALL_SITE_BYTES, &mut |place, entry| {
        let at = relative(place, u32_at(entry, 0));
        visit(PatchSite { at, kind: SiteKind::StaticCall });
    });
    are_jumps_read
        && are_calls_read
        && visit_locks(cx, &mut reads, visit)
        && visit_ftrace(cx, &mut reads, range, visit)
}

/// Calls `visit` with the places that only the kernel's own code has.
fn visit_kernel(cx: &CheckContext<'_>, visit: &mut dyn FnMut(PatchSite)) {
    let symbols = &cx.kernel().symbols;
    if let Some((start, end)) = symbols.static_call_text_start.zip(symbols.static_call_text_end) {
        let count = end.0.saturating_sub(start.0).min(TABLES_BYTES_MAX) / TRAMPOLINE_BYTES;
        for index in 0..count {
            let at = start.plus(index * TRAMPOLINE_BYTES);
            visit(PatchSite { at, kind: SiteKind::StaticTrampoline });
        }
    }
    // Calls of handlers in the code that traced functions call (arch/x86/kernel/ftrace_64.S).
    let calls = [symbols.ftrace_call, symbols.ftrace_regs_call, symbols.ftrace_graph_call];
    for at in calls.into_iter().flatten() {
        visit(PatchSite { at, kind: SiteKind::Ftrace });
    }
}

/// Whether the trampolines of modules can be recognised: those of the kernel have their end, or
/// there are none.
pub(super) fn have_trampolines_ends(cx: &mut CheckContext<'_>) -> bool {
    let symbols = &cx.kernel().symbols;
    let Some(start) = symbols.static_call_text_start else {
        return symbols.start_static_call_sites.is_none();
    };
    let bytes = cx.read(start, TRAMPOLINE_BYTES as u32);
    bytes.is_some_and(|bytes| TRAMPOLINE_ENDS.iter().any(|end| bytes.ends_with(end)))
}

/// Calls `visit` with each trampoline in the code of a module, which no table has. What follows
/// their branches tells them.
pub(super) fn visit_trampolines(
    (start, code): (KernelVa, &[u8]),
    visit: &mut dyn FnMut(PatchSite),
) {
    for (offset, bytes) in code.windows(TRAMPOLINE_BYTES as usize).enumerate() {
        let has_end = TRAMPOLINE_ENDS.iter().any(|end| bytes.ends_with(end));
        if has_end && matches!(bytes, [JUMP | RETURN | TRAP, ..]) {
            visit(PatchSite { at: start.plus(offset as u64), kind: SiteKind::StaticTrampoline });
        }
    }
}

/// Calls `visit` with each lock prefix that the kernel may put in later.
fn visit_locks(
    cx: &mut CheckContext<'_>,
    reads: &mut TableReads,
    visit: &mut dyn FnMut(PatchSite),
) -> bool {
    let kernel = cx.kernel();
    let Some((list, layout)) =
        kernel.symbols.smp_alt_modules.zip(kernel.layouts.smp_alt_module.as_ref())
    else {
        return true;
    };
    let mut is_read = true;
    let is_whole = follow_list(cx, list, &mut |cx, link| {
        let at = link.minus(layout.next.offset.into());
        let view = cx.structure(at, &layout.packing);
        let places = view.map(|view| (view.pointer(layout.locks), view.pointer(layout.locks_end)));
        is_read &= places.is_some_and(|places| {
            reads.visit(cx, places, LOCK_PLACE_BYTES, &mut |place, entry| {
                let at = relative(place, u32_at(entry, 0));
                visit(PatchSite { at, kind: SiteKind::LockPrefix });
            })
        });
    });
    is_whole && is_read
}

/// An address that is stored as its distance from its place.
const fn relative(place: KernelVa, offset: u32) -> KernelVa {
    place.plus((offset.cast_signed() as i64).cast_unsigned())
}

/// Reads tables, up to a number of bytes of all together.
struct TableReads {
    bytes_left: u64,
}

impl TableReads {
    /// Calls `visit` with each entry of a table, and its address. Returns whether all of it was
    /// read.
    fn visit(
        &mut self,
        cx: &mut CheckContext<'_>,
        (start, end): (KernelVa, KernelVa),
        entry_bytes: u32,
        visit: &mut dyn FnMut(KernelVa, &[u8]),
    ) -> bool {
        let bytes = end.0.saturating_sub(start.0);
        if bytes > self.bytes_left || !(1..=READ_BYTES_MAX).contains(&entry_bytes) {
            return false;
        }
        self.bytes_left -= bytes;
        let part = READ_BYTES_MAX - READ_BYTES_MAX % entry_bytes;
        let mut at = 0;
        while at < bytes {
            let length = (bytes - at).min(part.into()) as u32;
            let Some(entries) = cx.read(start.plus(at), length) else { return false };
            for (index, entry) in entries.chunks_exact(entry_bytes as usize).enumerate() {
                visit(start.plus(at + index as u64 * u64::from(entry_bytes)), entry);
            }
            at += u64::from(length);
        }
        true
    }
}

/// The records of one `struct ftrace_page`, which the kernel has sorted by their addresses.
struct Records {
    start: KernelVa,
    count: u64,
    /// In bytes, of each.
    size: u32,
    /// Offset of the address in a record.
    ip: u32,
}

impl Records {
    /// The address that a record is about.
    fn address_of(&self, cx: &mut CheckContext<'_>, index: u64) -> Option<u64> {
        let at = self.start.plus(index.checked_mul(self.size.into())?).plus(self.ip.into());
        cx.word(at)
    }

    /// The numbers of the first record that may reach into a range, and of the first one behind it.
    fn near(&self, cx: &mut CheckContext<'_>, range: &Range<u64>) -> Option<(u64, u64)> {
        let Some(last) = self.count.checked_sub(1) else { return Some((0, 0)) };
        let first_reach = range.start.saturating_sub(BRANCH_BYTES as u64);
        if self.address_of(cx, last)? <= first_reach || self.address_of(cx, 0)? >= range.end {
            return Some((0, 0));
        }
        let from = self.first_behind(cx, first_reach)?;
        Some((from, self.first_behind(cx, range.end)?))
    }

    /// The number of the first record that is behind an address.
    fn first_behind(&self, cx: &mut CheckContext<'_>, address: u64) -> Option<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.address_of(cx, middle)? <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
}

/// Calls `visit` with each place of ftrace in a range of code.
fn visit_ftrace(
    cx: &mut CheckContext<'_>,
    reads: &mut TableReads,
    range: &Range<u64>,
    visit: &mut dyn FnMut(PatchSite),
) -> bool {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let (Some(first), Some(of_page), Some(of_record)) =
        (symbols.ftrace_pages_start, &layouts.ftrace_page, &layouts.dyn_ftrace)
    else {
        return false;
    };
    let Some(page) = cx.word(first) else { return false };
    let mut page = KernelVa(page);
    for _ in 0..OBJECTS_MAX {
        if page.is_null() {
            return true;
        }
        let Some(view) = cx.structure(page, &of_page.packing) else { return false };
        let (start, next) = (view.pointer(of_page.records), view.pointer(of_page.next));
        let count = view.unsigned(of_page.index);
        let records = Records { start, count, size: of_record.size, ip: of_record.ip.offset };
        let Some((from, to)) = records.near(cx, range) else { return false };
        let place = |index: u64| start.plus(index.saturating_mul(records.size.into()));
        let table = (place(from), place(to));
        let is_read = reads.visit(cx, table, records.size, &mut |_, record| {
            let ip = record.get(records.ip as usize..).and_then(|ip| ip.first_chunk());
            let Some(ip) = ip else { return };
            visit(PatchSite { at: KernelVa(u64::from_le_bytes(*ip)), kind: SiteKind::Ftrace });
        });
        if !is_read {
            return false;
        }
        page = next;
    }
    false
}
