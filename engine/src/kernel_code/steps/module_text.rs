//! The code of modules is what it was when it was seen first.
//!
//! It is checked in parts, as the blocks of the kernel's own code are. What a part was counts once
//! two successive rounds have seen the same. A module that was loaded again is a new one.
//!
//! Not here: code that no listed module has, which [`super::pages`] finds. A change of a new module
//! before the second round is not noticed.

use core::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{PackedField, View};
use panoptes_decoders::paging::PageTableLevels;

use super::code_window::restore_probes;
use super::code_window::{Sites, Window, hash_of, mask_sites, masked_hash_of, read_window};
use super::sites::{
    self, CALL_SITE_BYTES, JUMP_ENTRY_BYTES, SiteTables, are_known, have_trampolines_ends,
};
use crate::kernel_code::baseline::ModulePart;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Bytes of a part.
const PART_BYTES: u64 = 128 << 10;
/// Maximum number of parts that are looked at for the first time in a round: that costs most.
const NEW_PARTS_MAX: u64 = 16;
/// `TAINT_LIVEPATCH` (include/linux/panic.h): the kernel completes such a module's code when what
/// it patches is loaded.
const TAINT_LIVEPATCH: u64 = 1 << 15;
const NEW: &str = "there is nothing to compare with: a module is new";

/// Known facts of a module.
struct CheckedModule {
    address: KernelVa,
    tables: SiteTables,
    /// Another one if the same memory has another module.
    identity: u32,
    is_live_patch: bool,
}

/// Checks the code of all modules that the list has.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let check = Check::ModuleText;
    if cursor.part == 0 {
        if let Some(why) = why_unknown(cx) {
            cx.not_checked(check, why);
            return Progress::Done;
        }
        cx.baseline.modules.begin_round();
        cursor.part = 1;
    }
    while let Some(range) = cx.owners.next_from(cursor.at) {
        if !cx.has_budget() {
            return Progress::More;
        }
        let code = range.start..range.start.saturating_add(range.size.into());
        let start = code.start.saturating_add(cursor.count * PART_BYTES);
        if let Owner::Module(module) = range.owner
            && start < code.end
        {
            check_part(cx, module, (&code, start), &mut cursor.more[0]);
            cursor.count += 1;
        } else {
            (cursor.at, cursor.count) = (range.start.saturating_add(1), 0);
        }
    }
    cx.baseline.modules.end_round();
    Progress::Done
}

/// Why no module's code can be checked, if that is so.
fn why_unknown(cx: &mut CheckContext<'_>) -> Option<&'static str> {
    let layouts = &cx.kernel().layouts;
    let is_x86 = matches!(cx.kernel().space.levels, PageTableLevels::X86_64(_));
    if !is_x86 || !are_known(cx) {
        return Some(sites::UNKNOWN);
    }
    if layouts.module_sites.is_none() || layouts.kernfs_id.is_none() {
        return Some("what tells one module from another is unknown");
    }
    if !have_trampolines_ends(cx) {
        return Some("the static calls of modules cannot be recognised");
    }
    cx.owners.is_full().then_some("there are too many modules and BPF images")
}

/// Where a table of a module begins and ends, by the fields with its start and with the number of
/// its entries of so many bytes. Without these fields, it is empty.
pub(super) fn table_of(
    view: View<'_>,
    (start, count): (Option<PackedField>, Option<PackedField>),
    bytes: u32,
) -> (KernelVa, KernelVa) {
    let count = view.optional(count).unwrap_or(0) & u64::from(u32::MAX);
    let start = KernelVa(view.optional(start).unwrap_or(0));
    (start, start.plus(count * u64::from(bytes)))
}

/// Reads what leads to the places in a module's code, and what tells it from another one.
fn read_module(cx: &mut CheckContext<'_>, module: KernelVa) -> Option<CheckedModule> {
    let layouts = &cx.kernel().layouts;
    let (of_module, of_node) = (layouts.module_sites.as_ref()?, layouts.kernfs_id.as_ref()?);
    let view = cx.structure(module, &of_module.packing)?;
    let table = |start, count, bytes: u32| table_of(view, (start, count), bytes);
    let tables = SiteTables::Module {
        jumps: table(of_module.jump_entries, of_module.num_jump_entries, JUMP_ENTRY_BYTES),
        calls: table(of_module.static_call_sites, of_module.num_static_call_sites, CALL_SITE_BYTES),
    };
    let is_live_patch = view.unsigned(of_module.taints) & TAINT_LIVEPATCH != 0;
    let node = view.pointer(of_module.kobj_sd);
    // It has no directory before it begins.
    let id = if node.is_null() {
        0
    } else {
        cx.structure(node, &of_node.packing).map(|view| view.unsigned(of_node.id))?
    };
    let identity = cx.baseline.key.hash_three([module.0, node.0, id]) as u32;
    Some(CheckedModule { address: module, tables, identity, is_live_patch })
}

/// Checks one part of a module's code. `new_parts` counts those of the round.
fn check_part(
    cx: &mut CheckContext<'_>,
    module: KernelVa,
    (code, start): (&Range<u64>, u64),
    new_parts: &mut u64,
) {
    let check = Check::ModuleText;
    let range = start..code.end.min(start.saturating_add(PART_BYTES));
    let Some(module) = read_module(cx, module) else {
        cx.baseline.modules.see(start, None);
        cx.unread(check);
        return;
    };
    if module.is_live_patch {
        cx.not_checked(check, "the kernel may complete the code of a live patch");
        return;
    }
    let before = cx.baseline.modules.see(start, Some(module.identity));
    if before.is_none() {
        cx.not_checked(check, NEW);
        *new_parts += 1;
        if *new_parts > NEW_PARTS_MAX {
            return;
        }
    }
    let block = range.end - range.start;
    let window = Window { range, code: code.clone(), block, first: 0, has_turn: false };
    if !read_window(cx, &window) {
        cx.unread(check);
        return;
    }
    cx.checked(check, 1);
    compare(cx, &module, &window, before);
}

/// Compares a part with what it was.
fn compare(
    cx: &mut CheckContext<'_>,
    module: &CheckedModule,
    window: &Window,
    before: Option<ModulePart>,
) {
    let check = Check::ModuleText;
    let start = window.range.start;
    let whole = hash_of(cx, window, 0);
    if let Some(before) = before.filter(|before| before.whole == whole)
        && !cx.baseline.modules.has_turn(start)
    {
        cx.baseline.modules.put(ModulePart { is_settled: true, ..before });
        return;
    }
    let sites = mask_sites(cx, window, &module.tables, check);
    if sites == Sites::Unread {
        cx.unread(check);
        return;
    }
    let mut fixed = masked_hash_of(cx, window, 0).sum;
    let is_patched = before.is_some_and(|before| before.fixed == fixed);
    if !is_patched {
        restore_probes(cx, window);
        fixed = masked_hash_of(cx, window, 0).sum;
    }
    match before {
        Some(before) if before.fixed == fixed => {
            let whole = if is_patched { sites.remembered(whole) } else { before.whole };
            cx.baseline.modules.put(ModulePart { whole, is_settled: true, ..before });
        }
        Some(before) if before.is_settled => {
            let mut violation = Violation::new(check, KernelVa(start), KernelVa::NULL);
            violation.owner = Owner::Module(module.address);
            violation.set_label(format_args!("in {} bytes from there", window.block));
            cx.violation(violation);
        }
        _ => {
            cx.not_checked(check, NEW);
            let part = ModulePart {
                start,
                whole: sites.remembered(whole),
                fixed,
                identity: module.identity,
                ..ModulePart::default()
            };
            if !cx.baseline.modules.put(part) {
                cx.not_checked(check, "there is more code of modules than has room");
            }
        }
    }
}

#[cfg(test)]
mod tests;
