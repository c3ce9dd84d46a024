//! Finds the guests of this machine, every now and then, off the scan path (`auto_scan`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use panoptes_engine::source::file_identity;

use crate::config::{Configuration, System, SystemAddress};
use crate::guests::{Guest, Users, find};
use crate::message::Messages;

/// How often it looks. One look costs some milliseconds on a machine of hundreds of processes.
const LOOK: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub(super) struct Finder {
    users: Users,
    next: Instant,
    /// Guests that can't be watched, and why, as it was said.
    said: BTreeMap<u32, String>,
}

impl Finder {
    pub(super) fn new(configuration: &Configuration, now: Instant) -> Self {
        let users = Users::of(&configuration.service.guest_users);
        Self { users, next: now, said: BTreeMap::new() }
    }

    /// The guests that can be watched, if it is time to look.
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
        self.said.retain(|pid, _| guests.iter().any(|guest| guest.pid == *pid));
        guests.retain(|guest| {
            let Some(obstacle) = &guest.obstacle else { return true };
            if self.said.get(&guest.pid) != Some(obstacle) {
                self.said.insert(guest.pid, obstacle.clone());
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

/// Whether a system that is watched already is this guest.
pub(super) fn is_same(system: &System, guest: &Guest) -> bool {
    match &system.address {
        SystemAddress::Qemu(pid) => *pid == guest.pid,
        // Its memory by the name of its file.
        SystemAddress::File(path) if !guest.files.is_empty() => {
            file_identity(path).is_ok_and(|identity| guest.files.contains(&identity))
        }
        _ => false,
    }
}
