//! Whether a table is full, said once for each time that it gets so.

/// The state of one limit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gauge {
    over: bool,
}

/// What is to be said of a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Crossing {
    /// It was reached.
    Reached,
    /// There is room again.
    Cleared,
}

/// The part of a table that must be free before there is room again, so that one that stands at its limit
/// does not say so at every turn.
const ROOM_PART: u64 = 16;

impl Gauge {
    /// Takes in one scan: `used` of `capacity`, and how many found no room.
    pub(super) fn update(&mut self, used: u64, capacity: u64, untracked: u64) -> Option<Crossing> {
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
    fn a_limit_is_said_once_a_crossing_and_does_not_flap() {
        let mut gauge = Gauge::default();
        let mut update = |used, untracked| gauge.update(used, 160, untracked);
        assert_eq!(update(160, 0), None);
        assert_eq!(update(160, 3), Some(Crossing::Reached));
        assert_eq!(update(160, 5), None);
        assert_eq!(update(159, 0), None, "still too near");
        assert_eq!(update(160, 1), None);
        assert_eq!(update(150, 0), Some(Crossing::Cleared));
        assert_eq!(update(100, 0), None);
        assert_eq!(update(160, 1), Some(Crossing::Reached));
    }

    #[test]
    fn the_smallest_table_clears_too() {
        let mut gauge = Gauge::default();
        assert_eq!(gauge.update(1, 1, 1), Some(Crossing::Reached));
        assert_eq!(gauge.update(1, 1, 0), None);
        assert_eq!(gauge.update(0, 1, 0), Some(Crossing::Cleared));
    }
}
