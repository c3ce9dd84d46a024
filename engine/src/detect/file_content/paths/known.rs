//! What each path named when it was last seen: a table of fixed size, by hashes of paths.
//!
//! Nothing is removed. Where there is no room, a path that was seen now takes the place of one that
//! was not seen for a while: its name is no longer in the machine's memory. Such a path counts as
//! unknown when it is seen again. A path of the system also takes the place of one in the home of a
//! user.
//!
//! An entry also has permissions: those of its first sight, or of the last record about its file.
//! Owners are few, so an entry has the place of its owner in a list.

use core::mem::replace;

use arrayvec::ArrayVec;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_tables::{HashKey, Tag, room};

use super::folders::is_in_homes;
use crate::state::facts::InodeFacts;
use crate::time::SECOND_NS;

/// Number of entries in which a path may be.
const TRIES_MAX: usize = 32;
/// Number of entries without a place that a look for the next place passes.
const PASSED_MAX: usize = 256;
/// Number of sweeps after which a path that was not seen may lose its entry.
const STALE_SWEEPS: u8 = 2;
/// Number of different owners that are known. Those of further files are not compared.
const OWNERS_MAX: usize = 63;
const _: () = assert!(OWNERS_MAX <= u8::MAX as usize, "an owner has a number of eight bits");
/// The permissions in a mode: `S_IALLUGO` (include/linux/stat.h).
const PERMISSIONS: u16 = 0o7777;
/// Whether a path is in the home of a user, beside its permissions.
const IS_IN_HOMES: u16 = 1 << 15;

/// What a path names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) struct PathTarget {
    /// Number of the inode.
    pub number: u64,
    pub size: u64,
    pub modify_time_ns: i64,
    pub change_time_ns: i64,
    /// Its `struct super_block`; none if that is not known.
    pub filesystem: Tag<4>,
    /// The mode without the type.
    pub permissions: u16,
    pub owner: OwnerId,
}

/// A user and a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileOwner {
    pub uid: u32,
    pub gid: u32,
}

/// The place of an owner in the list of [`KnownPaths`], from 1 on; 0 if it is not known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in super::super) struct OwnerId(u8);

impl PathTarget {
    pub(super) fn of(attributes: &Attributes) -> Self {
        Self {
            number: attributes.ino,
            size: attributes.size,
            modify_time_ns: attributes.mtime_ns,
            change_time_ns: attributes.ctime_ns,
            filesystem: Tag::of(attributes.super_block.0),
            permissions: attributes.mode & PERMISSIONS,
            owner: OwnerId::default(),
        }
    }

    /// The same of a closed file, whose filesystem is known by its device only.
    pub(super) fn of_facts(facts: &InodeFacts) -> Self {
        Self {
            number: facts.number,
            size: facts.size,
            modify_time_ns: facts.modify_time_ns,
            change_time_ns: facts.change_time_ns,
            filesystem: Tag::NONE,
            permissions: facts.mode & PERMISSIONS,
            owner: OwnerId::default(),
        }
    }

    /// The same with the permissions and the owner of another one.
    pub(super) fn with_access_of(self, other: &Self) -> Self {
        Self { permissions: other.permissions, owner: other.owner, ..self }
    }

    /// Whether permissions or owner differ, as far as they are known.
    pub(super) fn has_other_access(&self, later: &Self) -> bool {
        let are_known = ![self.owner, later.owner].contains(&OwnerId::default());
        self.permissions != later.permissions || are_known && self.owner != later.owner
    }

    /// Whether the file is the same, and nothing has changed it since.
    fn is_unchanged(&self, later: &Self) -> bool {
        // Every change of permissions sets the change time.
        Self { owner: OwnerId::default(), ..*self }
            == Self { owner: OwnerId::default(), permissions: self.permissions, ..*later }
    }

    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        let is_known = !self.filesystem.is_none() && !other.filesystem.is_none();
        self.number == other.number && (!is_known || self.filesystem == other.filesystem)
    }

    /// Whether the content may be the same, by size and time. A filesystem may keep whole seconds
    /// only, so that an inode that is read again has lost the rest.
    pub(super) fn has_same_content(&self, later: &Self) -> bool {
        let (before, now) = (self.modify_time_ns, later.modify_time_ns);
        let is_cut = now % SECOND_NS == 0 && before.div_euclid(SECOND_NS) == now / SECOND_NS;
        self.size == later.size && (before == now || is_cut)
    }
}

/// Where a name was found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct DentryPlace {
    /// `struct mount *`
    pub mount: KernelVa,
    /// `struct dentry *`; null if it is not known.
    pub dentry: KernelVa,
}

impl DentryPlace {
    pub(super) const UNKNOWN: Self = Self { mount: KernelVa::NULL, dentry: KernelVa::NULL };
}

/// The path of an entry that was forgotten. No hash of a path is so low.
const FORGOTTEN: u64 = 1;

#[derive(Clone, Copy, Debug)]
struct KnownPath {
    /// The hash of the path; 0 for a free entry.
    path: u64,
    number: u64,
    size: u64,
    modify_time_ns: i64,
    change_time_ns: i64,
    filesystem: Tag<4>,
    /// Permissions, and [`IS_IN_HOMES`].
    bits: u16,
    owner: OwnerId,
    /// Number of sweeps that have begun since it was seen.
    age: u8,
    place: DentryPlace,
}

const _: () = assert!(size_of::<KnownPath>() == 64, "each is in one cache line");

const FREE: KnownPath = KnownPath {
    path: 0,
    number: 0,
    size: 0,
    modify_time_ns: 0,
    change_time_ns: 0,
    filesystem: Tag::NONE,
    bits: 0,
    owner: OwnerId(0),
    age: 0,
    place: DentryPlace::UNKNOWN,
};

impl KnownPath {
    fn new((path, hash): (&[u8], u64), (named, place): (&PathTarget, DentryPlace)) -> Self {
        let PathTarget { number, size, modify_time_ns, change_time_ns, filesystem, .. } = *named;
        let home = if is_in_homes(path) { IS_IN_HOMES } else { 0 };
        Self {
            path: hash,
            number,
            size,
            modify_time_ns,
            change_time_ns,
            filesystem,
            bits: named.permissions & PERMISSIONS | home,
            owner: named.owner,
            age: 0,
            place,
        }
    }

    const fn named(&self) -> PathTarget {
        let Self { number, size, modify_time_ns, change_time_ns, filesystem, owner, .. } = *self;
        let permissions = self.bits & PERMISSIONS;
        PathTarget { number, size, modify_time_ns, change_time_ns, filesystem, permissions, owner }
    }

    const fn is_in_homes(&self) -> bool {
        self.bits & IS_IN_HOMES != 0
    }
}

/// Bits for each path in the set of inode numbers.
const BITS_PER_PATH: usize = 8;

/// What paths named.
#[derive(Debug)]
pub(in super::super) struct KnownPaths {
    entries: Box<[KnownPath]>,
    /// A bit for each hash of an inode number that any path has named since the last sweep began.
    numbers: Box<[u64]>,
    key: HashKey,
    /// The owners of files outside of homes.
    owners: ArrayVec<FileOwner, OWNERS_MAX>,
}

impl KnownPaths {
    /// Allocates for `capacity` paths.
    pub(super) fn new(capacity: usize, key: HashKey) -> Self {
        let words = capacity.div_ceil(u64::BITS as usize / BITS_PER_PATH);
        let numbers = room::copies(0, words);
        let owners = ArrayVec::new();
        Self { entries: room::copies(FREE, capacity), numbers, key, owners }
    }

    pub(super) fn begin_sweep(&mut self) {
        self.numbers.fill(0);
        for at in 0..self.entries.len() {
            self.entries[at].age = self.entries[at].age.saturating_add(1);
            self.note_number(self.entries[at].number);
        }
    }

    pub(super) fn forget(&mut self) {
        self.entries.fill(FREE);
        self.numbers.fill(0);
    }

    /// What a path names, with its owner.
    pub(super) fn named(&mut self, path: &[u8], attributes: &Attributes) -> PathTarget {
        let owner = FileOwner { uid: attributes.uid, gid: attributes.gid };
        PathTarget { owner: self.owner_id(path, owner), ..PathTarget::of(attributes) }
    }

    /// The same of a closed file.
    pub(super) fn named_of_facts(&mut self, path: &[u8], facts: &InodeFacts) -> PathTarget {
        let owner = FileOwner { uid: facts.uid, gid: facts.gid };
        PathTarget { owner: self.owner_id(path, owner), ..PathTarget::of_facts(facts) }
    }

    /// The place of an owner. Users may give files in their homes to many others, so these are not
    /// noted.
    fn owner_id(&mut self, path: &[u8], owner: FileOwner) -> OwnerId {
        if is_in_homes(path) {
            return OwnerId::default();
        }
        let known = self.owners.iter().position(|known| *known == owner);
        let added = || self.owners.try_push(owner).is_ok().then(|| self.owners.len() - 1);
        known.or_else(added).map_or(OwnerId::default(), |at| OwnerId(at as u8 + 1))
    }

    /// An owner by its place.
    pub(super) fn owner(&self, id: OwnerId) -> Option<FileOwner> {
        self.owners.get(usize::from(id.0).checked_sub(1)?).copied()
    }

    /// The place of a number in the set of inode numbers.
    fn bit_of(&self, number: u64) -> (usize, u64) {
        let bits = self.numbers.len() as u64 * u64::from(u64::BITS);
        let hash = self.key.hash(&number.to_le_bytes());
        let bit = ((u128::from(hash) * u128::from(bits)) >> u64::BITS) as usize;
        (bit / u64::BITS as usize, 1 << (bit % u64::BITS as usize))
    }

    fn note_number(&mut self, number: u64) {
        let (word, bit) = self.bit_of(number);
        if let Some(word) = self.numbers.get_mut(word) {
            *word |= bit;
        }
    }

    /// Whether any path may have named an inode of this number.
    pub(super) fn may_have(&self, number: u64) -> bool {
        let (word, bit) = self.bit_of(number);
        self.numbers.get(word).is_some_and(|word| word & bit != 0)
    }

    pub(super) fn hash(&self, path: &[u8]) -> u64 {
        self.hasher()(path)
    }

    /// What makes the hashes of paths.
    pub(super) fn hasher(&self) -> impl Fn(&[u8]) -> u64 + use<> {
        let key = self.key;
        move |path| key.hash(path).max(FORGOTTEN + 1)
    }

    /// The hash of the path of the folder that a path is in.
    pub(super) fn folder_hash(&self, path: &[u8]) -> u64 {
        self.hash(&path[..memchr::memrchr(b'/', path).unwrap_or_default()])
    }

    /// The entries that a path may have, from the first one on.
    fn entries_for(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let count = self.entries.len();
        let first = ((u128::from(hash) * count as u128) >> 64) as usize;
        (0..TRIES_MAX.min(count)).map(move |step| {
            let at = first + step;
            if at < count { at } else { at - count }
        })
    }

    /// The entry that has a path, if one has it.
    fn entry_of(&self, hash: u64) -> Option<usize> {
        self.entries_for(hash).take_while(|&at| self.entries[at].path != 0).find(|&at| {
            let entry = &self.entries[at];
            entry.path == hash
        })
    }

    /// What a path named when it was last seen. It is seen now, at this place.
    pub(super) fn get(&mut self, path: &[u8], place: DentryPlace) -> Option<PathTarget> {
        let at = self.entry_of(self.hash(path))?;
        let entry = &mut self.entries[at];
        (entry.age, entry.place) = (0, place);
        Some(entry.named())
    }

    /// What the path with a hash named when it was last seen.
    pub(super) fn peek(&self, hash: u64) -> Option<PathTarget> {
        self.entry_of(hash).map(|at| self.entries[at].named())
    }

    /// Notes that permissions and owners of files were reported, for all of their paths. The files
    /// are in the order of their numbers.
    pub(super) fn note_access(&mut self, files: &[PathTarget]) {
        debug_assert!(files.is_sorted_by_key(|file| file.number));
        if !files.iter().any(|file| self.may_have(file.number)) {
            return;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.path != 0) {
            let first = files.partition_point(|file| file.number < entry.number);
            let same = files[first..].iter().take_while(|file| file.number == entry.number);
            for file in same {
                if entry.named().is_same_file(file) {
                    entry.bits = entry.bits & !PERMISSIONS | file.permissions;
                    entry.owner = file.owner;
                }
            }
        }
    }

    /// Whether a path was seen last in another mount than this place's.
    pub(super) fn is_elsewhere(&self, path: &[u8], place: DentryPlace) -> bool {
        let mount = self.entry_of(self.hash(path)).map(|at| self.entries[at].place.mount);
        mount.is_some_and(|mount| !mount.is_null() && mount != place.mount)
    }

    /// The next path from entry `*next` on whose place is known, with its entry; passes
    /// [`PASSED_MAX`] others at most.
    pub(super) fn next_place(&self, next: &mut usize) -> Option<(usize, DentryPlace)> {
        for _ in 0..PASSED_MAX.min(self.entries.len()) {
            let at = if *next < self.entries.len() { *next } else { 0 };
            *next = at + 1;
            let entry = &self.entries[at];
            if entry.path != 0 && !entry.place.dentry.is_null() {
                return Some((at, entry.place));
            }
        }
        None
    }

    /// Whether the path of an entry names what these attributes are of. Then it is seen now.
    pub(super) fn is_unchanged(&mut self, at: usize, attributes: &Attributes) -> bool {
        let entry = &mut self.entries[at];
        let is_unchanged = entry.named().is_unchanged(&PathTarget::of(attributes));
        if is_unchanged {
            entry.age = 0;
        }
        is_unchanged
    }

    /// Whether an entry has this path.
    pub(super) fn is_path(&self, at: usize, path: &[u8]) -> bool {
        self.entries[at].path == self.hash(path)
    }

    pub(super) fn is_in_homes(&self, at: usize) -> bool {
        self.entries[at].is_in_homes()
    }

    /// Notes that a path is not where it was found.
    pub(super) fn forget_place(&mut self, at: usize) {
        self.entries[at].place.dentry = KernelVa::NULL;
    }

    /// Forgets what a path named.
    pub(super) fn forget_path(&mut self, path: &[u8]) {
        if let Some(at) = self.entry_of(self.hash(path)) {
            // An entry that is not free: others may have found their places behind it.
            let age = STALE_SWEEPS;
            self.entries[at] = KnownPath { path: FORGOTTEN, age, ..FREE };
        }
    }

    /// Notes what a path names, and where that is, if it is known. Returns what it named before.
    pub(in super::super) fn set(
        &mut self,
        path: &[u8],
        named: PathTarget,
        place: Option<DentryPlace>,
    ) -> Option<PathTarget> {
        let hash = self.hash(path);
        self.note_number(named.number);
        if let Some(at) = self.entry_of(hash) {
            let place = place.unwrap_or(self.entries[at].place);
            let new = KnownPath::new((path, hash), (&named, place));
            return Some(replace(&mut self.entries[at], new).named());
        }
        let place = place.unwrap_or_default();
        let is_of_system = !is_in_homes(path);
        let age = |entry: &KnownPath| match entry.path {
            0 => u16::MAX,
            _ if is_of_system && entry.is_in_homes() => u16::MAX - 1,
            _ => u16::from(entry.age),
        };
        // The first free place, or else the one that was not seen for longest.
        let mut oldest = None;
        for at in self.entries_for(hash) {
            let age = age(&self.entries[at]);
            if oldest.is_none_or(|(_, most)| age > most) {
                oldest = Some((at, age));
            }
            if age == u16::MAX {
                break;
            }
        }
        if let Some((at, age)) = oldest
            && age >= u16::from(STALE_SWEEPS)
        {
            self.entries[at] = KnownPath::new((path, hash), (&named, place));
        }
        None
    }

    /// Whether any path named this file with this content.
    pub(super) fn has_content(&self, named: &PathTarget) -> bool {
        let is_same =
            |other: &PathTarget| other.is_same_file(named) && other.has_same_content(named);
        self.any(is_same)
    }

    /// Whether what any path named is such a file.
    pub(super) fn any(&self, is_such: impl Fn(&PathTarget) -> bool) -> bool {
        let is_path = |entry: &KnownPath| ![FREE.path, FORGOTTEN].contains(&entry.path);
        self.entries.iter().any(|entry| is_path(entry) && is_such(&entry.named()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: DentryPlace = DentryPlace { mount: KernelVa(0x1000), dentry: KernelVa(0x2000) };

    fn named(number: u64) -> PathTarget {
        PathTarget {
            number,
            size: 4,
            modify_time_ns: 7 * SECOND_NS + 5,
            change_time_ns: 8 * SECOND_NS,
            filesystem: Tag::of(0x1000),
            permissions: 0o755,
            owner: OwnerId::default(),
        }
    }

    fn known(capacity: usize) -> KnownPaths {
        KnownPaths::new(capacity, HashKey::new(5))
    }

    #[test]
    fn a_path_has_what_it_named_last() {
        let mut known = known(64);
        assert_eq!(known.set(b"/etc/passwd", named(1), None), None);
        assert_eq!(known.set(b"/etc/passwd", named(2), None), Some(named(1)));
        assert_eq!(known.get(b"/etc/passwd", HERE), Some(named(2)));
        assert_eq!(known.get(b"/etc/shadow", HERE), None);
        assert!(known.has_content(&named(2)) && !known.has_content(&named(1)));
    }

    #[test]
    fn a_path_that_is_forgotten_hides_no_other_one() {
        let mut known = known(64);
        let path = |number: u64| format!("/usr/bin/{number}").into_bytes();
        (0..48).for_each(|number| _ = known.set(&path(number), named(number), None));
        let before = (0..48).filter(|&number| known.get(&path(number), HERE).is_some()).count();
        known.forget_path(&path(7));
        known.forget_path(b"/usr/bin/tail");
        assert_eq!(known.get(&path(7), HERE), None);
        assert!(!known.has_content(&named(7)) && known.has_content(&named(8)));
        let after = (0..48).filter(|&number| known.get(&path(number), HERE).is_some()).count();
        assert_eq!(after, before - 1);
        known.set(&path(7), named(9), None);
        assert_eq!(known.get(&path(7), HERE), Some(named(9)));
    }

    #[test]
    fn permissions_that_were_reported_are_those_of_all_paths_of_their_files() {
        let mut known = known(64);
        let with = |number, permissions| PathTarget { permissions, ..named(number) };
        for (path, number) in [("/a", 3), ("/b", 3), ("/c", 4), ("/d", 5), ("/e", 6)] {
            known.set(path.as_bytes(), named(number), None);
        }
        let other = PathTarget { filesystem: Tag::of(0x2000), ..with(6, 0o4755) };
        known.note_access(&[with(3, 0o4755), with(5, 0o2755), other, with(9, 0o4755)]);
        let of = |path: &[u8]| known.peek(known.hash(path)).unwrap().permissions;
        let all = [b"/a", b"/b", b"/c", b"/d", b"/e"].map(|path| of(path));
        assert_eq!(all, [0o4755, 0o4755, 0o755, 0o2755, 0o755]);
    }

    #[test]
    fn known_places_come_in_turn() {
        let mut known = known(64);
        known.set(b"/etc/passwd", named(1), Some(HERE));
        known.set(b"/etc/shadow", named(2), None);
        let mut next = 0;
        let (first, place) = known.next_place(&mut next).unwrap();
        assert_eq!((place, known.is_path(first, b"/etc/passwd")), (HERE, true));
        assert_eq!(known.next_place(&mut next), Some((first, HERE)), "the only one");
        // What a closing reports has no place of its own.
        known.set(b"/etc/passwd", named(3), None);
        assert_eq!(known.next_place(&mut next), Some((first, HERE)));
        known.forget_place(first);
        assert_eq!(known.next_place(&mut next), None);
        assert_eq!(known.get(b"/etc/shadow", HERE), Some(named(2)));
        assert!(known.next_place(&mut next).is_some_and(|(at, _)| at != first));
    }

    #[test]
    fn no_number_that_a_path_has_is_missing_in_the_set() {
        let mut known = known(2048);
        let path = |number: u64| format!("/usr/bin/{number}").into_bytes();
        for sweep in 0..3 {
            (0..1000).for_each(|number| _ = known.set(&path(number), named(number + sweep), None));
            assert!((0..1000).all(|number| known.may_have(number + sweep)));
            known.begin_sweep();
            assert!((0..1000).all(|number| known.may_have(number + sweep)));
        }
        let others = (5000..6000).filter(|&number| known.may_have(number)).count();
        assert!(others < 200, "{others} of 1,000 others must be searched");
        known.forget();
        assert!((0..1002).all(|number| !known.may_have(number)));
    }

    #[test]
    fn paths_that_are_not_seen_any_more_leave_their_places() {
        let mut known = known(64);
        let path = |number: u64| format!("/usr/bin/{number}").into_bytes();
        (0..64).for_each(|number| _ = known.set(&path(number), named(number), None));
        let kept = |known: &mut KnownPaths| {
            let is_kept = |number: &u64| known.get(&path(*number), HERE) == Some(named(*number));
            (0..64).filter(is_kept).collect::<Vec<_>>()
        };
        // What has been seen just now keeps its place.
        let before = kept(&mut known);
        assert!(before.len() > 48, "{}", before.len());
        (100..164).for_each(|number| _ = known.set(&path(number), named(number), None));
        assert!(kept(&mut known).len() >= before.len());
        for _ in 0..STALE_SWEEPS {
            known.begin_sweep();
        }
        (100..164).for_each(|number| _ = known.set(&path(number), named(number), None));
        let new = (100..164).filter(|&number| known.get(&path(number), HERE).is_some()).count();
        assert!(new > 48, "{new}");
    }

    #[test]
    fn paths_in_homes_leave_room_for_those_of_the_system() {
        let mut known = known(64);
        let home = |number: u64| format!("/home/eve/.ssh/{number}").into_bytes();
        let bin = |number: u64| format!("/usr/bin/{number}").into_bytes();
        (0..400).for_each(|number| _ = known.set(&home(number), named(number), None));
        (0..48).for_each(|number| _ = known.set(&bin(number), named(number), None));
        (0..400).for_each(|number| _ = known.set(&home(number), named(number), None));
        assert!((0..48).all(|number| known.get(&bin(number), HERE) == Some(named(number))));
    }

    #[test]
    fn owners_beyond_the_room_are_not_compared() {
        let mut known = known(64);
        let mut of = |path: &[u8], uid: u32| {
            known.named(path, &Attributes { uid, gid: 5, ..Attributes::default() })
        };
        let first = of(b"/etc/passwd", 1);
        assert!(first.has_other_access(&of(b"/etc/passwd", 2)));
        assert!(!first.has_other_access(&of(b"/etc/passwd", 1)));
        // Those in homes take no room.
        (1000..2000).for_each(|uid| _ = of(b"/home/eve/.ssh/id", uid));
        (3..=OWNERS_MAX as u32).for_each(|uid| _ = of(b"/etc/passwd", uid));
        let last = of(b"/etc/passwd", OWNERS_MAX as u32);
        assert!(first.has_other_access(&last));
        assert!(!first.has_other_access(&of(b"/etc/passwd", 9000)));
        assert!(!of(b"/home/eve/.ssh/id", 1).has_other_access(&of(b"/home/eve/.ssh/id", 2)));
        assert_eq!(known.owner(last.owner), Some(FileOwner { uid: OWNERS_MAX as u32, gid: 5 }));
    }

    #[test]
    fn an_inode_that_is_read_again_may_have_lost_parts_of_a_second() {
        let with = |modify_time_ns| PathTarget { modify_time_ns, ..named(1) };
        assert!(named(1).has_same_content(&with(7 * SECOND_NS)));
        assert!(!with(7 * SECOND_NS).has_same_content(&named(1)));
        assert!(!named(1).has_same_content(&with(6 * SECOND_NS)));
        assert!(!named(1).has_same_content(&PathTarget { size: 5, ..named(1) }));
    }
}
