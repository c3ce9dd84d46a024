//! Bit sets over memory: which pages, or cache lines, are in a set.
//!
//! The size of a set is fixed. Nothing allocates afterwards, so wrappers may use sets on the scan
//! path.

use std::ops::Range;

use super::SourceError;

/// Largest number of bits in a set. They take 1 GiB and cover 32 TiB in pages or 512 GiB in cache
/// lines.
const BITS_MAX: u64 = 1 << 33;
const WORD_BITS: usize = u64::BITS as usize;

#[derive(Clone, Debug, Default)]
pub(super) struct BitSet {
    words: Vec<u64>,
    bits: usize,
    count: u64,
}

impl BitSet {
    pub(super) fn new(bits: usize) -> Self {
        Self { words: vec![0; bits.div_ceil(WORD_BITS)], bits, count: 0 }
    }

    /// Number of set bits.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    #[inline]
    pub(super) fn contains(&self, bit: usize) -> bool {
        self.words.get(bit / WORD_BITS).is_some_and(|word| word >> (bit % WORD_BITS) & 1 == 1)
    }

    /// Whether `first` to `last`, both included, are all set.
    #[inline]
    pub(super) fn contains_all(&self, first: usize, last: usize) -> bool {
        (first..=last).all(|bit| self.contains(bit))
    }

    /// Sets a bit; returns whether it was clear. Ignores a bit outside the set.
    #[inline]
    pub(super) fn insert(&mut self, bit: usize) -> bool {
        if bit >= self.bits {
            return false;
        }
        let word = &mut self.words[bit / WORD_BITS];
        let mask = 1 << (bit % WORD_BITS);
        let fresh = *word & mask == 0;
        *word |= mask;
        self.count += u64::from(fresh);
        fresh
    }

    pub(super) fn remove(&mut self, bit: usize) {
        if let Some(word) = self.words.get_mut(bit / WORD_BITS) {
            let mask = 1 << (bit % WORD_BITS);
            self.count -= u64::from(*word & mask != 0);
            *word &= !mask;
        }
    }

    /// Sets all bits of a range; ignores bits outside the set.
    pub(super) fn insert_range(&mut self, range: Range<usize>) {
        let end = range.end.min(self.bits);
        let mut bit = range.start;
        while bit < end {
            let offset = bit % WORD_BITS;
            let here = (WORD_BITS - offset).min(end - bit);
            let mask = u64::MAX >> (WORD_BITS - here) << offset;
            let word = &mut self.words[bit / WORD_BITS];
            self.count += u64::from((mask & !*word).count_ones());
            *word |= mask;
            bit += here;
        }
    }

    pub(super) fn clear(&mut self) {
        self.words.fill(0);
        self.count = 0;
    }

    /// The set bits, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.wrapping_sub(1);
                (bit < WORD_BITS).then_some(index * WORD_BITS + bit)
            })
        })
    }
}

/// A set of equally sized units (pages, lines) of the memory in a source's regions.
#[derive(Clone, Debug, Default)]
pub(super) struct UnitSet {
    bits: BitSet,
    /// For each region its units, and the bit of the first unit.
    regions: Vec<(Range<u64>, usize)>,
    shift: u32,
}

impl UnitSet {
    /// An empty set of units of `1 << shift` bytes.
    pub(super) fn new(regions: &[Range<u64>], shift: u32) -> Result<Self, SourceError> {
        let mut total = 0_u64;
        let mut units = Vec::with_capacity(regions.len());
        for region in regions {
            let first = region.start >> shift;
            let end = (region.end.saturating_sub(1) >> shift) + 1;
            let base = total;
            total = total.saturating_add(end.saturating_sub(first));
            if total > BITS_MAX {
                let bytes = regions.iter().fold(0, |sum: u64, region| {
                    sum.saturating_add(region.end.saturating_sub(region.start))
                });
                return Err(SourceError::TooLarge { bytes });
            }
            units.push((first..end, base as usize)); // at most BITS_MAX
        }
        Ok(Self { bits: BitSet::new(total as usize), regions: units, shift })
    }

    pub(super) fn count(&self) -> u64 {
        self.bits.count()
    }

    pub(super) fn clear(&mut self) {
        self.bits.clear();
    }

    /// Moves all regions and the units in the set upwards by `bytes` (wrapping, whole units).
    pub(super) fn move_by(&mut self, bytes: u64) {
        for (units, _) in &mut self.regions {
            let start = (units.start << self.shift).wrapping_add(bytes) >> self.shift;
            *units = start..start + (units.end - units.start);
        }
    }

    /// Adds every unit that the bytes touch; ignores units outside all regions.
    #[inline]
    pub(super) fn insert(&mut self, address: u64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let first = address >> self.shift;
        let last = address.saturating_add(bytes - 1) >> self.shift;
        for (units, base) in &self.regions {
            let (start, end) = (units.start.max(first), units.end.min(last.saturating_add(1)));
            if start >= end {
                continue;
            }
            let bit = base + (start - units.start) as usize;
            if end - start == 1 {
                self.bits.insert(bit);
            } else {
                self.bits.insert_range(bit..bit + (end - start) as usize);
            }
        }
    }

    /// The numbers of the units in the set, ascending if the regions are.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let mut region = 0;
        self.bits.iter().filter_map(move |bit| {
            while self.regions.get(region + 1).is_some_and(|(_, base)| *base <= bit) {
                region += 1;
            }
            let (units, base) = self.regions.get(region)?;
            Some(units.start + (bit - base) as u64)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_set_across_words() {
        for range in [0..0, 0..1, 3..64, 63..65, 64..128, 5..300, 290..400] {
            let mut set = BitSet::new(300);
            set.insert(7);
            set.insert_range(range.clone());
            let expected: Vec<usize> =
                (0..300).filter(|bit| range.contains(bit) || *bit == 7).collect();
            assert_eq!(set.iter().collect::<Vec<_>>(), expected, "{range:?}");
            assert_eq!(set.count(), expected.len() as u64, "{range:?}");
        }
    }

    #[test]
    fn a_bit_is_new_once_and_bits_outside_are_ignored() {
        let mut set = BitSet::new(65);
        assert!(set.insert(64));
        assert!(!set.insert(64));
        assert!(!set.insert(65));
        assert!(set.insert(3));
        set.remove(3);
        set.remove(2);
        assert!(
            set.contains(64) && !set.contains(3) && !set.contains(65) && !set.contains(usize::MAX)
        );
        set.clear();
        assert_eq!(set.count(), 0);
    }

    #[test]
    fn units_are_counted_in_their_regions_only() {
        let mut set = UnitSet::new(&[0x1000..0x4000, 0x10_0000..0x10_2000], 12).unwrap();
        set.insert(0, 0x1001);
        set.insert(0x3fff, 0x10_0000);
        set.insert(u64::MAX, 9);
        set.insert(0x2000, 0);
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 3, 0x100, 0x101]);
        assert_eq!(set.count(), 4);
    }

    #[test]
    fn a_region_too_large_to_count_is_refused() {
        assert!(UnitSet::new(&[0..1 << 52, 1 << 60..u64::MAX], 12).is_err());
    }
}
