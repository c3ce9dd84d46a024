//! Which guests `auto_scan` takes.

use panoptes_engine::container_config::Glob;

use super::{Guest, user_name};
use crate::config::{AutoScan, GuestPattern};

impl AutoScan {
    /// Whether a guest is watched without being named. Names and UUIDs are claims of its process,
    /// the user is not.
    pub(crate) fn takes(&self, guest: &Guest) -> bool {
        let is_among = |patterns: &[GuestPattern]| patterns.iter().any(|one| one.matches(guest));
        (self.include.is_empty() || is_among(&self.include)) && !is_among(&self.exclude)
    }
}

impl GuestPattern {
    fn matches(&self, guest: &Guest) -> bool {
        let is_like = |pattern: &str, text: &str| Glob::new(pattern).matches(text.as_bytes());
        let registration = guest.registration.iter().map(|registration| &registration.name);
        let names = || guest.name.iter().chain(&guest.other_names).chain(registration.clone());
        let has_name = |pattern: &String| {
            names().any(|name| is_like(pattern, name)) || names().next().is_none() && pattern == "*"
        };
        let has_user = |pattern: &String| {
            let number = pattern.parse().ok();
            is_like(pattern, &guest.user) || number.is_some_and(|id| user_name(id) == guest.user)
        };
        let uuid = guest.uuid.as_deref();
        self.name.as_ref().is_none_or(has_name)
            && self.user.as_ref().is_none_or(has_user)
            && self.uuid.as_ref().is_none_or(|it| uuid.is_some_and(|uuid| is_like(&it.0, uuid)))
            && self.memory.is_none_or(|range| {
                let is_in = |bytes: u64| (range.least.0..=range.most.0).contains(&bytes);
                guest.memory_bytes.is_some_and(is_in)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ByteSize, SizeRange, UuidPattern};

    fn name(pattern: &str) -> GuestPattern {
        GuestPattern { name: Some(pattern.to_owned()), ..GuestPattern::default() }
    }

    fn guest(name: &str) -> Guest {
        Guest { name: Some(name.to_owned()), user: "libvirt-qemu".to_owned(), ..Guest::default() }
    }

    fn takes(include: &[GuestPattern], exclude: &[GuestPattern], guest: &Guest) -> bool {
        AutoScan { include: include.to_vec(), exclude: exclude.to_vec() }.takes(guest)
    }

    #[test]
    fn what_is_excluded_is_not_included() {
        assert!(takes(&[], &[], &guest("web-1")));
        assert!(takes(&[name("web-?")], &[], &guest("web-1")));
        assert!(!takes(&[name("web-?")], &[], &guest("web-10")));
        assert!(!takes(&[name("web-*")], &[name("*-test")], &guest("web-test")));
        assert!(!takes(&[], &[name("web-1")], &guest("web-1")));
        assert!(takes(
            &[name("101")],
            &[],
            &Guest { other_names: vec!["101".into()], ..guest("a") }
        ));
        let unnamed = Guest::default();
        assert!(takes(&[name("*")], &[], &unnamed) && !takes(&[name("?*")], &[], &unnamed));
    }

    #[test]
    fn all_keys_of_a_pattern_have_to_match() {
        let of_user = |user: &str| GuestPattern { user: Some(user.to_owned()), ..name("web-*") };
        assert!(takes(&[of_user("libvirt-*")], &[], &guest("web-1")));
        assert!(!takes(&[of_user("root")], &[], &guest("web-1")));
        assert!(!takes(&[of_user("libvirt-*")], &[], &guest("db")));
        let root = Guest { user: user_name(0), ..guest("web-1") };
        assert!(takes(&[of_user("0")], &[], &root));
    }

    #[test]
    fn what_is_not_known_of_a_guest_matches_nothing() {
        let range = SizeRange { least: ByteSize(1 << 30), most: ByteSize(2 << 30) };
        let large = GuestPattern { memory: Some(range), ..GuestPattern::default() };
        let with = |memory_bytes| Guest { memory_bytes, ..guest("web-1") };
        assert!(takes(std::slice::from_ref(&large), &[], &with(Some(2 << 30))));
        assert!(!takes(std::slice::from_ref(&large), &[], &with(Some(512 << 20))));
        assert!(!takes(std::slice::from_ref(&large), &[], &with(None)));
        assert!(takes(&[], &[large], &with(None)));
        let uuid = Some(UuidPattern("4dea*".to_owned()));
        let uuid = GuestPattern { uuid, ..GuestPattern::default() };
        assert!(!takes(std::slice::from_ref(&uuid), &[], &guest("web-1")));
        let known = Guest { uuid: Some("4dea22b3-1d52".to_owned()), ..guest("web-1") };
        assert!(takes(&[uuid], &[], &known));
    }
}
