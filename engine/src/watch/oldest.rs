//! The oldest programs of a machine, by which its boot is known again.
//!
//! What else identifies a boot is the start of process 1, which an attacker with access to the
//! kernel's memory can change. The starts of these programs are many places, and each change looks
//! like the end of a process.

use arrayvec::ArrayVec;

use crate::state::process::ProcessKey;
use crate::walk::Snapshot;

const PROGRAMS_MAX: usize = 16;
/// Process 1 starts before the kernel's clock is precise, so at the same time in several boots.
const INIT: u32 = 1;

/// The programs that have run for longest, except process 1, oldest first.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct OldestPrograms {
    keys: ArrayVec<ProcessKey, PROGRAMS_MAX>,
}

impl OldestPrograms {
    pub(super) fn new(programs: impl Iterator<Item = ProcessKey>) -> Self {
        let mut oldest = Self::default();
        programs.for_each(|key| oldest.add(key));
        oldest
    }

    /// Those of a scan.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let tasks = snapshot.processes.iter().filter_map(|row| Some(&snapshot.leader(row)?.task));
        Self::new(tasks.filter(|task| !task.mm.is_null()).map(ProcessKey::of))
    }

    fn add(&mut self, key: ProcessKey) {
        let order = |key: &ProcessKey| (key.start_boottime, key.process_id);
        let at = self.keys.partition_point(|it| order(it) < order(&key));
        if key.process_id == INIT || at == PROGRAMS_MAX {
            return;
        }
        if self.keys.is_full() {
            self.keys.pop();
        }
        self.keys.insert(at, key);
    }

    /// Whether a program is in both: no two boots start one at the same nanosecond.
    pub(super) fn shares(&self, other: &Self) -> bool {
        self.keys.iter().any(|key| other.keys.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oldest(starts: impl Iterator<Item = u64>) -> OldestPrograms {
        let keys = starts.map(|start| ProcessKey { process_id: 100, start_boottime: start });
        OldestPrograms::new(keys)
    }

    #[test]
    fn a_boot_is_known_by_any_of_its_oldest_programs() {
        let all = oldest((0..200).rev());
        assert_eq!(all, oldest(0..16));
        assert!(all.shares(&oldest(15..40)));
        assert!(!all.shares(&oldest(16..40)));
        assert!(!all.shares(&OldestPrograms::default()));
        let init = || std::iter::once(ProcessKey { process_id: 1, start_boottime: 4 });
        assert!(!OldestPrograms::new(init()).shares(&OldestPrograms::new(init())));
    }
}
