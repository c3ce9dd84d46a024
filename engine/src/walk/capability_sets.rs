//! The capabilities of processes that are not root.
//!
//! Few different sets exist, so a process has the number of its set. A set counts only in the user
//! namespace of process 1: in others, every user has all of them.

use arrayvec::ArrayVec;

/// Number of different sets. Those of further processes are not known.
const SETS_MAX: usize = 62;

/// What a process may do by its credentials (`struct cred`): bit `n` is capability `n`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CapabilitySet {
    pub permitted: u64,
    /// Those that its next program gets, too, whatever that is.
    pub ambient: u64,
}

/// The number of a set. The default one stands for a set that is not known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CapabilitySetId(u8);

impl CapabilitySetId {
    pub const UNKNOWN: Self = Self(0);
    const EMPTY: Self = Self(1);
    const FIRST: u8 = 2;
}

/// The sets of one scan.
#[derive(Clone, Debug, Default)]
pub struct CapabilitySets {
    list: ArrayVec<CapabilitySet, SETS_MAX>,
    /// Number of processes whose set found no room.
    pub(super) dropped: u32,
}

impl CapabilitySets {
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.dropped = 0;
    }

    /// The number of a set, which is added if there is room.
    pub(crate) fn id_of(&mut self, set: CapabilitySet) -> CapabilitySetId {
        if set == CapabilitySet::default() {
            return CapabilitySetId::EMPTY;
        }
        let known = self.list.iter().position(|known| *known == set);
        let added = || self.list.try_push(set).is_ok().then(|| self.list.len() - 1);
        let Some(at) = known.or_else(added) else {
            self.dropped = self.dropped.saturating_add(1);
            return CapabilitySetId::UNKNOWN;
        };
        CapabilitySetId(at as u8 + CapabilitySetId::FIRST)
    }

    /// A set by its number, if it is known.
    pub fn at(&self, id: CapabilitySetId) -> Option<CapabilitySet> {
        match id {
            CapabilitySetId::EMPTY => Some(CapabilitySet::default()),
            CapabilitySetId(number) => {
                self.list.get(usize::from(number.checked_sub(CapabilitySetId::FIRST)?)).copied()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_beyond_the_room_are_not_known() {
        let mut sets = CapabilitySets::default();
        let set = |permitted| CapabilitySet { permitted, ambient: 0 };
        assert_eq!(sets.at(CapabilitySetId::UNKNOWN), None);
        let ids: Vec<_> = (0..100).map(|permitted| sets.id_of(set(permitted))).collect();
        for (permitted, id) in (0..).zip(ids) {
            let expected = (permitted <= SETS_MAX as u64).then_some(set(permitted));
            assert_eq!(sets.at(id), expected, "{permitted}");
        }
        assert_eq!(sets.dropped, 99 - SETS_MAX as u32);
        let known = sets.id_of(set(7));
        assert_eq!(sets.at(known), Some(set(7)));
        sets.clear();
        let new = sets.id_of(set(99));
        assert_eq!(sets.at(new), Some(set(99)));
    }
}
