//! Tallies of early stops: what ended before its end, why, and how often.

use core::fmt;

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;

/// Number of reasons that a summary names.
pub const FREQUENT_STOPS_MAX: usize = 3;
/// Number of kinds of reasons ([`parts_of`]).
const STOP_KINDS: usize = 5;

/// Number of early stops at one kind of structure, for one kind of reason.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct StopTally {
    count: u32,
    /// The address or the number of the first of these reasons.
    first: u64,
}

// A scan has one for each structure and kind of reasons.
const _: () = assert!(size_of::<StopTally>() <= 16);

/// Early stops at so many kinds of structures, which the owner numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StopTallies<const STRUCTURES: usize>([[StopTally; STOP_KINDS]; STRUCTURES]);

impl<const STRUCTURES: usize> Default for StopTallies<STRUCTURES> {
    fn default() -> Self {
        Self([[StopTally::default(); STOP_KINDS]; STRUCTURES])
    }
}

impl<const STRUCTURES: usize> StopTallies<STRUCTURES> {
    /// Counts an early stop at a structure.
    #[cold]
    pub(crate) fn add(&mut self, structure: usize, stop: EarlyStop) {
        let Some(tallies) = self.0.get_mut(structure) else { return };
        let (kind, value) = parts_of(stop);
        let tally = &mut tallies[kind];
        if tally.count == 0 {
            tally.first = value;
        }
        tally.count = tally.count.saturating_add(1);
    }

    /// Forgets the stops at a structure.
    pub(crate) fn forget(&mut self, structure: usize) {
        if let Some(tallies) = self.0.get_mut(structure) {
            *tallies = [StopTally::default(); STOP_KINDS];
        }
    }

    /// The most frequent reasons, by number. `words_of` returns the words for a structure, given
    /// the first reason of a kind; `None` leaves it out.
    pub(crate) fn most_frequent<const STOPS: usize>(
        &self,
        words_of: impl Fn(usize, EarlyStop) -> Option<&'static str>,
    ) -> ArrayVec<FrequentStop, STOPS> {
        let mut listed = ArrayVec::new();
        for (structure, tallies) in self.0.iter().enumerate() {
            for (kind, &StopTally { count, first }) in tallies.iter().enumerate() {
                if count == 0 {
                    continue;
                }
                let first = stop_of(kind, first);
                if let Some(words) = words_of(structure, first) {
                    FrequentStop { words, count, first }.list(&mut listed);
                }
            }
        }
        listed
    }
}

/// A reason to stop early that was frequent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrequentStop {
    /// Words for one of the structures.
    words: &'static str,
    /// Number of such stops.
    pub count: u32,
    /// The first of them.
    first: EarlyStop,
}

impl FrequentStop {
    /// The most frequent of several lists.
    pub fn most_frequent(
        stops: impl IntoIterator<Item = Self>,
    ) -> ArrayVec<Self, FREQUENT_STOPS_MAX> {
        let mut listed = ArrayVec::new();
        stops.into_iter().for_each(|stop| stop.list(&mut listed));
        listed
    }

    /// Adds it to a list of the most frequent ones, behind those with the same number.
    fn list<const STOPS: usize>(self, listed: &mut ArrayVec<Self, STOPS>) {
        let at = listed.partition_point(|it| it.count >= self.count);
        if at == STOPS {
            return;
        }
        if listed.is_full() {
            listed.pop();
        }
        listed.insert(at, self);
    }
}

impl fmt::Display for FrequentStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.words, self.first)
    }
}

/// The place of a reason's kind in the tallies of a structure, and its address or number.
const fn parts_of(stop: EarlyStop) -> (usize, u64) {
    match stop {
        EarlyStop::Unreadable { address } => (0, address.0),
        EarlyStop::Changed { address } => (1, address.0),
        EarlyStop::Loop { address } => (2, address.0),
        EarlyStop::TooLong { limit } => (3, limit as u64),
        EarlyStop::NoRoom { rows } => (4, rows as u64),
    }
}

/// The reason with these parts.
const fn stop_of(kind: usize, value: u64) -> EarlyStop {
    let address = KernelVa(value);
    match kind {
        0 => EarlyStop::Unreadable { address },
        1 => EarlyStop::Changed { address },
        2 => EarlyStop::Loop { address },
        3 => EarlyStop::TooLong { limit: value as u32 },
        _ => EarlyStop::NoRoom { rows: value as u32 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(stops: &[FrequentStop]) -> Vec<(u32, String)> {
        stops.iter().map(|stop| (stop.count, stop.to_string())).collect()
    }

    #[test]
    fn each_kind_of_reason_keeps_the_first() {
        let (address, later) = (KernelVa(0xffff_8880_0000_1000), KernelVa(0x10));
        let kinds = |address, number| {
            [
                EarlyStop::Unreadable { address },
                EarlyStop::Changed { address },
                EarlyStop::Loop { address },
                EarlyStop::TooLong { limit: number },
                EarlyStop::NoRoom { rows: number },
            ]
        };
        let mut tallies = StopTallies::<1>::default();
        let firsts = kinds(address, 4096);
        firsts.into_iter().chain(kinds(later, 7)).for_each(|stop| tallies.add(0, stop));
        let listed = tallies.most_frequent::<STOP_KINDS>(|_, _| Some("list"));
        let listed: Vec<_> = listed.iter().map(|stop| (stop.count, stop.first)).collect();
        assert_eq!(listed, firsts.map(|stop| (2, stop)));
    }

    #[test]
    fn the_most_frequent_of_several_lists_are_named() {
        let mut tallies = StopTallies::<2>::default();
        for (structure, count) in [(0, 3), (1, 5)] {
            for at in 0..count {
                tallies.add(structure, EarlyStop::Loop { address: KernelVa(0x10 + at) });
            }
        }
        tallies.add(2, EarlyStop::TooLong { limit: 1 });
        let words = |at: usize, _| ["chain", "tree"].get(at).copied();
        let all = tallies.most_frequent::<3>(words);
        let expected = [(5, "tree: loop at 0x10"), (3, "chain: loop at 0x10")];
        assert_eq!(texts(&all), expected.map(|(count, text)| (count, text.to_owned())));
        let merged = FrequentStop::most_frequent(all.iter().copied().chain(all.clone()));
        assert_eq!(texts(&merged).iter().map(|(count, _)| *count).collect::<Vec<_>>(), [5, 5, 3]);
        tallies.forget(1);
        assert_eq!(texts(&tallies.most_frequent::<3>(words)).len(), 1);
        assert!(tallies.most_frequent::<3>(|_, _| None).is_empty());
    }
}
