//! The processes whose memory a scan looks for in all address spaces, which costs as much as all
//! areas have.
//!
//! Looks are divided among root, containers and users. If more of them need looks than a scan has,
//! they take turns.

use panoptes_tables::GOLDEN_RATIO;

/// Maximum number of processes in one scan whose memory is looked for.
pub(super) const LOOKS_MAX: usize = 8;
/// Number of parts into which owners are divided, by chance.
const PARTS: u32 = u64::BITS;

/// The parts that needed looks, as bits, and whose turn it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LookTurns {
    parts: u64,
    /// Number of scans, which may wrap.
    scans: u32,
}

/// The looks of one scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    before: LookTurns,
    /// The parts that need looks in this scan.
    parts: u64,
    /// How often one of each part was granted.
    granted: [u8; PARTS as usize],
    all: usize,
}

impl Default for Looks {
    fn default() -> Self {
        Self::begin(LookTurns::default())
    }
}

impl Looks {
    /// Begins a scan after one with these turns.
    pub(super) const fn begin(before: LookTurns) -> Self {
        Self { before, parts: 0, granted: [0; PARTS as usize], all: 0 }
    }

    /// The turns of the next scan.
    pub(super) const fn end(&self) -> LookTurns {
        LookTurns { parts: self.parts, scans: self.before.scans.wrapping_add(1) }
    }

    /// Grants a look to a process of an owner, or not.
    pub(super) fn take(&mut self, owner: u64) -> bool {
        let part = (owner.wrapping_mul(GOLDEN_RATIO) >> (u64::BITS - PARTS.ilog2())) as u32;
        self.parts |= 1 << part;
        let Some(granted) = self.granted.get_mut(part as usize) else { return false };
        let is_granted = self.all < LOOKS_MAX && usize::from(*granted) < self.before.share_of(part);
        *granted += u8::from(is_granted);
        self.all += usize::from(is_granted);
        is_granted
    }
}

impl LookTurns {
    /// How many looks a part has in the next scan.
    fn share_of(self, part: u32) -> usize {
        let count = self.parts.count_ones().max(1) as usize;
        let is_known = self.parts >> part & 1 != 0;
        if !is_known {
            // It has needed none before.
            return if self.parts == 0 { LOOKS_MAX } else { 1 };
        }
        if count <= LOOKS_MAX {
            return LOOKS_MAX / count;
        }
        let place = (self.parts & ((1 << part) - 1)).count_ones() as usize;
        let first = self.scans as usize * LOOKS_MAX % count;
        usize::from((place + count - first) % count < LOOKS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The looks that each owner gets in a scan in which each needs so many, in this order.
    fn scan(turns: &mut LookTurns, needed: &[(u64, usize)]) -> Vec<usize> {
        let mut looks = Looks::begin(*turns);
        let granted =
            needed.iter().map(|&(owner, count)| (0..count).filter(|_| looks.take(owner)).count());
        let granted = granted.collect();
        *turns = looks.end();
        granted
    }

    #[test]
    fn one_owner_has_all_looks() {
        let mut turns = LookTurns::default();
        for _ in 0..3 {
            assert_eq!(scan(&mut turns, &[(1000, 20)]), [LOOKS_MAX]);
        }
    }

    #[test]
    fn an_owner_of_many_windows_leaves_looks_for_others() {
        let mut turns = LookTurns::default();
        assert_eq!(scan(&mut turns, &[(1000, 20), (0, 1)]), [8, 0], "nothing was known");
        for _ in 0..3 {
            assert_eq!(scan(&mut turns, &[(1000, 20), (0, 1)]), [4, 1]);
        }
        // One more waits for one scan at most.
        assert_eq!(scan(&mut turns, &[(1000, 20), (7, 9), (0, 9)]), [4, 1, 3]);
        assert_eq!(scan(&mut turns, &[(1000, 20), (7, 9), (0, 9)]), [2, 2, 2]);
    }

    #[test]
    fn many_owners_take_turns() {
        let owners: Vec<_> = (0..20).map(|owner| (1 << 63 | owner << 40, 3)).collect();
        let mut turns = LookTurns::default();
        let mut sums = vec![0; owners.len()];
        for _ in 0..100 {
            let granted = scan(&mut turns, &owners);
            assert!(granted.iter().sum::<usize>() <= LOOKS_MAX);
            sums.iter_mut().zip(granted).for_each(|(sum, it)| *sum += it);
        }
        assert!(sums.iter().all(|&sum| sum > 0), "{sums:?}");
    }
}
