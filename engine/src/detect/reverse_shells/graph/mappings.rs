//! Memory that several processes map as shared: of files on disks and in memory (memfd,
//! `/dev/shm`), of System V shared memory, and without a file (`MAP_SHARED | MAP_ANONYMOUS`).
//! Each has an inode: `newseg` in ipc/shm.c and `shmem_zero_setup` in mm/shmem.c make one.
//!
//! Most programs that share memory serve many others: databases, browsers, windows, sound. So a
//! process passes bytes on over memory only if it serves nobody else, and if few processes map that
//! memory.

use core::net::IpAddr;

use arrayvec::ArrayVec;
use panoptes_decoders::kernel::file::{FMODE_READ, FMODE_WRITE};
use panoptes_decoders::kernel::sock::TcpState;
use panoptes_decoders::kernel::super_block::FilesKind;
use panoptes_decoders::kernel::unix_sock::AF_UNIX;
use panoptes_decoders::kernel::vm_area_struct::{VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE};
use panoptes_tables::room;

use super::looks::{LOOKS_MAX, LookTurns, Looks};
use super::relays::is_kept;
use super::{ChannelEnd, Graph, fact, is_open, object_of};
use crate::walk::{
    DescriptorRow, FilesRow, Index, InodeRow, MmRow, Snapshot, SocketRow, Span, VmaRow,
};

/// Maximum number of address spaces that map the memory of a relay.
const MAPPERS_MAX: usize = 4;
/// Maximum number of files of which a relay shares memory with others. A process with more serves
/// many others, as a database does.
const SHARED_MAX: usize = 4;
/// Maximum number of files for whose memory one look searches. Of a process that maps more, those
/// that it may write to come first, then the newest.
const MAPPED_MAX: usize = 32;
/// Maximum number of files whose memory a search follows from one process: others' looks find some.
const FOUND_MAX: usize = 2 * SHARED_MAX;
/// Number of bytes of a POSIX semaphore (`sem_t` of glibc and musl), which is a file in `/dev/shm`.
const SEMAPHORE_BYTES: u64 = 32;

/// The permissions of areas are the modes of open files.
const MODES: u64 = VM_READ | VM_WRITE;
const _: () = assert!(FMODE_READ as u64 == VM_READ && FMODE_WRITE as u64 == VM_WRITE);

/// Memory of an inode that a process maps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Mapper {
    inode: Index<InodeRow>,
    table: Index<FilesRow>,
    mode: u32,
}

/// The memory of relays that was found in one scan.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    found: Vec<Mapper>,
    /// The tables of the processes whose memory was looked for.
    looked: ArrayVec<Index<FilesRow>, LOOKS_MAX>,
    looks: Looks,
}

impl Mappings {
    pub(super) fn new() -> Self {
        Self {
            found: room::list(LOOKS_MAX * SHARED_MAX * MAPPERS_MAX),
            looked: ArrayVec::new(),
            looks: Looks::default(),
        }
    }

    pub(super) fn reset(&mut self) {
        self.found.clear();
        self.looked.clear();
        self.looks = Looks::default();
    }
}

/// One inode, and the address spaces that map it.
struct MappedInode {
    inode: Index<InodeRow>,
    /// Whether the process may write to it, and its number: newer files in memory have larger ones.
    rank: (bool, u64),
    mappers: ArrayVec<(Index<MmRow>, Option<Index<FilesRow>>, u32), MAPPERS_MAX>,
    are_more: bool,
}

impl MappedInode {
    fn add(&mut self, mm: Index<MmRow>, table: Option<Index<FilesRow>>, mode: u32) {
        // An address space may map several parts, one after another.
        if let Some((.., known)) = self.mappers.iter_mut().find(|(other, ..)| *other == mm) {
            *known |= mode;
        } else if self.mappers.try_push((mm, table, mode)).is_err() {
            self.are_more = true;
        }
    }

    /// Whether it passes bytes between few processes.
    fn is_relay(&self) -> bool {
        let is_written = self.mappers.iter().any(|(.., mode)| mode & FMODE_WRITE != 0);
        !self.are_more && self.mappers.len() > 1 && is_written
    }
}

impl Graph {
    /// Begins the looks for memory of a scan.
    pub(in super::super) fn begin_looks(&mut self, turns: LookTurns) {
        self.mappings.get_mut().looks = Looks::begin(turns);
    }

    /// The turns of the next scan that looks for memory.
    pub(in super::super) fn next_looks(&mut self) -> LookTurns {
        self.mappings.get_mut().looks.end()
    }

    /// Whether a process may pass bytes over memory that it shares: it serves nobody else, and
    /// holds no connection. A light scan does not show who maps what.
    pub(in super::super) fn passes_memory(
        &self,
        snapshot: &Snapshot,
        table: Index<FilesRow>,
    ) -> bool {
        !snapshot.is_light
            && self.shares_memory(snapshot, table)
            && self.is_alone(snapshot, table)
            && self.fact_of(table, fact::CONNECTED) == Some(false)
    }

    /// The inodes of the memory that such a process shares with others, as far as it is mapped in
    /// this mode.
    pub(in super::super) fn memory_of(
        &self,
        snapshot: &Snapshot,
        table: Index<FilesRow>,
        mode: u32,
    ) -> ArrayVec<Index<InodeRow>, FOUND_MAX> {
        self.look_for_memory_of(snapshot, table);
        let mappings = self.mappings.borrow();
        let own = mappings.found.iter().filter(|it| it.table == table && it.mode & mode != 0);
        own.map(|it| it.inode).take(FOUND_MAX).collect()
    }

    /// The other processes that share memory or a queue in this mode, and serve nobody else.
    pub(in super::super) fn others_of(
        &self,
        snapshot: &Snapshot,
        object: ChannelEnd,
        table: Index<FilesRow>,
        mode: u32,
    ) -> ArrayVec<Index<FilesRow>, MAPPERS_MAX> {
        match object {
            ChannelEnd::Memory(inode) => self.other_mappers(snapshot, inode, table, mode),
            ChannelEnd::Queue(queue) => self.other_queue_users(snapshot, queue, table, mode),
            _ => ArrayVec::new(),
        }
    }

    /// The other processes that map the memory of an inode in this mode, and serve nobody else.
    fn other_mappers(
        &self,
        snapshot: &Snapshot,
        inode: Index<InodeRow>,
        table: Index<FilesRow>,
        mode: u32,
    ) -> ArrayVec<Index<FilesRow>, MAPPERS_MAX> {
        let mappings = self.mappings.borrow();
        let all = mappings.found.iter().filter(|it| it.inode == inode && it.table != table);
        let others = all.filter(|it| it.mode & mode != 0).map(|it| it.table).take(MAPPERS_MAX);
        others.filter(|&other| self.is_alone(snapshot, other)).collect()
    }

    /// Whether a process maps memory that others may map too. Each address space is looked through
    /// once in a scan, so that counts as no step.
    fn shares_memory(&self, snapshot: &Snapshot, table: Index<FilesRow>) -> bool {
        if let Some(known) = self.fact_of(table, fact::MEMORY) {
            return known;
        }
        let mut areas = self.areas_of(snapshot, table);
        let shares = areas.any(|area| shared_inode(snapshot, area).is_some());
        self.note_fact(table, fact::MEMORY, shares);
        shares
    }

    /// The areas of a table's processes, as far as the scan has all of them.
    fn areas_of<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        table: Index<FilesRow>,
    ) -> impl Iterator<Item = &'a VmaRow> {
        // A process may share its table with an older one that maps nothing (`CLONE_FILES`).
        self.processes_of(table).flat_map(move |at| {
            let process = snapshot.processes.at(at);
            let mm = process.and_then(|process| snapshot.mms.at(process.mm));
            // Many processes may share one address space (`CLONE_VM`): it counts for the first.
            let mm = mm.filter(|mm| mm.complete && mm.process == Some(at));
            snapshot.vmas.range(mm.map_or(Span::default(), |mm| mm.vmas))
        })
    }

    /// Whether a process serves nobody else. One that does listens, has connections to several
    /// addresses, or AF_UNIX connections to several others beside its standard input, output and
    /// error. A table that was not read completely counts as that of a server. Each table is looked
    /// through once in a scan, so that counts as no step.
    pub(in super::super) fn is_alone(&self, snapshot: &Snapshot, table: Index<FilesRow>) -> bool {
        if let Some(known) = self.fact_of(table, fact::ALONE) {
            return known;
        }
        let is_complete = snapshot.files_structs.at(table).is_some_and(|row| row.complete);
        let mut others = ProcessPeers::default();
        let mut all = snapshot.descriptor_indexes_of(table);
        let is_alone = is_complete
            && all.all(|at| !self.is_exhausted() && self.adds(snapshot, table, at, &mut others));
        self.note_fact(table, fact::ALONE, is_alone);
        self.note_fact(table, fact::CONNECTED, others.peer.is_some());
        is_alone
    }

    /// Adds what a descriptor leads to. Returns whether its process may still be a relay.
    fn adds(
        &self,
        snapshot: &Snapshot,
        table: Index<FilesRow>,
        at: Index<DescriptorRow>,
        others: &mut ProcessPeers,
    ) -> bool {
        let Some(descriptor) = snapshot.descriptors.at(at) else { return false };
        let Some(file) = snapshot.files.at(descriptor.file) else { return true };
        if let Some(connection) = snapshot.connections.at(file.connection) {
            return !is_listening(connection.endpoints.state)
                && (!is_open(connection) || others.has_peer(connection.endpoints.destination));
        }
        let (Some(socket), Some(index)) = (snapshot.sockets.at(file.socket), file.socket) else {
            return true;
        };
        let Some(ends) = socket.endpoints else { return true };
        if ends.family != AF_UNIX {
            let object = object_of(snapshot, descriptor.file);
            let is_connected = matches!(object, Some(ChannelEnd::Datagram(_)));
            return !is_listening(ends.state)
                && (!is_connected || others.has_peer(ends.destination));
        }
        let peer = snapshot.sockets.at(socket.peer);
        let is_connected = peer.is_some() || !socket.peer_address.is_null();
        let is_with_itself = || peer.is_some_and(|peer| self.has_file(table, peer.file));
        !is_listening(ends.state)
            && (!is_connected
                || descriptor.index < 3
                || is_with_itself()
                || others.has_pair(index, peer.is_some()))
    }

    /// Looks for the memory of a process in all address spaces, once in a scan.
    fn look_for_memory_of(&self, snapshot: &Snapshot, table: Index<FilesRow>) {
        let mut mappings = self.mappings.borrow_mut();
        if mappings.looked.contains(&table) {
            return;
        }
        let process = snapshot.processes.at(self.processes_of(table).next());
        let owner = process.map_or(0, |process| snapshot.group_of(process));
        if !mappings.looks.take(owner) || mappings.looked.try_push(table).is_err() {
            self.was_exhausted.set(true);
            return;
        }
        let mut all = ArrayVec::<MappedInode, MAPPED_MAX>::new();
        for area in self.areas_of(snapshot, table) {
            add_shared(snapshot, area, &mut all);
        }
        add_mappers(snapshot, &mut all);
        all.retain(|shared| shared.is_relay());
        if all.len() > SHARED_MAX {
            return;
        }
        for shared in &all {
            for &(_, table, mode) in &shared.mappers {
                let Some(table) = table else { continue };
                let mapper = Mapper { inode: shared.inode, table, mode };
                // Each look finds no more than its part.
                let has_room = mappings.found.len() < mappings.found.capacity();
                if has_room && !mappings.found.contains(&mapper) {
                    mappings.found.push(mapper);
                }
            }
        }
    }

    /// Whether two processes have one counter for events (`eventfd`): one tells the other by it
    /// that there is something in the memory that they share.
    pub(in super::super) fn share_eventfd(
        &self,
        snapshot: &Snapshot,
        one: Index<FilesRow>,
        other: Index<FilesRow>,
    ) -> bool {
        let rows = snapshot.files_structs.at(one).map(|row| row.descriptors);
        let rows = snapshot.descriptors.range(rows.unwrap_or_default());
        self.spend(rows.len());
        rows.iter().filter_map(|row| row.file).any(|at| {
            let Some(file) = snapshot.files.at(at) else { return false };
            let inode = snapshot.inodes.at(file.inode);
            let kind = inode.and_then(|row| snapshot.super_blocks.at(row.super_block));
            let is_anonymous = kind.is_some_and(|it| it.filesystem.files == FilesKind::AnonInodes);
            let name = snapshot.dentries.at(file.path.dentry);
            is_anonymous
                && name.is_some_and(|row| row.readable && row.text.starts_with(b"[eventfd]"))
                && self.has_file(other, at)
        })
    }
}

/// The peers of a process.
#[derive(Default)]
struct ProcessPeers {
    peer: Option<IpAddr>,
    pair: Option<Index<SocketRow>>,
    /// The one whose peer no descriptor leads to. A peer that was closed has a place of its own:
    /// socat keeps such a socket (`unix_release_sock`, net/unix/af_unix.c).
    closed: Option<Index<SocketRow>>,
}

impl ProcessPeers {
    /// Whether an address is that of the only peer.
    fn has_peer(&mut self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        *self.peer.get_or_insert(address) == address
    }

    /// Whether a connected AF_UNIX socket is the only one of its kind.
    fn has_pair(&mut self, socket: Index<SocketRow>, has_peer: bool) -> bool {
        let place = if has_peer { &mut self.pair } else { &mut self.closed };
        *place.get_or_insert(socket) == socket
    }
}

fn is_listening(state: u8) -> bool {
    TcpState::from_number(state) == Some(TcpState::Listen)
}

/// The inode of an area that others may map too. Of a file on a disk, it must be writable: programs
/// map data of the system as shared, only for reading. Code is no message.
fn shared_inode(snapshot: &Snapshot, area: &VmaRow) -> Option<Index<InodeRow>> {
    let flags = area.vma.flags;
    if flags & VM_MAYSHARE == 0 || flags & VM_EXEC != 0 || flags & MODES == 0 {
        return None;
    }
    let at = snapshot.files.at(area.file)?.inode?;
    let inode = snapshot.inodes.at(at)?;
    let is_message = is_kept(snapshot, Some(at)) && inode.attributes.size > SEMAPHORE_BYTES;
    (is_message && (flags & VM_WRITE != 0 || is_in_memory(snapshot, at))).then_some(at)
}

/// Whether an inode exists in memory only.
pub(in super::super) fn is_in_memory(snapshot: &Snapshot, inode: Index<InodeRow>) -> bool {
    let row = snapshot.inodes.at(inode).and_then(|row| snapshot.super_blocks.at(row.super_block));
    row.is_some_and(|row| row.filesystem.lives_in_memory())
}

/// Adds the inode of an area, if others may map it. Without room, it may take the place of another.
fn add_shared(snapshot: &Snapshot, area: &VmaRow, all: &mut ArrayVec<MappedInode, MAPPED_MAX>) {
    let Some(inode) = shared_inode(snapshot, area) else { return };
    let is_written = area.vma.flags & VM_WRITE != 0;
    if let Some(known) = all.iter_mut().find(|shared| shared.inode == inode) {
        known.rank.0 |= is_written;
        return;
    }
    let number = snapshot.inodes.at(inode).map_or(0, |row| row.attributes.ino);
    let rank = (is_written, number);
    let shared = MappedInode { inode, rank, mappers: ArrayVec::new(), are_more: false };
    let Err(refused) = all.try_push(shared) else { return };
    let least = all.iter_mut().min_by_key(|shared| shared.rank);
    if let Some(least) = least.filter(|least| least.rank < rank) {
        *least = refused.element();
    }
}

/// Adds the address spaces that map these inodes.
fn add_mappers(snapshot: &Snapshot, all: &mut [MappedInode]) {
    for (index, mm) in snapshot.mms.indexed() {
        let process = snapshot.processes.at(mm.process);
        let table = process.and_then(|process| process.files);
        for area in snapshot.vmas.range(mm.vmas) {
            let flags = area.vma.flags;
            if flags & VM_MAYSHARE == 0 || flags & VM_EXEC != 0 {
                continue;
            }
            let inode = snapshot.files.at(area.file).and_then(|file| file.inode);
            if let Some(shared) = all.iter_mut().find(|shared| Some(shared.inode) == inode) {
                shared.add(index, table, (flags & MODES) as u32);
            }
        }
    }
}

/// Whether an open file is one of memory that a chain passes.
pub(in super::super) fn is_of_memory(
    snapshot: &Snapshot,
    one: ChannelEnd,
    other: ChannelEnd,
) -> bool {
    let (ChannelEnd::File(file), ChannelEnd::Memory(inode)) = (one, other) else { return false };
    snapshot.files.at(file).is_some_and(|row| row.inode == Some(inode))
}
