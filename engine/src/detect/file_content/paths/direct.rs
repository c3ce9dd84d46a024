//! Known names, read where they were found last.
//!
//! Any user makes names without a file, as many as the machine has memory for, and they come first
//! in the lists of a [`Sweep`]. While they delay it, each scan also reads [`DIRECT_NAMES_PER_SCAN`]
//! known names by their addresses. One that names another content is followed up to the root of
//! process 1: it counts if its path is the known one, and if nothing is mounted over that.
//!
//! A name that is not there any more is new in a list, or gone: the sweep ends, and the next one
//! begins with what is new. Only names of the system do that, so no user can.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::ListedName;
use panoptes_decoders::kernel::inode::Attributes;

use super::Judge;
use super::climb::{Climb, climb};
use super::known::{DentryPlace, KnownPaths};
use super::sweep::{Sweep, SweptName};
use crate::address::MemoryReader;
use crate::page_cache::MachineMemory;

/// Number of names that a scan reads.
const DIRECT_NAMES_PER_SCAN: usize = 64;
/// Number of them that are followed up to the root, and of those in homes of users.
const CLIMBS_MAX: usize = 8;
const CLIMBS_IN_HOMES_MAX: usize = CLIMBS_MAX / 2;

/// A name that seems to have another content.
#[derive(Clone, Debug)]
struct ChangedName {
    /// The entry of its path in [`KnownPaths`].
    entry: usize,
    place: DentryPlace,
    inode: KernelVa,
    attributes: Attributes,
}

/// Goes through the known names, some in each scan.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// The entry in [`KnownPaths`] that is next.
    next: usize,
    /// Whether a name of the system is not where it was, in this sweep.
    has_moved: bool,
}

/// What the path of an entry in [`KnownPaths`] names now.
struct CurrentName {
    entry: usize,
    place: DentryPlace,
    /// Its inode, and the attributes of that; none if the name is gone.
    content: Option<(KernelVa, Attributes)>,
}

/// What a scan has read.
pub(super) struct ChangedNames {
    /// The names that seem to have another content, and their ways to the root.
    moved: ArrayVec<ChangedName, CLIMBS_MAX>,
    climbs: ArrayVec<Climb, CLIMBS_MAX>,
    /// Whether a name of the system is not where it was.
    has_moved: bool,
}

impl Direct {
    pub(super) fn begin_sweep(&mut self) {
        self.has_moved = false;
    }

    /// Whether a name of the system is not where it was, in this sweep.
    pub(super) const fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Passes on the names whose paths are the known ones.
    pub(super) fn follow(&mut self, looked: ChangedNames, judge: &mut Judge<'_>) {
        self.has_moved |= looked.pass_on(judge);
    }

    /// Reads the next known names. Those that have not changed are seen now.
    pub(super) fn look(
        &mut self,
        (reader, memory): (&mut MemoryReader, &mut MachineMemory<'_>),
        sweep: &Sweep,
        known: &mut KnownPaths,
    ) -> ChangedNames {
        let (moved, climbs) = (ArrayVec::new(), ArrayVec::new());
        let mut looked = ChangedNames { moved, climbs, has_moved: false };
        for CurrentName { entry, place, content } in self.read(reader, memory, known) {
            let Some((inode, attributes)) = content else {
                looked.lose(known, entry);
                continue;
            };
            if known.is_unchanged(entry, &attributes) {
                continue;
            }
            let moved = &mut looked.moved;
            let in_homes = moved.iter().filter(|it| known.is_in_homes(it.entry)).count();
            let has_room = !known.is_in_homes(entry) || in_homes < CLIMBS_IN_HOMES_MAX;
            if has_room && !moved.is_full() {
                moved.push(ChangedName { entry, place, inode, attributes });
                looked.climbs.push(Climb::new(place));
            }
        }
        climb(&mut looked.climbs, (reader, memory), sweep);
        looked
    }

    /// Reads the next known names.
    fn read(
        &mut self,
        reader: &mut MemoryReader,
        memory: &mut MachineMemory<'_>,
        known: &KnownPaths,
    ) -> ArrayVec<CurrentName, DIRECT_NAMES_PER_SCAN> {
        let MachineMemory { source, kernel } = memory;
        let layouts = &kernel.layouts;
        let mut names: ArrayVec<CurrentName, DIRECT_NAMES_PER_SCAN> = ArrayVec::new();
        reader.clear();
        while !names.is_full()
            && let Some((entry, place)) = known.next_place(&mut self.next)
            && names.first().is_none_or(|first| first.entry != entry)
            && reader.push(&kernel.space, place.dentry, &layouts.dentry_tree.packing).is_some()
        {
            names.push(CurrentName { entry, place, content: None });
        }
        if names.is_empty() {
            return names;
        }
        reader.run(source, kernel.space.levels);
        let mut inodes: ArrayVec<(usize, KernelVa), DIRECT_NAMES_PER_SCAN> = ArrayVec::new();
        for (at, name) in names.iter().enumerate() {
            let Some(bytes) = reader.object(at) else { continue };
            let (listed, _) = ListedName::decode(&layouts.dentry_tree, name.place.dentry, bytes);
            if !listed.unlinked && listed.inode.is_plausible() {
                inodes.push((at, listed.inode));
            }
        }
        if inodes.is_empty() {
            return names;
        }
        reader.clear();
        for &(_, inode) in &inodes {
            reader.push(&kernel.space, inode, &layouts.inode.packing);
        }
        reader.run(source, kernel.space.levels);
        for (object, &(at, inode)) in inodes.iter().enumerate() {
            let bytes = reader.object(object);
            let attributes = bytes.map(|bytes| Attributes::decode(&layouts.inode, bytes));
            names[at].content = attributes.map(|attributes| (inode, attributes));
        }
        names
    }
}

impl ChangedNames {
    /// Passes on the names whose paths are the known ones. Returns whether a name of the system is
    /// not where it was.
    fn pass_on(mut self, judge: &mut Judge<'_>) -> bool {
        let moved = core::mem::take(&mut self.moved);
        let climbs = core::mem::take(&mut self.climbs);
        for (ChangedName { entry, place, inode, attributes }, climb) in
            moved.into_iter().zip(&climbs)
        {
            let Some(path) = climb.path().filter(|path| judge.known.is_path(entry, path)) else {
                self.lose(judge.known, entry);
                continue;
            };
            let (attributes, parent) = (&attributes, KernelVa::NULL);
            judge.take(&SweptName { path, place, parent, inode, attributes, folder: None });
        }
        self.has_moved
    }

    fn lose(&mut self, known: &mut KnownPaths, entry: usize) {
        known.forget_place(entry);
        self.has_moved |= !known.is_in_homes(entry);
    }
}
