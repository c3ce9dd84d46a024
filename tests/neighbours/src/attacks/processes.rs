//! Attacks by processes.

use crate::hostile::Hostile;

/// A2: a machine that takes long to scan: 1,000 processes with 58 descriptors each.
pub(super) fn many(host: &mut Hostile<'_>) {
    for _ in 0..1000 {
        let pid = host.busy();
        let first = host.machine().open(pid, "/tmp/one");
        for number in 1..58 {
            host.machine().dup2(pid, first, first + number);
        }
        if !host.goes_on() {
            return;
        }
    }
    host.act();
    host.rest_on();
}

/// C3: the foreign program runs in a scope of its user, named like a container of a runtime.
pub(super) fn fake_container(host: &mut Hostile<'_>) {
    let id = "0123456789abcdef".repeat(4);
    let path = format!("/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{id}.scope");
    let container = host.machine().add_container(&path, "inside");
    host.act_in(container);
    host.rest_on();
}

/// C6: as many sleeping processes as are tracked.
pub(super) fn sleepers(host: &mut Hostile<'_>) {
    let pid = host.process("/usr/bin/sleep", &["sleep", "1000"]);
    for number in 0..4096 {
        host.machine().fork(pid);
        if number % 16 == 0 && !host.goes_on() {
            return;
        }
    }
    host.act();
    host.rest_on();
}

/// C10: a process has 100,000 descriptors of a pipe that 500 shells read.
pub(super) fn decoys(host: &mut Hostile<'_>) {
    let pid = host.busy();
    let pipe = host.machine().pipe(pid);
    host.machine().dup2(pid, pipe.read, 0);
    host.machine().dup2(pid, pipe.write, 1);
    for _ in 0..500 {
        let shell = host.machine().fork(pid);
        host.machine().exec(shell, "/usr/bin/bash", &["bash", "-i"]);
        if !host.goes_on() {
            return;
        }
    }
    for number in 0..100_000 {
        host.machine().dup2(pid, pipe.write, 100 + number);
        if number % 256 == 0 && !host.goes_on() {
            return;
        }
    }
    host.act();
    host.rest_on();
}
