//! Known names, read where they were found last.
//!
//! Any user makes names without a file, as many as the machine has memory for, and they come first
//! in the lists of a [`Sweep`]. While they delay it, each scan also reads [`NAMES_PER_SCAN`] known
//! names by their addresses. One that names another content is followed up to the root of process
//! 1: it counts if its path is the known one, and if nothing is mounted over that.
//!
//! A name that is not there any more is new in a list, or gone: the sweep ends, and the next one
//! begins with what is new. Only names of the system do that, so no user can.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::{ListedName, NAME_BYTES_MAX};
use panoptes_decoders::kernel::inode::Attributes;

use super::Judge;
use super::known::{Known, Place};
use super::sweep::{Found, PATH_BYTES_MAX, Sweep};
use crate::address::Reader;
use crate::page_cache::MachineMemory;

/// Number of names that a scan reads.
const NAMES_PER_SCAN: usize = 64;
/// Number of them that are followed up to the root, and of those in homes of users.
const CLIMBS_MAX: usize = 8;
const CLIMBS_IN_HOMES_MAX: usize = CLIMBS_MAX / 2;
/// Maximum number of names and mounts on the way to the root.
const STEPS_MAX: usize = 64;

const ROOM: usize = PATH_BYTES_MAX + NAME_BYTES_MAX;

/// A name that is on its way to the root.
#[derive(Clone, Debug)]
struct Climb {
    /// The entry of its path in [`Known`].
    entry: usize,
    began: Place,
    inode: KernelVa,
    attributes: Attributes,
    /// How far it is.
    place: Place,
    state: State,
    /// The end of its path, from `start` on.
    path: [u8; ROOM],
    start: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    GoesOn,
    /// At a name that is not in its dentry.
    AtLongName,
    AtRoot,
    Lost,
}

/// Goes through the known names, some in each scan.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// The entry in [`Known`] that is next.
    next: usize,
    /// Whether a name of the system is not where it was, in this sweep.
    has_moved: bool,
}

/// What the path of an entry in [`Known`] names now.
struct Name {
    entry: usize,
    place: Place,
    /// Its inode, and the attributes of that; none if the name is gone.
    content: Option<(KernelVa, Attributes)>,
}

/// What a scan has read.
pub(super) struct Looked {
    /// The names that seem to have another content.
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
    pub(super) fn follow(&mut self, looked: Looked, judge: &mut Judge<'_>) {
        self.has_moved |= looked.pass_on(judge);
    }

    /// Reads the next known names. Those that have not changed are seen now.
    pub(super) fn look(
        &mut self,
        (reader, memory): (&mut Reader, &mut MachineMemory<'_>),
        sweep: &Sweep,
        known: &mut Known,
    ) -> Looked {
        let mut looked = Looked { climbs: ArrayVec::new(), has_moved: false };
        for Name { entry, place, content } in self.read(reader, memory, known) {
            let Some((inode, attributes)) = content else {
                looked.lose(known, entry);
                continue;
            };
            if known.is_unchanged(entry, &attributes) {
                continue;
            }
            let climbs = &mut looked.climbs;
            let in_homes = climbs.iter().filter(|it| known.is_in_homes(it.entry)).count();
            let has_room = !known.is_in_homes(entry) || in_homes < CLIMBS_IN_HOMES_MAX;
            if has_room && !climbs.is_full() {
                climbs.push(Climb::new(entry, place, inode, attributes));
            }
        }
        climb(&mut looked.climbs, (reader, memory), sweep);
        looked
    }

    /// Reads the next known names.
    fn read(
        &mut self,
        reader: &mut Reader,
        memory: &mut MachineMemory<'_>,
        known: &Known,
    ) -> ArrayVec<Name, NAMES_PER_SCAN> {
        let MachineMemory { source, kernel } = memory;
        let layouts = &kernel.layouts;
        let mut names: ArrayVec<Name, NAMES_PER_SCAN> = ArrayVec::new();
        reader.clear();
        while !names.is_full()
            && let Some((entry, place)) = known.next_place(&mut self.next)
            && names.first().is_none_or(|first| first.entry != entry)
            && reader.push(&kernel.space, place.dentry, &layouts.dentry_tree.packing).is_some()
        {
            names.push(Name { entry, place, content: None });
        }
        if names.is_empty() {
            return names;
        }
        reader.run(source, kernel.space.levels);
        let mut inodes: ArrayVec<(usize, KernelVa), NAMES_PER_SCAN> = ArrayVec::new();
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

impl Looked {
    /// Passes on the names whose paths are the known ones. Returns whether a name of the system is
    /// not where it was.
    fn pass_on(mut self, judge: &mut Judge<'_>) -> bool {
        for climb in core::mem::take(&mut self.climbs) {
            let path = &climb.path[climb.start..];
            if climb.state != State::AtRoot || !judge.known.is_path(climb.entry, path) {
                self.lose(judge.known, climb.entry);
                continue;
            }
            let Climb { began: place, inode, attributes, .. } = &climb;
            let (place, inode) = (*place, *inode);
            judge.take(&Found { path, place, inode, attributes, folder: None });
        }
        self.has_moved
    }

    fn lose(&mut self, known: &mut Known, entry: usize) {
        known.forget_place(entry);
        self.has_moved |= !known.is_in_homes(entry);
    }
}

impl Climb {
    fn new(entry: usize, began: Place, inode: KernelVa, attributes: Attributes) -> Self {
        let (path, start) = ([0; ROOM], ROOM);
        let (place, state) = (began, State::GoesOn);
        Self { entry, began, inode, attributes, place, state, path, start }
    }

    /// Goes from the root of a mount to the name that it is mounted on, and so on. It is lost where
    /// something else is mounted over it.
    fn cross(&mut self, sweep: &Sweep) {
        let mounts = sweep.mounts();
        let mut top = None;
        for _ in 0..STEPS_MAX {
            if self.place == sweep.root() {
                self.state = State::AtRoot;
                return;
            }
            let Some(mount) = mounts.at(self.place.mount) else { break };
            if self.place.dentry != mount.root {
                if top.is_none() && mounts.on(self.place).is_some() {
                    break;
                }
                return;
            }
            let top = *top.get_or_insert(mount.address);
            if mounts.on(mount.place()).is_none_or(|last| last.address != top) {
                break;
            }
            self.place = mount.place();
        }
        self.state = State::Lost;
    }

    /// Goes on to the folder of a name.
    fn rise(&mut self, listed: &ListedName, name: &[u8]) {
        let start = self.start.checked_sub(name.len() + 1);
        let Some(start) = start.filter(|_| !listed.unlinked && !name.is_empty()) else {
            self.state = State::Lost;
            return;
        };
        self.path[start] = b'/';
        self.path[start + 1..self.start].copy_from_slice(name);
        self.start = start;
        self.place.dentry = listed.parent;
    }
}

/// Follows names up to the root.
fn climb(
    climbs: &mut [Climb],
    (reader, memory): (&mut Reader, &mut MachineMemory<'_>),
    sweep: &Sweep,
) {
    for _ in 0..STEPS_MAX {
        for climb in going_on(climbs) {
            climb.cross(sweep);
        }
        if going_on(climbs).next().is_none() {
            break;
        }
        rise(climbs, reader, memory);
    }
}

fn going_on(climbs: &mut [Climb]) -> impl Iterator<Item = &mut Climb> {
    climbs.iter_mut().filter(|climb| climb.state == State::GoesOn)
}

/// Reads where names are, and goes on to their folders.
fn rise(climbs: &mut [Climb], reader: &mut Reader, memory: &mut MachineMemory<'_>) {
    let MachineMemory { source, kernel } = memory;
    let layout = &kernel.layouts.dentry_tree;
    reader.clear();
    for climb in going_on(climbs) {
        reader.push(&kernel.space, climb.place.dentry, &layout.packing);
    }
    reader.run(source, kernel.space.levels);
    let mut long: ArrayVec<ListedName, CLIMBS_MAX> = ArrayVec::new();
    for (object, climb) in going_on(climbs).enumerate() {
        let Some(bytes) = reader.object(object) else {
            climb.state = State::Lost;
            continue;
        };
        let (listed, name) = ListedName::decode(layout, climb.place.dentry, bytes);
        if listed.long_name.is_null() {
            climb.rise(&listed, name);
        } else {
            climb.state = State::AtLongName;
            long.push(listed);
        }
    }
    if long.is_empty() {
        return;
    }
    reader.clear();
    for listed in &long {
        reader.push_bytes(&kernel.space, listed.long_name, listed.length);
    }
    reader.run(source, kernel.space.levels);
    let at_long_names = climbs.iter_mut().filter(|climb| climb.state == State::AtLongName);
    for (object, (climb, listed)) in at_long_names.zip(&long).enumerate() {
        climb.state = State::GoesOn;
        climb.rise(listed, reader.object(object).unwrap_or_default());
    }
}
