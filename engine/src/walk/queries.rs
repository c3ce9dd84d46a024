//! Lookups in the rows of a scan.

use panoptes_decoders::container::Maker;
use panoptes_decoders::kernel::inode::mode;
use panoptes_decoders::kernel::super_block::magic;

use super::snapshot::{FileRow, FilesRow, Index, NetRow, ProcessRow, Span, ThreadRow};
use super::tables::Snapshot;

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
    /// is not an unprivileged user's own.
    pub fn trusted_container_of(&self, process: &ProcessRow) -> Option<&[u8]> {
        let mut container = self.containers.at(process.container)?;
        // A row's enclosing container was made before the row.
        for _ in 0..self.containers.len() {
            if container.maker != Maker::User {
                break;
            }
            container = self.containers.at(container.parent)?;
        }
        let id = self.text(container.id);
        (container.maker != Maker::User && !id.is_empty()).then_some(id)
    }

    /// The number of a network namespace, or 0.
    pub fn net_number(&self, net: Option<Index<NetRow>>) -> u32 {
        self.nets.at(net).map_or(0, |net| net.inum)
    }

    pub fn leader(&self, process: &ProcessRow) -> Option<&ThreadRow> {
        self.threads.at(process.leader)
    }

    /// A process by its process id.
    pub fn process_by_pid(&self, process_id: u32) -> Option<&ProcessRow> {
        let pid = |index: Index<ProcessRow>| {
            let process = self.processes.at(index)?;
            Some(self.leader(process)?.task.tgid)
        };
        let at = self.by_pid.partition_point(|&index| pid(index) < Some(process_id));
        let &index = self.by_pid.get(at)?;
        (pid(index) == Some(process_id)).then(|| self.processes.at(index)).flatten()
    }

    /// Names the process to blame for what the scan left: the one with the largest share of all
    /// descriptors and areas, if that is more than a quarter.
    pub(super) fn blame(&mut self) {
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
        let filesystem = |file: &FileRow| {
            let inode = self.inodes.at(file.inode)?;
            Some(self.super_blocks.at(inode.super_block)?.filesystem)
        };
        let first = || {
            let mm = self.mms.at(self.init()?.mm)?;
            filesystem(self.files.at(mm.exe_file)?)
        };
        is_roots
            && filesystem(file).is_none_or(|it| {
                it.magic != magic::FUSE || first().is_some_and(|first| first.kind == it.kind)
            })
    }
}
