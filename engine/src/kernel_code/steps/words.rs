//! Words that lead to code, wherever they are in a structure.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::module_space::is_in_module_space;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, set_text};
use crate::kernel_code::owners::Owner;
use crate::kernel_code::violations::Violation;

/// Maximum number of words of a table.
const WORDS_MAX: usize = 64;

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
    if cx.kernel().space.image.contains(&table.0) {
        return;
    }
    let words = words.min(WORDS_MAX);
    let mut targets = [0; WORDS_MAX];
    let Some(bytes) = cx.read(table, 8 * words as u32) else {
        cx.unread(check);
        return;
    };
    for (target, word) in targets.iter_mut().zip(bytes.chunks_exact(8)) {
        *target = u64_at(word, 0);
    }
    for (index, &word) in targets.iter().take(words).enumerate() {
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
