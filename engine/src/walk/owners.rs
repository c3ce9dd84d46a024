//! Divides the rows of a scan among root, containers and users, and among the processes of each.
//!
//! Containers are not known until most of a scan is over. So an owner is a user: the one who has
//! logged in, or else the user of the process. Processes in containers, which choose both, have one
//! owner together.
//!
//! If there are more descriptors or areas than rows, these are divided by max-min fairness, first
//! among owners and then among the descriptor tables or address spaces of each ([`divide`]).
//!
//! A scan finds all else one by one, and cannot count it before. The first part of such a table
//! goes to the first comers. The rest has equal parts for root, for processes in containers and for
//! all users. A part is divided among its users, and then among the processes of each ([`Quotas`]).
//! A process is charged for what it is the first to lead to. What no process of the scan leads
//! to has no part.
//!
//! Not here: tables that have room for one row of each process or thread, and for the set of
//! control groups of each process; dividing what is tracked (`state/crowd.rs`).

use panoptes_decoders::address::KernelVa;
use panoptes_tables::{AddressMap, HashKey, Insertion, Keyed, fair_share, room};

use super::snapshot::{
    CgroupRow, CssStateRow, DentryRow, FileRow, FilesRow, Index, KernfsRow, MmRow, MountRow,
    NetRow, ProcessRow, SuperBlockRow,
};
use super::tables::Snapshot;

/// The owner of processes in other pid namespaces than that of process 1: in containers.
const CONTAINERS: u64 = 1 << 32;
/// The owner of what no process of the scan has.
const NOBODY: u64 = u64::MAX;

/// A row with its owner, and how many rows it wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned<Row> {
    owner: u64,
    pub(super) row: Index<Row>,
    pub(super) wanted: u64,
}

/// Divides `room` among the owners and calls `allow` with each row and what it may have. No row may
/// have more than the share of an owner. `owned` is sorted by owner.
pub(super) fn divide<Row>(room: u64, owned: &[Owned<Row>], mut allow: impl FnMut(Index<Row>, u64)) {
    let owners = || owned.chunk_by(|one, next| one.owner == next.owner);
    let sum =
        |rows: &[Owned<Row>]| rows.iter().fold(0, |sum: u64, it| sum.saturating_add(it.wanted));
    let of_owner = fair_share(room, || owners().map(sum));
    for rows in owners() {
        let of_row = fair_share(of_owner, || rows.iter().map(|it| it.wanted));
        for it in rows {
            allow(it.row, of_row.min(of_owner));
        }
    }
}

impl Snapshot {
    fn first_pid_namespace(&self) -> u32 {
        self.init().map_or(0, |first| first.pid_namespace)
    }

    /// The owner of a process, given the pid namespace of process 1.
    fn owner_of(&self, process: &ProcessRow, first: u32) -> u64 {
        // Root in a container can become any user.
        if process.pid_namespace == first { self.user_of(process).into() } else { CONTAINERS }
    }

    /// Lists every descriptor table with its owner.
    pub(super) fn list_tables(&self, owned: &mut Vec<Owned<FilesRow>>) {
        self.list(owned, self.files_structs.indexed().map(|(row, table)| (row, table.process)));
    }

    /// Lists every address space with its owner.
    pub(super) fn list_spaces(&self, owned: &mut Vec<Owned<MmRow>>) {
        self.list(owned, self.mms.indexed().map(|(row, mm)| (row, mm.process)));
    }

    fn list<Row>(
        &self,
        owned: &mut Vec<Owned<Row>>,
        rows: impl Iterator<Item = (Index<Row>, Option<Index<ProcessRow>>)>,
    ) {
        let first = self.first_pid_namespace();
        owned.clear();
        owned.extend(rows.map(|(row, process)| {
            let process = self.processes.at(process);
            let owner = process.map_or(NOBODY, |process| self.owner_of(process, first));
            Owned { owner, row, wanted: 0 }
        }));
        owned.sort_unstable_by_key(|it| (it.owner, it.row));
    }
}

/// A process of the scan, if one is known.
pub(super) type Leads = Option<Index<ProcessRow>>;

/// A row with the first process that leads to it.
pub(super) trait Led: From<KernelVa> {
    /// The place of its table in [`Quotas`].
    const TABLE: usize;
    /// The first part of the table, in eighths, which goes to the first comers.
    const FREE_EIGHTHS: usize;

    fn process(&mut self) -> &mut Leads;
}

macro_rules! led {
    ($($row:ident = $table:literal, $free_eighths:literal;)+) => {
        $(impl Led for $row {
            const TABLE: usize = $table;
            const FREE_EIGHTHS: usize = $free_eighths;

            fn process(&mut self) -> &mut Leads {
                &mut self.process
            }
        })+

        const TABLES: usize = [$($table),+].len();
    };
}

led! {
    // Nearly all are files of descriptors and areas, which are divided already.
    FileRow = 0, 7;
    DentryRow = 1, 4;
    MountRow = 2, 4;
    SuperBlockRow = 3, 4;
    NetRow = 4, 4;
    CssStateRow = 5, 4;
    CgroupRow = 6, 4;
    KernfsRow = 7, 4;
}

/// Number of rows that a process may cause of its owner's part, and a user of all users' part,
/// however few there are for each, as long as the part lasts.
const PART_MIN: usize = 4;

/// Maximum number of users among which rows are divided. Further ones count as one.
const USERS_MAX: usize = 4096;
/// The owners that are not users: root, and processes in containers.
const NO_USERS: usize = 2;

/// A process: its owner, and how many rows of each table it has caused.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    owner: u32,
    rows: [u32; TABLES],
}

#[derive(Clone, Copy, Debug, Default)]
struct Owner {
    processes: usize,
    rows: [u32; TABLES],
}

/// Divides the last part of each table among owners, and the part of an owner among its processes.
/// The rows before go to the first comers, and are not counted.
#[derive(Debug)]
pub(super) struct Quotas {
    accounts: Box<[Account]>,
    owners: Vec<Owner>,
    /// Number of equal parts of a table: for root, processes in containers, and all users together.
    parts: usize,
    /// By part, number of rows that its owners have caused.
    of_parts: [[u32; TABLES]; NO_USERS + 1],
    /// The owner of each user.
    users: AddressMap,
    /// The last process that found no room.
    pub(super) refused: Leads,
}

impl Quotas {
    /// Allocates for so many processes. The guest must not know `key`.
    pub(super) fn new(processes: usize, key: HashKey) -> Self {
        Self {
            accounts: room::copies(Account::default(), processes),
            owners: room::list(NO_USERS + USERS_MAX),
            parts: 1,
            of_parts: <[_; NO_USERS + 1]>::default(),
            users: AddressMap::new(USERS_MAX, key),
            refused: None,
        }
    }

    /// Begins a scan with so many processes. They have one owner until others are known.
    pub(super) fn begin(&mut self, processes: usize) {
        let processes = processes.min(self.accounts.len());
        self.accounts[..processes].fill(Account::default());
        self.owners.clear();
        self.owners.push(Owner { processes, rows: [0; TABLES] });
        (self.parts, self.of_parts) = (1, Default::default());
        self.refused = None;
    }

    /// Sets the owners of all processes, whose users are known now, before anything is divided.
    /// Root, processes in containers and all users together have equal parts, so a user with the
    /// ids of many others has no more.
    pub(super) fn set_owners(&mut self, snapshot: &Snapshot) {
        self.users.clear();
        self.owners.clear();
        self.owners.resize(NO_USERS, Owner::default());
        let first = snapshot.first_pid_namespace();
        for (process, account) in snapshot.processes.iter().zip(&mut self.accounts) {
            let owner = match snapshot.owner_of(process, first) {
                0 => 0,
                CONTAINERS => 1,
                user => match self.users.insert(user, self.owners.len() as u32) {
                    Insertion::New => {
                        self.owners.push(Owner::default());
                        self.owners.len() - 1
                    }
                    Insertion::Old(owner) => owner as usize,
                    Insertion::Full => self.owners.len() - 1,
                },
            };
            account.owner = owner as u32;
            self.owners[owner].processes += 1;
        }
        let (others, users) = self.owners.split_at(NO_USERS);
        let others = others.iter().filter(|owner| owner.processes > 0).count();
        self.parts = others + usize::from(!users.is_empty());
    }

    /// The row of an object to which a process leads. It is added if it is new and there is room,
    /// whatever the process has caused.
    #[inline]
    pub(super) fn granted<Row: Led>(
        rows: &mut Keyed<Row>,
        process: Leads,
        address: KernelVa,
    ) -> Option<Index<Row>> {
        rows.row_of(address.0, || {
            let mut row = Row::from(address);
            *row.process() = process;
            row
        })
    }

    /// The row of the object at an address to which a process leads. It is added if it is new,
    /// there is room, and neither the process nor its owner has caused more than their parts.
    pub(super) fn row_at<Row: Led>(
        &mut self,
        rows: &mut Keyed<Row>,
        process: Leads,
        address: KernelVa,
    ) -> Option<Index<Row>> {
        let free = rows.capacity() / 8 * Row::FREE_EIGHTHS;
        if rows.len() < free {
            return Self::granted(rows, process, address);
        }
        self.row_of_part(rows, process, address)
    }

    /// The same in the part of a table that is divided.
    #[cold]
    fn row_of_part<Row: Led>(
        &mut self,
        rows: &mut Keyed<Row>,
        process: Leads,
        address: KernelVa,
    ) -> Option<Index<Row>> {
        let before = rows.len();
        let free = rows.capacity() / 8 * Row::FREE_EIGHTHS;
        let part = (rows.capacity() - free) / self.parts.max(1);
        let users = self.owners.len().saturating_sub(NO_USERS).max(1);
        let account = process.and_then(|process| self.accounts.get_mut(process.position()));
        let mut counts = account.and_then(|account| {
            let number = account.owner as usize;
            let owner = self.owners.get_mut(number)?;
            let of_owner = if number < NO_USERS { part } else { (part / users).max(PART_MIN) };
            let of_process = (of_owner / owner.processes.max(1)).max(PART_MIN);
            Some([
                (&mut self.of_parts[number.min(NO_USERS)][Row::TABLE], part),
                (&mut owner.rows[Row::TABLE], of_owner),
                (&mut account.rows[Row::TABLE], of_process),
            ])
        });
        let is_spent = |&(&mut count, most): &(&mut u32, usize)| count as usize >= most;
        if counts.as_ref().is_none_or(|counts| counts.iter().any(is_spent)) {
            let known = rows.find(address.0);
            if known.is_none() && !address.is_null() {
                rows.dropped = rows.dropped.saturating_add(1);
                self.refused = process.or(self.refused);
            }
            return known;
        }
        let row = Self::granted(rows, process, address);
        if rows.len() > before {
            counts.iter_mut().flatten().for_each(|(count, _)| **count += 1);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::walk::tests::memory::{Sparse, add_process, small, walker};

    proptest! {
        #[test]
        fn an_owner_has_its_part_whatever_others_want(
            rows in proptest::collection::vec((0..4_u64, 0..100_u64), 1..30),
            room in 0..600_u64,
        ) {
            let mut owned: Vec<Owned<u8>> = (0..)
                .zip(&rows)
                .map(|(at, &(owner, wanted))| Owned { owner, row: Index::new(at).unwrap(), wanted })
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
        quotas: &mut Quotas,
        rows: &mut Keyed<MountRow>,
        process: Index<ProcessRow>,
        count: u64,
    ) -> usize {
        let first = 1_000_000 * (1 + process.position() as u64);
        let mut is_new =
            |number| quotas.row_at(rows, Some(process), KernelVa(first + number)).is_some();
        (0..count).filter(|&number| is_new(number)).count()
    }

    /// A user, or root in a container, has most processes or the ids of many users.
    #[test]
    fn each_owner_has_its_part_of_a_table() {
        for users in [1, 10, 300] {
            let (mut walker, mut memory) = (walker(&small()), Sparse::default());
            let mut add = |uid: usize| add_process(&mut walker, &mut memory, uid as u32);
            let crowd: Vec<_> = (0..500).map(|at| add(1000 + at % users)).collect();
            let contained: Vec<_> = (0..300).map(|at| add(at % users)).collect();
            let (root, other) = ([add(0), add(0)], add(999));
            for &process in &contained {
                walker.snapshot.processes[process].pid_namespace = 1;
            }
            let mut quotas = Quotas::new(1000, HashKey::new(1));
            let mut rows: Keyed<MountRow> = Keyed::new(2400, HashKey::new(1));
            quotas.begin(walker.snapshot.processes.len());
            quotas.set_owners(&walker.snapshot);
            let mut all = |processes: &[Index<ProcessRow>], count: u64| -> usize {
                processes.iter().map(|&process| lead(&mut quotas, &mut rows, process, count)).sum()
            };
            let (first, crowd) = crowd.split_at(24);
            assert_eq!(all(first, 50), 1200, "the first half goes to the first comers");
            // Root, containers and users have a third of the second half each. Each user has its
            // part of that, and at least four.
            let of_user = (400 / (users + 1)).max(4);
            assert_eq!(all(&[other], 1000), of_user);
            assert_eq!(all(crowd, 50), (users * of_user).min(400 - of_user));
            assert_eq!(all(&contained, 50), 400);
            assert_eq!(quotas.row_at(&mut rows, None, KernelVa(7)), None, "nobody has no part");
            assert_eq!(root.map(|process| lead(&mut quotas, &mut rows, process, 1000)), [200; 2]);
        }
    }

    #[test]
    fn each_process_leads_to_its_part_of_a_table() {
        let mut quotas = Quotas::new(100, HashKey::new(1));
        let mut rows: Keyed<MountRow> = Keyed::new(400, HashKey::new(1));
        for _ in 0..2 {
            quotas.begin(20);
            rows.clear();
            let mut lead = |process: usize, address: u64| {
                quotas.row_at(&mut rows, Index::new(process), KernelVa(address)).is_some()
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
            assert!(quotas.refused == Index::new(0) && rows.dropped > 800);
        }
    }
}
