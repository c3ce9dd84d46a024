//! The engine's walk finds what a machine has, no more and no less.

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use panoptes_decoders::address::KernelVa;
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{InodeRow, Scope, Walker};
use panoptes_synthetic::{DirectMapPages, ForkOptions, Machine, Size, Source, When, profile};

use common::{RELEASES, assert_same, expected, found, kernel, walker};

fn small() -> Limits {
    Limits { processes: 1024, file_descriptors: 16_384, vmas: 32_768, ..Limits::default() }
}

#[test]
fn a_scan_finds_exactly_what_was_built() {
    let mut walker = walker(&small());
    for release in RELEASES {
        let mut machine = Machine::builder(&profile(release)).build();
        let kernel = kernel(&mut machine);
        walker.forget();
        assert_same(&mut machine, &kernel, &mut walker);
    }
}

#[test]
fn each_operation_shows_in_the_next_scan() {
    let mut walker = walker(&small());
    for release in RELEASES {
        let builder = Machine::builder(&profile(release)).seed(7).kaslr(0x1260_0000);
        let mut machine = builder.build();
        let kernel = kernel(&mut machine);
        walker.forget();
        operate(&mut machine, &mut |machine| assert_same(machine, &kernel, &mut walker));
    }
}

/// Runs every operation, with a check after each.
fn operate(machine: &mut Machine, check: &mut dyn FnMut(&mut Machine)) {
    let address = |text: &str| text.parse::<SocketAddr>().expect("it is an address");
    let options = ForkOptions { container: 0, uid: 33, new_session: true };
    let shell = machine.fork_with(1, options);
    check(machine);
    machine.exec(shell, "/bin/bash", &["-bash", "-c", "true"]);
    check(machine);
    let child = machine.fork(shell);
    machine.set_name(child, "renamed");
    check(machine);
    let pipe = machine.pipe(child);
    machine.dup2(child, pipe.write, 200);
    machine.close(child, pipe.write);
    machine.set_close_on_exec(child, pipe.read, true);
    check(machine);
    let thread = machine.start_thread(child);
    machine.socket_pair(child);
    machine.listen(child, address("0.0.0.0:8080"));
    machine.listen(child, address("[::]:8081"));
    let accepted = machine.accept(child, address("[fd00::1]:8081"), address("[fd00::2]:999"));
    machine.transfer(child, accepted, 5000, 70);
    check(machine);
    machine.exit_thread(thread);
    machine.close(child, accepted);
    check(machine);
    machine.open(child, "/tmp/before");
    let long = format!("/tmp/{}", "long".repeat(30));
    machine.open(child, &long);
    machine.rename("/tmp/before", "/var/after");
    machine.unlink(&long);
    check(machine);
    machine.run(child, 1);
    check(machine);
    machine.sleep(child, 1, 3_000_000);
    let lowest = machine.map_anonymous(child, 100, 2);
    machine.protect(child, lowest, 7);
    machine.unmap(child, lowest + 3 * 0x3000);
    check(machine);
    machine.exec(child, "/usr/bin/nc", &["nc", "-l"]);
    check(machine);
    let grandchild = machine.fork(child);
    machine.exit(child);
    check(machine);
    machine.reap(child);
    machine.kill(grandchild);
    machine.kill(shell);
    machine.tick(4_000_000);
    check(machine);
}

#[test]
fn the_same_seed_makes_the_same_memory() {
    let builder = Machine::builder(&profile(RELEASES[1])).direct_map_pages(DirectMapPages::FourKib);
    let (mut one, mut same) = (builder.build(), builder.build());
    let mut other = builder.seed(2).build();
    let used = one.memory().used() as usize;
    assert!(one.memory().bytes()[..used] == same.memory().bytes()[..used]);
    assert!(one.memory().bytes()[..used] != other.memory().bytes()[..used]);
    let kernel = kernel(&mut one);
    assert_same(&mut one, &kernel, &mut walker(&small()));
}

#[test]
fn ten_thousand_processes_are_found() {
    let limits = Limits {
        processes: 16_384,
        threads: 32_768,
        file_descriptors: 131_072,
        vmas: 262_144,
        ..Limits::default()
    };
    let size = Size { processes: 10_000, ..Size::default() };
    let mut machine = Machine::builder(&profile(RELEASES[2])).size(size).build();
    let kernel = kernel(&mut machine);
    assert_same(&mut machine, &kernel, &mut walker(&limits));
}

/// How a scan shows a process that ended meanwhile, in the order of ever later ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Shown {
    Absent,
    /// Its freed memory still shows that it has ended.
    Ended,
    Unstable,
    Alive,
}

/// Scans while the machine changes before the batch `at`. Returns how the scan shows `pid`, and the
/// number of batches.
fn scan_with_change(
    machine: &mut Machine,
    walker: &mut Walker,
    at: u64,
    mut change: impl FnMut(&mut Machine) + Send,
    pid: u32,
) -> (Shown, u64) {
    let kernel = kernel(machine);
    let mut source = Source::with_hook(machine, |machine, when, counts| {
        if matches!(when, When::Batch(_)) && counts.batches == at {
            change(machine);
        }
    });
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes are found");
    let shown = match snapshot.process_by_pid(pid) {
        None => Shown::Absent,
        Some(process) if !process.stable => Shown::Unstable,
        Some(process) if snapshot.threads[process.leader].task.exit_state != 0 => Shown::Ended,
        Some(_) => Shown::Alive,
    };
    (shown, source.counts().batches)
}

#[test]
fn a_process_that_ends_in_a_scan_is_never_shown_as_whole() {
    let mut walker = walker(&small());
    let builder = Machine::builder(&profile(RELEASES[2]));
    let mut machine = builder.build();
    let pid = machine.processes().last().expect("there are processes").pid;
    let (shown, batches) = scan_with_change(&mut machine, &mut walker, u64::MAX, |_| {}, pid);
    assert_eq!(shown, Shown::Alive);
    let shown: Vec<_> = (0..batches)
        .map(|at| {
            let mut machine = builder.build();
            walker.forget();
            let kill = |machine: &mut Machine| machine.kill(pid);
            scan_with_change(&mut machine, &mut walker, at, kill, pid).0
        })
        .collect();
    assert!(shown.is_sorted(), "{shown:?}");
    let at = |wanted| shown.iter().filter(|&&it| it == wanted).count();
    assert!(at(Shown::Absent) > 3 && at(Shown::Unstable) > 3, "{shown:?}");
    // Only the last batches come after the second look at the task.
    assert!(at(Shown::Alive) < 3, "{shown:?}");
}

/// Lines about other processes than `pid` and those after it.
fn about_others(lines: BTreeSet<String>, pid: u32) -> BTreeSet<String> {
    let is_other = |line: &String| {
        let mut words = line.split_whitespace();
        let subject = match words.next() {
            Some("process") => words.next(),
            Some("socket") => None,
            // `descriptor 3 of 12: …`, `area 1000-2000 of 12: …`, `thread 13 of 12 …`
            _ => words.nth(2).map(|word| word.trim_end_matches(':')),
        };
        subject.and_then(|word| word.parse().ok()).is_some_and(|subject: u32| subject < pid)
    };
    lines.into_iter().filter(is_other).collect()
}

/// A change of a process.
type Operation = fn(&mut Machine, u32);

const OPERATIONS: [(&str, Operation); 8] = [
    ("fork", |machine, pid| _ = machine.fork(pid)),
    ("start_thread", |machine, pid| _ = machine.start_thread(pid)),
    ("exec", |machine, pid| machine.exec(pid, "/bin/true", &["true"])),
    ("open", |machine, pid| _ = machine.open(pid, "/tmp/new")),
    ("dup2", |machine, pid| machine.dup2(pid, 0, 70)),
    ("map", |machine, pid| _ = machine.map_anonymous(pid, 20, 1)),
    ("exit", |machine, pid| machine.exit(pid)),
    ("kill", Machine::kill),
];

#[test]
fn no_store_of_a_process_hides_or_changes_another() {
    let mut walker = walker(&small());
    let size = Size { processes: 6, descriptors: 1, areas: 1, containers: 1, ..Size::default() };
    for release in [RELEASES[0], RELEASES[2]] {
        for (name, operation) in OPERATIONS {
            let mut machine = Machine::builder(&profile(release)).size(size).build();
            let kernel = kernel(&mut machine);
            let pid = machine.processes().last().expect("there are processes").pid;
            let others = about_others(common::expected(&machine), pid);
            assert!(others.len() > 100, "{}", others.len());
            machine.slowly(|machine| operation(machine, pid));
            let mut left = machine.step(0);
            assert!(left > 3, "{name}: {left} stores");
            loop {
                let mut source = Source::new(&mut machine);
                walker.forget();
                let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes");
                let found = about_others(common::found(snapshot), pid);
                let lost: Vec<_> = others.symmetric_difference(&found).collect();
                assert!(lost.is_empty(), "{release}: {name}, {left} stores left: {lost:#?}");
                if left == 0 {
                    break;
                }
                left = machine.step(1);
            }
            assert_same(&mut machine, &kernel, &mut walker);
        }
    }
}

/// A table that grows while it is read gets new memory; another process gets the old one.
#[test]
fn a_table_that_grows_while_it_is_read_shows_nothing_false() {
    let mut walker = walker(&small());
    let size = Size { processes: 6, descriptors: 30, areas: 1, containers: 1, ..Size::default() };
    let builder = Machine::builder(&profile(RELEASES[2])).size(size);
    let mut batches = 1;
    let mut unknown = 0;
    let mut at = 0;
    while at < batches {
        let mut machine = builder.build();
        let kernel = kernel(&mut machine);
        let pid = machine.processes().last().expect("there are processes").pid;
        let of_it = |machine: &Machine| -> BTreeSet<String> {
            let about = format!(" of {pid}: ");
            let lines = expected(machine).into_iter();
            lines.filter(|line| line.starts_with("descriptor ") && line.contains(&about)).collect()
        };
        let before = of_it(&machine);
        let mut source = Source::with_hook(&mut machine, |machine, when, counts| {
            if matches!(when, When::Batch(_)) && counts.batches == at {
                machine.dup2(pid, 0, 70);
                machine.fork(1);
            }
        });
        walker.forget();
        let found = found(walker.scan(&mut source, &kernel, Scope::ALL).expect("processes"));
        batches = source.counts().batches;
        drop(source);
        let after = of_it(&machine);
        assert!(before.len() > 30 && before.is_subset(&after));
        let is_incomplete = found.contains(&format!("descriptors incomplete of {pid}"));
        unknown += usize::from(is_incomplete);
        for line in &after {
            let (descriptor, _) = line.split_once(": ").expect("it has a name");
            let shown = found.iter().find(|found| found.starts_with(&format!("{descriptor}: ")));
            let is_right = match shown {
                Some(shown) => shown == line || shown.ends_with(": "),
                None => is_incomplete || !before.contains(line),
            };
            assert!(is_right, "batch {at} of {batches}: {shown:?} instead of {line}");
        }
        at += 1;
    }
    assert!(batches > 10 && (1..batches as usize).contains(&unknown), "{unknown} of {batches}");
}

/// A few processes with as many areas as the kernel allows must not fill the rows of areas.
#[test]
fn processes_with_too_many_areas_take_no_rows_of_others() {
    let limits = Limits { vmas: 4000, ..small() };
    let mut walker = walker(&limits);
    for release in RELEASES {
        let mut machine = Machine::builder(&profile(release)).build();
        let kernel = kernel(&mut machine);
        let hogs = [(); 3].map(|()| machine.fork(1));
        for &pid in &hogs {
            machine.map_anonymous(pid, 5000, 1);
        }
        let mut source = Source::new(&mut machine);
        walker.forget();
        let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes");
        // Below an area that is left out, a red-black tree is not followed.
        assert!(snapshot.vmas.dropped > 1000, "{release}: {}", snapshot.vmas.dropped);
        let mut others = 0;
        for process in snapshot.processes.iter() {
            let Some(mm) = snapshot.mms.at(process.mm) else { continue };
            let pid = snapshot.leader(process).map_or(0, |leader| leader.task.pid);
            let areas = snapshot.vmas.range(mm.vmas);
            if hogs.contains(&pid) {
                assert!(!mm.complete && areas.len() > 1000, "{release}: {}", areas.len());
                assert!(areas.is_sorted_by_key(|row| row.vma.start));
            } else {
                others += 1;
                assert!(mm.complete && areas.len() == mm.map_count as usize, "{release}: {pid}");
            }
        }
        assert!(others > 3, "{release}: {others}");
    }
}

/// A user with many processes, each of which has no more than others.
#[test]
fn a_user_with_many_processes_takes_no_rows_of_others() {
    let limits = Limits { file_descriptors: 4096, vmas: 4000, ..small() };
    let mut walker = walker(&limits);
    let mut machine = Machine::builder(&profile(RELEASES[2])).build();
    let kernel = kernel(&mut machine);
    let of_user = ForkOptions { container: 0, uid: 4000, new_session: true };
    let hogs: Vec<_> = (0..80).map(|_| machine.fork_with(1, of_user)).collect();
    for &pid in &hogs {
        (3..300).for_each(|descriptor| machine.dup2(pid, 0, descriptor));
        machine.map_anonymous(pid, 300, 1);
    }
    // A busy process of root, and one that began last.
    let [busy, last] = [machine.fork(1), machine.fork(1)];
    (3..1000).for_each(|descriptor| machine.dup2(busy, 0, descriptor));
    machine.map_anonymous(busy, 1000, 1);
    machine.open(last, "/tmp/last");
    let mut source = Source::new(&mut machine);
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes");
    assert!(snapshot.descriptors.dropped > 10_000 && snapshot.vmas.dropped > 10_000);
    for process in snapshot.processes.iter() {
        let pid = snapshot.leader(process).map_or(0, |leader| leader.task.pid);
        let is_hog = hogs.contains(&pid);
        let Some(table) = snapshot.files_structs.at(process.files) else { continue };
        assert_eq!(table.complete, !is_hog, "{pid}");
        assert_eq!(table.dropped > 0, is_hog, "{pid}");
        assert!(table.descriptors.len() >= 3 || !is_hog, "{pid}: {}", table.descriptors.len());
        let Some(mm) = snapshot.mms.at(process.mm) else { continue };
        assert_eq!(mm.complete, !is_hog, "{pid}");
        assert!(mm.vmas.len() > 10 || !is_hog, "{pid}: {}", mm.vmas.len());
    }
    let found = found(snapshot);
    assert!(found.contains(&format!("descriptor 3 of {last}: /tmp/last")));
}

/// The owner of a directory can make control groups of any name below it.
#[test]
fn a_container_is_trusted_if_only_root_could_make_its_control_group() {
    let id = "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";
    let cases = [
        // Root's runtime, and one that gave the container its own directory.
        ("/system.slice/docker-ID.scope", "", true),
        ("/machine.slice/libpod-ID.scope", "/machine.slice/libpod-ID.scope", true),
        ("/lxc.payload.web", "/lxc.payload.web", true),
        ("/machine.slice/machine-web.scope", "/machine.slice/machine-web.scope/payload", true),
        // What systemd delegated to a user, under its own name and under another.
        ("/user.slice/user@1000.service/docker-ID.scope", "/user.slice/user@1000.service", false),
        ("/system.slice/batch.service/docker-ID.scope", "/system.slice/batch.service", false),
        ("/batch/a/b/c/docker/ID", "/batch", false),
        ("/batch/a/b/c/docker/ID", "/batch/a/b", false),
        ("/batch/lxc/web", "/batch/lxc", false),
        ("/default/web", "/default", false),
        ("/web", "", true),
        ("/web", "/web", false),
    ];
    for release in RELEASES {
        let mut walker = walker(&small());
        for (path, given, is_trusted) in cases {
            let mut machine = Machine::builder(&profile(release)).build();
            let kernel = kernel(&mut machine);
            let (path, given) = (path.replace("ID", id), given.replace("ID", id));
            let container = machine.add_container(&path, "inside");
            if !given.is_empty() {
                machine.give_control_group(&given, 100_000);
            }
            let options = ForkOptions { container, uid: 100_000, new_session: true };
            let pid = machine.fork_with(1, options);
            walker.forget();
            let mut source = Source::new(&mut machine);
            let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes");
            let process = snapshot.process_by_pid(pid).expect("it was forked");
            assert!(process.container_known && snapshot.container_of(process).is_some(), "{path}");
            let trusted = snapshot.trusted_container_of(process).is_some();
            assert_eq!(trusted, is_trusted, "{release}: {path} with {given:?} given away");
        }
    }
}

/// A descriptor can be closed and opened as a socket in one scan, at the same address: no slot of a
/// table shows that.
#[test]
fn a_connection_is_not_held_through_the_file_that_was_there_before() {
    let mut walker = walker(&small());
    let builder = Machine::builder(&profile(RELEASES[2]));
    let near = SocketAddr::from(([10, 0, 2, 15], 40_000));
    let far = SocketAddr::from(([192, 0, 2, 7], 443));
    let (mut batches, mut at, mut held) = (1, 0, 0);
    while at < batches {
        let mut machine = builder.build();
        let kernel = kernel(&mut machine);
        let pid = machine.processes().last().expect("there are processes").pid;
        let descriptor = machine.open(pid, "/srv/file");
        let mut source = Source::with_hook(&mut machine, |machine, when, counts| {
            if matches!(when, When::Batch(_)) && counts.batches == at {
                machine.close(pid, descriptor);
                assert_eq!(machine.connect(pid, near, far), descriptor);
            }
        });
        walker.forget();
        let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes");
        batches = source.counts().batches;
        for file in snapshot.files.iter().filter(|file| file.connection.is_some()) {
            let mode = snapshot.inodes.at(file.inode).map(|inode| inode.attributes.mode);
            assert_eq!(mode.map(|mode| mode >> 12), Some(0o14), "batch {at} of {batches}");
            held += 1;
        }
        drop(source);
        at += 1;
    }
    assert!(batches > 10 && held > 3, "{held} of {batches}");
}

/// A socket that is closed and one that is made can have the same slot, file, inode and address.
#[test]
fn a_descriptor_of_an_inode_that_is_being_made_is_left_out() {
    let mut walker = walker(&small());
    let builder = Machine::builder(&profile(RELEASES[2]));
    let (mut batches, mut at, mut left_out) = (1, 0, 0);
    while at < batches {
        let mut machine = builder.build();
        let kernel = kernel(&mut machine);
        let pid = machine.processes().last().expect("there are processes").pid;
        let [near, far] = [([10, 0, 2, 15], 40_000), ([192, 0, 2, 7], 443)].map(SocketAddr::from);
        let descriptor = machine.connect(pid, near, far);
        let mut source = Source::with_hook(&mut machine, |machine, when, counts| match when {
            When::Batch(_) if counts.batches == at => {
                machine.close(pid, descriptor);
                let opened = machine.slowly(|machine| machine.connect(pid, near, far));
                assert_eq!(opened, descriptor);
                // The memory of the socket and its inode is cleared.
                machine.step(1);
            }
            When::Batch(_) if counts.batches == at + 1 => _ = machine.step(1000),
            _ => {}
        });
        walker.forget();
        let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes");
        batches = source.counts().batches;
        for row in snapshot.descriptors.iter() {
            let file = snapshot.files.at(row.file);
            let inode = file.and_then(|file| snapshot.inodes.at(file.inode));
            assert!(inode.is_none_or(InodeRow::was_read), "batch {at} of {batches}");
            left_out += usize::from(row.moved);
        }
        drop(source);
        at += 1;
    }
    assert!(batches > 10 && left_out > 0, "{left_out} of {batches}");
}

/// `smc_switch_to_fallback` (net/smc/af_smc.c): the file of a socket of SMC leads to the TCP socket
/// inside, and keeps its inode.
#[test]
fn a_socket_that_fell_back_to_tcp_holds_its_connection() {
    let mut machine = Machine::builder(&profile(RELEASES[2])).build();
    let kernel = kernel(&mut machine);
    let layouts = machine.layouts();
    let pid = machine.processes().last().expect("there are processes").pid;
    let [outer, _] = machine.socket_pair(pid);
    let ends = [([10, 0, 2, 15], 40_000), ([192, 0, 2, 7], 443)].map(SocketAddr::from);
    let inner = machine.connect(pid, ends[0], ends[1]);
    let inodes = machine.descriptor_inodes(pid);
    let [outer, inner] = [outer, inner].map(|descriptor| {
        let inode = inodes.iter().find(|(index, _)| *index == descriptor).expect("it is open").1;
        let (file, socket) = machine.sockets().find(|(_, it)| it.ino == inode).expect("a socket");
        (file, socket.sock)
    });
    let memory = machine.memory();
    let socket = KernelVa(memory.get(inner.1, layouts.sock.sk_socket));
    memory.put(socket, layouts.socket.file, outer.0.0);
    memory.put(outer.0, layouts.file.private_data, socket.0);
    let mut walker = walker(&small());
    let mut source = Source::new(&mut machine);
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes");
    let file = snapshot.files.at(snapshot.files.find(outer.0.0)).expect("it is open");
    let connection = snapshot.connections.at(file.connection).expect("it holds one");
    assert_eq!(connection.endpoints.destination_port, ends[1].port());
}
