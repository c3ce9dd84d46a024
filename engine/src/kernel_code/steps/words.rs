//! Words that lead to code, wherever they are in a structure.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;
use panoptes_decoders::source::PAGE_BYTES;

use super::module_space::is_in_module_space;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, set_text};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Maximum number of words of a table.
const WORDS_MAX: usize = 80;

/// Checks a table of functions: no word leads to code of nobody. Numbers and pointers to data are
/// allowed, so a target must be executable. A table in the kernel's own data is checked with that.
pub(super) fn check_table(
    cx: &mut CheckContext<'_>,
    check: Check,
    (table, words): (KernelVa, usize),
    label: &str,
) {
    if table.is_null() {
        return;
    }
    cx.checked(check, 1);
    if is_checked_with_data(cx, table) {
        return;
    }
    let mut targets = [0; WORDS_MAX];
    let words = words.min(WORDS_MAX);
    // The last table of a page may be shorter, and have nothing behind it.
    let in_page = ((PAGE_BYTES - table.0 % PAGE_BYTES) / 8) as usize;
    let is_read = read_words(cx, table, words, &mut targets)
        || in_page < words && read_words(cx, table, in_page, &mut targets);
    if !is_read {
        cx.unread(check);
        return;
    }
    for (index, &word) in targets.iter().enumerate() {
        let target = KernelVa(word);
        if is_in_module_space(cx.kernel(), word)
            && cx.owner_of(target) == Owner::Nobody
            && cx.is_executable(target)
        {
            let place = table.plus(8 * index as u64);
            let mut violation = Violation::new(check, place, target);
            set_text(&mut violation.label, label);
            cx.violation(violation);
        }
    }
}

fn read_words(cx: &mut CheckContext<'_>, at: KernelVa, words: usize, to: &mut [u64]) -> bool {
    let Some(bytes) = cx.read(at, 8 * words as u32) else { return false };
    for (to, word) in to.iter_mut().zip(bytes.chunks_exact(8)) {
        *to = u64_at(word, 0);
    }
    true
}

/// Whether the step of pointers in data checks the words of a table.
pub(super) fn is_checked_with_data(cx: &CheckContext<'_>, table: KernelVa) -> bool {
    let symbols = &cx.kernel().symbols;
    let parts = [symbols.start_rodata.zip(symbols.end_rodata), symbols.sdata.zip(symbols.edata)];
    parts.into_iter().flatten().any(|(start, end)| (start.0..end.0).contains(&table.0))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::context::{Cursor, Progress};

    const CHECK: Check = Check::Protocols;
    const WORDS: usize = 4;

    fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
        let table = cx.kernel().symbols.modules.unwrap_or_default();
        check_table(cx, CHECK, (table, WORDS), "label");
        Progress::Done
    }

    #[test]
    fn each_word_of_a_table_is_checked() {
        let mut scene = Scene::new();
        assert_eq!(scene.run(step).facts(CHECK).places, 0);
        let (table, stray, data) = (scene.room(64), scene.stray_code(), scene.module_data());
        let module = scene.code_of(Owner::Module(KernelVa(1)));
        scene.kernel.symbols.modules = va(table);
        for word in [0, 1, data, module] {
            scene.put(table, word);
            assert!(scene.run(step).holds(CHECK));
        }
        for index in 0..WORDS as u64 {
            scene.put(table + 8 * index, stray);
            let outcome = scene.run(step);
            assert_eq!(outcome.hooks(CHECK), [(table + 8 * index, stray)]);
            assert_eq!(outcome.violations[0].label.as_str(), "label");
            scene.put(table + 8 * index, 0);
        }
        scene.put(table + 8 * WORDS as u64, stray);
        assert!(scene.run(step).holds(CHECK));
    }

    #[test]
    fn a_table_at_the_end_of_what_is_mapped_is_checked() {
        let mut scene = Scene::new();
        let (stray, last) = (scene.stray_code(), scene.module_data() + PAGE_BYTES - 16);
        scene.kernel.symbols.modules = va(last);
        assert!(scene.run(step).holds(CHECK));
        scene.put(last + 8, stray);
        assert_eq!(scene.run(step).hooks(CHECK), [(last + 8, stray)]);
        scene.lose(last);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
    }

    #[test]
    fn a_table_in_data_that_another_step_checks_is_not_read() {
        let mut scene = Scene::new();
        let (table, stray) = (scene.variable(64), scene.stray_code());
        scene.kernel.symbols.modules = va(table);
        scene.put(table, stray);
        assert_eq!(scene.run(step).hooks(CHECK), [(table, stray)]);
        scene.kernel.symbols.start_rodata = va(table);
        scene.kernel.symbols.end_rodata = va(table + 8);
        assert!(scene.run(step).holds(CHECK));
    }
}
