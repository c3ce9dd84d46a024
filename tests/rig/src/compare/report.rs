//! The result of a comparison, as a table for people and as numbers for tests.

use std::collections::BTreeSet;
use std::fmt;

/// Number of differences described for each kind; the rest are only counted.
pub(super) const DIFFERENCES_SHOWN_PER_KIND: usize = 12;

/// The counts for one kind of object.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KindReport {
    /// Objects that existed throughout.
    pub truth: usize,
    /// Objects in the scan.
    pub found: usize,
    /// Objects of the truth that the scan lacks.
    pub missing: usize,
    /// Objects in the scan that did not exist.
    pub extra: usize,
    /// Objects with at least one wrong or missing attribute.
    pub differing: usize,
    /// Objects that began or ended between the two truths; they are not compared.
    pub unsettled: usize,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The counts, in the order of the scan's kinds.
    pub kinds: Vec<(String, KindReport)>,
    /// Descriptions of the first differences.
    pub differences: Vec<String>,
    /// All objects that differ, by kind and identity.
    pub differing: BTreeSet<String>,
    /// Kernel workers that were left out on both sides.
    pub kworkers: usize,
}

impl Report {
    /// Whether the scan is correct and complete, without extra objects.
    pub fn is_exact(&self) -> bool {
        !self.kinds.is_empty()
            && self
                .kinds
                .iter()
                .all(|(_, kind)| kind.missing == 0 && kind.extra == 0 && kind.differing == 0)
    }

    /// The counts for one kind; zeros if there are no such objects.
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
