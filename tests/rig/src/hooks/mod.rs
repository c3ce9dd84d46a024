//! Kinds of hooks and ways to hide that a kernel's code is tried with: `cargo xtask integrity`.
//!
//! A module of ours (`hook.c`) does most of them. What a module cannot do safely is a patch of the
//! paused guest's memory. The table says which check of Panoptes each kind violates.

mod campaign;
mod table;

pub use campaign::{Choice, Outcome, Report, run};

use crate::flavor::{Flavor, Series};
use crate::kernel_module::Source;

/// Sources of the modules. All are the same code: a module of each name can be loaded once.
pub const SOURCES: &[Source<'static>] = &[
    ("hook.c", include_str!("hook.c")),
    ("others.h", include_str!("others.h")),
    ("hook_half.c", "#include \"hook.c\"\n"),
    ("hook_bare.c", "#include \"hook.c\"\n"),
    ("hook_listed.c", "#include \"hook.c\"\n"),
];

/// Modules that [`SOURCES`] make.
pub const MODULES: [&str; 4] = ["hook", "hook_half", "hook_bare", "hook_listed"];

/// How a kind is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Means {
    /// A module of that name, which then leaves the list and `/sys/module`.
    Hidden(&'static str),
    /// A module that stays in both, unless the kind itself hides it from one.
    Shown(&'static str),
    /// A patch from outside.
    Patch(Patch),
}

/// A patch of the paused guest's memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Patch {
    /// Bytes at an offset of a symbol, in hexadecimal digits.
    Bytes(&'static str, u64, &'static str),
    /// A pointer to code of a hidden module, at an offset of a symbol.
    Pointer(&'static str, u64),
    /// A gate of the table of interrupt descriptors that leads there, at an offset.
    Gate(&'static str, u64),
    /// A call in a function, of another function, that leads there.
    Call(&'static str, &'static str),
}

/// One kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub means: Means,
    /// The check that it violates, or [`MODULE_HIDDEN`].
    pub check: &'static str,
    /// A part of the name of what is hooked; empty if that has no name.
    pub subject: &'static str,
    /// Checks that it may violate besides.
    pub also: &'static [&'static str],
    /// Series of kernels without what it hooks.
    pub missing: &'static [Series],
}

/// The name of the alert for a module that a list lacks. No check has it.
pub const MODULE_HIDDEN: &str = "kernel_module_hidden";

impl Kind {
    /// All kinds.
    pub const ALL: &'static [Self] = table::KINDS;

    /// Whether a kernel has what it hooks.
    pub fn is_in(&self, flavor: Flavor) -> bool {
        !self.missing.contains(&flavor.series)
    }

    /// The kinds with these names; all if there are no names.
    pub fn named(names: &[String]) -> Result<Vec<&'static Self>, String> {
        if names.is_empty() {
            return Ok(Self::ALL.iter().collect());
        }
        let find = |name: &String| {
            let found = Self::ALL.iter().find(|kind| kind.name == name);
            found.ok_or_else(|| format!("there is no kind {name:?}"))
        };
        names.iter().map(find).collect()
    }

    /// Its module; `None` for a patch.
    pub const fn module(&self) -> Option<&'static str> {
        match self.means {
            Means::Hidden(module) | Means::Shown(module) => Some(module),
            Means::Patch(_) => None,
        }
    }

    /// Whether its module's code has no owner afterwards.
    pub fn hides_code(&self) -> bool {
        matches!(self.means, Means::Hidden(_)) || self.name == "hidden_list"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_names_each_kind_of_the_module_once() {
        let source = include_str!("hook.c");
        let names: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        let rows = source.lines().filter_map(|line| line.trim().strip_prefix("{ \""));
        let rows: Vec<&str> = rows.filter_map(|row| row.split_once('"')).map(|row| row.0).collect();
        assert!(rows.len() > 30, "{rows:?}");
        for row in rows {
            assert!(names.contains(row), "{row}");
        }
    }

    #[test]
    fn a_module_that_stays_is_loaded_once() {
        let shown = Kind::ALL.iter().filter_map(|kind| match kind.means {
            Means::Shown(module) => Some(module),
            _ => None,
        });
        let shown: Vec<&str> = shown.collect();
        let unique: BTreeSet<&str> = shown.iter().copied().collect();
        assert_eq!(unique.len(), shown.len());
    }
}
