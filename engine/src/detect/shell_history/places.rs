//! Places for shells: a user with many shells makes room for those of others.

use super::programs::wait_after;
use super::{CheckedProgram, ShellHistory, UNMATCHED_DOUBLINGS, forget};

impl ShellHistory {
    /// Takes the place of the newest shell of the user or container with most, for one of a group
    /// that has fewer.
    pub(super) fn take_place(&mut self, group: u64) -> Option<usize> {
        self.groups.clear();
        for shell in self.shells.iter().flatten() {
            self.groups.add(shell.group);
        }
        let above = self.groups.who_makes_room_for(group)?;
        let of_above = self.shells.iter().zip(0..).filter_map(|(shell, at)| {
            let shell = shell.as_ref().filter(|shell| shell.group == above)?;
            Some((shell.process, at, shell.row))
        });
        let (process, at, row) = of_above.max_by_key(|(process, ..)| process.start_boottime)?;
        self.leave(at);
        self.lost.add(1, Some(process.process_id));
        let looked = self.looked.get_mut(row.0 as usize);
        if let Some(looked) = looked.filter(|looked| looked.process == Some(process)) {
            looked.is_refused = true;
        }
        Some(at)
    }

    /// Frees the place of a shell, which is looked at again later.
    pub(super) fn leave(&mut self, at: usize) {
        let Some(shell) = self.shells.get(at).and_then(Option::as_ref) else { return };
        if let Some(looked) = self.looked.get_mut(shell.row.0 as usize)
            && looked.process == Some(shell.process)
        {
            // A shell that has only just started may be used later.
            let wait = wait_after(looked.attempts, UNMATCHED_DOUBLINGS);
            looked.program = CheckedProgram::Later(self.scan.after(wait));
            looked.is_new &= shell.known.is_none();
        }
        forget(&mut self.shells, &mut self.strings, at as u32);
    }
}

#[cfg(test)]
mod tests {
    use panoptes_tables::{HashKey, RowId};

    use super::super::SHELLS_MAX;
    use super::super::shell::Shell;
    use super::*;
    use crate::limits::Limits;
    use crate::state::process::ProcessKey;

    /// One user's shells, none of them idle, took the places of all others'.
    #[test]
    fn shells_of_one_user_leave_room_for_those_of_others() {
        let mut history = ShellHistory::new(&Limits::default(), true, false, HashKey::new(1));
        let scan = history.scan;
        let shell = |process_id: u32, group: u64| {
            let process = ProcessKey { process_id, start_boottime: process_id.into() };
            Shell::new(RowId(process_id), process, group, scan)
        };
        for (place, process_id) in history.shells.iter_mut().zip(1000..) {
            *place = Some(shell(process_id, 1000));
        }
        for process_id in 1..=SHELLS_MAX as u32 / 2 {
            assert_eq!(history.free_place(), None);
            let at = history.take_place(0).expect("the crowd makes room");
            let newest = 1000 + SHELLS_MAX as u32 - process_id;
            assert_eq!(history.lost.process_id(), Some(newest), "the newest of the crowd");
            history.shells[at] = Some(shell(process_id, 0));
        }
        assert_eq!(history.lost.missed(), SHELLS_MAX as u64 / 2);
        assert_eq!([0, 1000].map(|group| history.take_place(group)), [None; 2]);
        assert!(history.take_place(1001).is_some());
    }
}
