//! The second look at tasks: what changed while a scan read the machine.

use panoptes_decoders::kernel::task_struct::Task;

use super::{Memory, Reads, Scratch, Walker, fetch};

/// What became of a task during a scan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Fate {
    /// It was there at the end of the scan as at its beginning.
    #[default]
    Lives,
    /// It was still under construction: it may be in no list yet, and have its parent's id.
    Unfinished,
    /// It ended.
    Ended,
    /// It ended, and its memory was another task's by the end of the scan. Even its identity may be
    /// a mixture.
    Replaced,
}

impl Walker {
    /// Reads every process's leader again. If it has changed, this scan's data about the process
    /// may be inconsistent.
    pub(super) fn check_stability(&mut self, memory: &mut Memory<'_>) {
        let layout = &memory.kernel.layouts.task_struct;
        let snapshot = &mut self.snapshot;
        let Scratch { addresses, renamed, .. } = &mut self.scratch;
        renamed.clear();
        addresses.clear();
        addresses.extend(
            snapshot.processes.iter().map(|process| snapshot.threads[process.leader].task.address),
        );
        let (processes, threads) = (snapshot.processes.as_mut_slice(), &mut snapshot.threads);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let process = &mut processes[index];
            let leader = &mut threads[process.leader].task;
            let before = *leader;
            let after = bytes.map(|bytes| Task::decode(layout, before.address, bytes));
            let is_replaced = after.is_some_and(|after| !after.is_same_thread(&before));
            let after = after.filter(|_| !is_replaced);
            // A task is copied piece by piece, so its name can be from before an exec whose exec id
            // was already read. The later name matches the data that was read since.
            if let Some(after) = after.filter(|after| after.comm != before.comm)
                && renamed.has_room()
            {
                leader.comm = after.comm;
                renamed.push(process.leader, leader.address);
            }
            if let Some(parent) = after.map(|after| after.real_parent)
                && parent != before.real_parent
            {
                // Its parent ended, whose memory may have been another's when it was read.
                let parent = threads.at(threads.find(parent.0));
                process.parent_pid = parent.map_or(0, |parent| parent.task.tgid);
            }
            process.files_stable = after.is_some_and(|after| after.files == before.files);
            let has_ended =
                |after: Task| after.exit_state != 0 || after.mm != before.mm && after.mm.is_null();
            process.fate = match after {
                _ if is_replaced => Fate::Replaced,
                // A copy made piece by piece can have its parent's state and its own start.
                Some(after) if after.is_unfinished() => Fate::Unfinished,
                Some(after) if before.exit_state == 0 && has_ended(after) => Fate::Ended,
                _ => Fate::Lives,
            };
            process.stable = after.is_some_and(|after| {
                after.mm == before.mm
                    && after.self_exec_id == before.self_exec_id
                    && (after.exit_state == 0) == (before.exit_state == 0)
                    // A zombie that its parent released has nothing any more (`__unhash_process`).
                    && !after.thread_pid.is_null()
            });
        });
        self.check_names(memory);
        self.check_own_tables(memory);
    }

    /// Reads the tasks with a later name once more: the second look, too, was piece by piece.
    fn check_names(&mut self, memory: &mut Memory<'_>) {
        let layout = &memory.kernel.layouts.task_struct;
        let (Reads { rows, addresses }, snapshot) = (&self.scratch.renamed, &mut self.snapshot);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let row = &mut snapshot.threads[rows[index]];
            let after = bytes.map(|bytes| Task::decode(layout, row.task.address, bytes));
            if after.is_none_or(|after| !after.is_same_thread(&row.task))
                && let Some(process) = snapshot.processes.at_mut(row.process)
            {
                (process.stable, process.files_stable) = (false, false);
                process.fate = Fate::Replaced;
            }
        });
    }

    /// Reads the threads with descriptor tables of their own again. What looked like a thread may
    /// be the memory of one that has ended: the kernel copies a parent's `task_struct` before it
    /// changes the copy (`dup_task_struct`, kernel/fork.c).
    fn check_own_tables(&mut self, memory: &mut Memory<'_>) {
        let layout = &memory.kernel.layouts.task_struct;
        let (Reads { rows, addresses }, snapshot) = (&self.scratch.own_tables, &mut self.snapshot);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let row = &mut snapshot.threads[rows[index]];
            let before = row.task;
            let after = bytes.map(|bytes| Task::decode(layout, before.address, bytes));
            let is_same = |after: Task| after.is_same_thread(&before) && after.tgid == before.tgid;
            if after.is_some_and(|after| !is_same(after)) {
                row.files = None;
            } else if after.is_none_or(|after| after.files != before.files)
                && let Some(process) = snapshot.processes.at_mut(row.process)
            {
                process.files_stable = false;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::memory::{Sparse, add_process, kernel, small, walker};

    /// `TASK_NEW`
    const NEW: u64 = 0x800;

    /// What becomes of a process whose first thread had these states.
    fn fate_of(before: u64, after: u64) -> Fate {
        let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
        let process = add_process(&mut walker, &mut memory, 0);
        let leader = walker.snapshot.processes[process].leader;
        let task = &mut walker.snapshot.threads[leader].task;
        task.state = before as u32;
        memory.set(task.address.0, "task_struct", "__state", after);
        memory.walk(&mut walker, &kernel(), Walker::check_stability);
        walker.snapshot.processes[process].fate
    }

    /// A new task is a copy of its parent's until the kernel sets its own state, start and id, in
    /// that order. The first look may have the parent's state and the new start.
    #[test]
    fn a_task_that_is_new_at_the_second_look_is_unfinished() {
        assert_eq!(fate_of(0, 0), Fate::Lives);
        assert_eq!(fate_of(NEW, NEW), Fate::Unfinished);
        assert_eq!(fate_of(0, NEW), Fate::Unfinished);
        assert_eq!(fate_of(NEW, 0), Fate::Lives);
    }

    #[test]
    fn a_process_whose_parent_ended_has_the_next_one() {
        let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
        let [reaper, child] = [(); 2].map(|()| add_process(&mut walker, &mut memory, 0));
        let snapshot = &mut walker.snapshot;
        let [reaper, task] = [reaper, child]
            .map(|process| snapshot.threads[snapshot.processes[process].leader].task);
        let mut parent_of = |real_parent| {
            walker.snapshot.processes[child].parent_pid = 77;
            memory.set(task.address.0, "task_struct", "real_parent", real_parent);
            memory.walk(&mut walker, &kernel(), Walker::check_stability);
            walker.snapshot.processes[child].parent_pid
        };
        assert_eq!(parent_of(task.real_parent.0), 77);
        assert_eq!(parent_of(reaper.address.0), reaper.tgid);
        assert_eq!(parent_of(0xffff_8880_7777_0000), 0);
    }
}
