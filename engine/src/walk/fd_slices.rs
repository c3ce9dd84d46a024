//! Which slots of descriptor tables are read.

/// Maximum number of slots of a table read at once: half a MiB.
pub(super) const SLICE_PLACES: u32 = 1 << 16;

/// Used slots that are at most this far apart are read in one piece: a request costs as much as a
/// few cache lines of eight slots.
pub(super) const GAP_PLACES: u32 = 32;

/// Maximum number of slices that one word of a bitmap adds: two used slots that are further apart
/// than [`GAP_PLACES`] leave no room for a third.
pub(super) const RUNS_PER_WORD_MAX: usize = 2;

/// A part of a table: `count` slots from `first` on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Slice {
    pub(super) table: usize,
    pub(super) first: u32,
    pub(super) count: u32,
}

/// Adds the used slots of a word, which begins at slot `at`, to the slices.
pub(super) fn add_runs(slices: &mut Vec<Slice>, at: &Slice, word: u64) {
    let mut bits = word;
    while bits != 0 {
        let place = at.first + bits.trailing_zeros();
        bits &= bits - 1;
        match slices.last_mut() {
            Some(last)
                if last.table == at.table
                    && place - (last.first + last.count - 1) <= GAP_PLACES
                    && place - last.first < SLICE_PLACES =>
            {
                last.count = place - last.first + 1;
            }
            _ => slices.push(Slice { first: place, count: 1, ..*at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The slices of a bitmap, word by word.
    fn slices_of(words: &[u64]) -> Vec<Slice> {
        let mut slices = Vec::new();
        for (at, &word) in (0..).zip(words) {
            let before = slices.len();
            add_runs(&mut slices, &Slice { table: 7, first: at * 64, count: 0 }, word);
            assert!(slices.len() <= before + RUNS_PER_WORD_MAX, "{word:#x}");
        }
        slices
    }

    proptest! {
        #[test]
        fn slices_have_every_used_slot_once_and_few_others(
            words in proptest::collection::vec(
                prop_oneof![
                    Just(0),
                    Just(u64::MAX),
                    any::<u64>(),
                    (0..64).prop_map(|bit| 1_u64 << bit),
                ],
                0..40,
            )
        ) {
            let slices = slices_of(&words);
            let used = |place: u32| words[place as usize / 64] >> (place % 64) & 1 == 1;
            let mut end = 0;
            for slice in &slices {
                prop_assert!((end..slice.first).all(|place| !used(place)));
                prop_assert!(used(slice.first) && used(slice.first + slice.count - 1));
                let places: Vec<u32> =
                    (slice.first..slice.first + slice.count).filter(|&at| used(at)).collect();
                prop_assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= GAP_PLACES));
                end = slice.first + slice.count;
            }
            prop_assert!((end..words.len() as u32 * 64).all(|place| !used(place)));
        }
    }

    #[test]
    fn a_long_run_is_cut_into_slices() {
        let slices = slices_of(&vec![u64::MAX; (SLICE_PLACES / 64) as usize + 1]);
        let ends: Vec<_> = slices.iter().map(|slice| (slice.first, slice.count)).collect();
        assert_eq!(ends, [(0, SLICE_PLACES), (SLICE_PLACES, 64)]);
    }
}
