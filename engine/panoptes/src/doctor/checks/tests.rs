//! The result of each check, and how to mend it.

use super::*;

const NONE: Capabilities = Capabilities(0);

fn with(names: &[(u32, &str)]) -> Capabilities {
    Capabilities(names.iter().map(|(number, _)| 1 << number).sum())
}

fn access(has: Capabilities, ptrace_scope: Option<u32>) -> GuestProcessAccess {
    GuestProcessAccess { wants_guests: true, has_other_users: true, has, ptrace_scope }
}

/// Checks the state, a part of the message or of the fix, and that what is wrong has a fix.
#[track_caller]
fn expect(check: &DoctorCheck, state: DoctorCheckState, text: &str) {
    assert_eq!(check.state, state, "{check:?}");
    let all = format!("{}\n{}", check.message, check.fix.as_deref().unwrap_or_default());
    assert!(all.contains(text), "{check:?}");
    let is_wrong = matches!(state, DoctorCheckState::Warning | DoctorCheckState::Obstacle);
    assert_eq!(check.fix.is_some(), is_wrong, "{check:?}");
}

#[test]
fn capabilities_are_read_from_the_status() {
    // What the kernel shows for CAP_SYS_PTRACE alone (bit 19), and for none.
    let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000080000\n";
    assert_eq!(Capabilities::of(status), with(&[SYS_PTRACE]));
    assert_eq!(Capabilities::of("Name:\tx\n"), NONE);
}

#[test]
fn io_uring_is_better_but_not_needed() {
    expect(&io_uring(OutputKind::IoUring, None), DoctorCheckState::Fine, "io_uring");
    expect(&io_uring(OutputKind::Plain, Some(2)), DoctorCheckState::Warning, "io_uring_disabled=0");
    expect(&io_uring(OutputKind::Plain, Some(0)), DoctorCheckState::Warning, "seccomp");
}

#[test]
fn memory_should_be_lockable() {
    expect(&locked_memory(None, 1 << 30, NONE), DoctorCheckState::Fine, "1024.0 MiB");
    expect(&locked_memory(Some(8 << 20), 1 << 30, NONE), DoctorCheckState::Warning, "LimitMEMLOCK");
    expect(
        &locked_memory(Some(8 << 20), 1 << 30, with(&[IPC_LOCK])),
        DoctorCheckState::Fine,
        "MiB",
    );
    let much = || Err("too much".to_owned());
    expect(&memory(much(), Some(("small", 1 << 20))), DoctorCheckState::Obstacle, "--limits small");
    expect(&memory(much(), None), DoctorCheckState::Obstacle, "no set of limits is small enough");
    expect(&memory(Ok("needs 1 MiB".to_owned()), None), DoctorCheckState::Fine, "needs 1 MiB");
}

#[test]
fn each_missing_capability_is_named() {
    let all = with(&[SYS_PTRACE, CHECKPOINT_RESTORE, DAC_READ_SEARCH]);
    expect(&capabilities(access(all, None)), DoctorCheckState::Fine, "other users");
    let old = with(&[SYS_PTRACE, SYS_ADMIN, DAC_OVERRIDE]);
    expect(&capabilities(access(old, None)), DoctorCheckState::Fine, "other users");
    let one = capabilities(access(with(&[SYS_PTRACE]), None));
    expect(&one, DoctorCheckState::Obstacle, "without CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH");
    let own = GuestProcessAccess { has_other_users: false, ..access(NONE, None) };
    expect(&capabilities(own), DoctorCheckState::Fine, "need none");
    let unused = GuestProcessAccess { wants_guests: false, ..access(NONE, Some(3)) };
    expect(&capabilities(unused), DoctorCheckState::Unused, "no guest");
    expect(&ptrace_scope(unused), DoctorCheckState::Unused, "no guest");
}

#[test]
fn yama_decides_who_may_read_a_process() {
    // Documentation/admin-guide/LSM/Yama.rst: 0 classic, 1 children, 2 CAP_SYS_PTRACE, 3 none.
    let all = with(&[SYS_PTRACE]);
    expect(&ptrace_scope(access(NONE, None)), DoctorCheckState::Fine, "allows");
    expect(&ptrace_scope(access(NONE, Some(0))), DoctorCheckState::Fine, "allows");
    expect(&ptrace_scope(access(NONE, Some(1))), DoctorCheckState::Obstacle, "is 1");
    expect(&ptrace_scope(access(all, Some(2))), DoctorCheckState::Fine, "allows");
    expect(&ptrace_scope(access(all, Some(3))), DoctorCheckState::Obstacle, "boot again");
}

#[test]
fn users_of_guests_should_exist() {
    let user = |name: &str, is_known| (name.to_owned(), is_known);
    let users = [user("root", true), user("qemu", false)];
    expect(
        &guest_users(true, &users),
        DoctorCheckState::Fine,
        "guests of root (not known here: qemu)",
    );
    expect(&guest_users(true, &users[..1]), DoctorCheckState::Fine, "guests of root");
    expect(&guest_users(true, &users[1..]), DoctorCheckState::Warning, "service.guest_users");
    expect(&guest_users(false, &users), DoctorCheckState::Unused, "no guest");
}

#[test]
fn each_guest_that_cannot_be_watched_has_a_line() {
    let guest = |name: &str, why: Option<&str>| Guest {
        pid: 7,
        name: Some(name.to_owned()),
        obstacle: why.map(str::to_owned),
        ..Guest::default()
    };
    let found = Ok(vec![guest("a", None), guest("b", Some("encrypted")), guest("c", None)]);
    let checks = guests(&found);
    assert_eq!(checks.len(), 2);
    expect(&checks[0], DoctorCheckState::Obstacle, "b (qemu:7): encrypted");
    let fix = checks[0].fix.as_deref().unwrap();
    assert!(fix.ends_with("leave it out: auto_scan: {exclude: ['b']}"), "{fix}");
    expect(&checks[1], DoctorCheckState::Fine, "2 guests run");
    expect(&guests(&Ok(Vec::new()))[0], DoctorCheckState::Fine, "0 guests");
    assert_eq!(guests(&Ok(vec![guest("b", Some("encrypted"))])).len(), 1);
    expect(&guests(&Err("denied".to_owned()))[0], DoctorCheckState::Obstacle, "denied");
}

#[test]
fn a_system_whose_guest_is_not_known_is_a_warning() {
    let check = missing_guest("web-1", "2 guests have this name");
    expect(&check, DoctorCheckState::Warning, "web-1: 2 guests have this name");
}

#[test]
fn huge_pages_may_be_closed() {
    let mounts = [("/dev/hugepages".to_owned(), true), ("/huge".to_owned(), false)];
    expect(&huge_pages(access(NONE, None), &mounts), DoctorCheckState::Obstacle, "/huge");
    expect(&huge_pages(access(NONE, None), &mounts[..1]), DoctorCheckState::Fine, "opened");
    expect(
        &huge_pages(access(with(&[DAC_READ_SEARCH]), None), &mounts),
        DoctorCheckState::Fine,
        "opened",
    );
    expect(&huge_pages(access(NONE, None), &[]), DoctorCheckState::Unused, "no hugetlbfs");
}

#[test]
fn a_kernel_may_hide_its_own_memory() {
    let error = || Err("refused".to_owned());
    expect(&host(false, "", error()), DoctorCheckState::Unused, "not watched");
    expect(
        &host(true, "[none] integrity confidentiality", Ok(())),
        DoctorCheckState::Fine,
        "kcore",
    );
    let locked = "none integrity [confidentiality]";
    expect(&host(true, locked, error()), DoctorCheckState::Obstacle, "lockdown=integrity");
    expect(&host(true, "", error()), DoctorCheckState::Obstacle, "host.conf");
}

#[test]
fn a_library_matters_where_it_is_wanted() {
    let error = || Err("no library".to_owned());
    expect(&doca(false, error()), DoctorCheckState::Unused, "DMA");
    expect(&doca(true, error()), DoctorCheckState::Obstacle, "doca_library_path");
    let found = Ok((Some("3.2.0".to_owned()), 4));
    expect(&doca(true, found), DoctorCheckState::Fine, "3.2.0 lists 4 functions");
}

#[test]
fn files_folders_and_ports_are_tried() {
    let (path, denied) = (Path::new("/x"), || Err(Error::from(ErrorKind::PermissionDenied)));
    expect(&memory_file("web", path, Ok(())), DoctorCheckState::Fine, "web: /x");
    expect(&memory_file("web", path, denied()), DoctorCheckState::Obstacle, "SupplementaryGroups=");
    let missing = Err(Error::from(ErrorKind::NotFound));
    expect(&memory_file("web", path, missing), DoctorCheckState::Warning, "waited for");
    expect(&folder("log_folder", None, Ok(())), DoctorCheckState::Unused, "none");
    expect(&folder("log_folder", Some(path), Ok(())), DoctorCheckState::Fine, "/x");
    expect(
        &folder("log_folder", Some(path), denied()),
        DoctorCheckState::Obstacle,
        "ReadWritePaths=",
    );
    expect(&metrics(None, Ok(true)), DoctorCheckState::Unused, "off");
    expect(&metrics(Some("127.0.0.1:1"), Ok(true)), DoctorCheckState::Fine, "free");
    expect(&metrics(Some("0.0.0.0:1"), Ok(false)), DoctorCheckState::Warning, "no password");
    let used = Err(Error::from(ErrorKind::AddrInUse));
    expect(&metrics(Some("127.0.0.1:1"), used), DoctorCheckState::Warning, "in use");
    let absent = Err(Error::from(ErrorKind::AddrNotAvailable));
    expect(
        &metrics(Some("192.0.2.1:1"), absent),
        DoctorCheckState::Obstacle,
        "output.metrics.address",
    );
}

#[test]
fn a_configuration_with_mistakes_is_an_obstacle() {
    expect(&configuration(&[], "/p.yaml"), DoctorCheckState::Fine, "/p.yaml");
    let mistakes = ["line 1".to_owned(), "line 2".to_owned()];
    let check = configuration(&mistakes, "/p.yaml");
    expect(&check, DoctorCheckState::Obstacle, "2 mistakes; the first: line 1");
    assert_eq!(check.fix.as_deref(), Some("panoptes check /p.yaml"));
}
