//! What a comparison found, as a table for people and as numbers for tests.

use std::collections::BTreeSet;
use std::fmt;

/// So many differences are told in words for each kind; the rest are counted.
pub(super) const DIFFERENCES_SHOWN_PER_KIND: usize = 12;

/// The counts for one kind of object.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KindReport {
    /// Objects that were there throughout.
    pub truth: usize,
    /// Objects that the scan named.
    pub found: usize,
    /// Objects that the scan should have named.
    pub missing: usize,
    /// Objects that the scan named and that were not there.
    pub extra: usize,
    /// Objects with at least one wrong or missing attribute.
    pub differing: usize,
    /// Objects that came or went between the two truths; they are not judged.
    pub unsettled: usize,
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The counts, in the order of the scan's kinds.
    pub kinds: Vec<(String, KindReport)>,
    /// The first differences, in words.
    pub differences: Vec<String>,
    /// All objects that differ, by kind and identity, without what differs.
    pub differing: BTreeSet<String>,
    /// Kernel workers that were left out on both sides.
    pub kworkers: usize,
}

impl Report {
    /// Whether the scan said what is true, all of it, and nothing else.
    pub fn is_exact(&self) -> bool {
        !self.kinds.is_empty()
            && self
                .kinds
                .iter()
                .all(|(_, kind)| kind.missing == 0 && kind.extra == 0 && kind.differing == 0)
    }

    /// The counts for one kind; zeros where there was nothing of it.
    pub fn kind(&self, name: &str) -> KindReport {
        self.kinds.iter().find(|(kind, _)| kind == name).map(|(_, k)| *k).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<16}{:>8}{:>8}{:>9}{:>7}{:>11}{:>11}",
            "kind", "truth", "found", "missing", "extra", "differing", "unsettled"
        )?;
        for (name, kind) in &self.kinds {
            writeln!(
                formatter,
                "{name:<16}{:>8}{:>8}{:>9}{:>7}{:>11}{:>11}",
                kind.truth, kind.found, kind.missing, kind.extra, kind.differing, kind.unsettled
            )?;
        }
        writeln!(formatter, "left out: the agent, and {} kworkers", self.kworkers)?;
        for difference in &self.differences {
            writeln!(formatter, "  {difference}")?;
        }
        Ok(())
    }
}
