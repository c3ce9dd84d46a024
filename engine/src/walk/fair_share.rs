//! Divides the rows of a scan among root, containers and users, and among the processes of each.
//!
//! Containers are not known until most of a scan is over. An owner is a user: the one who made the
//! user namespace of a process, has logged in, or else the user of the process. In a container that
//! root made, root can become any user: its owner is the pid namespace below that of process 1.
//!
//! If there are more descriptors or areas than rows, these are divided by max-min fairness, first
//! among owners and then among the descriptor tables or address spaces of each ([`divide`]).
//!
//! A scan finds all else one by one, and cannot count it before. The first part of such a table
//! goes to the first comers. The rest has equal parts for root, for processes in containers and for
//! all users. A part is divided among its users, and then among the processes of each
//! ([`TableShares`]). A process is charged for what it is the first to lead to. What no process of
//! the scan leads to has no part.
//!
//! Not here, because nobody can fill them for others: tables with room for a row of each process
//! (descriptor tables, address spaces, sets of control groups) or of each file (inodes, sockets);
//! terminals, of which the kernel makes fewer than there are rows. Elsewhere: tasks
//! (`task_shares`), texts (`texts`, `command_lines`), and dividing what is tracked
//! (`state/fair_share/rows.rs`).

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{AddressMap, AddressedRows, HashKey, Insertion, fair_share, room};

use super::ring_rows::RingRow;
use super::snapshot::{
    CgroupRow, ContainerRow, CssStateRow, DentryRow, FileRow, FilesRow, Index, KernfsRow, MmRow,
    MountRow, NameRow, NetRow, ProcessRow, SuperBlockRow,
};
use super::tables::Snapshot;

/// The owner of processes in containers whose pid namespaces are not known. The others have
/// addresses there, which are above.
pub(super) const CONTAINERS: u64 = 1 << 32;
/// The owner of what no process of the scan has.
const NOBODY: u64 = u64::MAX;

/// A row with its owner, and how many rows it wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnedRow<Row> {
    /// Its number, or [`TableShares::key_of`] that.
    pub(super) owner: u64,
    pub(super) row: Index<Row>,
    pub(super) wanted: u64,
}

/// Divides `room` among the owners and calls `allow` with each row and what it may have. No row may
/// have more than the share of an owner. `owned` is sorted by owner.
pub(super) fn divide<Row>(
    room: u64,
    owned: &[OwnedRow<Row>],
    mut allow: impl FnMut(Index<Row>, u64),
) {
    let owners = || owned.chunk_by(|one, next| one.owner == next.owner);
    let sum =
        |rows: &[OwnedRow<Row>]| rows.iter().fold(0, |sum: u64, it| sum.saturating_add(it.wanted));
    let of_owner = fair_share(room, || owners().map(sum));
    for rows in owners() {
        let of_row = fair_share(of_owner, || rows.iter().map(|it| it.wanted));
        for it in rows {
            allow(it.row, of_row.min(of_owner));
        }
    }
}

/// Returns how many of `capacity` rows for tasks are for those that the IDR shows.
pub(super) const fn room_of_shown(capacity: usize) -> usize {
    capacity - capacity / 16
}

/// Divides `room` among root, all containers and all users, and each part as [`divide`] does.
/// Owners are those of [`TableShares::key_of`].
pub(super) fn divide_parts<Row>(
    room: u64,
    owned: &[OwnedRow<Row>],
    mut allow: impl FnMut(Index<Row>, u64),
) {
    let part = |it: &OwnedRow<Row>| it.owner >> 32;
    let parts = || owned.chunk_by(|one, next| part(one) == part(next));
    let sum =
        |rows: &[OwnedRow<Row>]| rows.iter().fold(0, |sum: u64, it| sum.saturating_add(it.wanted));
    let of_part = fair_share(room, || parts().map(sum));
    for rows in parts() {
        divide(of_part.min(room), rows, &mut allow);
    }
}

impl Snapshot {
    fn first_pid_namespace(&self) -> u32 {
        self.init().map_or(0, |first| first.pid_namespace)
    }

    /// The owner of a process, given the pid namespace of process 1, and of those around the
    /// process the one below that.
    fn owner_of(&self, process: &ProcessRow, first: u32, outer: KernelVa) -> u64 {
        if process.namespace_maker.is_some() || process.pid_namespace == first {
            self.user_of(process).into()
        } else {
            outer.0.max(CONTAINERS)
        }
    }

    /// Lists every descriptor table with its owner.
    pub(super) fn list_tables(&self, owned: &mut Vec<OwnedRow<FilesRow>>) {
        self.list(owned, self.files_structs.indexed().map(|(row, table)| (row, table.process)));
    }

    /// Lists every address space with its owner.
    pub(super) fn list_spaces(&self, owned: &mut Vec<OwnedRow<MmRow>>) {
        self.list(owned, self.mms.indexed().map(|(row, mm)| (row, mm.process)));
    }

    fn list<Row>(
        &self,
        owned: &mut Vec<OwnedRow<Row>>,
        rows: impl Iterator<Item = (Index<Row>, Option<Index<ProcessRow>>)>,
    ) {
        owned.clear();
        owned.extend(rows.map(|(row, process)| {
            let process = self.processes.at(process);
            let owner = process.map_or(NOBODY, |process| process.owner.into());
            OwnedRow { owner, row, wanted: 0 }
        }));
        owned.sort_unstable_by_key(|it| (it.owner, it.row));
    }
}

/// A process of the scan, if one is known.
pub(super) type Leads = Option<Index<ProcessRow>>;

/// A row with the first process that leads to it.
pub(super) trait DividedRow {
    /// The place of its table in [`TableShares`].
    const TABLE: usize;
    /// The first part of the table, in eighths, which goes to the first comers.
    const FREE_EIGHTHS: usize;

    fn process(&mut self) -> &mut Leads;
}

macro_rules! divided_rows {
    ($($row:ident = $table:literal, $free_eighths:literal;)+) => {
        $(impl DividedRow for $row {
            const TABLE: usize = $table;
            const FREE_EIGHTHS: usize = $free_eighths;

            fn process(&mut self) -> &mut Leads {
                &mut self.process
            }
        })+

        const ROWS: usize = [$($table),+].len();
    };
}

divided_rows! {
    // Nearly all are files of descriptors and areas, which are divided already.
    FileRow = 0, 7;
    DentryRow = 1, 4;
    MountRow = 2, 4;
    SuperBlockRow = 3, 4;
    NetRow = 4, 4;
    CssStateRow = 5, 4;
    CgroupRow = 6, 4;
    KernfsRow = 7, 4;
    ContainerRow = 8, 4;
    NameRow = 9, 4;
    RingRow = 10, 4;
}

/// Number of kinds of names whose texts are divided.
pub(super) const TEXT_KINDS: usize = 2;
/// Number of tables, and of kinds of texts.
const TABLES: usize = ROWS + TEXT_KINDS;

/// Number of rows that a process may cause of its owner's part, and a user of all users' part,
/// however few there are for each, as long as the part lasts.
const PART_MIN: usize = 4;

/// The same for texts, in bytes.
const TEXT_PART_MIN: usize = 512;

/// How many rows were caused, and how many may be.
type ShareCounter<'a> = (&'a mut u32, usize);

/// Maximum number of users and containers among which rows are divided. Further ones count as one.
const OWNERS_MAX: usize = 4096;

/// A process: its owner, and how many rows of each table it has caused.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    owner: u32,
    rows: [u32; TABLES],
}

/// The kinds of owners, which have equal parts of a table.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum OwnerClass {
    #[default]
    Root,
    Containers,
    Users,
}

const CLASSES: [OwnerClass; 3] = [OwnerClass::Root, OwnerClass::Containers, OwnerClass::Users];

#[derive(Clone, Copy, Debug, Default)]
struct ShareOwner {
    class: OwnerClass,
    processes: usize,
    /// Number of further processes that may have rows, if there are more than fit.
    processes_left: u64,
    rows: [u32; TABLES],
}

/// The owners of a class together.
#[derive(Clone, Copy, Debug, Default)]
struct OwnerClassTotal {
    count: usize,
    rows: [u32; TABLES],
}

/// Divides the last part of each table among owners, and the part of an owner among its processes.
/// The rows before go to the first comers, and are not counted.
#[derive(Debug)]
pub(super) struct TableShares {
    accounts: Box<[Account]>,
    /// Root first.
    owners: Vec<ShareOwner>,
    /// Totals of each [`OwnerClass`]. Classes that have processes have equal parts of a table.
    classes: [OwnerClassTotal; 3],
    parts: usize,
    /// The owner of each user and container.
    numbers: AddressMap,
    /// The last process that found no room.
    pub(super) refused: Leads,
}

impl TableShares {
    /// Allocates for so many processes. The guest must not know `key`.
    pub(super) fn new(processes: usize, key: HashKey) -> Self {
        Self {
            accounts: room::copies(Account::default(), processes),
            owners: room::list(1 + OWNERS_MAX),
            classes: <[_; 3]>::default(),
            parts: 1,
            numbers: AddressMap::new(OWNERS_MAX, key),
            refused: None,
        }
    }

    /// Begins a scan with so many processes. They have one owner until others are known.
    pub(super) fn begin(&mut self, processes: usize) {
        let processes = processes.min(self.accounts.len());
        self.accounts[..processes].fill(Account::default());
        self.owners.clear();
        self.owners.push(ShareOwner { processes, ..ShareOwner::default() });
        self.count_classes();
        self.refused = None;
    }

    /// Sets the owners of all processes, whose users are known now, before anything is divided.
    /// `outer` has for each the outermost pid namespace around it, below that of process 1.
    ///
    /// Root, containers and users have equal parts, so a user with the ids of many others has no
    /// more.
    pub(super) fn set_owners(&mut self, snapshot: &mut Snapshot, outer: &[KernelVa]) {
        self.begin_owners();
        let first = snapshot.first_pid_namespace();
        for position in 0..snapshot.processes.len().min(self.accounts.len()) {
            let process = &snapshot.processes.as_slice()[position];
            let outer = outer.get(position).copied().unwrap_or_default();
            let owner = self.count_process(snapshot.owner_of(process, first, outer));
            self.accounts[position].owner = owner;
            snapshot.processes.as_mut_slice()[position].owner = owner;
        }
        self.count_classes();
    }

    /// Begins to number owners.
    pub(super) fn begin_owners(&mut self) {
        self.numbers.clear();
        self.owners.clear();
        self.owners.push(ShareOwner::default());
    }

    /// The number of an owner, which has one more process.
    pub(super) fn count_process(&mut self, owner: u64) -> u32 {
        let number = if owner == 0 { 0 } else { self.number_of(owner) };
        self.owners[number as usize].processes += 1;
        number
    }

    /// The number of an owner other than root, who gets one if there is room.
    fn number_of(&mut self, owner: u64) -> u32 {
        let next = self.owners.len() as u32;
        match self.numbers.insert(owner, next) {
            Insertion::New => {
                let class =
                    if owner < CONTAINERS { OwnerClass::Users } else { OwnerClass::Containers };
                self.owners.push(ShareOwner { class, ..ShareOwner::default() });
                next
            }
            Insertion::Old(number) => number,
            Insertion::Full => next - 1,
        }
    }

    fn count_classes(&mut self) {
        self.classes = <[_; 3]>::default();
        for owner in self.owners.iter().filter(|owner| owner.processes > 0) {
            self.classes[owner.class as usize].count += 1;
        }
        self.parts = self.classes.iter().filter(|class| class.count > 0).count();
    }

    /// A key by which the owners of a class are together.
    pub(super) fn key_of(&self, owner: u32) -> u64 {
        let class = self.owners.get(owner as usize).map_or(OwnerClass::Root, |owner| owner.class);
        (class as u64) << 32 | u64::from(owner)
    }

    /// Divides rows among the processes that were counted: among root, all containers and all
    /// users, and then among the owners of each.
    pub(super) fn divide_processes(&mut self, room: usize) {
        let count = |owner: &ShareOwner| owner.processes as u64;
        let of_class = |owners: &[ShareOwner], class: OwnerClass| {
            owners.iter().filter(|owner| owner.class == class).map(count).sum::<u64>()
        };
        let owners = self.owners.as_slice();
        let of_part =
            fair_share(room as u64, || CLASSES.into_iter().map(|it| of_class(owners, it)));
        for class in CLASSES {
            let its = |owner: &&ShareOwner| owner.class == class;
            let of_owner = fair_share(of_part, || self.owners.iter().filter(its).map(count));
            for owner in self.owners.iter_mut().filter(|owner| owner.class == class) {
                owner.processes_left = of_owner;
            }
        }
    }

    /// Whether one more process of an owner may have a row.
    pub(super) fn admits(&mut self, owner: u32) -> bool {
        let Some(owner) = self.owners.get_mut(owner as usize) else { return false };
        let is_admitted = owner.processes_left > 0;
        owner.processes_left -= u64::from(is_admitted);
        is_admitted
    }

    /// The row of an object to which a process leads. It is added if it is new and there is room,
    /// whatever the process has caused.
    #[inline]
    pub(super) fn granted<Row: DividedRow + From<KernelVa>>(
        rows: &mut AddressedRows<Row>,
        process: Leads,
        address: KernelVa,
    ) -> Option<Index<Row>> {
        granted(rows, process, address.0, || address.into())
    }

    /// The row of the object at an address to which a process leads. It is added if it is new,
    /// there is room, and neither the process nor its owner has caused more than their parts.
    #[inline]
    pub(super) fn row_at<Row: DividedRow + From<KernelVa>>(
        &mut self,
        rows: &mut AddressedRows<Row>,
        process: Leads,
        address: KernelVa,
    ) -> Option<Index<Row>> {
        self.row_of(rows, process, address.0, || address.into())
    }

    /// The same for an object that `row` makes a row of.
    pub(super) fn row_of<Row: DividedRow>(
        &mut self,
        rows: &mut AddressedRows<Row>,
        process: Leads,
        address: u64,
        row: impl FnOnce() -> Row,
    ) -> Option<Index<Row>> {
        let free = rows.capacity() / 8 * Row::FREE_EIGHTHS;
        if rows.len() < free {
            return granted(rows, process, address, row);
        }
        self.row_of_part(rows, process, address, row)
    }

    /// The same in the part of a table that is divided.
    #[cold]
    fn row_of_part<Row: DividedRow>(
        &mut self,
        rows: &mut AddressedRows<Row>,
        process: Leads,
        address: u64,
        row: impl FnOnce() -> Row,
    ) -> Option<Index<Row>> {
        let before = rows.len();
        let divided = rows.capacity() - rows.capacity() / 8 * Row::FREE_EIGHTHS;
        let mut counts = self.counts(Row::TABLE, process, divided, PART_MIN);
        let is_spent = |&(&mut count, most): &ShareCounter<'_>| count as usize >= most;
        if counts.as_ref().is_none_or(|counts| counts.iter().any(is_spent)) {
            let known = rows.find(address);
            if known.is_none() && address != 0 {
                rows.dropped = rows.dropped.saturating_add(1);
                self.refused = process.or(self.refused);
            }
            return known;
        }
        let row = granted(rows, process, address, row);
        if rows.len() > before {
            counts.iter_mut().flatten().for_each(|(count, _)| **count += 1);
        }
        row
    }

    /// What a process has caused of a table, of whose room `divided` is divided: its part's, its
    /// owner's and its own, each with its maximum. A user and a process have at least `least`.
    fn counts(
        &mut self,
        table: usize,
        process: Leads,
        divided: usize,
        least: usize,
    ) -> Option<[ShareCounter<'_>; 3]> {
        let part = divided / self.parts.max(1);
        let account = self.accounts.get_mut(process?.position())?;
        let owner = self.owners.get_mut(account.owner as usize)?;
        let class = &mut self.classes[owner.class as usize];
        let of_owner = (part / class.count.max(1)).max(least);
        let of_process = (of_owner / owner.processes.max(1)).max(least);
        Some([
            (&mut class.rows[table], part),
            (&mut owner.rows[table], of_owner),
            (&mut account.rows[table], of_process),
        ])
    }

    /// Charges a process for a text in the divided part of the room for such texts; `false` if
    /// it, its owner or its part would have more than its part then.
    #[cold]
    pub(super) fn charge_text(
        &mut self,
        kind: usize,
        process: Leads,
        divided: usize,
        bytes: usize,
    ) -> bool {
        let counts = self.counts(ROWS + kind, process, divided, TEXT_PART_MIN);
        let Some(mut counts) = counts else { return false };
        let fits = |&(&mut count, most): &ShareCounter<'_>| count as usize + bytes <= most;
        let is_charged = counts.iter().all(fits);
        if is_charged {
            for (count, _) in &mut counts {
                **count += bytes as u32;
            }
        } else {
            self.refused = process;
        }
        is_charged
    }
}

/// The row of an object, which is added if it is new and there is room.
#[inline]
fn granted<Row: DividedRow>(
    rows: &mut AddressedRows<Row>,
    process: Leads,
    address: u64,
    row: impl FnOnce() -> Row,
) -> Option<Index<Row>> {
    rows.row_of(address, || {
        let mut row = row();
        *row.process() = process;
        row
    })
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::walk::tests::memory::{Sparse, add_process, small, walker};

    proptest! {
        #[test]
        fn an_owner_has_its_part_whatever_others_want(
            rows in proptest::collection::vec((0..4_u64, 0..100_u64), 1..30),
            room in 0..600_u64,
        ) {
            let mut owned: Vec<OwnedRow<u8>> = (0..)
                .zip(&rows)
                .map(|(at, &(owner, wanted))| {
                    let row = Index::new(at).unwrap();
                    OwnedRow { owner, row, wanted }
                })
                .collect();
            owned.sort_unstable_by_key(|it| it.owner);
            let mut got = vec![0; rows.len()];
            divide(room, &owned, |row, most| {
                got[row.position()] = rows[row.position()].1.min(most);
            });
            prop_assert!(got.iter().sum::<u64>() <= room);
            let owners = owned.chunk_by(|one, next| one.owner == next.owner).count() as u64;
            for owner in 0..4 {
                let of = |counts: &dyn Fn(usize) -> u64| -> u64 {
                    (0..rows.len()).filter(|&at| rows[at].0 == owner).map(counts).sum()
                };
                let (has, wants) = (of(&|at| got[at]), of(&|at| rows[at].1));
                let count = rows.iter().filter(|row| row.0 == owner).count() as u64;
                // Less than one is left for each row.
                prop_assert!(has + count >= wants.min(room / owners), "{has} of {wants}");
                let is_all = (0..rows.len()).all(|at| got[at] == rows[at].1);
                prop_assert!(is_all || rows.iter().map(|row| row.1).sum::<u64>() > room);
            }
        }
    }

    /// Leads to so many new rows from a process; returns how many there was room for.
    fn lead(
        shares: &mut TableShares,
        rows: &mut AddressedRows<MountRow>,
        process: Index<ProcessRow>,
        count: u64,
    ) -> usize {
        let first = 1_000_000 * (1 + process.position() as u64);
        let mut is_new =
            |number| shares.row_at(rows, Some(process), KernelVa(first + number)).is_some();
        (0..count).filter(|&number| is_new(number)).count()
    }

    /// A user has most processes, with the ids of many users, or root in a container has them.
    #[test]
    fn each_owner_has_its_part_of_a_table() {
        for users in [1, 10, 300] {
            let (mut walker, mut memory) = (walker(&small()), Sparse::default());
            let mut add = |uid: usize| add_process(&mut walker, &mut memory, uid as u32);
            let crowd: Vec<_> = (0..500).map(|at| add(1000 + at % users)).collect();
            let hostile: Vec<_> = (0..300).map(|at| add(at % users)).collect();
            let contained: Vec<_> = (0..2).map(|_| add(0)).collect();
            let (root, other) = ([add(0), add(0)], add(999));
            let mut outer = vec![KernelVa::NULL; walker.snapshot.processes.len()];
            for (container, processes) in [(1, &hostile), (2, &contained)] {
                for &process in processes {
                    walker.snapshot.processes[process].pid_namespace = container;
                    outer[process.position()] = KernelVa(CONTAINERS + u64::from(container));
                }
            }
            let mut shares = TableShares::new(1000, HashKey::new(1));
            let mut rows: AddressedRows<MountRow> = AddressedRows::new(2400, HashKey::new(1));
            shares.begin(walker.snapshot.processes.len());
            shares.set_owners(&mut walker.snapshot, &outer);
            let mut all = |processes: &[Index<ProcessRow>], count: u64| -> usize {
                processes.iter().map(|&process| lead(&mut shares, &mut rows, process, count)).sum()
            };
            let (first, crowd) = crowd.split_at(24);
            assert_eq!(all(first, 50), 1200, "the first half goes to the first comers");
            // Root, containers and users have a third of the second half each. Each user and each
            // container has its part of that, and at least four.
            let of_user = (400 / (users + 1)).max(4);
            assert_eq!(all(&[other], 1000), of_user);
            assert_eq!(all(crowd, 50), (users * of_user).min(400 - of_user));
            assert_eq!(all(&hostile, 50), 200);
            assert_eq!(all(&contained, 1000), 200);
            assert_eq!(shares.row_at(&mut rows, None, KernelVa(7)), None, "nobody has no part");
            assert_eq!(root.map(|process| lead(&mut shares, &mut rows, process, 1000)), [200; 2]);
        }
    }

    /// Rootless containers are their user's; so is what has ids that the user was lent.
    #[test]
    fn what_is_in_namespaces_of_a_user_counts_for_the_user() {
        let (mut walker, mut memory) = (walker(&small()), Sparse::default());
        let mut add = |uid: u32| add_process(&mut walker, &mut memory, uid);
        let processes = [add(0), add(1000), add(100_005), add(999), add(33)];
        for (position, maker, namespace) in [(2, 1000, 7), (4, 1000, 0)] {
            let process = &mut walker.snapshot.processes[processes[position]];
            (process.namespace_maker, process.pid_namespace) = (NonZeroU32::new(maker), namespace);
        }
        let mut shares = TableShares::new(10, HashKey::new(1));
        shares.begin(5);
        shares.set_owners(&mut walker.snapshot, &[KernelVa(1 << 40); 5]);
        let owners = processes.map(|process| walker.snapshot.processes[process].owner);
        assert_eq!(owners, [0, 1, 1, 2, 1]);
    }

    #[test]
    fn each_process_leads_to_its_part_of_a_table() {
        let mut shares = TableShares::new(100, HashKey::new(1));
        let mut rows: AddressedRows<MountRow> = AddressedRows::new(400, HashKey::new(1));
        for _ in 0..2 {
            shares.begin(20);
            rows.clear();
            let mut lead = |process: usize, address: u64| {
                shares.row_at(&mut rows, Index::new(process), KernelVa(address)).is_some()
            };
            let hog = (1..1000).filter(|&address| lead(0, address)).count();
            assert_eq!(hog, 210, "half of the table, and its part of the other half");
            for process in 1..20 {
                let own = |number: u64| 10_000 + process as u64 * 100 + number;
                let count = (0..50).filter(|&number| lead(process, own(number))).count();
                assert_eq!(count, 10, "its part of the other half");
                assert!(lead(process, 7), "what others lead to is known");
            }
            assert!(!lead(0, 0) && !lead(0, 5000));
            assert!(shares.refused == Index::new(0) && rows.dropped > 800);
        }
    }
}
