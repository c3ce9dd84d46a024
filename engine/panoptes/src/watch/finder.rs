//! Finds the guests of this machine at regular intervals, off the scan path (`auto_scan`).

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use panoptes_sources::file_identity;

use crate::config::{System, SystemAddress};
use crate::guests::Guest;
use crate::message::Messages;

/// Time between two searches. One search takes some milliseconds on a machine with hundreds of
/// processes.
const LOOK: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Finder {
    next: Instant,
    /// Guests that can't be watched, and the reported reason.
    reported: BTreeMap<u32, String>,
    /// Guests that ended after the last search began: it may still show them.
    ended: Vec<u32>,
}

impl Finder {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, reported: BTreeMap::new(), ended: Vec::new() }
    }

    /// Whether a search is due; if so, the next one is due after a pause.
    pub(super) fn begins(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + LOOK;
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

    /// Returns the guests of a search that can be watched.
    pub(super) fn watchable(
        &mut self,
        found: io::Result<Vec<Guest>>,
        messages: &Messages,
    ) -> Option<Vec<Guest>> {
        let mut guests = match found {
            Ok(guests) => guests,
            Err(error) => {
                messages.debug(format_args!("cannot list this machine's processes: {error}"));
                return None;
            }
        };
        guests.retain(|guest| !self.ended.contains(&guest.pid));
        self.reported.retain(|pid, _| guests.iter().any(|guest| guest.pid == *pid));
        guests.retain(|guest| {
            let Some(obstacle) = &guest.obstacle else { return true };
            if self.reported.get(&guest.pid) != Some(obstacle) {
                self.reported.insert(guest.pid, obstacle.clone());
                let name = guest.name.as_deref().unwrap_or("a guest");
                messages.warning(format_args!(
                    "{name} (qemu:{}) cannot be watched: {obstacle}",
                    guest.pid
                ));
            }
            false
        });
        Some(guests)
    }
}

/// Whether a known system is this guest.
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
    use super::*;
    use crate::config::LogLevel;

    #[test]
    fn a_guest_that_ended_during_the_search_is_not_new() {
        let messages = Messages::new(Box::new(io::sink()), false, LogLevel::Error);
        let start = Instant::now();
        let guests = || Ok([3, 4].map(|pid| Guest { pid, ..Guest::default() }).to_vec());
        let mut finder = Finder::new(start);
        assert!(finder.begins(start) && !finder.begins(start));
        finder.note_end(&SystemAddress::Qemu(3));
        let pids = |guests: Vec<Guest>| guests.iter().map(|guest| guest.pid).collect::<Vec<_>>();
        assert_eq!(finder.watchable(guests(), &messages).map(pids), Some(vec![4]));
        // Another process may have the number later.
        assert!(finder.begins(start + LOOK));
        assert_eq!(finder.watchable(guests(), &messages).map(pids), Some(vec![3, 4]));
    }
}
