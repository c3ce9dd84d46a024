//! Reports once each time that a table gets full, and once when it has room again.

/// The state of one limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitGauge {
    over: bool,
}

/// A change in the state of a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crossing {
    /// The table is full.
    Reached,
    /// The table has room again.
    Cleared,
}

/// The fraction of a table that must be free before it counts as having room again, so that a table
/// near its limit does not report at every scan.
const ROOM_PART: u64 = 16;

impl LimitGauge {
    /// Updates from one scan: `used` of `capacity`, and the number of entries that found no room.
    pub fn update(&mut self, used: u64, capacity: u64, untracked: u64) -> Option<Crossing> {
        if untracked > 0 {
            let first = !self.over;
            self.over = true;
            return first.then_some(Crossing::Reached);
        }
        let room = (capacity / ROOM_PART).max(1);
        if self.over && used.saturating_add(room) <= capacity {
            self.over = false;
            return Some(Crossing::Cleared);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reported_once_a_crossing_and_does_not_flap() {
        let mut gauge = LimitGauge::default();
        let mut update = |used, untracked| gauge.update(used, 160, untracked);
        assert_eq!(update(160, 0), None);
        assert_eq!(update(160, 3), Some(Crossing::Reached));
        assert_eq!(update(160, 5), None);
        assert_eq!(update(159, 0), None, "still too near the limit");
        assert_eq!(update(160, 1), None);
        assert_eq!(update(150, 0), Some(Crossing::Cleared));
        assert_eq!(update(100, 0), None);
        assert_eq!(update(160, 1), Some(Crossing::Reached));
    }

    #[test]
    fn the_smallest_table_clears_too() {
        let mut gauge = LimitGauge::default();
        assert_eq!(gauge.update(1, 1, 1), Some(Crossing::Reached));
        assert_eq!(gauge.update(1, 1, 0), None);
        assert_eq!(gauge.update(0, 1, 0), Some(Crossing::Cleared));
    }
}
