//! Finds the guest that a user names.
//!
//! Any process of an allowed user can claim any name. So of several guests with a name, only one
//! that a service of this machine has registered under it is taken, and else none.

use super::{Guest, GuestManager, GuestNameOwner};
use crate::config::GuestName;

/// Maximum number of guests that a message names.
const SHOWN_MAX: usize = 8;
/// Accepts typing mistakes, but not names that only begin alike.
const NAME_LIKENESS_MIN: f64 = 0.85;
/// A shorter text is hardly the beginning of a UUID.
const UUID_DIGITS_MIN: usize = 4;
/// Typing mistakes in a UUID.
const WRONG_DIGITS_MAX: usize = 2;

/// Returns the guest of this name among those that run. `earlier` is whose guest it was before.
///
/// # Errors
///
/// A sentence without the name at its beginning: no guest has it, or it does not tell which one.
pub fn resolve<'a>(
    name: &GuestName,
    guests: &'a [Guest],
    earlier: Option<&GuestNameOwner>,
) -> Result<&'a Guest, String> {
    let mut all: Vec<&Guest> = guests.iter().filter(|guest| guest.has_name(name)).collect();
    // A guest that may not be read cannot stand in the way of others.
    retain_some(&mut all, |guest| !guest.is_forbidden);
    let proven: Vec<&Guest> = all.iter().copied().filter(|guest| is_proven(guest, name)).collect();
    // Nor can one that cannot be watched, unless the name is proven to be its own.
    retain_some(&mut all, |guest| guest.obstacle.is_none());
    let (guest, is_proven) = match (proven.as_slice(), all.as_slice()) {
        ([guest], _) => (*guest, true),
        ([], [guest]) => (*guest, false),
        (_, []) => return Err(missing(name, guests)),
        _ => {
            let each: Vec<String> =
                all.iter().take(SHOWN_MAX).map(|guest| guest.described()).collect();
            let more = if all.len() > SHOWN_MAX { ", …" } else { "" };
            return Err(format!(
                "{} guests have this name: {}{more}; write qemu:PID or uuid:UUID of one of them",
                all.len(),
                each.join(", ")
            ));
        }
    };
    match earlier {
        // A process of this user may also claim the guest's UUID.
        Some(earlier) if !is_proven && earlier.user != guest.user => Err(format!(
            "{} has the name of an earlier guest ({earlier}); write qemu:{} to use it",
            guest.described(),
            guest.pid
        )),
        _ => Ok(guest),
    }
}

impl Guest {
    /// Whether it has a name. Others may have it, too.
    pub(crate) fn has_name(&self, name: &GuestName) -> bool {
        let claims =
            |name: &String| self.name.as_ref() == Some(name) || self.other_names.contains(name);
        match name {
            GuestName::Claimed(name) | GuestName::Bare { name, .. } => claims(name),
            GuestName::Libvirt(_) => is_proven(self, name),
            GuestName::Uuid(uuid) => self.uuid.as_deref() == Some(&*uuid.hyphenated().to_string()),
        }
    }
}

/// Retains the guests that are good, if any is.
fn retain_some(guests: &mut Vec<&Guest>, is_good: impl Fn(&Guest) -> bool) {
    if guests.iter().any(|guest| is_good(guest)) {
        guests.retain(|guest| is_good(guest));
    }
}

/// Whether a service of this machine has registered a guest under this name.
fn is_proven(guest: &Guest, name: &GuestName) -> bool {
    let Some(registration) = &guest.registration else { return false };
    match name {
        GuestName::Claimed(name) | GuestName::Bare { name, .. } => registration.name == *name,
        GuestName::Libvirt(name) => {
            registration.manager == GuestManager::Libvirt && registration.name == *name
        }
        GuestName::Uuid(_) => false,
    }
}

/// Why no guest has a name, with the one that may be meant.
fn missing(name: &GuestName, guests: &[Guest]) -> String {
    let short = name.short();
    // QEMU's own form of a name.
    let short = short.strip_prefix("guest=").unwrap_or(&short);
    let begin = match name {
        GuestName::Libvirt(_) => "libvirt of this machine runs no guest of this name",
        GuestName::Uuid(_) => "no guest of this machine has this UUID",
        _ => "no guest of this machine has this name",
    };
    let of_pid = guests.iter().find(|guest| short == guest.pid.to_string());
    if let Some(guest) = of_pid {
        let own = guest.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        return format!("{begin}; did you mean qemu:{}{own}?", guest.pid);
    }
    let claims = guests.iter().find(|guest| guest.name.as_deref() == Some(short));
    if let (Some(guest), GuestName::Libvirt(_)) = (claims, name) {
        return format!("{begin}, but qemu:{} claims it; write qemu:{}", guest.pid, guest.pid);
    }
    let names: Vec<&str> = guests.iter().filter_map(|guest| guest.name.as_deref()).collect();
    if let Some(near) = nearest(short, &names) {
        return format!("{begin}; did you mean `{near}`?");
    }
    if let Some(uuid) = near_uuid(short, guests) {
        return format!("{begin}; did you mean uuid:{uuid}?");
    }
    if names.is_empty() {
        return format!("{begin}; `panoptes systems` lists those that run");
    }
    let shown: Vec<&str> = names.iter().take(SHOWN_MAX).copied().collect();
    let more = if names.len() > SHOWN_MAX { ", …" } else { "" };
    format!("{begin}; these run: {}{more}", shown.join(", "))
}

/// The UUID of a guest that begins like a text, or differs from it in a few digits.
fn near_uuid<'a>(text: &str, guests: &'a [Guest]) -> Option<&'a str> {
    let text = text.strip_prefix("uuid:").unwrap_or(text).to_ascii_lowercase();
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    if text.len() < UUID_DIGITS_MIN || !text.bytes().all(is_digit) {
        return None;
    }
    let text = uuid::Uuid::try_parse(&text).map_or(text, |uuid| uuid.hyphenated().to_string());
    let is_near = |uuid: &&str| {
        let others = uuid.bytes().zip(text.bytes()).filter(|(left, right)| left != right).count();
        uuid.starts_with(&text) || uuid.len() == text.len() && others <= WRONG_DIGITS_MAX
    };
    guests.iter().filter_map(|guest| guest.uuid.as_deref()).find(is_near)
}

/// The name that is most similar, if any is similar enough for a typing mistake.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let near =
        names.iter().map(|other| (strsim::jaro_winkler(&name, &other.to_lowercase()), *other));
    let near = near.filter(|(likeness, _)| *likeness > NAME_LIKENESS_MIN);
    near.max_by(|(left, _), (right, _)| left.total_cmp(right)).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests::Registration;

    fn guest(pid: u32, name: &str, user: &str) -> Guest {
        Guest { pid, name: Some(name.to_owned()), user: user.to_owned(), ..Guest::default() }
    }

    fn of_libvirt(pid: u32, name: &str) -> Guest {
        let registration = Registration { manager: GuestManager::Libvirt, name: name.to_owned() };
        Guest { registration: Some(registration), ..guest(pid, name, "libvirt-qemu") }
    }

    fn claimed(name: &str) -> GuestName {
        GuestName::Claimed(name.to_owned())
    }

    fn libvirt(name: &str) -> GuestName {
        GuestName::Libvirt(name.to_owned())
    }

    fn pid(name: &GuestName, guests: &[Guest]) -> Result<u32, String> {
        resolve(name, guests, None).map(|guest| guest.pid)
    }

    #[test]
    fn a_guest_is_found_by_any_of_its_names() {
        let uuid = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0";
        let mut web = guest(7, "web-1", "root");
        (web.uuid, web.other_names) = (Some(uuid.to_owned()), vec!["101".to_owned()]);
        let guests = [web, guest(9, "db", "root")];
        assert_eq!(pid(&claimed("web-1"), &guests), Ok(7));
        assert_eq!(pid(&claimed("101"), &guests), Ok(7));
        let bare = GuestName::Bare { name: "db".to_owned(), file: "db".into() };
        assert_eq!(pid(&bare, &guests), Ok(9));
        assert_eq!(pid(&GuestName::Uuid(uuid.parse().unwrap()), &guests), Ok(7));
        assert!(pid(&libvirt("web-1"), &guests).is_err());
        assert_eq!(pid(&libvirt("web-1"), &[of_libvirt(11, "web-1")]), Ok(11));
    }

    #[test]
    fn a_name_of_two_guests_is_refused_with_both() {
        let guests = [guest(4711, "web-1", "root"), guest(9002, "web-1", "mallory")];
        let refused = pid(&claimed("web-1"), &guests).unwrap_err();
        assert_eq!(
            refused,
            "2 guests have this name: qemu:4711 (user root, no UUID), qemu:9002 (user mallory, no \
             UUID); write qemu:PID or uuid:UUID of one of them"
        );
        let many: Vec<Guest> = (1..100).map(|pid| guest(pid, "web-1", "root")).collect();
        let refused = pid(&claimed("web-1"), &many).unwrap_err();
        assert!(refused.starts_with("99 guests") && refused.contains(", …;"), "{refused}");
        // Another name of one guest is the name of the other.
        let mut other = guest(9, "db", "mallory");
        other.other_names = vec!["web-1".to_owned()];
        assert!(pid(&claimed("web-1"), &[guest(7, "web-1", "root"), other]).is_err());
    }

    #[test]
    fn a_process_of_a_user_that_is_not_allowed_takes_no_name() {
        let poser = Guest { is_forbidden: true, ..guest(9, "web-1", "mallory") };
        let guests = [guest(7, "web-1", "root"), poser];
        assert_eq!(pid(&claimed("web-1"), &guests), Ok(7));
        // Alone, it is found and refused with its user's name.
        assert_eq!(pid(&claimed("web-1"), &guests[1..]), Ok(9));
    }

    #[test]
    fn a_guest_that_cannot_be_watched_takes_no_name() {
        let obstacle = Some("its processor has 32 bits".to_owned());
        let poser = Guest { obstacle: obstacle.clone(), ..guest(9, "web-1", "mallory") };
        let guests = [guest(7, "web-1", "root"), poser];
        assert_eq!(pid(&claimed("web-1"), &guests), Ok(7));
        // Alone, it has the name.
        assert_eq!(pid(&claimed("web-1"), &guests[1..]), Ok(9));
        // The owner of the name has the obstacle.
        let owner = Guest { obstacle, ..of_libvirt(11, "web-1") };
        let guests = [guest(9, "web-1", "mallory"), owner];
        assert_eq!(pid(&claimed("web-1"), &guests), Ok(11));
    }

    #[test]
    fn a_name_that_libvirt_has_registered_belongs_to_its_guest() {
        let guests = [guest(3, "web-1", "mallory"), of_libvirt(7, "web-1")];
        assert_eq!(pid(&claimed("web-1"), &guests), Ok(7));
        assert_eq!(pid(&libvirt("web-1"), &guests), Ok(7));
        let refused = pid(&libvirt("web-1"), &guests[..1]).unwrap_err();
        assert_eq!(
            refused,
            "libvirt of this machine runs no guest of this name, but qemu:3 claims it; write qemu:3"
        );
        // A process that libvirt knows by another name.
        let poser = Guest { name: Some("web-1".to_owned()), ..of_libvirt(7, "db") };
        assert!(pid(&libvirt("web-1"), &[poser]).is_err());
    }

    #[test]
    fn a_guest_of_another_user_does_not_take_the_name_over() {
        let owner = GuestNameOwner::of(&guest(7, "web-1", "root"));
        let find = |guest: Guest| {
            resolve(&claimed("web-1"), &[guest], Some(&owner)).map(|guest| guest.pid)
        };
        assert_eq!(find(guest(8, "web-1", "root")), Ok(8));
        let refused = find(guest(9, "web-1", "mallory")).unwrap_err();
        assert_eq!(
            refused,
            "qemu:9 (user mallory, no UUID) has the name of an earlier guest (user root, no UUID); \
             write qemu:9 to use it"
        );
        assert_eq!(find(of_libvirt(11, "web-1")), Ok(11));
    }

    #[test]
    fn a_name_that_no_guest_has_is_answered_with_one_that_may_be_meant() {
        let guests = [guest(4711, "web-1", "root"), guest(9, "db", "root")];
        let refused = |name: &str, guests: &[Guest]| pid(&claimed(name), guests).unwrap_err();
        let begin = "no guest of this machine has this name";
        assert_eq!(refused("4711", &guests), format!("{begin}; did you mean qemu:4711 (web-1)?"));
        assert_eq!(refused("wbe-1", &guests), format!("{begin}; did you mean `web-1`?"));
        assert_eq!(refused("other", &guests), format!("{begin}; these run: web-1, db"));
        for name in ["WEB-1", "guest=web-1"] {
            assert_eq!(refused(name, &guests), format!("{begin}; did you mean `web-1`?"));
        }
        assert_eq!(
            refused("web", &[]),
            format!("{begin}; `panoptes systems` lists those that run")
        );
        let uuid = GuestName::Uuid("4dea22b3-1d52-d8f3-2516-782e98ab3fa0".parse().unwrap());
        let near = "4dea22b3-1d52-d8f3-2516-782e98ab3fa1";
        let known = Guest { uuid: Some(near.to_owned()), ..guest(7, "web-1", "root") };
        for name in [claimed("4DEA22B3"), claimed(near), uuid.clone()] {
            let refused = pid(&name, std::slice::from_ref(&known)).unwrap_err();
            assert!(refused.ends_with(&format!("; did you mean uuid:{near}?")), "{refused}");
        }
        assert!(
            pid(&uuid, &guests).unwrap_err().starts_with("no guest of this machine has this UUID")
        );
    }
}
