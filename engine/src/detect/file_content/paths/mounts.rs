//! The mounts that process 1 sees.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::mount::ListedMount;
use panoptes_tables::room;

use super::known::DentryPlace;
use crate::address::MemoryReader;
use crate::page_cache::MachineMemory;

/// Maximum number of mounts.
const MOUNTS_MAX: usize = 512;
/// Maximum number of lists of mounts that one step continues.
const MOUNT_LISTS_AT_ONCE: usize = 16;
/// Number of mounts at one place that are followed.
const MOUNTS_DEPTH_MAX: usize = 16;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mount {
    /// `struct mount *`
    pub address: KernelVa,
    /// `struct mount *`
    pub parent: KernelVa,
    /// `struct dentry *`
    pub mountpoint: KernelVa,
    /// `struct dentry *`
    pub root: KernelVa,
    /// `struct mount *` of the next one that is mounted on it, while its list is read.
    next: Option<KernelVa>,
}

impl Mount {
    /// Where it is mounted.
    pub(super) const fn place(&self) -> DentryPlace {
        DentryPlace { mount: self.parent, dentry: self.mountpoint }
    }
}

/// A tree of mounts that is read from scan to scan.
#[derive(Debug)]
pub(super) struct Mounts {
    /// In the order of parents and mountpoints when they are complete.
    list: Vec<Mount>,
    are_complete: bool,
    are_cut: bool,
}

impl Mounts {
    pub(super) fn new() -> Self {
        Self { list: room::list(MOUNTS_MAX), are_complete: false, are_cut: false }
    }

    /// Begins with the mount of the root, and the first one that is mounted on it.
    pub(super) fn begin(&mut self, root: KernelVa, first: Option<KernelVa>) {
        self.list.clear();
        (self.are_complete, self.are_cut) = (false, false);
        self.list.push(Mount { address: root, next: first, ..Mount::default() });
    }

    pub(super) const fn are_complete(&self) -> bool {
        self.are_complete
    }

    /// Whether there are more of them, which are not seen.
    pub(super) const fn are_cut(&self) -> bool {
        self.are_cut
    }

    /// Reads the next one in each list; returns how many were read.
    pub(super) fn read(
        &mut self,
        reader: &mut MemoryReader,
        memory: &mut MachineMemory<'_>,
    ) -> usize {
        let MachineMemory { source, kernel } = memory;
        let layout = &kernel.layouts.mount_tree;
        reader.clear();
        let mut lists: ArrayVec<(usize, KernelVa), MOUNT_LISTS_AT_ONCE> = ArrayVec::new();
        for (at, mount) in self.list.iter().enumerate() {
            let Some(next) = mount.next else { continue };
            if lists.is_full() || reader.push(&kernel.space, next, &layout.packing).is_none() {
                break;
            }
            lists.push((at, next));
        }
        if lists.is_empty() || self.list.len() == MOUNTS_MAX {
            self.are_cut = !lists.is_empty();
            self.are_complete = true;
            self.list.sort_unstable_by_key(|mount| (mount.parent, mount.mountpoint));
            return 0;
        }
        reader.run(source, kernel.space.levels);
        for (object, &(at, address)) in lists.iter().enumerate() {
            let parent = self.list[at].address;
            let listed = reader.object(object).map(|bytes| {
                let listed = ListedMount::decode(layout, address, bytes);
                (listed, listed.parent == parent)
            });
            let Some((listed, true)) = listed else {
                self.list[at].next = None;
                continue;
            };
            self.list[at].next = listed.next;
            if self.list.len() < MOUNTS_MAX {
                self.list.push(Mount {
                    address,
                    parent,
                    mountpoint: listed.mountpoint,
                    root: listed.root,
                    next: listed.first,
                });
            }
        }
        lists.len()
    }

    /// A mount by its `struct mount *`.
    pub(super) fn at(&self, address: KernelVa) -> Option<&Mount> {
        self.list.iter().find(|mount| mount.address == address)
    }

    /// The mounts (`struct mount *`) of a tree with this root.
    pub(super) fn of_root(&self, root: KernelVa) -> impl Iterator<Item = KernelVa> {
        let of_root = self.list.iter().filter(move |mount| mount.root == root);
        of_root.map(|mount| mount.address).filter(|_| self.are_complete)
    }

    /// Returns the mount on a name: the last one where several are mounted on each other.
    pub(super) fn on(&self, place: DentryPlace) -> Option<&Mount> {
        let find = |at: (KernelVa, KernelVa)| {
            let found = self.list.binary_search_by_key(&at, |it| (it.parent, it.mountpoint));
            self.list.get(found.ok()?)
        };
        let mut last = find((place.mount, place.dentry))?;
        for _ in 0..MOUNTS_DEPTH_MAX {
            let Some(above) = find((last.address, last.root)) else { break };
            last = above;
        }
        Some(last)
    }
}
