//! Finds the guests of this machine at regular intervals, off the scan path (`auto_scan`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use panoptes_sources::file_identity;

use crate::config::{System, SystemAddress};
use crate::guests::Guest;

/// Time between two searches. One search takes some milliseconds on a machine with hundreds of
/// processes.
const GUEST_SEARCH_INTERVAL: Duration = Duration::from_secs(3);

/// Guests that can't be watched that one search reports: any user may start programs that look like
/// guests.
const OBSTACLES_MAX: usize = 16;

/// What a search has shown.
#[derive(Debug)]
pub(super) struct Watchable {
    /// The guests that can be watched.
    pub(super) guests: Vec<Guest>,
    /// Why others can't be, if that was not reported yet.
    pub(super) obstacles: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Finder {
    next: Instant,
    /// Whether a search has ended.
    pub(super) has_looked: bool,
    /// Guests that can't be watched, and the reported reason.
    reported: BTreeMap<u32, String>,
    /// Guests that ended after the last search began: it may still show them.
    ended: Vec<u32>,
}

impl Finder {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, has_looked: false, reported: BTreeMap::new(), ended: Vec::new() }
    }

    /// Whether a search is due; if so, the next one is due after a pause.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + GUEST_SEARCH_INTERVAL;
            self.ended.clear();
        }
        is_due
    }

    /// Notes that a guest has ended.
    pub(super) fn note_end(&mut self, address: &SystemAddress) {
        if let SystemAddress::Qemu(pid) = address {
            self.ended.push(*pid);
        }
    }

    /// Returns the guests of a search that can be watched. `takes`: whether one is to be.
    pub(super) fn watchable(
        &mut self,
        mut guests: Vec<Guest>,
        takes: impl Fn(&Guest) -> bool,
    ) -> Watchable {
        let mut obstacles = Vec::new();
        guests.retain(|guest| !self.ended.contains(&guest.pid));
        self.reported.retain(|pid, _| guests.iter().any(|guest| guest.pid == *pid));
        guests.retain(|guest| {
            let Some(obstacle) = &guest.obstacle else { return true };
            let is_new = self.reported.get(&guest.pid) != Some(obstacle);
            if is_new && obstacles.len() < OBSTACLES_MAX && takes(guest) {
                self.reported.insert(guest.pid, obstacle.clone());
                let name = guest.name.as_deref().unwrap_or("a guest");
                obstacles
                    .push(format!("{name} (qemu:{}) cannot be watched: {obstacle}", guest.pid));
            }
            false
        });
        Watchable { guests, obstacles }
    }
}

/// Whether a known system is this guest. One that is named by its guest has to be looked for.
pub(super) fn is_same(system: &System, guest: &Guest) -> bool {
    match &system.address {
        SystemAddress::Qemu(pid) => *pid == guest.pid,
        // A system may be the file of the guest's memory.
        SystemAddress::File(path) if !guest.files.is_empty() => {
            file_identity(path).is_ok_and(|identity| guest.files.contains(&identity))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    #[test]
    fn a_guest_that_ended_during_the_search_is_not_new() {
        let start = Instant::now();
        let guests = || [3, 4].map(|pid| Guest { pid, ..Guest::default() }).to_vec();
        let mut finder = Finder::new(start);
        assert!(finder.begins(start) && !finder.begins(start));
        finder.note_end(&SystemAddress::Qemu(3));
        let pids = |finder: &mut Finder| {
            let watchable = finder.watchable(guests(), |_| true);
            watchable.guests.iter().map(|guest| guest.pid).collect::<Vec<_>>()
        };
        assert_eq!(pids(&mut finder), [4]);
        // Another process may have the number later.
        assert!(finder.begins(start + GUEST_SEARCH_INTERVAL));
        assert_eq!(pids(&mut finder), [3, 4]);
    }

    #[test]
    fn each_obstacle_is_reported_once() {
        let guests = |pids: Range<u32>| {
            let obstacle = Some("its user is not allowed".to_owned());
            pids.map(|pid| Guest { pid, obstacle: obstacle.clone(), ..Guest::default() }).collect()
        };
        let mut finder = Finder::new(Instant::now());
        let Watchable { guests: watchable, obstacles } = finder.watchable(guests(3..4), |_| true);
        assert!(watchable.is_empty());
        assert_eq!(obstacles, ["a guest (qemu:3) cannot be watched: its user is not allowed"]);
        let mut obstacles = |pids| finder.watchable(guests(pids), |_| true).obstacles.len();
        assert_eq!(obstacles(3..4), 0);
        // A user may start many programs that look like guests.
        assert_eq!(obstacles(3..100), OBSTACLES_MAX);
        assert_eq!(obstacles(0..0), 0);
        assert_eq!(obstacles(3..4), 1, "another has the number");
        // One that the configuration leaves out needs no message.
        let mut finder = Finder::new(Instant::now());
        assert!(finder.watchable(guests(3..4), |_| false).obstacles.is_empty());
        assert_eq!(finder.watchable(guests(3..4), |_| true).obstacles.len(), 1);
    }
}
