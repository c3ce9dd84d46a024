//! What systems that are guests are called, so that no process gets the name of another guest.

use std::collections::BTreeMap;
use std::fmt;

use super::Guest;

/// A process that had a name first, with what the kernel shows of it (the user) and what it claims
/// (the UUID).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GuestNameOwner {
    pub(super) user: String,
    uuid: Option<String>,
}

impl GuestNameOwner {
    pub fn of(guest: &Guest) -> Self {
        Self { user: guest.user.clone(), uuid: guest.uuid.clone() }
    }
}

impl fmt::Display for GuestNameOwner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, uuid } = self;
        match uuid {
            Some(uuid) => write!(out, "user {user}, UUID {uuid}"),
            None => write!(out, "user {user}, no UUID"),
        }
    }
}

/// The first owner of each name since the start of the service: a guest that does not run keeps
/// its name.
#[derive(Debug, Default)]
pub struct GuestNameOwners(BTreeMap<String, GuestNameOwner>);

/// Names that are remembered. Behind that, a name has no owner, and is given to nobody.
pub(super) const OWNERS_MAX: usize = 1 << 14;

impl GuestNameOwners {
    /// Gives the name of a guest to it if nobody had it; returns to whom it belongs otherwise.
    pub(super) fn take(&mut self, name: &str, guest: &Guest) -> Option<String> {
        let new = GuestNameOwner::of(guest);
        match self.0.get(name) {
            Some(owner) => (*owner != new).then(|| format!("an earlier guest ({owner})")),
            None if self.0.len() >= OWNERS_MAX => Some("nobody: there were too many".to_owned()),
            None => {
                self.0.insert(name.to_owned(), new);
                None
            }
        }
    }
}

/// The name of a system that is a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GuestSystemName {
    pub name: String,
    /// Why the guest's own name does not identify it; `None` if it does.
    pub ambiguity: Option<String>,
}

/// Names a guest. Any process of an allowed user can claim the name of another guest. So a name
/// that another of `guests` claims, that `is_taken` by another system, or that another guest had
/// first, is followed by what the kernel shows of the process.
pub fn name_of(
    guest: &Guest,
    guests: &[Guest],
    owners: &mut GuestNameOwners,
    is_taken: impl Fn(&str) -> bool,
) -> GuestSystemName {
    let Some(name) = &guest.name else {
        return GuestSystemName { name: format!("qemu:{}", guest.pid), ambiguity: None };
    };
    let rivals = guests.iter().filter(|other| other.pid != guest.pid && other.name == guest.name);
    let mut rivals: Vec<String> = rivals.map(Guest::described).collect();
    if rivals.is_empty() && is_taken(name) {
        rivals.push("another system".to_owned());
    }
    if rivals.is_empty() {
        rivals.extend(owners.take(name, guest));
    }
    if rivals.is_empty() {
        return GuestSystemName { name: name.clone(), ambiguity: None };
    }
    let ambiguity = format!(
        "the name {name} does not identify a guest: {} has it, and so has {}",
        guest.described(),
        rivals.join(", ")
    );
    let name = format!("{name} (qemu:{}, user {})", guest.pid, guest.user);
    GuestSystemName { name, ambiguity: Some(ambiguity) }
}
