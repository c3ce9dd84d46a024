//! Paths of names: from a name in memory up to the root of process 1, or of its filesystem.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::{DENTRY_NAME_BYTES_MAX, DirectoryEntry};

use super::known::DentryPlace;
use super::sweep::{PATH_BYTES_MAX, Sweep};
use crate::address::MemoryReader;
use crate::page_cache::MachineMemory;

/// Maximum number of names that are followed at a time.
pub(in super::super) const CLIMBS_AT_ONCE: usize = 16;
/// Maximum number of names and mounts on the way to the root.
const STEPS_MAX: usize = 64;
/// Maximum length of a path in bytes.
const ROOM: usize = PATH_BYTES_MAX + DENTRY_NAME_BYTES_MAX;

/// A name that is on its way to the root.
#[derive(Clone, Debug)]
pub(in super::super) struct Climb {
    /// How far it is. Without a mount it ends at the root of its filesystem.
    place: DentryPlace,
    state: ClimbState,
    /// The end of its path, from `start` on.
    path: [u8; ROOM],
    start: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ClimbState {
    GoesOn,
    /// At a name that is not in its dentry.
    AtLongName,
    AtRoot,
    Lost,
}

impl Climb {
    /// Begins at a name below a mount.
    pub(super) fn new(place: DentryPlace) -> Self {
        Self { place, state: ClimbState::GoesOn, path: [0; ROOM], start: ROOM }
    }

    /// Begins at a name whose mount is not known: the path is that in its filesystem.
    pub(in super::super) fn within(dentry: KernelVa) -> Self {
        Self::new(DentryPlace { mount: KernelVa::NULL, dentry })
    }

    /// The path, if the root was reached.
    pub(in super::super) fn path(&self) -> Option<&[u8]> {
        (self.state == ClimbState::AtRoot).then(|| &self.path[self.start..])
    }

    /// `struct dentry *` at which it has ended.
    pub(in super::super) const fn end(&self) -> KernelVa {
        self.place.dentry
    }

    /// Goes from the root of a mount to the name that it is mounted on, and so on. It is lost where
    /// something else is mounted over it.
    fn cross(&mut self, sweep: &Sweep) {
        if self.place.mount.is_null() {
            return;
        }
        let mounts = sweep.mounts();
        let mut top = None;
        for _ in 0..STEPS_MAX {
            if self.place == sweep.root() {
                self.state = ClimbState::AtRoot;
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
        self.state = ClimbState::Lost;
    }

    /// Climbs to the folder of a name. One that just changes is lost.
    fn rise(&mut self, listed: &DirectoryEntry, name: &[u8]) {
        if self.place.mount.is_null() && listed.parent == listed.address {
            self.state = ClimbState::AtRoot;
            return;
        }
        let start = self.start.checked_sub(name.len() + 1);
        let is_whole = !listed.unlinked && !listed.changing && !name.is_empty();
        let Some(start) = start.filter(|_| is_whole) else {
            self.state = ClimbState::Lost;
            return;
        };
        self.path[start] = b'/';
        self.path[start + 1..self.start].copy_from_slice(name);
        self.start = start;
        self.place.dentry = listed.parent;
    }
}

/// Follows up to [`CLIMBS_AT_ONCE`] names up to the root.
pub(super) fn climb(
    climbs: &mut [Climb],
    (reader, memory): (&mut MemoryReader, &mut MachineMemory<'_>),
    sweep: &Sweep,
) {
    debug_assert!(climbs.len() <= CLIMBS_AT_ONCE);
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
    climbs.iter_mut().filter(|climb| climb.state == ClimbState::GoesOn)
}

/// Reads where names are, and moves up to their folders.
fn rise(climbs: &mut [Climb], reader: &mut MemoryReader, memory: &mut MachineMemory<'_>) {
    let MachineMemory { source, kernel } = memory;
    let layout = &kernel.layouts.dentry;
    reader.clear();
    for climb in going_on(climbs) {
        reader.push(&kernel.space, climb.place.dentry, &layout.packing);
    }
    reader.run(source, kernel.space.levels);
    let mut long: ArrayVec<DirectoryEntry, CLIMBS_AT_ONCE> = ArrayVec::new();
    for (object, climb) in going_on(climbs).enumerate() {
        let Some(bytes) = reader.object(object) else {
            climb.state = ClimbState::Lost;
            continue;
        };
        let (listed, name) = DirectoryEntry::decode(layout, climb.place.dentry, bytes);
        if listed.long_name.is_null() {
            climb.rise(&listed, name);
        } else {
            climb.state = ClimbState::AtLongName;
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
    let at_long_names = climbs.iter_mut().filter(|climb| climb.state == ClimbState::AtLongName);
    for (object, (climb, listed)) in at_long_names.zip(&long).enumerate() {
        climb.state = ClimbState::GoesOn;
        climb.rise(listed, reader.object(object).unwrap_or_default());
    }
}
