//! What the facts of a kernel module have as bits, in the words of records.

use core::fmt::Display;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_records::record::kernel_module::KernelModuleView;

use super::subject_names;
use crate::state::modules::ModuleFacts;
use crate::walk::{ModuleViews, module_view};

/// The letters of the taints that a module can have, by their bits (`taint_flags` with `module`,
/// kernel/panic.c).
const TAINTS: [(u32, char); 10] = [
    (0, 'P'),
    (1, 'F'),
    (10, 'C'),
    (12, 'O'),
    (13, 'E'),
    (15, 'K'),
    (16, 'X'),
    (17, 'T'),
    (18, 'N'),
    (19, 'J'),
];

/// Each view with its words.
const VIEWS: [(u16, KernelModuleView, &str); KernelModuleView::ALL.len()] = [
    (module_view::LIST, KernelModuleView::List, "the kernel's list of modules"),
    (module_view::TREE, KernelModuleView::Tree, "the tree of the addresses of modules"),
    (module_view::KSET, KernelModuleView::Kset, "/sys/module"),
];

/// What a module's facts have as bits, in the words of records.
#[derive(Debug)]
pub(super) struct ModuleWords {
    pub(super) taints: ArrayString<{ TAINTS.len() }>,
    /// The views that show it.
    pub(super) shown: ArrayVec<KernelModuleView, { VIEWS.len() }>,
    /// Those that must show it and do not.
    pub(super) missing: ArrayVec<KernelModuleView, { VIEWS.len() }>,
}

impl ModuleWords {
    pub(super) fn of(module: &ModuleFacts) -> Self {
        let words = |views: ModuleViews| {
            VIEWS.iter().filter(|(bit, ..)| views.has(*bit)).map(|(_, word, _)| *word).collect()
        };
        Self {
            taints: taints(module.taints),
            shown: words(module.views),
            missing: words(module.missing),
        }
    }
}

/// The letters of taints, as /proc/modules has them.
fn taints(bits: u64) -> ArrayString<{ TAINTS.len() }> {
    let mut letters = ArrayString::new();
    for (_, letter) in TAINTS.iter().filter(|(bit, _)| bits >> bit & 1 != 0) {
        letters.push(*letter);
    }
    letters
}

/// The names of views, with `last` before the last one.
pub(super) fn names_of(views: ModuleViews, last: &str) -> impl Display {
    let names = VIEWS.iter().filter(move |(bit, ..)| views.has(*bit)).map(|(.., name)| *name);
    subject_names::list(names, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::ModuleRow;

    #[test]
    fn the_taints_of_a_module_are_its_letters() {
        assert_eq!(taints(0).as_str(), "");
        // A warning of the kernel is none of a module.
        assert_eq!(taints(1 << 13 | 1 << 12 | 1 << 9).as_str(), "OE");
        assert_eq!(taints(u64::MAX).as_str(), "PFCOEKXTNJ");
    }

    #[test]
    fn each_view_has_its_words() {
        let all = ModuleViews(module_view::LIST | module_view::TREE | module_view::KSET);
        let views = ModuleViews(module_view::TREE);
        let words =
            ModuleWords::of(&ModuleFacts::read(&ModuleRow { views, ..ModuleRow::default() }, all));
        assert_eq!(words.shown[..], [KernelModuleView::Tree]);
        assert_eq!(words.missing[..], [KernelModuleView::List, KernelModuleView::Kset]);
        let text = names_of(all, " or ").to_string();
        let expected =
            "the kernel's list of modules, the tree of the addresses of modules or /sys/module";
        assert_eq!(text, expected);
    }
}
