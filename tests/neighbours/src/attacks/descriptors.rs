//! Attacks by descriptors and their tables.

use std::time::Duration;

use crate::hostile::Hostile;

/// `nofile` of ordinary sessions (systemd's `DefaultLimitNOFILE`, hard).
const DESCRIPTORS_MAX: u32 = 524_288;

/// Opens files of one name; stops early when the attack must end.
fn open_many(host: &mut Hostile<'_>, pid: u32, count: u32, path: &str) {
    for number in 0..count {
        host.machine().open(pid, path);
        if number % 256 == 0 && !host.goes_on() {
            return;
        }
    }
}

/// A1: one process opens and closes 60,000 files forever.
pub(super) fn flood(host: &mut Hostile<'_>) {
    let pid = host.busy();
    host.machine().set_size("/tmp/flood", 1);
    // A file that was just changed would be an alert at each close.
    if !host.rest(Duration::from_secs(1)) {
        return;
    }
    let mut has_acted = false;
    while host.goes_on() {
        let first = host.machine().open(pid, "/tmp/flood");
        open_many(host, pid, 60_000, "/tmp/flood");
        if !has_acted {
            has_acted = true;
            host.act();
        }
        let last = host.machine().open(pid, "/tmp/flood");
        for descriptor in first..=last {
            host.machine().close(pid, descriptor);
            if descriptor % 256 == 0 && !host.goes_on() {
                return;
            }
        }
    }
}

/// B1.1: a process with 60,000 descriptors of one file writes to it and forks, again and again.
pub(super) fn forks(host: &mut Hostile<'_>) {
    let pid = host.busy();
    open_many(host, pid, 60_000, "/tmp/shared");
    host.act();
    while host.rest(Duration::from_millis(300)) {
        let child = host.machine().fork(pid);
        host.machine().write_file("/tmp/shared", b"more");
        if !host.rest(Duration::from_millis(300)) {
            return;
        }
        host.machine().kill(child);
    }
}

/// B2: 128 processes with a descriptor at the end of a table of 524,288 places each.
pub(super) fn sparse_tables(host: &mut Hostile<'_>) {
    for _ in 0..128 {
        let pid = host.busy();
        host.machine().open(pid, "/dev/null");
        host.machine().dup2(pid, 0, DESCRIPTORS_MAX - 1);
        if !host.goes_on() {
            return;
        }
    }
    host.act();
    host.rest_on();
}

/// C1: an older process duplicates a descriptor 170,000 times.
pub(super) fn duplicates(host: &mut Hostile<'_>) {
    let pid = host.busy();
    let first = host.machine().open(pid, "/tmp/one");
    for number in 1..=170_000 {
        host.machine().dup2(pid, first, first + number);
        if number % 256 == 0 && !host.goes_on() {
            return;
        }
    }
    host.act();
    host.rest_on();
}

/// C2: the first thread of a foreign program never stops replacing its descriptor table
/// (`unshare(CLONE_FILES)`).
pub(super) fn unshared(host: &mut Hostile<'_>) {
    host.act();
    let Some(pid) = host.act.as_ref().map(|act| act.pid) else { return };
    host.machine().start_thread(pid);
    while host.goes_on() {
        let other = host.machine().start_thread(pid);
        host.machine().unshare_files(pid);
        host.machine().exit_thread(other);
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// C11: 3,000 files are written and closed at a time, among them the one that matters.
pub(super) fn closes(host: &mut Hostile<'_>) {
    let pid = host.busy();
    let mut has_acted = false;
    while host.goes_on() {
        let mut opened = Vec::new();
        for number in 0..3000 {
            // Files that matter.
            let path = format!("/home/user/.ssh/{number}");
            opened.push((host.machine().open(pid, &path), path));
        }
        if !host.rest(Duration::from_millis(500)) {
            return;
        }
        for (_, path) in &opened {
            host.machine().set_size(path, 4097);
        }
        for (number, (descriptor, _)) in opened.iter().enumerate() {
            host.machine().close(pid, *descriptor);
            if number == 2500 && !has_acted {
                has_acted = true;
                host.act();
            }
        }
    }
}

/// C15: a process gives its table to a thread and takes it back, forever, while its shell runs.
pub(super) fn toggled(host: &mut Hostile<'_>) {
    host.act();
    let Some(pid) = host.act.as_ref().map(|act| act.pid) else { return };
    while host.goes_on() {
        let other = host.machine().start_thread(pid);
        host.machine().unshare_files(other);
        host.machine().exit_thread(other);
        std::thread::sleep(Duration::from_micros(200));
    }
}
