//! What a scan could not read, by kind, and the reasons to stop early.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;

use crate::loss::{FREQUENT_STOPS_MAX, FrequentStop, StopTallies};

/// The kinds of objects that a scan may fail to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScanPart {
    Tasks,
    Pids,
    Processes,
    Namespaces,
    ControlGroups,
    AddressSpaces,
    MemoryAreas,
    DescriptorTables,
    Files,
    Sockets,
    Interfaces,
    Modules,
    Bpf,
}

impl ScanPart {
    /// All of them, with the words for one and for several.
    pub const ALL: [(Self, [&'static str; 2]); 13] = [
        (Self::Tasks, ["task", "tasks"]),
        (Self::Pids, ["entry of the pid tree", "entries of the pid tree"]),
        (Self::Processes, ["structure of a process", "structures of processes"]),
        (Self::Namespaces, ["namespace", "namespaces"]),
        (Self::ControlGroups, ["control group", "control groups"]),
        (Self::AddressSpaces, ["address space", "address spaces"]),
        (Self::MemoryAreas, ["memory area", "memory areas"]),
        (Self::DescriptorTables, ["descriptor table", "descriptor tables"]),
        (Self::Files, ["file or name", "files or names"]),
        (Self::Sockets, ["socket", "sockets"]),
        (Self::Interfaces, ["interface", "interfaces"]),
        (Self::Modules, ["kernel module", "kernel modules"]),
        (Self::Bpf, ["eBPF object", "eBPF objects"]),
    ];
}

macro_rules! walked_structures {
    ($($(#[$doc:meta])* $structure:ident $part:ident $words:literal;)+) => {
        /// The structures that a scan reads or follows.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum WalkedStructure {
            $($(#[$doc])* $structure,)+
        }

        impl WalkedStructure {
            const ALL: &[Self] = &[$(Self::$structure,)+];

            /// The kind as which it is counted. `None` if that is no loss: a row shows what it
            /// lacks, other lists show it, or nothing but a forged structure ends early.
            const fn part(self) -> Option<ScanPart> {
                match self {
                    $(Self::$structure => walked_structures!(@part $part),)+
                }
            }

            /// Words for one.
            const fn words(self) -> &'static str {
                match self {
                    $(Self::$structure => $words,)+
                }
            }
        }
    };
    (@part Uncounted) => { None };
    (@part $part:ident) => { Some(ScanPart::$part) };
}

walked_structures! {
    Task Tasks "task";
    TaskList Tasks "task list";
    /// Tasks that no list shows, each of which leads to the next one.
    TaskHints Uncounted "chain of tasks that no list shows";
    /// A process's list of threads. It ends early when a thread moves.
    ThreadList Uncounted "thread list";
    /// A list that ends early when a task moves, as the next three do. The row of a process has the
    /// views of which nothing is known then.
    ChildList Uncounted "list of children";
    TaskGroupList Uncounted "list of a process group or session";
    ControlGroupTaskList Uncounted "tasks of a control group";
    RunQueueList Uncounted "run queue";
    /// Addresses of tasks, or of lists that lead to tasks, beside the IDR and the task list.
    HintList Uncounted "list of ways to tasks";
    PidTreeNode Pids "node of the pid tree";
    /// A pid tree that changed while it was read, or was forged. What it lacks, other views show.
    PidTree Uncounted "pid tree";
    Pid Pids "struct pid";
    /// `signal_struct`, `fs_struct`, `cred`, `nsproxy` or `struct pid` of a process.
    ProcessStructure Processes "structure of a process";
    /// A number of a process, which leads to its pid namespace. The row of the process lacks that.
    ProcessNumber Uncounted "number of a process";
    Namespace Namespaces "namespace";
    /// A mount or pid namespace. The row of a process in it lacks its number.
    ProcessNamespace Uncounted "namespace of a process";
    /// An unknown maker, for whom the user of a process stands.
    UserNamespaceNesting Uncounted "nesting of user namespaces";
    MessageQueues Namespaces "tree of message queues";
    /// A tree that is deeper than the numbers of queues, so it was forged.
    QueueTree Uncounted "levels of a tree of message queues";
    ControlGroup ControlGroups "control group";
    AddressSpace AddressSpaces "address space";
    AreaNode AddressSpaces "node of a tree of memory areas";
    /// A tree of areas that changed while it was read, or was forged.
    AreaTree Uncounted "tree of memory areas";
    MemoryArea MemoryAreas "memory area";
    DescriptorTable DescriptorTables "descriptor table";
    File Files "open file";
    Dentry Files "name of a file";
    Inode Files "inode";
    Mount Files "mount";
    SuperBlock Files "filesystem";
    /// `css_set`, `cgroup_subsys_state`, `cgroup` or `kernfs_node`.
    GroupStructure Files "structure of a control group";
    /// The path of a control group. What is in it has no known container.
    GroupPath Uncounted "path of a control group";
    Path Files "path of a file";
    /// A name that was changing whenever it was read. A file below it has no path.
    ChangingName Uncounted "name that changes";
    IoRing Files "io_uring";
    IoRingTable Files "table of an io_uring";
    /// A slot whose node could not be read. It may have been emptied meanwhile.
    IoRingSlot Uncounted "slot of an io_uring";
    SocketTable Sockets "table of sockets";
    /// An array of buckets that cannot be one, or that finds no room. Its table was read.
    SocketBuckets Uncounted "buckets of a table of sockets";
    SocketChain Sockets "chain of sockets";
    /// The set of the sockets in TCP's chains. It has more room than their rows, which are counted.
    VisitedSockets Uncounted "visited sockets";
    Socket Sockets "socket";
    /// A socket that is in two chains. It moved meanwhile, or the chain was forged.
    SocketRepetition Uncounted "chain of sockets that meets another one";
    Terminal Sockets "terminal";
    InterfaceList Interfaces "list of interfaces";
    Interface Interfaces "interface";
    /// An interface without some of its addresses is still one.
    AddressList Uncounted "addresses of an interface";
    Module Modules "kernel module";
    ModuleList Modules "list of kernel modules";
    ModuleTree Modules "tree of kernel modules";
    ModuleKset Modules "objects of kernel modules";
    /// A module without some of its users, or sections, is still one.
    ModuleUses Uncounted "users of a kernel module";
    ModuleSections Uncounted "sections of a kernel module";
    BpfProgram Bpf "eBPF program";
    BpfMap Bpf "eBPF map";
    BpfLink Bpf "eBPF link";
    BpfTreeNode Bpf "node of a tree of eBPF objects";
    /// A tree that changed while it was read, or was forged. The scan notes that it is incomplete.
    BpfTree Bpf "tree of eBPF objects";
    BpfSymbols Bpf "list of the symbols of eBPF";
    /// A program whose helpers are unknown is still one.
    BpfCode Uncounted "instructions of an eBPF program";
    /// The same of a link whose place is.
    BpfPlace Uncounted "place of an eBPF link";
}

/// Numbers of objects that a scan could not read or had no room for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Objects that a list or table names but that could not be read.
    pub unreadable: u32,
    /// Lists or trees that did not end within their bound.
    pub unbounded: u32,
    /// Objects, or rests of lists and tables, that found no room.
    pub dropped: u32,
    /// A process that led to more objects than others, if some were dropped for that.
    pub process_id: Option<u32>,
    /// Attributes that are not resident (user memory swapped out or never touched).
    pub not_resident: u32,
    pub(crate) unreadable_by: [u32; ScanPart::ALL.len()],
    pub(crate) unbounded_by: [u32; ScanPart::ALL.len()],
    /// Early stops, by their place in [`WalkedStructure::ALL`].
    pub(crate) stops: StopTallies<{ WalkedStructure::ALL.len() }>,
}

impl Losses {
    /// Counts an object that could not be read.
    #[cold]
    pub(super) fn miss(&mut self, structure: WalkedStructure, address: KernelVa) {
        self.stop(structure, EarlyStop::Unreadable { address });
    }

    /// Counts an object, or the rest of a list, for which there is no room: not more than so many
    /// have any.
    #[cold]
    pub(super) fn cut(&mut self, structure: WalkedStructure, rows: usize) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.stop(structure, EarlyStop::NoRoom { rows });
    }

    /// Counts an object that could not be read or had no room, or a list or tree that did not end
    /// within its bound.
    #[cold]
    pub(super) fn stop(&mut self, structure: WalkedStructure, stop: EarlyStop) {
        self.stops.add(structure as usize, stop);
        let Some(part) = structure.part() else { return };
        let (all, by_part) = if is_of_object(stop) {
            (&mut self.unreadable, &mut self.unreadable_by)
        } else if is_of_list(stop) {
            (&mut self.unbounded, &mut self.unbounded_by)
        } else {
            self.dropped = self.dropped.saturating_add(1);
            return;
        };
        *all = all.saturating_add(1);
        by_part[part as usize] = by_part[part as usize].saturating_add(1);
    }

    /// How many objects of a kind could not be read, and how many of their lists did not end.
    pub const fn of(&self, part: ScanPart) -> (u32, u32) {
        (self.unreadable_by[part as usize], self.unbounded_by[part as usize])
    }

    /// Whether nothing was lost but attributes that are not resident. What a row itself shows to
    /// be incomplete does not count.
    pub(super) const fn is_whole(&self) -> bool {
        self.unreadable == 0
            && self.unbounded == 0
            && self.dropped == 0
            && self.process_id.is_none()
    }

    /// Forgets all that [`Self::is_whole`] counts: what is left is what a whole scan may lose.
    pub(super) fn forget_counted(&mut self) {
        if self.is_whole() {
            return;
        }
        (self.unreadable, self.unbounded, self.dropped, self.process_id) = (0, 0, 0, None);
        self.unreadable_by.fill(0);
        self.unbounded_by.fill(0);
        for (at, structure) in WalkedStructure::ALL.iter().enumerate() {
            if structure.part().is_some() {
                self.stops.forget(at);
            }
        }
    }

    /// Forgets the reasons at structures that count as no loss, because they are read again.
    pub(super) fn forget_stops(&mut self, structures: &[WalkedStructure]) {
        for &structure in structures {
            debug_assert!(structure.part().is_none(), "a count would have no reason");
            self.stops.forget(structure as usize);
        }
    }

    /// The most frequent reasons, by number.
    pub fn frequent_stops(&self) -> ArrayVec<FrequentStop, FREQUENT_STOPS_MAX> {
        self.most_frequent(|_, _| true)
    }

    /// The most frequent reason among those that [`Self::unreadable`] counts.
    pub(crate) fn frequent_unreadable(&self) -> Option<FrequentStop> {
        let is_wanted = |structure: WalkedStructure, stop: EarlyStop| {
            structure.part().is_some() && is_of_object(stop)
        };
        self.most_frequent::<1>(is_wanted).pop()
    }

    /// The most frequent reason among those that [`Self::unbounded`] counts.
    pub(crate) fn frequent_unbounded(&self) -> Option<FrequentStop> {
        let is_wanted = |structure: WalkedStructure, stop: EarlyStop| {
            structure.part().is_some() && is_of_list(stop)
        };
        self.most_frequent::<1>(is_wanted).pop()
    }

    /// The most frequent reason among those that [`Self::dropped`] counts, unless most of these are
    /// rows of tables, which have none.
    pub(crate) fn frequent_dropped(&self) -> Option<FrequentStop> {
        let is_wanted = |structure: WalkedStructure, stop: EarlyStop| {
            structure.part().is_some() && matches!(stop, EarlyStop::NoRoom { .. })
        };
        let most = self.most_frequent::<1>(is_wanted).pop();
        most.filter(|stop| u64::from(stop.count) * 2 >= u64::from(self.dropped))
    }

    fn most_frequent<const STOPS: usize>(
        &self,
        is_wanted: impl Fn(WalkedStructure, EarlyStop) -> bool,
    ) -> ArrayVec<FrequentStop, STOPS> {
        self.stops.most_frequent(|at, stop| {
            let &structure = WalkedStructure::ALL.get(at)?;
            is_wanted(structure, stop).then(|| structure.words())
        })
    }

    /// Losses of a scan to which these tasks were unreadable, for tests.
    #[cfg(test)]
    pub(crate) fn of_tasks(tasks: &[KernelVa]) -> Self {
        let mut losses = Self::default();
        for &task in tasks {
            losses.miss(WalkedStructure::Task, task);
        }
        losses
    }

    /// Losses of a scan that cut so many descriptor tables, for tests.
    #[cfg(test)]
    pub(crate) fn of_cut_tables(count: u32) -> Self {
        let mut losses = Self::default();
        for _ in 0..count {
            losses.cut(WalkedStructure::DescriptorTable, 64);
        }
        losses
    }
}

/// Whether a reason is about one object that cannot be read.
const fn is_of_object(stop: EarlyStop) -> bool {
    matches!(stop, EarlyStop::Unreadable { .. } | EarlyStop::Changed { .. })
}

/// Whether a reason is about a list or tree that does not end.
const fn is_of_list(stop: EarlyStop) -> bool {
    matches!(stop, EarlyStop::Loop { .. } | EarlyStop::TooLong { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(losses: &Losses) -> Vec<(u32, String)> {
        losses.frequent_stops().iter().map(|stop| (stop.count, stop.to_string())).collect()
    }

    #[test]
    fn the_most_frequent_reasons_are_named_with_the_first_address() {
        let mut losses = Losses::of_tasks(&[KernelVa(0x10), KernelVa(0x20)]);
        assert_eq!(texts(&losses), [(2, "task: unreadable at 0x10".to_owned())]);
        losses.stop(WalkedStructure::SocketChain, EarlyStop::TooLong { limit: 4096 });
        for address in [0x30, 0x40, 0x50] {
            let stop = EarlyStop::Loop { address: KernelVa(address) };
            losses.stop(WalkedStructure::TaskList, stop);
        }
        losses.miss(WalkedStructure::Inode, KernelVa(0x60));
        let expected = [
            (3, "task list: loop at 0x30"),
            (2, "task: unreadable at 0x10"),
            (1, "inode: unreadable at 0x60"),
        ];
        assert_eq!(texts(&losses), expected.map(|(count, text)| (count, text.to_owned())));
        assert_eq!((losses.unreadable, losses.unbounded), (3, 4));
        assert_eq!(losses.of(ScanPart::Tasks), (2, 3));
        assert_eq!(losses.of(ScanPart::Sockets), (0, 1));
    }

    #[test]
    fn each_gap_has_the_most_frequent_of_its_own_reasons() {
        let mut losses = Losses::default();
        assert_eq!((losses.frequent_unreadable(), losses.frequent_unbounded()), (None, None));
        losses.miss(WalkedStructure::Mount, KernelVa(0x10));
        for _ in 0..2 {
            losses.stop(WalkedStructure::Path, EarlyStop::TooLong { limit: 2112 });
        }
        let texts = [losses.frequent_unreadable(), losses.frequent_unbounded()]
            .map(|stop| stop.map(|stop| stop.to_string()));
        let expected = ["mount: unreadable at 0x10", "path of a file: longer than 2112"];
        assert_eq!(texts, expected.map(|text| Some(text.to_owned())));
    }

    #[test]
    fn what_found_no_room_has_its_own_reason() {
        let mut losses = Losses::default();
        losses.cut(WalkedStructure::SocketTable, 4096);
        losses.cut(WalkedStructure::SocketTable, 8192);
        assert_eq!((losses.unreadable, losses.unbounded, losses.dropped), (0, 0, 2));
        assert_eq!((losses.frequent_unreadable(), losses.frequent_unbounded()), (None, None));
        let text = |losses: &Losses| losses.frequent_dropped().map(|stop| stop.to_string());
        let expected = Some("table of sockets: no room among 4096".to_owned());
        assert_eq!(text(&losses), expected);
        // Rows of tables.
        losses.dropped += 2;
        assert_eq!(text(&losses), expected);
        losses.dropped += 1;
        assert_eq!(text(&losses), None);
        losses.forget_counted();
        assert_eq!(losses, Losses::default());
    }

    /// The row of an address space shows that it is incomplete.
    #[test]
    fn a_tree_of_areas_that_changes_is_named_and_counts_as_no_loss() {
        let mut losses = Losses::default();
        losses.stop(WalkedStructure::AreaTree, EarlyStop::Loop { address: KernelVa(0x10) });
        assert!(losses.is_whole());
        assert_eq!((losses.frequent_unreadable(), losses.frequent_unbounded()), (None, None));
        assert_eq!(texts(&losses), [(1, "tree of memory areas: loop at 0x10".to_owned())]);
    }

    #[test]
    fn what_is_read_again_is_forgotten() {
        let mut losses = Losses::default();
        losses.miss(WalkedStructure::SocketTable, KernelVa(0x10));
        let before = losses;
        losses.miss(WalkedStructure::SocketBuckets, KernelVa(0x20));
        losses.cut(WalkedStructure::VisitedSockets, 8192);
        assert_eq!((losses.unreadable, losses.dropped), (1, 0));
        losses.forget_stops(&[WalkedStructure::SocketBuckets, WalkedStructure::VisitedSockets]);
        assert_eq!(losses, before);
    }

    #[test]
    fn what_a_whole_scan_may_lose_stays_when_the_rest_is_forgotten() {
        let mut whole = Losses { not_resident: 3, ..Losses::default() };
        whole.stop(WalkedStructure::AreaTree, EarlyStop::Loop { address: KernelVa(0x10) });
        let mut losses = whole;
        losses.miss(WalkedStructure::Socket, KernelVa(0x20));
        losses.stop(WalkedStructure::SocketChain, EarlyStop::TooLong { limit: 4096 });
        (losses.dropped, losses.process_id) = (5, Some(42));
        assert!(!losses.is_whole());
        losses.forget_counted();
        assert_eq!(losses, whole);
        losses.dropped = 1;
        losses.forget_counted();
        assert_eq!(losses, whole);
    }
}
