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
        let named = name_of(one, &both, &mut GuestNameOwners::default(), nobody);
        assert_eq!(named.name, name);
        let ambiguity = named.ambiguity.unwrap();
        assert!(ambiguity.contains("qemu:7 (user libvirt-qemu, UUID 4dea22b3)"), "{ambiguity}");
        assert!(ambiguity.contains("qemu:9 (user mallory, UUID 4dea22b3)"), "{ambiguity}");
    }
    assert_eq!(
        name_of(&other, &both, &mut GuestNameOwners::default(), nobody),
        GuestSystemName { name: "db".to_owned(), ambiguity: None }
    );
    // The name of a system that is configured.
    let named = name_of(&other, &both, &mut GuestNameOwners::default(), |name| name == "db");
    assert_eq!(named.name, "db (qemu:11, user libvirt-qemu)");
    assert!(named.ambiguity.unwrap().contains("(user libvirt-qemu, no UUID)"));
    let unnamed = [guest(3, None, "root", None), guest(4, None, "root", None)];
    let named = name_of(&unnamed[0], &unnamed, &mut GuestNameOwners::default(), nobody);
    assert_eq!(named, GuestSystemName { name: "qemu:3".to_owned(), ambiguity: None });
}

/// The owner of the name is off, so no other process shows that it is not the poser's.
#[test]
fn a_process_that_poses_as_a_guest_that_is_off_is_told_apart() {
    let owner = guest(7, Some("web"), "libvirt-qemu", Some("4dea22b3"));
    let restarted = Guest { pid: 8, ..owner.clone() };
    let poser = guest(9, Some("web"), "mallory", Some("4dea22b3"));
    let other = guest(10, Some("web"), "libvirt-qemu", Some("ffff0000"));
    let mut owners = GuestNameOwners::default();
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
    assert_eq!(name(&restarted), GuestSystemName { name: "web".to_owned(), ambiguity: None });
}

#[test]
fn names_beyond_those_that_are_remembered_are_given_to_nobody() {
    let mut owners = GuestNameOwners::default();
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
    let users = Users(vec![0..=0, 107..=107]);
    assert!(users.allow([107, 107, 107, 107]) && users.allow([0, 107, 0, 107]));
    // A set-user-ID program that a user started.
    assert!(!users.allow([1000, 0, 0, 0]) && !users.allow([0, 0, 1000, 0]));
    let users = Users::of(&["root".into(), "4242".into(), "nobody-has-this-name".into()]);
    assert!(users.allow([4242; 4]) && users.allow([geteuid().as_raw(); 4]));
    // The jailer of Firecracker gives each guest a user of its own.
    let users = Users::of(&["100000-100999".into()]);
    assert!(users.allow([100_000; 4]) && users.allow([100_999; 4]));
    assert!(!users.allow([101_000; 4]) && !users.allow([99_999; 4]));
}

#[test]
fn what_is_no_guest_is_refused() {
    let users = Users::of(&[]);
    let failure = open(u32::MAX, &users).unwrap_err();
    assert_eq!(failure.exit, Exit::Source);
    let failure = open(std::process::id(), &users).unwrap_err();
    assert_eq!(failure.exit, Exit::Source);
    assert!(failure.message.contains("which is not QEMU, nor another monitor"), "{failure}");
    let failure = open(std::process::id(), &Users(vec![u32::MAX..=u32::MAX])).unwrap_err();
    assert_eq!(failure.exit, Exit::Permission);
    assert!(failure.message.contains("service.guest_users"), "{failure}");
}

/// A recorded tree of processes, in the form of /proc.
struct Recording(tempfile::TempDir);

/// One process of a recording.
#[derive(Clone, Default)]
struct RecordedProcess<'a> {
    parent: u32,
    program: &'a str,
    line: &'a str,
    user: u32,
    maps: &'a str,
    descriptors: &'a [&'a str],
    groups: &'a str,
}

impl Recording {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(&self, pid: u32, process: &RecordedProcess<'_>) {
        use std::os::unix::fs::symlink;
        let folder = self.0.path().join(pid.to_string());
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        std::fs::create_dir_all(folder.join("fd")).unwrap();
        // Fields 3 to 28: the start time is 22, the start of the stack 28 (proc_pid_stat(5)).
        let RecordedProcess { parent, user, .. } = process;
        let rest = "0 ".repeat(17);
        write("stat", &format!("{pid} (a) b) S {parent} {rest}{pid}00 0 0 0 0 0 77 0\n"));
        write("status", &format!("Name:\ta\nUid:\t{user}\t{user}\t{user}\t{user}\n"));
        write("cmdline", &process.line.replace(' ', "\0"));
        write("maps", process.maps);
        write("cgroup", process.groups);
        symlink(process.program, folder.join("exe")).unwrap();
        for (number, target) in process.descriptors.iter().enumerate() {
            symlink(target, folder.join("fd").join(number.to_string())).unwrap();
        }
    }

    fn find(&self) -> Vec<Guest> {
        let users = Users(vec![0..=0, 107..=107]);
        let registry = registration::Registry::default();
        let strangers = &mut Strangers::default();
        search::find_in(self.0.path(), &registry, &users, strangers).unwrap()
    }

    /// Process id, monitor, name and size in MiB of each guest.
    fn shown(&self) -> Vec<(u32, Monitor, String, u64)> {
        let shown = |guest: Guest| {
            let mib = guest.memory_bytes.unwrap_or(0) >> 20;
            (guest.pid, guest.monitor, guest.name.unwrap_or_default(), mib)
        };
        self.find().into_iter().map(shown).collect()
    }
}

const KVM: &[&str] = &["/dev/null", "/dev/kvm", "anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0"];
const PROCESSOR: &str =
    "7fceb5000000-7fceb5003000 rw-s 00000000 00:0e 1036      anon_inode:kvm-vcpu:0\n";
/// 512 MiB.
const PRIVATE: &str = "7fce93e00000-7fceb3e00000 rw-p 00000000 00:00 0 \n";

#[test]
fn guests_of_all_monitors_are_found_among_other_processes() {
    let recording = Recording::new();
    let maps = format!("{PRIVATE}{PROCESSOR}");
    let crosvm = format!(
        "7f0000000000-7f0010000000 rw-s 00100000 00:01 77 /memfd:crosvm_guest (deleted)\n\
         {PROCESSOR}"
    );
    let of_kvm = |program, line, maps| RecordedProcess {
        program,
        line,
        maps,
        descriptors: KVM,
        ..RecordedProcess::default()
    };
    let plain = |program, line| RecordedProcess {
        program,
        line,
        maps: PRIVATE,
        ..RecordedProcess::default()
    };
    recording.add(1, &plain("/usr/lib/systemd/systemd", "/sbin/init"));
    let line = "qemu-system-x86_64 -name web,debug-threads=on -machine q35 -m 512";
    recording.add(10, &plain("/usr/bin/qemu-system-x86_64", line));
    recording
        .add(11, &of_kvm("/firecracker", "/firecracker --id fc-1 --api-sock /a.socket", &maps));
    let line = "cloud-hypervisor --api-socket /run/vc/vm/b1/clh-api.sock";
    recording.add(12, &of_kvm("/usr/bin/cloud-hypervisor", line, &maps));
    recording.add(13, &of_kvm("/usr/bin/crosvm", "crosvm run --name cr-1 k", &crosvm));
    // Other names of programs: with KVM, and emulated.
    recording.add(20, &of_kvm("/opt/vendor/hv", "hv -name kv-1 -machine q35 -m 512", &maps));
    recording.add(21, &plain("/opt/vendor/tcg", "tcg -name em-1 -machine q35 -m 512"));
    recording.add(22, &of_kvm("/opt/vendor/vmm", "vmm", &maps));
    // What only looks like a guest: the size is another, no machine, a tool, another user.
    recording.add(30, &plain("/usr/bin/java", "java -m 700 -machine x -cpu y"));
    recording.add(31, &plain("/usr/bin/cloud-hypervisor", "cloud-hypervisor --version"));
    recording
        .add(32, &plain("/usr/bin/qemu-aarch64-static", "qemu-aarch64 -m 512 -cpu max /bin/sh"));
    let stranger = RecordedProcess { user: 4242, ..of_kvm("/opt/vendor/hv", "hv", &maps) };
    recording.add(33, &stranger);
    let named = |pid, monitor, name: &str, mib| (pid, monitor, name.to_owned(), mib);
    assert_eq!(
        recording.shown(),
        [
            named(10, Monitor::Qemu, "web", 512),
            named(11, Monitor::Firecracker, "fc-1", 512),
            named(12, Monitor::CloudHypervisor, "b1", 512),
            named(13, Monitor::Crosvm, "cr-1", 256),
            named(20, Monitor::Qemu, "kv-1", 512),
            named(21, Monitor::Qemu, "em-1", 512),
            named(22, Monitor::Other, "", 512),
        ]
    );
}

/// QEMU's helper that frees the memory (`-run-with async-teardown=on`), and a device of crosvm.
#[test]
fn a_process_that_shares_its_parents_memory_is_no_other_guest() {
    let recording = Recording::new();
    let line = "qemu-system-x86_64 -name web -m 512";
    let qemu = RecordedProcess {
        program: "/usr/bin/qemu-system-x86_64",
        line,
        maps: PRIVATE,
        ..RecordedProcess::default()
    };
    recording.add(10, &qemu);
    recording.add(11, &RecordedProcess { parent: 10, ..qemu.clone() });
    // A guest that a guest's process has started, with memory of its own.
    let other = "7f1000000000-7f1020000000 rw-p 00000000 00:00 0 \n";
    recording.add(12, &RecordedProcess { parent: 10, maps: other, ..qemu.clone() });
    // The same addresses by chance.
    recording.add(13, &qemu);
    let pids: Vec<u32> = recording.find().iter().map(|guest| guest.pid).collect();
    assert_eq!(pids, [10, 12, 13]);
}

#[test]
fn processes_that_are_no_guests_are_looked_at_seldom() {
    let recording = Recording::new();
    let process = RecordedProcess {
        program: "/opt/vendor/vmm",
        line: "vmm",
        maps: PRIVATE,
        descriptors: KVM,
        ..RecordedProcess::default()
    };
    recording.add(7, &RecordedProcess { descriptors: &[], ..process.clone() });
    let (users, registry) = (Users(vec![0..=0]), registration::Registry::default());
    let mut strangers = Strangers::default();
    let mut find = |recording: &Recording| {
        search::find_in(recording.0.path(), &registry, &users, &mut strangers).unwrap().len()
    };
    assert_eq!((0..30).map(|_| find(&recording)).sum::<usize>(), 0);
    // It opens a machine, and is seen within as many searches.
    let again = Recording::new();
    again.add(7, &process);
    let seen: Vec<usize> = (0..20).map(|_| find(&again)).collect();
    assert!(seen.contains(&1), "{seen:?}");
}

#[test]
fn a_guest_of_libvirt_is_registered_and_its_poser_is_not() {
    let recording = Recording::new();
    let groups = "0::/machine.slice/machine-qemu\\x2d3\\x2dweb\\x2d1.scope/libvirt/emulator\n";
    let line = "qemu-system-x86_64 -name guest=web-1,debug-threads=on -m 512";
    let qemu = RecordedProcess {
        program: "/usr/bin/qemu-system-x86_64",
        line,
        maps: PRIVATE,
        user: 107,
        groups,
        ..RecordedProcess::default()
    };
    recording.add(10, &RecordedProcess { groups: "0::/user.slice\n", ..qemu.clone() });
    recording.add(11, &qemu);
    let guests = recording.find();
    let registration = Registration { manager: GuestManager::Libvirt, name: "web-1".to_owned() };
    assert_eq!(guests[0].registration, None);
    assert_eq!(guests[1].registration, Some(registration));
    let name = crate::config::GuestName::Libvirt("web-1".to_owned());
    assert_eq!(resolve(&name, &guests, None).map(|guest| guest.pid), Ok(11));
}
