//! Permissions that were reported, or that something else explains, by file. And the programs that
//! have given capabilities.
//!
//! [`KnownPaths`](super::known::KnownPaths) has the permissions of paths, as far as it has room. A
//! set-uid file without room there is new to each sweep, since its change time tells so. This table
//! keeps it from being reported again. A file is known here by its inode, its owner and its
//! content: a rename changes none of them, and another file that gets the number of this one has
//! others.
//!
//! A program that has given capabilities has them until it is written, or gets another owner
//! (`cap_inode_killpriv`, security/commoncap.c). What else sets its change time, as `chmod` and a
//! rename do, gives it none.

use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_tables::{HashKey, RecentList};

use crate::time::SECOND_NS;

/// Number of files of root that are remembered, and of those of all others: users make as many as
/// they like.
const OF_ROOT: usize = 128;
const OF_OTHERS: usize = 64;
/// Number of programs that have given capabilities.
const CAPABLE: usize = 32;

/// A program that has given capabilities to processes.
#[derive(Clone, Copy, Debug)]
struct Capable {
    /// A hash of the inode, its owner and its content.
    file: u64,
    capabilities: u64,
}

/// The last files and folders whose permissions were reported or explained.
#[derive(Debug)]
pub(super) struct ReportedAccess {
    of_root: RecentList<u64>,
    of_others: RecentList<u64>,
    capable: RecentList<Capable>,
    key: HashKey,
}

impl ReportedAccess {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            of_root: RecentList::new(OF_ROOT),
            of_others: RecentList::new(OF_OTHERS),
            capable: RecentList::new(CAPABLE),
            key,
        }
    }

    /// Notes the permissions of a file or folder.
    pub(super) fn note(&mut self, attributes: &Attributes) {
        self.insert(attributes, self.hash(attributes));
    }

    /// Whether these permissions of a file or folder were noted.
    pub(super) fn has(&self, attributes: &Attributes) -> bool {
        self.contains(attributes, self.hash(attributes))
    }

    /// Notes that the capabilities of a program were reported or explained.
    pub(super) fn note_capabilities(&mut self, attributes: &Attributes) {
        self.insert(attributes, self.hash_of_capabilities(attributes));
    }

    /// Whether that was noted, and nothing has changed the inode since.
    pub(super) fn has_capabilities(&self, attributes: &Attributes) -> bool {
        self.contains(attributes, self.hash_of_capabilities(attributes))
    }

    /// Notes that a program has given these capabilities.
    pub(super) fn note_given(&mut self, of: &Attributes, capabilities: u64) {
        let file = self.hash_of_program(of);
        match self.capable.iter_mut().find(|it| it.file == file) {
            Some(known) => known.capabilities |= capabilities,
            None => _ = self.capable.push(Capable { file, capabilities }),
        }
    }

    /// Whether a program has given all of these before.
    pub(super) fn has_given(&self, of: &Attributes, capabilities: u64) -> bool {
        let file = self.hash_of_program(of);
        let known = self.capable.iter().find(|it| it.file == file);
        known.is_some_and(|known| capabilities & !known.capabilities == 0)
    }

    fn insert(&mut self, of: &Attributes, hash: u64) {
        let list = if of.uid == 0 { &mut self.of_root } else { &mut self.of_others };
        list.insert(hash);
    }

    fn contains(&self, of: &Attributes, hash: u64) -> bool {
        let list = if of.uid == 0 { &self.of_root } else { &self.of_others };
        list.contains(&hash)
    }

    fn hash_of_capabilities(&self, of: &Attributes) -> u64 {
        self.key.hash_numbers([self.hash(of), of.ctime_ns.cast_unsigned()])
    }

    fn hash(&self, of: &Attributes) -> u64 {
        // A folder that is removed leaves its number to another one. A filesystem may keep whole
        // seconds of a file's time only.
        let content = match of.kind() {
            mode::S_IFDIR => [0, of.ctime_ns.cast_unsigned()],
            _ => [of.size, (of.mtime_ns / SECOND_NS).cast_unsigned()],
        };
        self.hash_of_file(of, of.mode, content)
    }

    /// The same for any permissions: `chmod` leaves the capabilities of a program.
    fn hash_of_program(&self, of: &Attributes) -> u64 {
        self.hash_of_file(of, 0, [of.size, (of.mtime_ns / SECOND_NS).cast_unsigned()])
    }

    fn hash_of_file(&self, of: &Attributes, mode: u16, [size, time]: [u64; 2]) -> u64 {
        let owner = u64::from(of.uid) << u32::BITS | u64::from(of.gid);
        let file = [of.super_block.0, of.ino, u64::from(mode), owner];
        self.key.hash_numbers([self.key.hash_numbers(file), size, time])
    }
}
