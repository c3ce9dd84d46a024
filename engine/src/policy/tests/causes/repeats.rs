//! Something of each kind that can be reported again and again, with the same or another cause.

use super::*;

/// Reports something once more: with other numbers each time, or as another cause.
pub(super) type Repeat = fn(&mut Reporter<'_>, &ScanContext<'_>, u32, bool);

pub(super) fn content(
    reporter: &mut Reporter<'_>,
    cx: &ScanContext<'_>,
    time: u32,
    is_other: bool,
) {
    let name: &[u8] = if is_other { b"/etc/shadow" } else { b"/etc/passwd" };
    let (number, size) = (12 + u64::from(time), 20 + u64::from(time));
    let modify_time_ns = i64::from(time);
    let change = ContentChange {
        process: process_facts(700 + time),
        descriptor: DescriptorFacts {
            index: 3 + time,
            name: Some(FileName::Text(name)),
            inode: Some(InodeFacts { number, size, modify_time_ns, ..InodeFacts::default() }),
            ..DescriptorFacts::default()
        },
        previous: None,
        opened: FileAtOpen { size: 10, ..FileAtOpen::default() },
        hashes: Some(Hashes { sha256: [time as u8; 32], sha1: [5; 20], md5: [6; 16] }),
        partial: None,
        since_ns: cx.now.real,
        matters: true,
        severity: None,
    };
    reporter.found(cx, &Finding::FileContent(&change));
}

pub(in crate::policy::tests) fn path_change(time: u32, is_other: bool) -> PathChange<'static> {
    let (number, modify_time_ns) = (12 + u64::from(time), i64::from(time));
    let before =
        PreviousTarget { number, size: 1, modify_time_ns, is_same_file: false, hashes: None };
    PathChange {
        path: if is_other { b"/usr/bin/head" } else { b"/usr/bin/tail" },
        previous: None,
        attributes: Attributes {
            mode: mode::S_IFREG | 0o755,
            ino: 13 + u64::from(time),
            size: 20 + u64::from(time),
            mtime_ns: modify_time_ns,
            ..Attributes::default()
        },
        device: 8 << 20 | 1,
        before: Some(before),
        hashes: Some(Hashes { sha256: [time as u8; 32], sha1: [5; 20], md5: [6; 16] }),
        partial: None,
        since_ns: RealTime::default(),
        severity: None,
        others: NewNames::default(),
        history: None,
    }
}

pub(super) fn path(reporter: &mut Reporter<'_>, cx: &ScanContext<'_>, time: u32, is_other: bool) {
    let change = PathChange { since_ns: cx.now.real, ..path_change(time, is_other) };
    reporter.found(cx, &Finding::PathChange(&change));
}

pub(super) fn access(reporter: &mut Reporter<'_>, cx: &ScanContext<'_>, time: u32, is_other: bool) {
    let change = PermissionChange {
        path: if is_other { b"/usr/bin/head" } else { b"/usr/bin/tail" },
        previous: None,
        attributes: Attributes {
            mode: mode::S_IFREG | 0o4755,
            ino: 13 + u64::from(time),
            ..Attributes::default()
        },
        device: 8 << 20 | 1,
        before: None,
        what: GrantedAccess::SetUid,
        user: None,
        since_ns: cx.now.real,
        severity: None,
    };
    reporter.found(cx, &Finding::PermissionChange(&change));
}

pub(super) fn connection(time: u32, is_other: bool) -> ConnectionFacts {
    let peer = if is_other { "203.0.113.8" } else { "203.0.113.9" };
    ConnectionFacts {
        source: "10.0.2.15".parse().unwrap(),
        source_port: 40_000 + time as u16,
        destination: peer.parse().unwrap(),
        destination_port: 50_000 + time as u16,
        ..ConnectionFacts::default()
    }
}

pub(super) fn shell(reporter: &mut Reporter<'_>, cx: &ScanContext<'_>, time: u32, is_other: bool) {
    let process = process_facts(700 + time);
    let members = [ChainMember { process, descriptors: &[], connections: &[], is_cut: false }];
    let finding = ReverseShell {
        scans: 1 + time,
        ..commanded(connection(time, is_other), &members, cx.now.real)
    };
    reporter.found(cx, &Finding::ReverseShell(&finding));
}

pub(super) fn shell_of_another_program(
    reporter: &mut Reporter<'_>,
    cx: &ScanContext<'_>,
    time: u32,
    is_other: bool,
) {
    let executable: &[u8] = if is_other { b"/usr/bin/python3" } else { b"/usr/bin/dash" };
    let process = ProcessFacts { executable: Some(executable), ..process_facts(700 + time) };
    let members = [ChainMember { process, descriptors: &[], connections: &[], is_cut: false }];
    let finding = commanded(connection(time, false), &members, cx.now.real);
    reporter.found(cx, &Finding::ReverseShell(&finding));
}

pub(super) fn history(
    reporter: &mut Reporter<'_>,
    cx: &ScanContext<'_>,
    time: u32,
    is_other: bool,
) {
    let way = if is_other { DisableMethod::NoSize } else { DisableMethod::Off };
    let change = HistoryChange::Disabled { way, was_on: true, value: b"" };
    let (process, since_ns) = (process_facts(700 + time), cx.now.real);
    let kind = ShellKind::Bash;
    let event = HistoryEvent { process, kind, change, last: None, since_ns, scans: 1 };
    reporter.found(cx, &Finding::ShellHistory(&event));
}

pub(super) fn cleared(
    reporter: &mut Reporter<'_>,
    cx: &ScanContext<'_>,
    time: u32,
    is_other: bool,
) {
    let count = 5 + time;
    let all = HistoryClearing::All { count };
    let clearing = if is_other { HistoryClearing::Size { count } } else { all };
    let change = HistoryChange::Cleared(clearing);
    let (process, since_ns) = (process_facts(700 + time), cx.now.real);
    let kind = ShellKind::Bash;
    let event = HistoryEvent { process, kind, change, last: None, since_ns, scans: 1 };
    reporter.found(cx, &Finding::ShellHistory(&event));
}

pub(super) fn packets(
    reporter: &mut Reporter<'_>,
    cx: &ScanContext<'_>,
    time: u32,
    is_other: bool,
) {
    let port = if is_other { 22 } else { 443 };
    let own = SocketAddr::new("10.0.2.15".parse().unwrap(), 40_000 + time as u16);
    let peer = SocketAddr::new("203.0.113.9".parse().unwrap(), port);
    hidden_socket(reporter, cx, HiddenConnectionKind::Connection, time, [own, peer]);
}

pub(super) fn port(reporter: &mut Reporter<'_>, cx: &ScanContext<'_>, time: u32, is_other: bool) {
    let port = if is_other { 31_338 } else { 31_337 };
    let own = SocketAddr::new("10.0.2.15".parse().unwrap(), port);
    let peer = SocketAddr::new("203.0.113.9".parse().unwrap(), 40_000 + time as u16);
    hidden_socket(reporter, cx, HiddenConnectionKind::Listener, time, [own, peer]);
}

/// Reports a hidden TCP socket, whose last packet came at a time in nanoseconds.
fn hidden_socket(
    reporter: &mut Reporter<'_>,
    cx: &ScanContext<'_>,
    what: HiddenConnectionKind,
    time: u32,
    [own, peer]: [SocketAddr; 2],
) {
    let hidden = HiddenConnection {
        what,
        protocol: 6,
        own,
        peer,
        first_ns: 1,
        last_ns: i64::from(time) + 1,
        scans: 9,
        suspect: None,
    };
    reporter.found(cx, &Finding::HiddenConnection(&hidden));
}

pub(super) fn clock(reporter: &mut Reporter<'_>, cx: &ScanContext<'_>, time: u32, is_other: bool) {
    let since = cx.now.real;
    if is_other {
        let set_back = SetBack { since, scans: 4, from: 900, to: 5 };
        let _ = reporter.forks_set_back(cx, &set_back);
        return;
    }
    let tampering = ClockTampering {
        since,
        still_ns: 5 * SECOND_NS,
        scans: 7,
        forks: 4 + u64::from(time),
        processes: 3,
        runtime_ns: 1,
    };
    let _ = reporter.clock_tampered(cx, &tampering);
}
