//! Pointers to code in the data of modules: tables of file systems, of protocols, of drivers. What
//! is called from there may be the kernel or any listed module, and nobody else.
//!
//! Not here: the kernel's own data ([`super::pointers`]), and data that a module has allocated.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::module::Module;
use panoptes_decoders::layout::{View, u64_at};
use panoptes_decoders::source::PAGE_BYTES;

use super::module_space::is_in_module_space;
use super::module_text::table_of;
use super::pointers::has_only_traps;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress, READ_BYTES_MAX, set_text};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;
use crate::walk::module_layouts;

const CHECK: Check = Check::ModulePointers;
/// Maximum number of bytes of a part of a module that are read.
const PART_BYTES_MAX: u32 = 64 << 20;
/// Bytes of an address in a table.
const WORD_BYTES: u32 = 8;
/// Maximum number of pages that one read leads to.
const TARGET_PAGES_MAX: usize = 256;

/// A place in a module's data, and the page of nobody that it leads to.
type Pointer = (KernelVa, KernelVa);

/// A module, and its data that leads to the code of its start. The kernel has freed that.
#[derive(Clone, Copy, Debug, Default)]
struct CheckedModule {
    module: Module,
    /// The `struct module`, and the addresses of calls of ftrace: their starts and ends.
    starts: [(KernelVa, KernelVa); 2],
}

impl CheckedModule {
    fn is_of_its_start(&self, place: KernelVa) -> bool {
        self.starts.iter().any(|&(start, end)| (start..end).contains(&place))
    }
}

/// Checks the data of all modules that the list has: one part after the other.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if module_layouts(&cx.kernel().layouts).is_none() {
        cx.not_checked(CHECK, "the structure of modules is unknown");
        return Progress::Done;
    }
    while let Some(address) = cx.owners.module(cursor.count as usize) {
        if !cx.has_budget() {
            return Progress::More;
        }
        match read_module(cx, address) {
            Some(module) if check_module(cx, cursor, &module) == Progress::More => {
                return Progress::More;
            }
            Some(_) => {}
            None => cx.unread(CHECK),
        }
        (cursor.count, cursor.part, cursor.at) = (cursor.count + 1, 0, 0);
    }
    Progress::Done
}

fn read_module(cx: &mut CheckContext<'_>, address: KernelVa) -> Option<CheckedModule> {
    let layouts = module_layouts(&cx.kernel().layouts)?;
    let sites = cx.kernel().layouts.module_sites.as_ref();
    cx.reader.clear();
    cx.reader.push(&cx.kernel.space, address, &layouts.module.packing)?;
    if let Some(sites) = sites {
        cx.reader.push(&cx.kernel.space, address, &sites.packing)?;
    }
    cx.run();
    let module = Module::decode(&layouts, cx.reader.object(0)?)?;
    let calls = sites.zip(cx.reader.object(1)).map(|(sites, bytes)| {
        let fields = (sites.ftrace_callsites, sites.num_ftrace_callsites);
        table_of(View::new(bytes), fields, WORD_BYTES)
    });
    let own = (address, address.plus(layouts.module.size.into()));
    Some(CheckedModule { module, starts: [own, calls.unwrap_or_default()] })
}

/// Checks the data of one module, from the cursor's part on.
fn check_module(
    cx: &mut CheckContext<'_>,
    cursor: &mut Cursor,
    module: &CheckedModule,
) -> Progress {
    let parts = module.module.data();
    while let Some(part) = parts.get(cursor.part as usize) {
        if part.size > PART_BYTES_MAX {
            cx.not_checked(CHECK, "the data of a module is too large");
        }
        let bytes = u64::from(part.size.min(PART_BYTES_MAX));
        while cursor.at < bytes {
            if !cx.has_budget() {
                return Progress::More;
            }
            let length = (bytes - cursor.at).min(READ_BYTES_MAX.into()) as u32;
            check_bytes(cx, module, part.base.plus(cursor.at), length);
            cursor.at += u64::from(length);
        }
        (cursor.part, cursor.at) = (cursor.part + 1, 0);
    }
    Progress::Done
}

/// Checks the words of a module's data.
fn check_bytes(cx: &mut CheckContext<'_>, module: &CheckedModule, start: KernelVa, length: u32) {
    let kernel = cx.kernel();
    if cx.read(start, length).is_none() {
        cx.unread(CHECK);
        return;
    }
    // One word stands for all that lead to the same page.
    let mut pointers = ArrayVec::<Pointer, TARGET_PAGES_MAX>::new();
    let mut is_full = false;
    let bytes = cx.reader.object(0).unwrap_or(&[]);
    for offset in (0..length as usize / 8 * 8).step_by(8) {
        let (place, target) = (start.plus(offset as u64), KernelVa(u64_at(bytes, offset)));
        let is_known = !is_in_module_space(kernel, target.0)
            || cx.owners.owner_of(target) != Owner::Nobody
            || module.module.contains(target)
            || module.is_of_its_start(place)
            || is_of_list(bytes, offset)
            || pointers.iter().any(|&(_, other)| other.0 / PAGE_BYTES == target.0 / PAGE_BYTES);
        if !is_known {
            is_full |= pointers.try_push((place, target)).is_err();
        }
    }
    cx.checked(CHECK, u64::from(length / 8));
    if is_full {
        cx.not_checked(CHECK, "there are too many pointers to other modules");
    }
    for (place, target) in pointers {
        if cx.is_executable(target) && !has_only_traps(cx, target) {
            let mut violation = Violation::new(CHECK, place, target);
            let name = str::from_utf8(module.module.name()).unwrap_or_default();
            set_text(&mut violation.label, name);
            cx.violation(violation);
        }
    }
}

/// Whether a word is one of a sorted list of near addresses. Such a list has all functions of a
/// module (`__patchable_function_entries`), those of its start too.
fn is_of_list(bytes: &[u8], offset: usize) -> bool {
    let is_next = |one: u64, next: u64| next.wrapping_sub(one).wrapping_sub(1) < PAGE_BYTES;
    let word = u64_at(bytes, offset);
    let before = offset.checked_sub(8).map_or(0, |offset| u64_at(bytes, offset));
    is_next(before, word) || is_next(word, u64_at(bytes, offset + 8))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use panoptes_decoders::kernel::module::ModulePart;

    use super::super::testing::Scene;
    use super::*;

    thread_local! {
        static MODULE: Cell<CheckedModule> = Cell::default();
    }

    /// The step for one module, made by hand.
    fn step_of_module(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
        check_module(cx, cursor, &MODULE.get())
    }

    /// A module with parts of one page each. Returns where its data, its read-only data and what
    /// is read only later begin.
    fn scene() -> (Scene, [u64; 3]) {
        let mut scene = Scene::new();
        let mut module = Module::default();
        module.name[..4].copy_from_slice(b"ext4");
        let starts = [1, 2, 3].map(|part| {
            let base = scene.module_data();
            module.parts[part] = ModulePart { base: KernelVa(base), size: PAGE_BYTES as u32 };
            base
        });
        MODULE.set(CheckedModule { module, ..CheckedModule::default() });
        (scene, starts)
    }

    #[test]
    fn data_that_leads_to_the_start_of_a_module_is_ignored() {
        let (mut scene, [data, ..]) = scene();
        let stray = scene.stray_code();
        for offset in [8, 16] {
            scene.put(data + offset, stray + 64 - offset);
        }
        let mut module = MODULE.get();
        module.starts[1] = (KernelVa(data), KernelVa(data + 16));
        MODULE.set(module);
        assert_eq!(scene.run(step_of_module).hooks(CHECK), [(data + 16, stray + 48)]);
    }

    #[test]
    fn each_word_of_each_part_is_checked() {
        let (mut scene, starts) = scene();
        let stray = scene.stray_code();
        let owned = scene.code_of(Owner::Module(KernelVa(1)));
        let other = scene.module_data();
        for start in starts {
            for place in [start, start + PAGE_BYTES - 8] {
                for target in [owned, other, starts[0], 0, u64::MAX] {
                    scene.put(place, target);
                    let outcome = scene.run(step_of_module);
                    assert!(outcome.holds(CHECK), "{target:#x}");
                    assert_eq!(outcome.facts(CHECK).places, 3 * PAGE_BYTES / 8);
                }
                scene.put(place, stray + 8);
                let outcome = scene.run(step_of_module);
                assert_eq!(outcome.hooks(CHECK), [(place, stray + 8)]);
                assert_eq!(&outcome.violations[0].label, "ext4");
                scene.put(place, 0);
            }
        }
    }

    #[test]
    fn one_page_of_nobody_is_named_once() {
        let (mut scene, [data, ..]) = scene();
        let stray = scene.stray_code();
        (0..512).for_each(|word| scene.put(data + 8 * word, stray + 512 - word));
        assert_eq!(scene.run(step_of_module).hooks(CHECK), [(data, stray + 512)]);
        // A sorted list of addresses is no table of functions that somebody calls.
        (0..512).for_each(|word| scene.put(data + 8 * word, stray + word));
        assert!(scene.run(step_of_module).holds(CHECK));
    }

    #[test]
    fn data_that_is_not_looked_at_does_not_hold() {
        let (mut scene, [data, ..]) = scene();
        let mut module = MODULE.get();
        (0..512).for_each(|word| scene.put(data + 8 * word, 0xffff_ffff_e000_0000 - (word << 12)));
        assert!(scene.run(step_of_module).facts(CHECK).not_checked.is_some());
        scene.lose(data);
        assert_eq!(scene.run(step_of_module).facts(CHECK).unread, 1);
        module.module.parts[1].size = PART_BYTES_MAX + 1;
        MODULE.set(module);
        assert!(scene.run(step_of_module).facts(CHECK).not_checked.is_some());
    }

    #[test]
    fn modules_that_cannot_be_read_are_counted() {
        let mut scene = Scene::new();
        scene.code_of(Owner::Module(KernelVa(1)));
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
        scene.kernel.layouts.module = None;
        assert!(scene.run(step).facts(CHECK).not_checked.is_some());
    }
}
