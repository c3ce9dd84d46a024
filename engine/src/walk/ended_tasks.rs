//! Processes that came and went between two scans, from memory that the kernel has not used again.
//!
//! The kernel frees an ended task only after an RCU grace period, and a slab allocator does not
//! clear what it frees (`delayed_put_task_struct`, kernel/exit.c; mm/slub.c without
//! `init_on_free`). So the task stays readable until another one gets its place. Tasks lie side by
//! side in slabs: the addresses of the tasks of a scan show how large these are, and where.
//!
//! A scan looks at the places of a slab that have no living task, if the kernel has counted forks
//! since the last look. What it finds are candidates: [`crate::state`] decides which of them no
//! scan has seen.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{PID_MAX_LIMIT, Task, TaskStruct};
use panoptes_decoders::layout::PackedField;
use panoptes_decoders::source::PAGE_BYTES;

use super::snapshot::ThreadRow;
use super::{Machine, ScannedMemory, Walker, fetch};
use panoptes_tables::{AddressedRows, Insertion, RecentList};

/// Maximum number of places that one scan reads.
const PLACES_MAX: usize = 1024;
/// Maximum number of slabs that are looked at although no task of a scan is in them.
const SLABS_MAX: usize = 256;
/// Largest slab: `1 << PAGE_ALLOC_COSTLY_ORDER` pages, `slub_max_order` (mm/slub.c), and room for
/// kernels that set it higher.
const LARGEST_SLAB_ORDER: u32 = 6;
/// Number of scans after which the sizes of slabs are looked for again, if they were not found.
const RETRY_SCANS: u32 = 64;
/// Number of scans that look after forks were counted: in the first, a task may still be ending.
const LOOKS: u8 = 2;
/// How much earlier than the last look but one a task may have begun: the machine's clock advances
/// by ticks.
const CLOCK_SLACK_NS: i64 = 100_000_000;

/// How the tasks of a kernel lie in their slabs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Shape {
    /// Bytes from one task to the next.
    stride: u64,
    slab_bytes: u64,
}

impl Shape {
    /// The only shape that all of these tasks fit, in ascending order of their addresses.
    fn of(tasks: &[KernelVa], layout: &TaskStruct) -> Option<Self> {
        let apart = tasks.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let stride = apart.filter(|&bytes| bytes >= layout.packing.end().into()).min()?;
        let fits = |shape: &Self| tasks.iter().all(|&task| shape.has(task));
        let shapes =
            (0..=LARGEST_SLAB_ORDER).map(|order| Self { stride, slab_bytes: PAGE_BYTES << order });
        shapes.into_iter().find(fits).filter(|shape| shape.keeps(layout))
    }

    const fn places(&self) -> u64 {
        self.slab_bytes / self.stride
    }

    const fn slab_of(&self, task: KernelVa) -> KernelVa {
        KernelVa(task.0 & !(self.slab_bytes - 1))
    }

    const fn has(&self, task: KernelVa) -> bool {
        let offset = task.0 - self.slab_of(task).0;
        offset.is_multiple_of(self.stride) && offset / self.stride < self.places()
    }

    /// Whether a free task keeps what is read of it. The allocator links free objects by a pointer
    /// in their middle (`calculate_sizes`, mm/slub.c), whose size it rounds up to cache lines.
    fn keeps(&self, layout: &TaskStruct) -> bool {
        let middle = self.stride / 2;
        let pointer = middle.saturating_sub(64 / 2 + 8)..middle + 8;
        let is_kept = |field: PackedField| {
            let (start, end) = (u64::from(field.offset), u64::from(field.offset + field.size));
            end <= pointer.start || start >= pointer.end
        };
        [
            layout.state,
            layout.exit_state,
            layout.flags,
            layout.pid,
            layout.tgid,
            layout.comm,
            layout.start_boottime,
            layout.self_exec_id,
            layout.real_parent,
            layout.group_leader,
        ]
        .into_iter()
        .chain(layout.loginuid)
        .chain(layout.sessionid)
        .all(is_kept)
    }
}

/// Places of a system's tasks, as far as they are known.
#[derive(Debug)]
pub(super) struct TaskPlaces {
    shape: Option<Shape>,
    /// Number of scans until the shape is looked for.
    retry: u32,
    /// Slabs in which tasks began since then.
    slabs: RecentList<KernelVa>,
    newest_start: u64,
    /// The kernel's count of forks at the last scan.
    forks: Option<u64>,
    looks_left: u8,
    /// The machine's time since boot at the last looks, the later one first.
    looked_ns: [i64; LOOKS as usize],
}

impl TaskPlaces {
    pub(super) fn new() -> Self {
        Self {
            shape: None,
            retry: 0,
            slabs: RecentList::new(SLABS_MAX),
            newest_start: 0,
            forks: None,
            looks_left: 0,
            looked_ns: [i64::MAX; LOOKS as usize],
        }
    }

    pub(super) fn forget(&mut self) {
        self.slabs.clear();
        (self.shape, self.retry, self.newest_start) = (None, 0, 0);
        (self.forks, self.looks_left) = (None, 0);
        self.looked_ns = [i64::MAX; LOOKS as usize];
    }

    /// Whether a scan has to look, by the kernel's count of forks.
    fn is_due(&mut self, machine: &Machine) -> bool {
        let before = self.forks;
        self.forks = machine.total_forks.or(before);
        if before.is_some() && before != self.forks {
            self.looks_left = LOOKS;
        }
        let is_due = self.looks_left > 0;
        self.looks_left = self.looks_left.saturating_sub(1);
        is_due
    }

    /// The earliest start of a task that the looks before can have missed.
    fn since(&mut self, machine: &Machine) -> u64 {
        let [last, before] = self.looked_ns;
        self.looked_ns = [machine.boot_ns().unwrap_or(i64::MAX), last];
        u64::try_from(before.saturating_sub(CLOCK_SLACK_NS)).unwrap_or(0)
    }

    /// Remembers the slabs of tasks that began since the last call.
    fn remember(&mut self, shape: Shape, threads: &AddressedRows<ThreadRow>) {
        let before = self.newest_start;
        for task in threads.iter().skip(1).map(|row| &row.task) {
            if task.start_boottime <= before {
                continue;
            }
            self.newest_start = self.newest_start.max(task.start_boottime);
            // All are new in the first scan.
            if before != 0 {
                self.slabs.insert(shape.slab_of(task.address));
            }
        }
    }
}

impl Walker {
    /// Fills [`super::Snapshot::ended`].
    pub(super) fn find_ended_tasks(&mut self, memory: &mut ScannedMemory<'_>) {
        let is_due = self.places.is_due(&self.snapshot.machine);
        let layout = &memory.kernel.layouts.task_struct;
        let Some(shape) = self.shape_of_slabs(layout) else { return };
        let since = self.places.since(&self.snapshot.machine);
        // Tasks begin only where forks are counted.
        if is_due || self.places.newest_start == 0 {
            self.places.remember(shape, &self.snapshot.threads);
        }
        if !is_due {
            return;
        }
        self.collect_places(shape);
        let (addresses, ended) = (&self.scratch.addresses, &mut self.snapshot.ended);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let Some(bytes) = bytes else { return };
            let task = Task::decode(layout, addresses[index], bytes);
            if is_ended_process(&task) && task.start_boottime > since && ended.room() > 0 {
                ended.push(task);
            }
        });
        self.check_ended_tasks(memory);
        for task in self.snapshot.ended.iter() {
            self.places.slabs.insert(shape.slab_of(task.address));
        }
    }

    /// How tasks lie in slabs, from the addresses of those of the scan.
    fn shape_of_slabs(&mut self, layout: &TaskStruct) -> Option<Shape> {
        if self.places.shape.is_none() {
            if self.places.retry > 0 {
                self.places.retry -= 1;
                return None;
            }
            self.places.retry = RETRY_SCANS;
            let addresses = &mut self.scratch.addresses;
            addresses.clear();
            let tasks = self.snapshot.threads.iter().skip(1).map(|row| row.task.address);
            addresses.extend(tasks.take(addresses.capacity()));
            addresses.sort_unstable();
            self.places.shape = Shape::of(addresses, layout);
        }
        self.places.shape
    }

    /// Collects the places of ended tasks: those that the scan has no living task of, in slabs that
    /// have or had one.
    fn collect_places(&mut self, shape: Shape) {
        let (places, visited) = (&mut self.scratch.addresses, &mut self.visited);
        let threads = &self.snapshot.threads;
        places.clear();
        visited.clear();
        let has_ended = |place: KernelVa| {
            threads.find(place.0).is_none_or(|at| threads[at].task.was_released())
        };
        // The last tasks of the IDR are mostly the last that began.
        let shown = threads.iter().skip(1).rev().map(|row| shape.slab_of(row.task.address));
        for slab in self.places.slabs.iter().copied().chain(shown) {
            if places.len() >= PLACES_MAX {
                return;
            }
            if visited.insert(slab.0, 0) == Insertion::New {
                let all = (0..shape.places()).map(|at| slab.plus(at * shape.stride));
                places.extend(all.filter(|&place| has_ended(place)));
            }
        }
    }

    /// Reads the ended tasks once more, and removes those that changed meanwhile: another task may
    /// be about to get the place, and what was read a mixture of both.
    fn check_ended_tasks(&mut self, memory: &mut ScannedMemory<'_>) {
        let layout = &memory.kernel.layouts.task_struct;
        let (addresses, ended) = (&mut self.scratch.addresses, &mut self.snapshot.ended);
        addresses.clear();
        addresses.extend(ended.iter().map(|task| task.address));
        let all = ended.as_mut_slice();
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let again = bytes.map(|bytes| Task::decode(layout, addresses[index], bytes));
            if again.is_none_or(|again| !is_same(&again, &all[index])) {
                all[index].pid = 0;
            }
        });
        ended.retain(|task| task.pid != 0);
    }
}

/// Whether what was read is the first thread of a process that has ended. Its credentials, its
/// memory and its lists are gone by then.
fn is_ended_process(task: &Task) -> bool {
    let is_name = task.comm[0] != 0 && task.comm.last() == Some(&0);
    task.was_released()
        && task.is_leader()
        && task.group_leader == task.address
        && (1..=PID_MAX_LIMIT).contains(&task.pid)
        && task.real_parent.is_plausible()
        && is_name
}

/// Whether two copies of an ended task have the same in all that is reported.
fn is_same(one: &Task, other: &Task) -> bool {
    one.is_same_thread(other)
        && one.was_released()
        && (one.tgid, one.comm, one.real_parent) == (other.tgid, other.comm, other.real_parent)
        && one.self_exec_id == other.self_exec_id
        && (one.loginuid, one.sessionid) == (other.loginuid, other.sessionid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use panoptes_decoders::layout::PackedLayout;

    fn layout() -> TaskStruct {
        let field = |offset, size| PackedField { offset, size, ..PackedField::default() };
        let comm = field(2000, 16);
        TaskStruct { packing: PackedLayout::of(&[comm]), comm, ..TaskStruct::default() }
    }

    fn at(slab: u64, place: u64, stride: u64) -> KernelVa {
        KernelVa(0xffff_8880_0000_0000 + (slab << 15) + place * stride)
    }

    #[test]
    fn the_addresses_of_tasks_show_their_slabs() {
        let tasks = [at(4, 0, 9920), at(4, 1, 9920), at(7, 2, 9920), at(8, 0, 9920)];
        let shape = Shape::of(&tasks, &layout());
        assert_eq!(shape, Some(Shape { stride: 9920, slab_bytes: 32 << 10 }));
    }

    #[test]
    fn addresses_that_are_not_those_of_slabs_have_no_shape() {
        let tasks = [at(4, 0, 9920), at(4, 1, 9920), at(7, 0, 1).plus(8)];
        assert_eq!(Shape::of(&tasks, &layout()), None);
        assert_eq!(Shape::of(&tasks[..1], &layout()), None);
        assert_eq!(Shape::of(&[], &layout()), None);
    }

    /// The pointer to the next free object would be read as a part of the name.
    #[test]
    fn tasks_whose_middle_is_read_are_not_used() {
        let tasks = [at(4, 0, 4032), at(4, 1, 4032)];
        assert_eq!(Shape::of(&tasks, &layout()), None);
    }
}
