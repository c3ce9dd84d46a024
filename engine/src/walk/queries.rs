//! Lookups in the rows of a scan.

use panoptes_decoders::container::Maker;
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::super_block::{Filesystem, magic};
use xxhash_rust::xxh3::xxh3_64;

use super::capability_sets::CapabilitySet;
use super::losses::ScanPart;
use super::ring_rows::RingRow;
use super::snapshot::{
    DescriptorRow, FileRow, FilesRow, Index, NetRow, ProcessRow, Span, ThreadRow,
};
use super::tables::Snapshot;

/// Maximum number of containers inside each other that are followed.
const NESTED_MAX: usize = 16;

/// The user that a process with a user id belongs to, given who has logged in.
pub(crate) fn user(uid: u32, login: Option<u32>) -> u32 {
    if uid == 0 { 0 } else { login.filter(|&login| login != 0).unwrap_or(uid) }
}

impl Snapshot {
    /// The bytes in a span of [`Snapshot::bytes`].
    pub fn text(&self, span: Span<u8>) -> &[u8] {
        self.bytes.range(span)
    }

    /// A process's threads, ascending by thread id.
    pub fn threads_of(&self, process: &ProcessRow) -> impl Iterator<Item = &ThreadRow> {
        let threads = self.by_tid.range(process.threads).iter();
        threads.filter_map(|&index| self.threads.at(index))
    }

    /// Whether the scan has all threads of a process. Only a copy of memory lacks some of them,
    /// which could not be copied.
    pub fn has_all_threads(&self, process: &ProcessRow) -> bool {
        !(self.copied.is_copy() && self.threads[process.leader].lacks_threads)
    }

    /// Whether the scan has all threads that share a table of descriptors with a process. Any task
    /// of a copy that could not be read may be one of them.
    pub fn has_all_holders(&self, process: &ProcessRow) -> bool {
        self.has_all_threads(process) && !self.lacks_tasks()
    }

    /// Whether memory is a copy without all tasks.
    pub(super) fn lacks_tasks(&self) -> bool {
        self.copied.is_copy() && self.losses.of(ScanPart::Tasks) != (0, 0)
    }

    /// Whether the scan has all network interfaces.
    pub fn has_all_interfaces(&self) -> bool {
        self.losses.of(ScanPart::Interfaces) == (0, 0)
    }

    /// A process's tables of descriptors, each once: first the main table, then the tables of
    /// threads with their own, by their lowest thread id.
    pub fn files_structs_of(&self, process: &ProcessRow) -> impl Iterator<Item = &FilesRow> {
        let first = process.files;
        let others = self.threads_of(process).filter_map(move |row| {
            let table = self.files_structs.at(row.files)?;
            let lowest = self.files_threads.at(table.threads.first());
            (row.files != first && lowest == Some(&row.task.pid)).then_some(table)
        });
        self.files_structs.at(first).into_iter().chain(others)
    }

    /// The container of a process: the identifier or name that its runtime gave it.
    pub fn container_of(&self, process: &ProcessRow) -> Option<&[u8]> {
        let container = self.text(self.containers.at(process.container)?.id);
        (!container.is_empty()).then_some(container)
    }

    /// The container in which a program with root's rights put a process: the innermost one that
    /// is not an unprivileged user's own. What a user made does not prove that a bare name above
    /// it is a container.
    pub fn trusted_container_of(&self, process: &ProcessRow) -> Option<&[u8]> {
        let mut container = self.containers.at(process.container)?;
        let mut is_trusted = container.maker != Maker::User;
        // A row's enclosing container was made before the row.
        for _ in 0..self.containers.len() {
            if is_trusted {
                break;
            }
            container = self.containers.at(container.parent)?;
            is_trusted = container.maker == Maker::Runtime;
        }
        let id = self.text(container.id);
        (is_trusted && !id.is_empty()).then_some(id)
    }

    /// The container whose SBOMs apply to a process; `None` if those of the system do. What a user
    /// made looks like a container, but the user chose its name.
    pub fn attested_container_of(&self, process: &ProcessRow) -> Option<&[u8]> {
        self.trusted_container_of(process).filter(|_| !self.shares_first_mounts(process))
    }

    /// Returns the owner of a process for the division of room. That is the outermost container
    /// that a runtime made, by its id, or its user ([`Self::user_of`]). A user can make groups that
    /// look like containers. Users are below 2^32, containers have the highest bit.
    pub fn group_of(&self, process: &ProcessRow) -> u64 {
        let mut outermost = None;
        let mut at = self.containers.at(process.container);
        for _ in 0..NESTED_MAX {
            let Some(container) = at else { break };
            if container.maker == Maker::Runtime {
                outermost = Some(container);
            }
            at = self.containers.at(container.parent);
        }
        outermost.map_or_else(
            || self.user_of(process).into(),
            |container| match self.text(container.id) {
                [] => 1 << 63 | container.node.0,
                // Ids are random numbers of the runtime, or names that root chose.
                id => 1 << 63 | xxh3_64(id),
            },
        )
    }

    /// The user that a process belongs to. A user can become others in a user namespace
    /// (`newuidmap`), or by programs of theirs with the set-user-ID bit, but who made the namespace
    /// or logged in stays (`loginuid`). A process of no login can choose one, but not root's.
    pub fn user_of(&self, process: &ProcessRow) -> u32 {
        if let Some(maker) = process.namespace_maker {
            return maker.get();
        }
        let uid = process.ids.map_or(u32::MAX, |ids| ids.uid);
        let login = self.leader(process).and_then(|leader| leader.task.loginuid.get());
        user(uid, login)
    }

    /// Lists the rings by the tables of their processes.
    pub(crate) fn sort_rings(&mut self) {
        self.rings_by_table.clear();
        for index in self.rings.indexes() {
            self.rings_by_table.push(index);
        }
        let rings = &self.rings;
        self.rings_by_table.sort_unstable_by_key(|&index| (rings[index].table, index));
    }

    /// The rings of a table's process.
    fn rings_of(&self, table: Index<FilesRow>) -> impl Iterator<Item = &RingRow> {
        let table_of = |index: Index<RingRow>| self.rings.at(index).and_then(|ring| ring.table);
        let sorted = self.rings_by_table.as_slice();
        let start = sorted.partition_point(|&index| table_of(index) < Some(table));
        let rest = sorted.get(start..).unwrap_or_default().iter();
        let own = rest.take_while(move |&&index| table_of(index) == Some(table));
        own.filter_map(|&index| self.rings.at(index))
    }

    /// Where the descriptors of a table are, in ascending order, and behind them the files of the
    /// rings of its process.
    pub fn descriptor_indexes_of(
        &self,
        table: Index<FilesRow>,
    ) -> impl Iterator<Item = Index<DescriptorRow>> {
        let own = self.files_structs.at(table).map(|row| row.descriptors);
        let of_rings = self.rings_of(table).map(|ring| ring.descriptors);
        own.into_iter().chain(of_rings).flat_map(Span::indexes)
    }

    /// The descriptors of a table, in ascending order, and behind them the files of the rings of
    /// its process.
    pub fn descriptors_of(&self, table: Index<FilesRow>) -> impl Iterator<Item = &DescriptorRow> {
        self.descriptor_indexes_of(table).filter_map(|at| self.descriptors.at(at))
    }

    /// The number of a network namespace, or 0.
    pub fn net_number(&self, net: Option<Index<NetRow>>) -> u32 {
        self.nets.at(net).map_or(0, |net| net.inum)
    }

    pub fn leader(&self, process: &ProcessRow) -> Option<&ThreadRow> {
        self.threads.at(process.leader)
    }

    /// What a process may do in the user namespace of process 1, if it is not root there.
    pub fn capabilities_of(&self, process: &ProcessRow) -> Option<CapabilitySet> {
        self.capability_sets.at(self.mms.at(process.mm)?.capabilities)
    }

    /// A process by its process id.
    pub fn process_by_pid(&self, process_id: u32) -> Option<&ProcessRow> {
        self.processes.at(self.index_by_pid(process_id))
    }

    /// The row of a process by its process id.
    pub(crate) fn index_by_pid(&self, process_id: u32) -> Option<Index<ProcessRow>> {
        let pid = |index: Index<ProcessRow>| {
            let process = self.processes.at(index)?;
            Some(self.leader(process)?.task.tgid)
        };
        let at = self.by_pid.partition_point(|&index| pid(index) < Some(process_id));
        let &index = self.by_pid.get(at)?;
        (pid(index) == Some(process_id)).then_some(index)
    }

    /// Names the process to blame for what the scan left: the one with the largest share of all
    /// descriptors and areas, if that is more than a quarter.
    /// `refused` led to more objects than there was room for; of tasks without rows, one is named
    /// already.
    pub(super) fn blame(&mut self, refused: Option<Index<ProcessRow>>) {
        let refused = self.processes.at(refused).and_then(|process| self.leader(process));
        let process_id = refused.map(|leader| leader.task.tgid);
        self.losses.process_id = process_id.or(self.losses.process_id);
        if self.left.is_empty() {
            return;
        }
        let cost = |process: &ProcessRow| {
            let table = self.files_structs.at(process.files);
            let areas = self.mms.at(process.mm).map_or(0, |mm| mm.map_count);
            let areas = (areas as usize).min(self.vmas.capacity());
            table.map_or(0, |table| table.descriptors.len()) + areas
        };
        let all: usize = self.processes.iter().map(cost).sum();
        let most = self.processes.iter().max_by_key(|process| cost(process));
        let most = most.filter(|process| cost(process) > all / 4);
        let process_id = most.and_then(|process| Some(self.leader(process)?.task.tgid));
        self.left.process_id = process_id;
    }

    /// Process 1, whose namespaces are the machine's own.
    pub fn init(&self) -> Option<&ProcessRow> {
        self.process_by_pid(1)
    }

    /// Whether a process has the mount namespace of process 1.
    pub fn shares_first_mounts(&self, process: &ProcessRow) -> bool {
        let first = self.init().map_or(0, |first| first.mount_namespace);
        first != 0 && process.mount_namespace == first
    }

    /// The filesystem of a file; `None` if it could not be read.
    pub fn filesystem_of(&self, file: &FileRow) -> Option<Filesystem> {
        let inode = self.inodes.at(file.inode)?;
        Some(self.super_blocks.at(inode.super_block)?.filesystem)
    }

    /// Whether root alone could have put a file where it is: it is a regular file of root, and
    /// nobody else can write to it.
    ///
    /// The program behind a FUSE mount claims any owner. Only a machine whose first program is on a
    /// filesystem of the same type (virtiofs) got such a mount from its host.
    pub fn is_put_by_root(&self, file: &FileRow) -> bool {
        let Some(inode) = self.inodes.at(file.inode) else { return false };
        let attributes = &inode.attributes;
        let is_roots = attributes.uid == 0
            && attributes.mode & 0o022 == 0
            && attributes.mode & mode::S_IFMT == mode::S_IFREG;
        let first = || {
            let mm = self.mms.at(self.init()?.mm)?;
            self.filesystem_of(self.files.at(mm.exe_file)?)
        };
        is_roots
            && self.filesystem_of(file).is_none_or(|it| {
                it.magic != magic::FUSE || first().is_some_and(|first| first.kind == it.kind)
            })
    }

    /// Whether root alone could have put a process's program where its path says. Elsewhere than in
    /// the mounts of process 1, any user may mount one file over another. In a user namespace, any
    /// user may set another file as the executable (`PR_SET_MM_EXE_FILE`).
    pub fn runs_program_of_root(&self, process: &ProcessRow) -> bool {
        let file = self.mms.at(process.mm).and_then(|mm| self.files.at(mm.exe_file));
        process.namespace_maker.is_none()
            && self.shares_first_mounts(process)
            && file.is_some_and(|file| self.is_put_by_root(file))
    }

    /// Whether a runtime with root's rights made the container of a process.
    pub fn is_in_container_of_root(&self, process: &ProcessRow) -> bool {
        self.containers.at(process.container).is_some_and(|row| row.maker == Maker::Runtime)
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::KernelVa;
    use panoptes_decoders::maybe::MaybeU32;

    use super::*;
    use crate::walk::snapshot::{ContainerRow, UserGroupIds};
    use crate::walk::tests::memory::small;

    /// A scan with these containers, each inside the one before; and a process of user 1000 in the
    /// last one.
    fn nested(containers: &[(&str, Maker)], others: usize) -> (Snapshot, ProcessRow) {
        let mut snapshot = Snapshot::empty(&small());
        for other in 0..others {
            snapshot.containers.row_of(other as u64 + 100, ContainerRow::default);
        }
        let mut parent = None;
        for (at, &(id, maker)) in (1..).zip(containers) {
            let id = snapshot.bytes.extend(id.as_bytes()).unwrap();
            let node = KernelVa(at);
            let row = ContainerRow { node, id, maker, parent, ..ContainerRow::default() };
            parent = snapshot.containers.row_of(at, || row);
        }
        let ids = Some(UserGroupIds { uid: 1000, ..UserGroupIds::default() });
        let process = ProcessRow::new(Index::new(0).unwrap());
        (snapshot, ProcessRow { container: parent, ids, ..process })
    }

    fn group(containers: &[(&str, Maker)], others: usize) -> u64 {
        let (snapshot, process) = nested(containers, others);
        snapshot.group_of(&process)
    }

    #[test]
    fn a_process_belongs_to_the_outermost_container_of_a_runtime_wherever_its_row_is() {
        let (outer, inner) = (("c0ffee", Maker::Runtime), ("beef", Maker::Runtime));
        let users = ("users-1", Maker::User);
        let expected = group(&[outer], 0);
        assert!(expected >> 63 == 1 && expected != group(&[inner], 0));
        for containers in [&[outer, inner][..], &[outer, users], &[users, outer, users]] {
            assert_eq!(group(containers, 0), expected, "{containers:?}");
            assert_eq!(group(containers, 3), expected, "{containers:?}");
        }
        // A container whose id found no room is found by its group, which is not its row.
        assert_eq!(group(&[("", Maker::Runtime)], 0), group(&[("", Maker::Runtime)], 5));
    }

    #[test]
    fn what_users_make_is_no_container_and_root_is_one_user() {
        assert_eq!(group(&[("users-1", Maker::User), ("users-2", Maker::User)], 0), 1000);
        assert_eq!(group(&[("name", Maker::Unknown)], 0), 1000);
        let (mut snapshot, mut process) = nested(&[], 0);
        assert_eq!(snapshot.group_of(&process), 1000);
        let mut leader = crate::walk::ThreadRow::default();
        leader.task.loginuid = MaybeU32::new(Some(7));
        snapshot.threads.row_of(1, || leader);
        assert_eq!(snapshot.user_of(&process), 7);
        snapshot.threads[process.leader].task.loginuid = MaybeU32::new(Some(0));
        assert_eq!(snapshot.user_of(&process), 1000);
        process.ids = Some(UserGroupIds::default());
        assert_eq!(snapshot.user_of(&process), 0);
        process.namespace_maker = core::num::NonZeroU32::new(9);
        assert_eq!(snapshot.user_of(&process), 9);
    }
}
