//! [`Histogram`]: how often each size of a value occurred, within a few percent.

use crate::room;

/// Each power of two is divided into this many buckets, so a bucket is at most 3 % wide.
const PARTS: u64 = 32;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// Buckets for all values of 64 bits.
const BUCKETS: usize = (PARTS * (65 - PART_BITS as u64)) as usize;

/// Counts values by size. Nothing is allocated after it is made.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u32]>,
    count: u64,
    sum: u64,
    largest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    pub fn new() -> Self {
        Self { buckets: room::copies(0, BUCKETS), count: 0, sum: 0, largest: 0 }
    }

    pub fn add(&mut self, value: u64) {
        let bucket = &mut self.buckets[bucket_of(value)];
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
        self.largest = self.largest.max(value);
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        if self.count > 0 {
            self.buckets.fill(0);
            (self.count, self.sum, self.largest) = (0, 0, 0);
        }
    }

    /// Number of values.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The mean; 0 without a value.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// The largest value; 0 without a value.
    pub const fn largest(&self) -> u64 {
        self.largest
    }

    /// The value that 99 of 100 values do not exceed, at most 3 % too large; 0 without a value.
    pub fn percentile_99(&self) -> u64 {
        let wanted = self.count - self.count / 100;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted && seen > 0 {
                return last_of(bucket).min(self.largest);
            }
        }
        self.largest
    }
}

fn bucket_of(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(PART_BITS + 1);
    (u64::from(shift) * PARTS + (value >> shift)) as usize
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let shift = (bucket as u64 / PARTS).saturating_sub(1);
    let part = bucket as u64 - shift * PARTS;
    ((part + 1) << shift).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bucket_that_is_hardly_larger() {
        let values = (0..64).flat_map(|bit| [1 << bit, (1_u64 << bit) - 1, (3_u64 << bit) / 2]);
        for value in values.chain([u64::MAX, 1000, 12_345_678]) {
            let last = last_of(bucket_of(value));
            assert!(last >= value && last - value <= value / 31, "{value}: {last}");
        }
        assert!(bucket_of(u64::MAX) < BUCKETS);
    }

    #[test]
    fn buckets_follow_each_other() {
        for bucket in 0..BUCKETS - 1 {
            let next = last_of(bucket).checked_add(1);
            assert_eq!(next.map(bucket_of), Some(bucket + 1), "{bucket}");
        }
    }

    #[test]
    fn one_value_of_a_hundred_may_be_larger() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.mean(), histogram.percentile_99()), (0, 0));
        for _ in 0..99 {
            histogram.add(1000);
        }
        histogram.add(90_000);
        let percentile = histogram.percentile_99();
        assert!((1000..=1031).contains(&percentile), "{percentile}");
        assert_eq!((histogram.mean(), histogram.largest()), (1890, 90_000));
        histogram.add(90_000);
        assert_eq!(histogram.percentile_99(), 90_000);
        histogram.clear();
        assert_eq!((histogram.count(), histogram.percentile_99()), (0, 0));
    }
}
