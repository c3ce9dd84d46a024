//! Names of guests, and processes that are none.

use super::names::OWNERS_MAX;
use super::*;

fn guest(pid: u32, name: Option<&str>, user: &str, uuid: Option<&str>) -> Guest {
    let text = |text: &str| text.to_owned();
    Guest { pid, name: name.map(text), user: text(user), uuid: uuid.map(text), ..Guest::default() }
}

#[test]
fn a_process_that_poses_as_another_guest_is_told_apart() {
    let owner = guest(7, Some("web"), "libvirt-qemu", Some("4dea22b3"));
    let poser = guest(9, Some("web"), "mallory", Some("4dea22b3"));
    let other = guest(11, Some("db"), "libvirt-qemu", None);
    let nobody = |_: &str| false;
    let both = [owner.clone(), poser.clone(), other.clone()];
    // In any order, both get a name of their own, and each report names both.
    for (one, name) in
        [(&owner, "web (qemu:7, user libvirt-qemu)"), (&poser, "web (qemu:9, user mallory)")]
    {
        let named = name_of(one, &both, &mut Owners::default(), nobody);
        assert_eq!(named.name, name);
        let ambiguity = named.ambiguity.unwrap();
        assert!(ambiguity.contains("qemu:7 (user libvirt-qemu, UUID 4dea22b3)"), "{ambiguity}");
        assert!(ambiguity.contains("qemu:9 (user mallory, UUID 4dea22b3)"), "{ambiguity}");
    }
    assert_eq!(
        name_of(&other, &both, &mut Owners::default(), nobody),
        Named { name: "db".to_owned(), ambiguity: None }
    );
    // The name of a system that is configured.
    let named = name_of(&other, &both, &mut Owners::default(), |name| name == "db");
    assert_eq!(named.name, "db (qemu:11, user libvirt-qemu)");
    assert!(named.ambiguity.unwrap().contains("(user libvirt-qemu, no UUID)"));
    let unnamed = [guest(3, None, "root", None), guest(4, None, "root", None)];
    let named = name_of(&unnamed[0], &unnamed, &mut Owners::default(), nobody);
    assert_eq!(named, Named { name: "qemu:3".to_owned(), ambiguity: None });
}

/// The owner of the name is off, so no other process shows that it is not the poser's.
#[test]
fn a_process_that_poses_as_a_guest_that_is_off_is_told_apart() {
    let owner = guest(7, Some("web"), "libvirt-qemu", Some("4dea22b3"));
    let restarted = Guest { pid: 8, ..owner.clone() };
    let poser = guest(9, Some("web"), "mallory", Some("4dea22b3"));
    let other = guest(10, Some("web"), "libvirt-qemu", Some("ffff0000"));
    let mut owners = Owners::default();
    let mut name =
        |guest: &Guest| name_of(guest, std::slice::from_ref(guest), &mut owners, |_| false);
    assert_eq!(name(&owner).ambiguity, None);
    for (one, expected, who) in [
        (&poser, "web (qemu:9, user mallory)", "qemu:9 (user mallory, UUID 4dea22b3)"),
        (&other, "web (qemu:10, user libvirt-qemu)", "(user libvirt-qemu, UUID ffff0000)"),
    ] {
        let named = name(one);
        assert_eq!(named.name, expected);
        let ambiguity = named.ambiguity.unwrap();
        assert!(ambiguity.contains(who), "{ambiguity}");
        let earlier = "an earlier guest (user libvirt-qemu, UUID 4dea22b3)";
        assert!(ambiguity.contains(earlier), "{ambiguity}");
    }
    assert_eq!(name(&restarted), Named { name: "web".to_owned(), ambiguity: None });
}

#[test]
fn names_beyond_those_that_are_remembered_are_given_to_nobody() {
    let mut owners = Owners::default();
    let mut take = |number: usize| owners.take(&number.to_string(), &guest(7, None, "a", None));
    assert!((0..OWNERS_MAX).all(|number| take(number).is_none()));
    assert!(take(OWNERS_MAX).is_some());
    assert!(take(5).is_none(), "it has its name");
}

#[test]
fn the_identity_of_a_guest_is_its_user_and_what_it_claims() {
    let process = GuestProcess::open(std::process::id()).unwrap();
    let user = geteuid();
    assert_eq!(identity(&process).unwrap(), format!("qemu user {user} uuid - name -"));
}

#[test]
fn all_ids_of_a_process_must_be_allowed() {
    let users = Users(vec![0, 107]);
    assert!(users.allow([107, 107, 107, 107]) && users.allow([0, 107, 0, 107]));
    // A set-user-ID program that a user started.
    assert!(!users.allow([1000, 0, 0, 0]) && !users.allow([0, 0, 1000, 0]));
    let users = Users::of(&["root".into(), "4242".into(), "nobody-has-this-name".into()]);
    assert!(users.allow([4242; 4]) && users.allow([geteuid().as_raw(); 4]));
}

#[test]
fn what_is_no_guest_is_refused() {
    let users = Users::of(&[]);
    let failure = open(u32::MAX, &users).unwrap_err();
    assert_eq!(failure.exit, Exit::Source);
    let failure = open(std::process::id(), &users).unwrap_err();
    assert_eq!(failure.exit, Exit::Source);
    assert!(failure.message.contains("which is not QEMU, nor another monitor"), "{failure}");
    let failure = open(std::process::id(), &Users(vec![u32::MAX])).unwrap_err();
    assert_eq!(failure.exit, Exit::Permission);
    assert!(failure.message.contains("service.guest_users"), "{failure}");
}
