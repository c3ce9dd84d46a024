//! Places in the code that the kernel itself patches while it runs, and what may stand there.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u32_at;

use super::lists::OBJECTS_MAX;
use crate::kernel_code::context::{CheckContext, READ_BYTES_MAX};
use crate::kernel_code::owners::{Owner, Owners};

/// Bytes of a `struct jump_entry` (include/linux/jump_label.h), of a `struct static_call_site`
/// (include/linux/static_call_types.h), and of a trampoline of static calls
/// (arch/x86/include/asm/static_call.h).
const JUMP_ENTRY_BYTES: u32 = 16;
const CALL_SITE_BYTES: u32 = 8;
const TRAMPOLINE_BYTES: u64 = 8;
/// Bytes of the place of a lock prefix in the section `.smp_locks` (arch/x86/include/asm/alternative.h).
const LOCK_PLACE_BYTES: u32 = 4;
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
const TRAP: u8 = 0xcc;
const RETURN: u8 = 0xc3;
/// Opcodes of a call, a jump, and a short jump.
const CALL: u8 = 0xe8;
const JUMP: u8 = 0xe9;
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
            (SiteKind::StaticCall, [CALL | JUMP | 0x0f, ..]) => is_owned,
            (SiteKind::StaticCall, [RETURN, ..]) => true,
            (SiteKind::StaticCall, _) => {
                five.is_some_and(|five| ZEROS.contains(five) || *five == WARNING)
            }
            (SiteKind::StaticTrampoline, [JUMP, ..]) => is_owned,
            (SiteKind::StaticTrampoline, code) => code.first() == Some(&RETURN),
            (SiteKind::Ftrace, [CALL | JUMP, ..]) => is_owned,
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

/// Calls `visit` with every place. Returns whether all tables could be read.
pub(super) fn visit_sites(cx: &mut CheckContext<'_>, visit: &mut dyn FnMut(PatchSite)) -> bool {
    let symbols = &cx.kernel().symbols;
    let jumps = symbols.start_jump_table.zip(symbols.stop_jump_table);
    let calls = symbols.start_static_call_sites.zip(symbols.stop_static_call_sites);
    let trampolines = symbols.static_call_text_start.zip(symbols.static_call_text_end);
    let mut tables = Tables { bytes_left: TABLES_BYTES_MAX };
    let mut is_whole = true;
    if let Some(table) = jumps {
        is_whole &= tables.visit(cx, table, JUMP_ENTRY_BYTES, &mut |place, entry| {
            let at = relative(place, u32_at(entry, 0));
            let target = relative(place.plus(4), u32_at(entry, 4));
            visit(PatchSite { at, kind: SiteKind::JumpLabel(target) });
        });
    }
    if let Some(table) = calls {
        is_whole &= tables.visit(cx, table, CALL_SITE_BYTES, &mut |place, entry| {
            let at = relative(place, u32_at(entry, 0));
            visit(PatchSite { at, kind: SiteKind::StaticCall });
        });
    }
    if let Some((start, end)) = trampolines {
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
    is_whole & visit_locks(cx, &mut tables, visit) & visit_ftrace(cx, &mut tables, visit)
}

/// Calls `visit` with each lock prefix, if the kernel may put them in later. Else it has freed the
/// memory of their table.
fn visit_locks(
    cx: &mut CheckContext<'_>,
    tables: &mut Tables,
    visit: &mut dyn FnMut(PatchSite),
) -> bool {
    let symbols = &cx.kernel().symbols;
    let table = symbols.smp_locks.zip(symbols.smp_locks_end);
    let Some((list, table)) = symbols.smp_alt_modules.zip(table) else { return true };
    let Some(first) = cx.word(list) else { return false };
    if KernelVa(first) == list {
        return true;
    }
    tables.visit(cx, table, LOCK_PLACE_BYTES, &mut |place, entry| {
        let at = relative(place, u32_at(entry, 0));
        visit(PatchSite { at, kind: SiteKind::LockPrefix });
    })
}

/// An address that is stored as its distance from its place.
const fn relative(place: KernelVa, offset: u32) -> KernelVa {
    place.plus((offset.cast_signed() as i64).cast_unsigned())
}

/// Reads tables, up to a number of bytes of all together.
struct Tables {
    bytes_left: u64,
}

impl Tables {
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

/// Calls `visit` with each place of ftrace.
fn visit_ftrace(
    cx: &mut CheckContext<'_>,
    tables: &mut Tables,
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
        let (records, next) = (view.pointer(of_page.records), view.pointer(of_page.next));
        let count = view.unsigned(of_page.index);
        let table = (records, records.plus(count.saturating_mul(of_record.size.into())));
        let is_read = tables.visit(cx, table, of_record.size, &mut |_, record| {
            let ip = record.get(of_record.ip.offset as usize..);
            let Some(ip) = ip.and_then(|ip| ip.first_chunk()) else { return };
            visit(PatchSite { at: KernelVa(u64::from_le_bytes(*ip)), kind: SiteKind::Ftrace });
        });
        if !is_read {
            return false;
        }
        page = next;
    }
    false
}
