//! Tallies of early stops: what ended before its end, why, and how often.

use core::fmt;

use arrayvec::ArrayVec;
use panoptes_decoders::early_stop::EarlyStop;

/// Number of reasons that a summary names.
pub const FREQUENT_STOPS_MAX: usize = 3;
/// Number of kinds of reasons ([`kind_of`]).
const STOP_KINDS: usize = 4;

/// Number of early stops at one kind of structure, for one kind of reason.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct StopTally {
    count: u32,
    /// The first of these reasons.
    first: Option<EarlyStop>,
}

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
        let tally = &mut tallies[kind_of(stop)];
        tally.count = tally.count.saturating_add(1);
        tally.first = tally.first.or(Some(stop));
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
            for &StopTally { count, first } in tallies {
                let Some(first) = first else { continue };
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

/// The place of a reason's kind in the tallies of a structure.
const fn kind_of(stop: EarlyStop) -> usize {
    match stop {
        EarlyStop::Unreadable { .. } => 0,
        EarlyStop::Changed { .. } => 1,
        EarlyStop::Loop { .. } => 2,
        EarlyStop::TooLong { .. } => 3,
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::address::KernelVa;

    use super::*;

    fn texts(stops: &[FrequentStop]) -> Vec<(u32, String)> {
        stops.iter().map(|stop| (stop.count, stop.to_string())).collect()
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
