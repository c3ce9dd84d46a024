//! Functions of terminals (drivers/tty): of line disciplines, of drivers, and of each terminal that
//! is open. Pseudoterminals are in no array: only their drivers are checked.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::lists::follow_list;
use super::words::check_table;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

const CHECK: Check = Check::Terminals;
/// Words of tables of functions (include/linux/tty_driver.h, include/linux/tty_ldisc.h).
const TTY_WORDS: usize = 40;
const LINE_WORDS: usize = 24;
/// Number of line disciplines (`NR_LDISCS`, at least).
const LINES: u32 = 30;
/// Maximum number of terminals of a driver.
const TERMINALS_MAX: usize = 512;

/// Checks all of them.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    match cx.kernel().symbols.tty_ldiscs {
        Some(array) => check_lines(cx, array),
        None => cx.not_checked(CHECK, "the array of line disciplines is unknown"),
    }
    if check_drivers(cx).is_none() {
        cx.not_checked(CHECK, "the list of drivers of terminals is unknown");
    }
    Progress::Done
}

fn check_lines(cx: &mut CheckContext<'_>, array: KernelVa) {
    let mut lines = [0; LINES as usize];
    let Some(bytes) = cx.read(array, 8 * LINES) else {
        cx.unread(CHECK);
        return;
    };
    for (line, word) in lines.iter_mut().zip(bytes.chunks_exact(8)) {
        *line = u64_at(word, 0);
    }
    for line in lines {
        check_table(cx, CHECK, (KernelVa(line), LINE_WORDS), "line discipline");
    }
}

/// Checks all drivers; `None` if their list is unknown.
fn check_drivers(cx: &mut CheckContext<'_>) -> Option<()> {
    let head = cx.kernel().symbols.tty_drivers?;
    let layout = cx.kernel().layouts.tty_driver.as_ref()?;
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(layout.tty_drivers.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else {
            cx.unread(CHECK);
            return;
        };
        let [operations, name, terminals] =
            [layout.ops, layout.name, layout.ttys].map(|field| view.pointer(field));
        let count = view.unsigned(layout.num) as u32;
        let name = cx.text::<32>(name);
        check_table(cx, CHECK, (operations, TTY_WORDS), &name);
        if !terminals.is_null() {
            check_terminals(cx, (terminals, count), &name);
        }
    });
    if !is_whole {
        cx.unread(CHECK);
    }
    Some(())
}

/// Checks the terminals of a driver that are open.
fn check_terminals(cx: &mut CheckContext<'_>, (array, count): (KernelVa, u32), name: &str) {
    let mut terminals = [0; TERMINALS_MAX];
    if count as usize > TERMINALS_MAX {
        cx.not_checked(CHECK, "a driver has too many terminals");
    }
    let Some(bytes) = cx.read(array, 8 * count.min(TERMINALS_MAX as u32)) else {
        cx.unread(CHECK);
        return;
    };
    for (terminal, word) in terminals.iter_mut().zip(bytes.chunks_exact(8)) {
        *terminal = u64_at(word, 0);
    }
    let layouts = &cx.kernel().layouts;
    let Some((layout, line)) = layouts.tty_ops.as_ref().zip(layouts.tty_ldisc.as_ref()) else {
        cx.not_checked(CHECK, "the structure of terminals is unknown");
        return;
    };
    for &terminal in terminals.iter().filter(|&&terminal| terminal != 0) {
        let Some(view) = cx.structure(KernelVa(terminal), &layout.packing) else {
            cx.unread(CHECK);
            continue;
        };
        let (operations, ldisc) = (view.pointer(layout.ops), view.pointer(layout.ldisc));
        check_table(cx, CHECK, (operations, TTY_WORDS), name);
        // A terminal that changes its line discipline has none.
        if let Some(view) = cx.structure(ldisc, &line.packing) {
            let operations = view.pointer(line.ops);
            check_table(cx, CHECK, (operations, LINE_WORDS), name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;

    /// A driver with one open terminal, and the places that hold the addresses of its tables.
    fn scene() -> (Scene, u64, Vec<(u64, &'static str)>) {
        let mut scene = Scene::new();
        let (lines, head) = (scene.variable((8 * LINES).into()), scene.variable(16));
        scene.kernel.symbols.tty_ldiscs = va(lines);
        scene.kernel.symbols.tty_drivers = va(head);
        let [driver, terminal, ldisc, array] = [0; 4].map(|_| scene.structure());
        let link = scene.field(driver, "tty_driver", "tty_drivers");
        scene.list(head, &[link]);
        let name = scene.text("serial");
        scene.set(driver, "tty_driver", "name", name);
        scene.set(driver, "tty_driver", "num", 4);
        scene.set(driver, "tty_driver", "ttys", array);
        scene.put(array + 24, terminal);
        scene.set(terminal, "tty_struct", "ldisc", ldisc);
        let places = vec![
            (lines + 8 * u64::from(LINES - 1), "line discipline"),
            (scene.field(driver, "tty_driver", "ops"), "serial"),
            (scene.field(terminal, "tty_struct", "ops"), "serial"),
            (scene.field(ldisc, "tty_ldisc", "ops"), "serial"),
        ];
        for (place, _) in &places {
            let table = scene.structure();
            scene.put(*place, table);
        }
        (scene, driver, places)
    }

    #[test]
    fn each_table_is_checked() {
        let (mut scene, _, places) = scene();
        let stray = scene.stray_code();
        assert!(scene.run(step).holds(CHECK));
        for (place, label) in places {
            let table = scene.word(place);
            scene.put(table + 40, stray);
            let outcome = scene.run(step);
            assert_eq!(outcome.hooks(CHECK), [(table + 40, stray)]);
            assert_eq!(outcome.violations[0].label.as_str(), label);
            scene.put(table + 40, 0);
        }
    }

    #[test]
    fn what_is_unknown_or_never_ends_does_not_hold() {
        let (mut scene, driver, _) = scene();
        scene.set(driver, "tty_driver", "num", TERMINALS_MAX as u64 + 1);
        assert!(!scene.run(step).holds(CHECK));
        scene.set(driver, "tty_driver", "num", 4);
        assert!(scene.run(step).holds(CHECK));
        let whole = scene.kernel.clone();
        scene.kernel.symbols.tty_ldiscs = None;
        assert!(!scene.run(step).holds(CHECK));
        scene.kernel = whole.clone();
        scene.kernel.symbols.tty_drivers = None;
        assert!(!scene.run(step).holds(CHECK));
        scene.kernel = whole.clone();
        scene.kernel.layouts.tty_ops = None;
        assert!(!scene.run(step).holds(CHECK));
        scene.kernel = whole;
        let link = scene.field(driver, "tty_driver", "tty_drivers");
        scene.put(link, link);
        assert!(!scene.run(step).holds(CHECK));
    }
}
