//! Short stand-ins for addresses of the guest.

use core::cmp::Ordering;

/// A few bytes that stand for an address which is compared with that of the next scan.
///
/// Two addresses have the same tag with a probability of one to 2^(8 `BYTES`). A row must stay
/// correct then, and only miss that one object was replaced by another. It misses that anyway
/// where the kernel allocates the new object at the address of the old one, which is far more
/// frequent. So no secret key is needed, and a tag costs one multiplication.
///
/// Where a tag is also a key (that of a thread's own descriptor table), its user must expect two
/// objects of one tag at the same time, and leave one of them out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tag<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Tag<BYTES> {
    /// The tag of address 0, and of no other.
    pub const NONE: Self = Self([0; BYTES]);

    /// The highest tag.
    pub const MAX: Self = Self([u8::MAX; BYTES]);

    /// The tag of an address.
    #[inline]
    pub fn of(address: u64) -> Self {
        // Multiplicative hashing: the highest bits depend on all bits of the address. It spreads
        // equal distances evenly, and those are what addresses of one slab have.
        let mixed = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - 8 * BYTES as u32);
        let mixed = mixed | u64::from(mixed == 0 && address != 0);
        Self(mixed.to_le_bytes().first_chunk().copied().unwrap_or([0; BYTES]))
    }

    #[inline]
    fn number(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[..BYTES].copy_from_slice(&self.0);
        u64::from_le_bytes(bytes)
    }

    /// Whether it stands for address 0.
    #[inline]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl<const BYTES: usize> Ord for Tag<BYTES> {
    /// Any order does. This one needs no loop over bytes.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl<const BYTES: usize> PartialOrd for Tag<BYTES> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const BYTES: usize> Default for Tag<BYTES> {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_address_0_has_no_tag(address in 1_u64..) {
            prop_assert!(!Tag::<1>::of(address).is_none());
            prop_assert!(!Tag::<2>::of(address).is_none());
            prop_assert_eq!(Tag::<4>::of(address), Tag::<4>::of(address));
        }
    }

    #[test]
    fn objects_of_one_slab_have_different_tags() {
        assert!(Tag::<4>::of(0).is_none() && Tag::<2>::of(0).is_none());
        for size in [64, 192, 232, 256, 704] {
            let address = |number: u64| 0xffff_8881_0234_5000 + number * size;
            let tags: HashSet<_> = (0..100_000).map(|at| Tag::<4>::of(address(at)).0).collect();
            assert_eq!(tags.len(), 100_000, "{size}");
            let tags: HashSet<_> = (0..2000).map(|at| Tag::<3>::of(address(at)).0).collect();
            assert_eq!(tags.len(), 2000, "{size}");
        }
    }

    #[test]
    fn a_tag_has_no_gaps() {
        assert_eq!((size_of::<Tag<3>>(), align_of::<Tag<4>>()), (3, 1));
    }
}
