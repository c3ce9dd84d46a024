//! Functions of security modules.

use panoptes_decoders::address::KernelVa;

use super::lists::follow_hlist;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Maximum number of heads of lists.
const HEADS_MAX: u64 = 512;
/// Maximum number of static calls, and of functions in all lists.
const CALLS_MAX: u64 = 8192;

/// Checks the lists of functions, or, since v6.12, the static calls.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let lists = symbols.security_hook_heads.zip(layouts.security_hook_heads.as_ref());
    let calls = symbols.static_calls_table.zip(layouts.lsm_static_call.as_ref());
    if let Some((heads, layout)) = lists {
        check_lists(cx, cursor, heads, layout.size)
    } else if let Some((table, _)) = calls {
        check_calls(cx, cursor, table)
    } else {
        cx.not_checked(Check::LsmHooks, "the functions of security modules are unknown");
        Progress::Done
    }
}

/// Checks the list of each function, one after the other.
fn check_lists(
    cx: &mut CheckContext<'_>,
    cursor: &mut Cursor,
    heads: KernelVa,
    bytes: u32,
) -> Progress {
    let check = Check::LsmHooks;
    let layout = cx.kernel().layouts.security_hook_list.as_ref();
    let Some(list) = layout.and_then(|layout| layout.list) else {
        cx.not_checked(check, "the lists of security modules have an unknown form");
        return Progress::Done;
    };
    let mut functions = cursor.count;
    while cursor.at < u64::from(bytes / 8).min(HEADS_MAX) {
        if !cx.has_budget() {
            return Progress::More;
        }
        let is_whole = follow_hlist(cx, heads.plus(8 * cursor.at), &mut |cx, link| {
            functions += 1;
            cx.checked(check, 1);
            check_function(cx, link.minus(list.offset.into()));
        });
        if !is_whole {
            cx.unread(check);
        }
        if functions > CALLS_MAX {
            cx.not_checked(check, "there are too many functions, or their lists never end");
            return Progress::Done;
        }
        (cursor.at, cursor.count) = (cursor.at + 1, functions);
    }
    Progress::Done
}

/// Checks the static calls of all functions, one after the other. Data without a trampoline follows
/// the last one.
fn check_calls(cx: &mut CheckContext<'_>, cursor: &mut Cursor, table: KernelVa) -> Progress {
    let check = Check::LsmHooks;
    let Some(call) = &cx.kernel().layouts.lsm_static_call else { return Progress::Done };
    while cursor.count < CALLS_MAX {
        if !cx.has_budget() {
            return Progress::More;
        }
        let at = table.plus(cursor.count * u64::from(call.size));
        let Some(view) = cx.structure(at, &call.packing) else {
            cx.unread(check);
            return Progress::Done;
        };
        let (trampoline, function) = (view.pointer(call.trampoline), view.pointer(call.hl));
        let key = call.key.map(|field| view.pointer(field));
        let key = key.filter(|key| cx.kernel().space.image.contains(&key.0));
        let has_code = cx.owner_of(trampoline) == Owner::Kernel;
        if !has_code && (key.is_none() || !trampoline.is_null()) {
            return Progress::Done;
        }
        cx.checked(check, 1);
        if let Some(key) = key {
            check_place(cx, key);
        }
        if !function.is_null() {
            check_function(cx, function);
        }
        cursor.count += 1;
    }
    Progress::Done
}

/// Checks a `struct security_hook_list`.
fn check_function(cx: &mut CheckContext<'_>, at: KernelVa) {
    let Some(layout) = &cx.kernel().layouts.security_hook_list else { return };
    check_place(cx, at.plus(layout.hook.offset.into()));
}

/// Security modules are part of the kernel's image: their functions are in its text.
fn check_place(cx: &mut CheckContext<'_>, place: KernelVa) {
    let check = Check::LsmHooks;
    let Some(function) = cx.word(place).map(KernelVa) else {
        cx.unread(check);
        return;
    };
    let owner = cx.owner_of(function);
    if owner != Owner::Kernel && !function.is_null() {
        cx.violation(Violation { owner, ..Violation::new(check, place, function) });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;

    const CHECK: Check = Check::LsmHooks;

    fn hook(scene: &mut Scene, target: u64) -> u64 {
        let at = scene.variable(1024);
        scene.set(at, "security_hook_list", "hook", target);
        at
    }

    /// A kernel with lists, and a function of the kernel in the first and in the last one.
    fn lists() -> (Scene, u64, [u64; 3]) {
        let mut scene = Scene::new();
        let heads = scene.variable(1024);
        scene.kernel.symbols.security_hook_heads = va(heads);
        let kernels = scene.function(64);
        let hooks = [0; 3].map(|_| hook(&mut scene, kernels));
        let links = hooks.map(|at| scene.field(at, "security_hook_list", "list"));
        scene.hlist(heads, &links[..2]);
        scene.hlist(heads + 127 * 8, &links[2..]);
        (scene, heads, hooks)
    }

    /// A kernel with static calls: two in use, one not.
    fn calls() -> (Scene, [u64; 3], [u64; 2]) {
        let mut scene = Scene::new();
        let table = scene.variable(4096);
        scene.kernel.symbols.static_calls_table = va(table);
        let size = u64::from(scene.kernel.layouts.lsm_static_call.unwrap().size);
        let kernels = scene.function(64);
        let hooks = [0; 2].map(|_| hook(&mut scene, kernels));
        let calls = [0, 1, 2].map(|index| table + size * index);
        for (call, hook) in calls.into_iter().zip([hooks[0], 0, hooks[1]]) {
            let key = scene.variable(16);
            scene.set(call, "lsm_static_call", "key", key);
            scene.set(call, "lsm_static_call", "trampoline", kernels);
            scene.set(call, "lsm_static_call", "hl", hook);
        }
        (scene, calls, hooks)
    }

    #[test]
    fn each_function_is_in_the_kernels_text() {
        let (mut scene, _, hooks) = lists();
        let places = hooks.map(|at| scene.field(at, "security_hook_list", "hook"));
        check_each(&mut scene, &places);
        let (mut scene, calls, hooks) = calls();
        let keys = calls.map(|at| scene.word(scene.field(at, "lsm_static_call", "key")));
        let places = hooks.map(|at| scene.field(at, "security_hook_list", "hook"));
        check_each(&mut scene, &[keys.as_slice(), &places].concat());
        // Arm64 calls the function in the key.
        for call in calls {
            scene.set(call, "lsm_static_call", "trampoline", 0);
        }
        check_each(&mut scene, &[keys.as_slice(), &places].concat());
    }

    #[test]
    fn a_kernel_without_keys_in_its_layout_has_trampolines() {
        let (mut scene, calls, hooks) = calls();
        scene.kernel.layouts.lsm_static_call.as_mut().unwrap().key = None;
        let places = hooks.map(|at| scene.field(at, "security_hook_list", "hook"));
        check_each(&mut scene, &places);
        scene.set(calls[0], "lsm_static_call", "trampoline", 0);
        assert_eq!(scene.run(step).facts(CHECK).places, 0);
    }

    fn check_each(scene: &mut Scene, places: &[u64]) {
        let outcome = scene.run(step);
        assert!(outcome.holds(CHECK));
        assert_eq!(outcome.facts(CHECK).places, 3);
        let module = Owner::Module(KernelVa(7));
        for target in [scene.stray_code(), scene.code_of(module), scene.module_data()] {
            for &at in places {
                let before = scene.word(at);
                scene.put(at, target);
                assert_eq!(scene.run(step).hooks(CHECK), [(at, target)]);
                scene.put(at, before);
            }
        }
    }

    #[test]
    fn what_never_ends_or_is_unknown_does_not_hold() {
        let (mut scene, heads, _) = lists();
        let link = scene.word(heads);
        scene.put(link, link);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
        for bucket in 1..5 {
            scene.put(heads + 8 * bucket, link);
        }
        assert!(scene.run(step).facts(CHECK).not_checked.is_some());
        let (mut scene, calls, _) = calls();
        scene.set(calls[0], "lsm_static_call", "hl", 0x1234);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
        assert!(Scene::new().run(step).facts(CHECK).not_checked.is_some());
    }
}
