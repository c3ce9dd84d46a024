//! Numbers of scans.

/// The number of a scan. It wraps, at a hundred scans a second after 500 days, so two numbers only
/// compare correctly if fewer than 2³¹ scans lie between them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ScanNumber(pub u32);

impl ScanNumber {
    /// The next scan.
    #[must_use]
    pub const fn next(self) -> Self {
        self.after(1)
    }

    /// The scan that comes `scans` later.
    #[must_use]
    pub const fn after(self, scans: u32) -> Self {
        Self(self.0.wrapping_add(scans))
    }

    /// Number of scans from `earlier` to this one.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Whether this scan comes after `other`.
    pub const fn is_after(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) as i32 > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_across_the_wrap() {
        let last = ScanNumber(u32::MAX);
        assert_eq!(last.next(), ScanNumber(0));
        assert!(last.next().is_after(last) && !last.is_after(last.next()));
        assert!(!last.is_after(last));
        assert_eq!(last.after(5).since(last), 5);
    }
}
