//! The second look at tasks: what changed while a scan read the machine.

use panoptes_decoders::kernel::file::OpenFile;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::View;

use super::{Index, ProcessRow, Reads, ScannedMemory, WalkScratch, Walker, fetch};

/// What became of a task during a scan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TaskFate {
    /// It was there at the end of the scan as at its beginning.
    #[default]
    Lives,
    /// It was not stable, and its executable at the end of the scan is not the one that was read.
    /// That may never have been its own: an exec frees the memory of the last one.
    ProgramChanged,
    /// It was still under construction: it may be in no list yet, and have its parent's id.
    Unfinished,
    /// It ended.
    Ended,
    /// It ended, and its memory was another task's by the end of the scan. Even its identity may be
    /// a mixture.
    Replaced,
}

impl ProcessRow {
    /// Notes that its leader's memory is another task's.
    fn set_replaced(&mut self) {
        (self.stable, self.files_stable) = (false, false);
        self.fate = TaskFate::Replaced;
    }
}

impl Walker {
    /// Reads every process's leader again. If it has changed, this scan's data about the process
    /// may be inconsistent.
    pub(super) fn check_stability(&mut self, memory: &mut ScannedMemory<'_>) {
        let layout = &memory.kernel.layouts.task_struct;
        let snapshot = &mut self.snapshot;
        let WalkScratch { addresses, renamed, nested: moved, .. } = &mut self.scratch;
        renamed.clear();
        moved.clear();
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
                _ if is_replaced => TaskFate::Replaced,
                // A copy made piece by piece can have its parent's state and its own start.
                Some(after) if after.is_unfinished() => TaskFate::Unfinished,
                Some(after) if before.exit_state == 0 && has_ended(after) => TaskFate::Ended,
                _ => TaskFate::Lives,
            };
            process.stable = after.is_some_and(|after| {
                after.mm == before.mm
                    && after.self_exec_id == before.self_exec_id
                    && (after.exit_state == 0) == (before.exit_state == 0)
                    // A zombie that its parent released has nothing any more (`__unhash_process`).
                    && !after.thread_pid.is_null()
            });
            if !process.stable && process.fate == TaskFate::Lives {
                process.fate = TaskFate::ProgramChanged;
                if let (Some(after), Some(row)) = (after, Index::new(index))
                    && moved.has_room()
                {
                    moved.push(row, after.mm);
                }
            }
        });
        self.check_executables(memory);
        self.check_names(memory);
        self.check_own_tables(memory);
    }

    /// Reads once more the executables of processes that moved. An exec releases the address space
    /// and the executable, whose memory may have been another file's when the scan read it.
    fn check_executables(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let Self { reader, snapshot, scratch, .. } = self;
        let (Reads { rows, addresses: spaces }, found) = (&scratch.nested, &mut scratch.addresses);
        found.clear();
        fetch(reader, memory, &layouts.mm_struct.packing, spaces, |_, bytes| {
            let exe_file = bytes.map(|bytes| View::new(bytes).pointer(layouts.mm_struct.exe_file));
            found.push(exe_file.unwrap_or_default());
        });
        fetch(reader, memory, &layouts.file.packing, found, |index, bytes| {
            let row = rows[index];
            let before = snapshot.mms.at(snapshot.processes[row].mm);
            let before = before.and_then(|mm| snapshot.files.at(mm.exe_file)).map(|file| file.open);
            let after = bytes.map(|bytes| OpenFile::decode(&layouts.file, bytes));
            let is_same = before.zip(after).is_some_and(|(before, after)| {
                !after.dentry.is_null() && (before.dentry, before.mnt) == (after.dentry, after.mnt)
            });
            if is_same {
                snapshot.processes[row].fate = TaskFate::Lives;
            }
        });
        // The address space was alive until now if it still is the process's.
        found.clear();
        let leaders = rows.iter().map(|&row| snapshot.processes[row].leader);
        found.extend(leaders.map(|leader| snapshot.threads[leader].task.address));
        let layout = &layouts.task_struct;
        fetch(reader, memory, &layout.packing, found, |index, bytes| {
            let process = &mut snapshot.processes[rows[index]];
            let before = &snapshot.threads[process.leader].task;
            let now = bytes.map(|bytes| Task::decode(layout, before.address, bytes));
            match now.filter(|now| now.is_same_thread(before)) {
                None => process.set_replaced(),
                Some(now) if now.mm != spaces[index] => process.fate = TaskFate::ProgramChanged,
                Some(_) => {}
            }
        });
    }

    /// Reads the tasks with a later name once more: the second look, too, was piece by piece.
    fn check_names(&mut self, memory: &mut ScannedMemory<'_>) {
        let layout = &memory.kernel.layouts.task_struct;
        let (Reads { rows, addresses }, snapshot) = (&self.scratch.renamed, &mut self.snapshot);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let row = &mut snapshot.threads[rows[index]];
            let after = bytes.map(|bytes| Task::decode(layout, row.task.address, bytes));
            if after.is_none_or(|after| !after.is_same_thread(&row.task))
                && let Some(process) = snapshot.processes.at_mut(row.process)
            {
                process.set_replaced();
            }
        });
    }

    /// Reads the threads with descriptor tables of their own again. What looked like a thread may
    /// be the memory of one that has ended: the kernel copies a parent's `task_struct` before it
    /// changes the copy (`dup_task_struct`, kernel/fork.c).
    fn check_own_tables(&mut self, memory: &mut ScannedMemory<'_>) {
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
    use crate::walk::snapshot::{FileRow, MmRow};
    use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};

    /// `TASK_NEW`
    const NEW: u64 = 0x800;

    /// What becomes of a process whose first thread had these states.
    fn fate_of(before: u64, after: u64) -> TaskFate {
        let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
        let process = add_process(&mut walker, &mut memory, 0);
        let leader = walker.snapshot.processes[process].leader;
        let task = &mut walker.snapshot.threads[leader].task;
        task.state = before as u32;
        memory.set(task.address.0, "task_struct", "__state", after);
        memory.set(task.address.0, "task_struct", "thread_pid", 1);
        memory.walk(&mut walker, &kernel(), Walker::check_stability);
        walker.snapshot.processes[process].fate
    }

    /// A new task is a copy of its parent's until the kernel sets its own state, start and id, in
    /// that order. The first look may have the parent's state and the new start.
    #[test]
    fn a_task_that_is_new_at_the_second_look_is_unfinished() {
        assert_eq!(fate_of(0, 0), TaskFate::Lives);
        assert_eq!(fate_of(NEW, NEW), TaskFate::Unfinished);
        assert_eq!(fate_of(0, NEW), TaskFate::Unfinished);
        assert_eq!(fate_of(NEW, 0), TaskFate::Lives);
    }

    /// The memory of the executable may be a library's file by the second look.
    #[test]
    fn the_executable_of_a_process_that_moved_is_read_again() {
        let (mut memory, mut walker, kernel) = (Sparse::default(), walker(&small()), kernel());
        let process = add_process(&mut walker, &mut memory, 0);
        let [old, new, first, second] = [0; 4].map(|_| memory.structure());
        let [program, library, mount] = [0; 3].map(|_| memory.structure());
        let leader = walker.snapshot.processes[process].leader;
        walker.snapshot.threads[leader].task.mm = va(old);
        let task = walker.snapshot.threads[leader].task;
        let file = walker.snapshot.files.row_of(first, || FileRow {
            address: va(first),
            open: OpenFile { dentry: va(program), mnt: va(mount), ..OpenFile::default() },
            ..FileRow::default()
        });
        let row = MmRow { address: va(old), exe_file: file, ..MmRow::default() };
        walker.snapshot.processes[process].mm = walker.snapshot.mms.row_of(old, || row);
        memory.set(task.address.0, "task_struct", "thread_pid", first);
        for file in [first, second] {
            memory.set(file, "file", "f_path.mnt", mount);
        }
        let mut is_confirmed = |mm, exe_file, dentry| {
            memory.set(task.address.0, "task_struct", "mm", mm);
            memory.set(mm, "mm_struct", "exe_file", exe_file);
            if exe_file != 0 {
                memory.set(exe_file, "file", "f_path.dentry", dentry);
            }
            memory.walk(&mut walker, &kernel, Walker::check_stability);
            let row = &walker.snapshot.processes[process];
            (row.stable, row.fate)
        };
        assert_eq!(is_confirmed(old, first, program), (true, TaskFate::Lives), "it did not move");
        assert_eq!(
            is_confirmed(new, second, program),
            (false, TaskFate::Lives),
            "the same program again"
        );
        assert_eq!(
            is_confirmed(new, second, library),
            (false, TaskFate::ProgramChanged),
            "another program"
        );
        assert_eq!(
            is_confirmed(new, 0, program),
            (false, TaskFate::ProgramChanged),
            "no executable"
        );
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
