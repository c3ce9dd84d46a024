//! Tells scans that lose something by chance from scans that lose something often.
//!
//! A machine changes while it is read: on a busy one, a scan in some hundreds cannot read an
//! object, and now and then a few consecutive scans cannot. An attacker who spoils scans on purpose
//! must spoil many, for each scan that is whole shows everything. So each scan that lost something
//! adds to a level, and each other one takes back a part of that. A full level is a gap.
//!
//! A scan weighs as much as the time that it stands for, but at most a third of a full level. So
//! the level is full after [`FULL_NS`] of losses alone, or three scans if these are farther apart;
//! after about twice that time if every second scan has losses; and after a minute or two if one in
//! ten has. It never fills if less than one in thirteen has.

/// Time after which scans of which each lost something are a gap: with up to half a second between
/// scans, the gap then comes within a second.
const FULL_NS: i64 = 666_666_666;
/// A full level. It can be divided by three.
const FULL: i64 = 3 << 28;
/// Time that a scan stands for at most: three such scans fill the level.
const SCAN_NS_MAX: i64 = FULL_NS / 2;
/// As many scans without a loss take back what one with a loss adds.
const WHOLE_SCANS: i64 = 12;

/// How often scans lost something lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LossFrequency {
    level: i64,
}

impl LossFrequency {
    /// Counts a scan, so long after the one before. Returns whether it lost something that is a
    /// gap, or part of the present one.
    pub(super) fn count(&mut self, has_lost: bool, after_ns: i64, is_gap: bool) -> bool {
        let ns = after_ns.clamp(0, SCAN_NS_MAX);
        // The time from the first loss to the last is that of one scan less.
        let weight = (FULL * ns + FULL_NS + ns - 1) / (FULL_NS + ns);
        let change = if has_lost { weight } else { -(weight / WHOLE_SCANS) };
        self.level = (self.level + change).clamp(0, FULL);
        // A gap does not end for a moment because a few scans were whole.
        let least = if is_gap { FULL / 2 } else { FULL };
        has_lost && self.level >= least
    }

    /// Whether there were no losses lately.
    pub(super) fn is_empty(self) -> bool {
        self.level == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: i64 = 1_000_000;
    const SECOND_NS: i64 = 1000 * MS;
    const INTERVALS_MS: [i64; 9] = [1, 3, 10, 30, 100, 200, 300, 500, 1000];

    /// Random numbers below 1, the same for a seed.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            // xorshift64*
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// The time of the first gap, if there is one within `within_ns`.
    fn first_gap(
        interval_ns: i64,
        within_ns: i64,
        mut has_lost: impl FnMut(i64) -> bool,
    ) -> Option<i64> {
        let mut often = LossFrequency::default();
        let mut times = (0..within_ns / interval_ns).map(|scan| scan * interval_ns);
        times.find(|&now| often.count(has_lost(now), interval_ns, false))
    }

    /// Scans that lose something with a probability, independently.
    fn first_gap_by_chance(
        interval_ns: i64,
        within_ns: i64,
        chance: f64,
        seed: u64,
    ) -> Option<i64> {
        let mut random = Random(seed | 1);
        first_gap(interval_ns, within_ns, |_| random.next() < chance)
    }

    #[test]
    fn losses_by_chance_are_no_gap_for_an_hour() {
        for ms in INTERVALS_MS {
            // Fast scans are torn by each other's neighbours: there are more of them.
            let chances: &[f64] = if ms <= 100 { &[0.003, 0.01, 0.02] } else { &[0.003] };
            for &chance in chances {
                let gap = first_gap_by_chance(ms * MS, 3600 * SECOND_NS, chance, 7 + ms as u64);
                assert_eq!(gap, None, "each {ms} ms, {chance}");
            }
        }
    }

    #[test]
    fn a_few_torn_scans_in_a_row_are_no_gap() {
        // Bursts of 300 ms each ten seconds, and single scans in between.
        let is_torn = |now: i64| {
            let in_ten_seconds = now % (10 * SECOND_NS);
            in_ten_seconds < 300 * MS || in_ten_seconds == 5 * SECOND_NS
        };
        for ms in [1, 10, 100] {
            assert_eq!(first_gap(ms * MS, 3600 * SECOND_NS, is_torn), None, "each {ms} ms");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// As long as losses do not stop, the gap comes within a second: with scans that are more
        /// than half a second apart, at the third of them.
        #[test]
        fn losses_of_all_scans_are_a_gap_within_a_second(
            ms in 1_i64..=1000,
            before in 0_i64..3000,
        ) {
            let begin = before * MS;
            let gap = first_gap(ms * MS, begin + 10 * SECOND_NS, |now| now >= begin);
            let first = (begin + ms * MS - 1) / (ms * MS) * (ms * MS);
            let after = gap.unwrap() - first;
            let slowest = SECOND_NS.max(2 * ms * MS);
            prop_assert!(after >= FULL_NS.min(2 * ms * MS) && after <= slowest, "{after}");
        }

        /// Losses at regular distances, which no chance brings together.
        #[test]
        fn regular_losses_are_a_gap_if_they_are_more_than_one_in_twelve(
            ms in 1_i64..=300,
            every in 2_i64..=20,
        ) {
            let is_lost = |now: i64| now / (ms * MS) % every == 0;
            let gap = first_gap(ms * MS, 600 * SECOND_NS, is_lost);
            prop_assert!(every == 12 || every == 13 || gap.is_some() == (every < 12), "{gap:?}");
        }
    }

    /// How many of a thousand runs of chance, always the same ones, have no gap within a time.
    fn runs_without_gap(ms: i64, within_ns: i64, chance: f64) -> usize {
        let has_none =
            |seed: &u64| first_gap_by_chance(ms * MS, within_ns, chance, seed << 32).is_none();
        (1..=1000_u64).filter(has_none).count()
    }

    /// Permanent losses in just under half of the scans were never reported.
    #[test]
    fn frequent_losses_are_a_gap_soon() {
        // Time to the gap, in times that losses of all scans take: the level's mean change of a
        // scan is p - (1 - p) / 12. Chance takes a few times longer at worst.
        for ms in INTERVALS_MS {
            for (chance, most) in [(0.9, 3), (0.49, 9), (0.25, 30)] {
                let usual_ns = FULL_NS + ms * MS;
                let within = most * usual_ns.max(3 * ms * MS);
                let without = runs_without_gap(ms, within, chance);
                assert!(without <= 1, "each {ms} ms, {chance}: {without} not within {within} ns");
            }
        }
    }

    #[test]
    fn one_loss_in_ten_scans_is_a_gap_within_a_minute_or_two() {
        for ms in [10, 30, 70, 100] {
            let late = runs_without_gap(ms, 60 * SECOND_NS, 0.1);
            let later = runs_without_gap(ms, 120 * SECOND_NS, 0.1);
            assert!(late <= 100 && later <= 10, "each {ms} ms: {late}, {later} of 1,000");
        }
    }

    #[test]
    fn a_gap_lasts_while_some_scans_are_whole() {
        let mut often = LossFrequency::default();
        let mut is_gap = false;
        let mut last = 0;
        for scan in 0..10_000 {
            // A third of the scans has losses, later one in fifty.
            let has_lost = if scan < 6000 { scan % 3 == 0 } else { scan % 50 == 0 };
            if often.count(has_lost, 10 * MS, is_gap) {
                is_gap = true;
                assert!(last == 0 || scan - last < 100, "{scan} after {last}");
                last = scan;
            }
        }
        assert!((6000..6600).contains(&last), "{last}");
    }
}
