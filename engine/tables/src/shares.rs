//! Divides the room of a table among those who want it, so that nobody fills it for others.
//!
//! An owner is a process, and its group is a user or a container. Room is divided by max-min
//! fairness, first among groups and then among the owners of each group. Who wants no more
//! than an equal part gets all of it, and what is left goes to those who want more. So an equal
//! part of the room is reserved for each group, and in it for each owner, and only an owner above
//! its share is ever cut.
//!
//! How to use it, once in each scan:
//!
//! 1. [`Shares::begin`], then [`Shares::want`] for each owner with the number of rows that it
//!    wants. If a table only learns of its rows one by one, that is the number of rows that the
//!    owner has, and of those that were refused in the last scan.
//! 2. [`Shares::divide`]. If everything fits, this costs nothing and nobody is limited.
//! 3. Remove rows of each owner that has more than [`Shares::allowed`]. That makes the room, so do
//!    it before rows are added.
//! 4. Add rows of an owner while it has fewer than [`Shares::allowed`]; count those that are
//!    refused. [`Shares::above`] is the owner to blame.
//!
//! A sixteenth of a crowded table stays free for owners that appear in between. So a row that was
//! removed does not come back as soon as another one ends.

use crate::room;

/// The fraction of a crowded table that is not divided.
const SPARE_PART: u64 = 16;

/// What one owner wants.
#[derive(Clone, Copy, Debug)]
struct Demand {
    group: u64,
    owner: u32,
    wanted: u32,
}

/// The owner that lacks most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnerAboveShare {
    pub owner: u32,
    /// Number of rows that it wants beyond its share.
    pub excess: u32,
}

/// How many rows each owner may have.
#[derive(Debug)]
pub struct Shares {
    demands: Vec<Demand>,
    /// Maximum number of rows of each owner; `u32::MAX` without a limit.
    allowed: Box<[u32]>,
    total: u64,
    is_crowded: bool,
    above: Option<OwnerAboveShare>,
}

impl Shares {
    /// Allocates for `owners` owners, with numbers below that.
    pub fn new(owners: usize) -> Self {
        Self {
            demands: room::list(owners),
            allowed: room::copies(u32::MAX, owners),
            total: 0,
            is_crowded: false,
            above: None,
        }
    }

    /// Forgets what was wanted. Nobody is limited until [`Shares::divide`].
    pub fn begin(&mut self) {
        self.demands.clear();
        self.total = 0;
        self.above = None;
        if core::mem::take(&mut self.is_crowded) {
            self.allowed.fill(u32::MAX);
        }
    }

    /// Adds the number of rows that an owner of a group wants. Each owner is added once.
    pub fn want(&mut self, group: u64, owner: u32, wanted: u32) {
        if wanted > 0 && self.demands.len() < self.demands.capacity() {
            self.total += u64::from(wanted);
            self.demands.push(Demand { group, owner, wanted });
        }
    }

    /// Divides `capacity` rows. Its work is that of sorting the owners.
    pub fn divide(&mut self, capacity: usize) {
        let capacity = capacity as u64;
        if self.total <= capacity {
            return;
        }
        self.is_crowded = true;
        self.demands.sort_unstable_by_key(|demand| (demand.group, demand.owner));
        let groups = || self.demands.chunk_by(|one, next| one.group == next.group);
        let room = capacity - capacity / SPARE_PART;
        let (group_share, mut groups_with_more) = divided(room, || groups().map(sum));
        for group in groups() {
            let room = part(sum(group), group_share, &mut groups_with_more);
            let wanted = || group.iter().map(|it| u64::from(it.wanted));
            let (share, mut with_more) = divided(room, wanted);
            for demand in group {
                let share = part(demand.wanted.into(), share, &mut with_more);
                let share = u32::try_from(share).unwrap_or(u32::MAX);
                if let Some(allowed) = self.allowed.get_mut(demand.owner as usize) {
                    *allowed = share;
                }
                let excess = demand.wanted.saturating_sub(share);
                if excess > self.above.map_or(0, |above| above.excess) {
                    self.above = Some(OwnerAboveShare { owner: demand.owner, excess });
                }
            }
        }
    }

    /// Whether somebody wants more than its share.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Number of rows that an owner may have: `u32::MAX` if it is not limited.
    #[inline]
    pub fn allowed(&self, owner: u32) -> u32 {
        self.allowed.get(owner as usize).copied().unwrap_or(u32::MAX)
    }

    /// The owner that wants most beyond its share.
    pub fn above(&self) -> Option<OwnerAboveShare> {
        self.above
    }
}

fn sum(group: &[Demand]) -> u64 {
    group.iter().map(|it| u64::from(it.wanted)).sum()
}

/// The fair share, and how many of those who want more get one more, so that nothing is left.
fn divided<I: Iterator<Item = u64>>(room: u64, demands: impl Fn() -> I) -> (u64, u64) {
    let share = fair_share(room, &demands);
    if share == u64::MAX {
        return (share, 0);
    }
    let used: u64 = demands().map(|demand| demand.min(share)).sum();
    (share, room - used)
}

/// The part of one who wants `wanted`.
fn part(wanted: u64, share: u64, with_more: &mut u64) -> u64 {
    if wanted <= share || *with_more == 0 {
        return share;
    }
    *with_more -= 1;
    share + 1
}

/// The largest share so that all demands fit into `room` together, each cut to the share;
/// `u64::MAX` if none has to be cut.
pub fn fair_share<I: Iterator<Item = u64>>(room: u64, demands: impl Fn() -> I) -> u64 {
    let fits = |share: u64| {
        let sum = demands().fold(0_u64, |sum, demand| sum.saturating_add(demand.min(share)));
        sum <= room
    };
    if fits(u64::MAX) {
        return u64::MAX;
    }
    // `low` fits, `high` does not.
    let (mut low, mut high) = (0, room.saturating_add(1));
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Shares of owners, each with its group and what it wants.
    fn shares_of(owners: &[(u64, u32)], capacity: usize) -> Shares {
        let mut shares = Shares::new(owners.len());
        shares.begin();
        for (owner, &(group, wanted)) in (0..).zip(owners) {
            shares.want(group, owner, wanted);
        }
        shares.divide(capacity);
        shares
    }

    proptest! {
        #[test]
        fn a_share_is_the_largest_that_fits(
            demands in proptest::collection::vec(0_u64..50, 0..20), room in 0_u64..400
        ) {
            let sum = |share: u64| demands.iter().map(|&one| one.min(share)).sum::<u64>();
            let share = fair_share(room, || demands.iter().copied());
            prop_assert!(sum(share) <= room);
            prop_assert!(share == u64::MAX || sum(share + 1) > room);
        }

        #[test]
        fn only_who_is_above_its_share_is_cut(
            owners in proptest::collection::vec((0..5_u64, 0..60_u32), 0..30),
            capacity in 0_usize..500,
        ) {
            let shares = shares_of(&owners, capacity);
            let wanted: usize = owners.iter().map(|owner| owner.1 as usize).sum();
            prop_assert_eq!(shares.is_crowded(), wanted > capacity);
            prop_assert_eq!(shares.above().is_some(), wanted > capacity);
            let got = |owner: usize| owners[owner].1.min(shares.allowed(owner as u32));
            let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
            for (owner, (group, _)) in owners.iter().enumerate() {
                groups.entry(*group).or_default().push(owner);
            }
            let total: u32 = (0..owners.len()).map(got).sum();
            prop_assert!(total as usize <= capacity);
            if !shares.is_crowded() {
                return Ok(());
            }
            let room = capacity - capacity / SPARE_PART as usize;
            prop_assert_eq!(total as usize, room, "nothing is left");
            let of = |group: &[usize]| group.iter().map(|&it| got(it)).sum::<u32>();
            for group in groups.values() {
                let is_cut = group.iter().any(|&it| got(it) < owners[it].1);
                if !is_cut {
                    continue;
                }
                prop_assert!(of(group) as usize >= room / groups.len(), "its reserve");
                prop_assert!(groups.values().all(|other| of(other) <= of(group) + 1));
                for &it in group.iter().filter(|&&it| got(it) < owners[it].1) {
                    prop_assert!(got(it) >= of(group) / group.len() as u32, "its reserve");
                    prop_assert!(group.iter().all(|&other| got(other) <= got(it) + 1));
                }
            }
        }
    }

    #[test]
    fn one_owner_who_wants_all_leaves_others_what_they_want() {
        let shares = shares_of(&[(0, 3), (0, 170_000), (0, 40), (7, 900)], 131_072);
        assert_eq!([0, 2, 3].map(|owner| shares.allowed(owner) >= 900), [true; 3]);
        assert!(shares.allowed(1) <= 131_072 - 131_072 / 16 - 943);
        assert_eq!(shares.above().map(|above| above.owner), Some(1));
    }

    /// A user with thousands of processes is one group.
    #[test]
    fn a_crowd_of_owners_counts_as_one_group() {
        let crowd = (0..4000).map(|_| (1000, 100));
        let owners: Vec<_> = core::iter::once((0, 9000)).chain(crowd).collect();
        let shares = shares_of(&owners, 131_072);
        assert_eq!(shares.allowed(0), u32::MAX);
        let room = 131_072 - 131_072 / 16 - 9000;
        assert_eq!(shares.allowed(4000), room / 4000);
        assert_eq!((1..=4000).map(|owner| shares.allowed(owner)).sum::<u32>(), room);
    }

    #[test]
    fn nobody_is_limited_when_there_is_room_again() {
        let mut shares = shares_of(&[(0, 100), (0, 1)], 50);
        assert!(shares.allowed(0) < 50);
        shares.begin();
        shares.want(0, 0, 49);
        shares.divide(50);
        assert_eq!((shares.allowed(0), shares.above()), (u32::MAX, None));
    }
}
