//! Finds the guests of this machine at regular intervals, off the scan path (`auto_scan`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use panoptes_sources::file_identity;

use crate::config::{Configuration, System, SystemAddress};
use crate::guests::{Guest, Users, find};
use crate::message::Messages;

/// Time between two searches. One search takes some milliseconds on a machine with hundreds of
/// processes.
const LOOK: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Finder {
    users: Users,
    next: Instant,
    /// Guests that can't be watched, and the reported reason.
    reported: BTreeMap<u32, String>,
}

impl Finder {
    pub(super) fn new(configuration: &Configuration, now: Instant) -> Self {
        let users = Users::of(&configuration.service.guest_users);
        Self { users, next: now, reported: BTreeMap::new() }
    }

    /// Returns the guests that can be watched, if a search is due.
    pub(super) fn look(&mut self, now: Instant, messages: &Messages) -> Option<Vec<Guest>> {
        if now < self.next {
            return None;
        }
        self.next = now + LOOK;
        let mut guests = match find(&self.users) {
            Ok(guests) => guests,
            Err(error) => {
                messages.debug(format_args!("cannot list this machine's processes: {error}"));
                return None;
            }
        };
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
