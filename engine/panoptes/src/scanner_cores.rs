//! The cores of the scanner threads.

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::config::Cores;

/// The largest number of quick scanners that `auto` uses: their queues must exist from the start.
const AUTO_MOST: usize = 16;

/// The cores of the scanners.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ScannerCores {
    /// One for each quick scanner.
    pub(crate) cores: Vec<usize>,
    /// Whether they are used only while they are needed.
    pub(crate) is_auto: bool,
}

impl ScannerCores {
    /// `auto`: the last quarter of the cores that this process may use, the last core first.
    pub(crate) fn of(configured: &Cores) -> Self {
        match configured {
            Cores::Auto => {
                let allowed = allowed_cores();
                let most = (allowed.len() / 4).clamp(1, AUTO_MOST);
                Self { cores: allowed.into_iter().rev().take(most).collect(), is_auto: true }
            }
            Cores::Given(cores) => {
                let cores = cores.iter().map(|core| *core as usize).collect();
                Self { cores, is_auto: false }
            }
        }
    }

    /// At most one core and so many further ones, if nobody has chosen the cores.
    pub(crate) fn with_further(mut self, further: usize) -> Self {
        if self.is_auto {
            self.cores.truncate(further.saturating_add(1));
        }
        self
    }

    /// Number of quick scanners that may be started for so many systems.
    pub(crate) fn quick(&self, systems: usize) -> usize {
        self.cores.len().min(systems).max(1)
    }
}

/// Maximum number of searches for kernels at a time: each reads memory as fast as it can.
const SEARCHES_MOST: usize = 8;

/// Number of searches for kernels at a time: on a quarter of the allowed cores, but at least two,
/// so that one that takes long does not delay all others.
pub(crate) fn searches(allowed: usize) -> usize {
    (allowed / 4).clamp(2, SEARCHES_MOST)
}

/// The cores that this process may use, ascending.
pub(crate) fn allowed_cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&core| set.is_set(core).unwrap_or(false)).collect()
}

/// Writes ascending numbers of cores as ranges: `0-3,8`.
pub(crate) fn ranges(cores: &[usize]) -> String {
    let runs = cores.chunk_by(|left, right| left + 1 == *right);
    let texts = runs.filter_map(|run| match (run.first()?, run.last()?) {
        (first, last) if first == last => Some(first.to_string()),
        (first, last) => Some(format!("{first}-{last}")),
    });
    texts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shown_as_they_are_written() {
        assert_eq!(ranges(&[0, 1, 2, 3, 8]), "0-3,8");
        assert_eq!(ranges(&[9]), "9");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn auto_is_up_to_a_quarter_of_the_cores_from_the_last_on() {
        let allowed = allowed_cores();
        let auto = ScannerCores::of(&Cores::Auto);
        assert!(auto.is_auto);
        assert_eq!(auto.cores.len(), (allowed.len() / 4).clamp(1, AUTO_MOST));
        assert_eq!(auto.cores.first(), allowed.last());
        let given = ScannerCores::of(&Cores::Given(vec![3, 5]));
        assert_eq!(given, ScannerCores { cores: vec![3, 5], is_auto: false });
        assert_eq!(given.clone().with_further(0), given);
        let many = ScannerCores { cores: vec![9, 8, 7], is_auto: true };
        assert_eq!(many.clone().with_further(1).cores, [9, 8]);
        assert_eq!(many.with_further(usize::MAX).cores, [9, 8, 7]);
    }
}
