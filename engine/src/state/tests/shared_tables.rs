//! Descriptor tables that several processes use.

use panoptes_tables::Tag;

use super::children::{libc, passwd, show_writable, world};
use super::watch::{NOTHING, Watch, limits};
use super::world::{FakeFile, FakeProcess, FakeThread, FileKind, World};
use crate::limits::Limits;
use crate::state::shared_tables::SEARCHES_MAX;
use crate::state::{Limit, StateSettings};

/// `struct files_struct *`
const SHARED: u64 = 0xffff_888f_0000_0000;

/// Processes 100, 200 and 300; the first has one table with a thread of each of the others.
fn sharing() -> World {
    let mut world = world();
    world.process(100).table = SHARED;
    world.process(100).files.extend([(6, libc()), (7, passwd())]);
    let files = world.process(100).files.clone();
    for pid in [200, 300] {
        let table =
            FakeThread { files: Some(files.clone()), table: SHARED, ..FakeThread::new(pid + 1) };
        let mut process = FakeProcess::new(pid).with_file(8, libc());
        process.threads.push(table);
        world.processes.push(process);
    }
    world
}

/// Changes the descriptors of the shared table.
fn in_shared(world: &mut World, change: impl Fn(&mut Vec<(u32, FakeFile)>)) {
    for process in &mut world.processes {
        let own = process.threads.iter_mut().filter(|thread| thread.table == SHARED);
        own.filter_map(|thread| thread.files.as_mut()).for_each(&change);
        if process.table == SHARED {
            change(&mut process.files);
        }
    }
}

#[test]
fn a_table_whose_process_ends_goes_over_to_another_one() {
    let mut watch = Watch::after(&sharing());
    let mut world = sharing();
    world.remove(100);
    // What happens meanwhile is seen.
    in_shared(&mut world, |files| files[1] = (4, passwd()));
    let lines = watch.scan(&world);
    assert_eq!(lines, ["-process 100 task100", "-fd 200/3 /log", "+fd 200/4 /passwd"]);
    // Its next process loses it, by the end of its thread.
    world.process(200).threads.clear();
    assert_eq!(watch.scan(&world), ["-thread 200/201"]);
    in_shared(&mut world, |files| files.truncate(1));
    let closed = ["-fd 300/4 /passwd", "-fd 300/6 /libc.so.6", "-fd 300/7 /passwd"];
    assert_eq!(watch.scan(&world), closed);
    assert_eq!(watch.state.usage(Limit::Descriptors).used, 3);
}

#[test]
fn a_table_that_its_process_leaves_goes_over_to_another_one() {
    let mut watch = Watch::after(&sharing());
    let mut world = sharing();
    // unshare(CLONE_FILES), and a descriptor is closed in each of the two tables.
    world.process(100).table = 0;
    world.process(100).files.remove(0);
    in_shared(&mut world, |files| drop(files.pop()));
    assert_eq!(watch.scan(&world), ["-fd 100/0 pipe:[9]", "-fd 200/7 /passwd"]);
    assert_eq!(watch.scan(&world), NOTHING);
}

#[test]
fn a_table_that_a_leader_leaves_to_its_threads_stays_as_it_is() {
    let mut world = world();
    world.process(100).table = SHARED;
    world.process(100).threads.push(FakeThread::new(101));
    let mut watch = Watch::after(&world);
    // The leader has a copy, in which it closes all but one and opens another one.
    let files = world.process(100).files.clone();
    let thread = &mut world.process(100).threads[0];
    (thread.files, thread.table) = (Some(files), SHARED);
    world.process(100).table = 0;
    world.process(100).files = vec![(3, world.process(100).files[1].1.clone()), (5, passwd())];
    assert_eq!(watch.scan(&world), ["+fd 100/5 /passwd"]);
    assert_eq!(watch.scan(&world), NOTHING);
    in_shared(&mut world, |files| drop(files.remove(0)));
    assert_eq!(watch.scan(&world), ["-fd 100/0 pipe:[9]"]);
    world.process(100).files.clear();
    assert_eq!(watch.scan(&world), ["-fd 100/3 /log", "-fd 100/5 /passwd"]);
}

/// The slab gives the same address out again, and processes of one shell have the same terminal.
#[test]
fn another_table_at_the_same_address_is_another_one() {
    let standard = |file: &FakeFile| [0, 1, 2].map(|index| (index, file.clone())).to_vec();
    let terminal = standard(&world().process(100).files[0].1);
    for files in [standard(&passwd()), terminal.clone(), [&terminal[..], &[(3, passwd())]].concat()]
    {
        let mut world = world();
        world.process(100).files.extend(terminal[1..].iter().cloned());
        world.process(100).files.sort_by_key(|file| file.0);
        world.process(100).table = SHARED;
        world.processes.push(FakeProcess::new(200));
        let mut watch = Watch::after(&world);
        world.remove(100);
        let mut expected = vec!["-process 100 task100".to_owned(), "+thread 200/201".to_owned()];
        expected.extend(files.iter().map(|(index, file)| match file.kind {
            FileKind::Pipe => format!("+fd 200/{index} pipe:[{}]", file.ino),
            _ => format!("+fd 200/{index} /{}", file.name),
        }));
        let thread = FakeThread { files: Some(files), table: SHARED, ..FakeThread::new(201) };
        world.process(200).threads.push(thread);
        assert_eq!(watch.scan(&world), expected);
    }
}

#[test]
fn a_zombie_has_closed_none_of_the_files_that_another_process_uses_on() {
    let mut world = sharing();
    let mut watch = Watch::quiet();
    assert_eq!(show_writable(&mut watch, &world, 500, 1000), NOTHING);
    world.process(100).become_zombie();
    for clock in [1100, 1200, 1300] {
        let lines = show_writable(&mut watch, &world, 500, clock);
        assert!(lines.iter().all(|line| line.starts_with("zombie 100")), "{lines:?}");
    }
    in_shared(&mut world, Vec::clear);
    let lines = show_writable(&mut watch, &world, 500, 1400);
    let writers: Vec<_> = lines.iter().filter(|line| line.starts_with("writer 200/")).collect();
    assert_eq!((lines.len(), writers.len()), (2 * writers.len() + 1, 3), "{lines:?}");
}

/// Processes that leave a table to the others that share it pass nothing on.
#[test]
fn a_table_goes_over_however_many_processes_leave_other_ones() {
    const OTHERS: u32 = 140;
    let limits = Limits { processes: 256, threads: 512, file_descriptors: 4096, ..limits() };
    let mut with = World::default();
    for pid in 2..2 + OTHERS {
        let mut process = FakeProcess::new(pid).with_file(3, passwd());
        process.table = SHARED + 0x400;
        with.processes.push(process);
    }
    let files = vec![(3, passwd()), (4, libc())];
    let thread = FakeThread { files: Some(files.clone()), table: SHARED, ..FakeThread::new(2001) };
    let leaver = FakeProcess { files, table: SHARED, ..FakeProcess::new(1000) };
    let user = FakeProcess { threads: vec![thread], ..FakeProcess::new(2000) };
    with.processes.extend([leaver, user]);
    let mut watch = Watch::new(&limits, StateSettings::default());
    assert_eq!(watch.scan(&with), NOTHING);
    with.processes.retain(|process| process.pid <= 2 || process.pid > 1000);
    let lines = watch.scan(&with);
    assert!(lines.iter().all(|line| line.starts_with("-process")), "{lines:?}");
}

/// A scan may show that thousands of tables have ended, and has thousands of others.
#[test]
fn tables_that_end_at_once_are_searched_for_a_few_times() {
    let limits = Limits { processes: 512, threads: 512, file_descriptors: 4096, ..limits() };
    let mut with = world();
    for tid in 101..401 {
        let files = Some(vec![(3, passwd())]);
        with.process(100).threads.push(FakeThread { files, ..FakeThread::new(tid) });
    }
    let mut watch = Watch::new(&limits, StateSettings::default());
    assert_eq!(watch.scan(&with), NOTHING);
    assert_eq!((watch.scan(&with), watch.state.table_searches), (vec![], 0));
    with.process(100).threads.iter_mut().for_each(|thread| thread.files = None);
    assert_eq!((watch.scan(&with), watch.state.table_searches), (vec![], SEARCHES_MAX));
    assert_eq!((watch.scan(&with), watch.state.table_searches), (vec![], 0));
}

/// Two addresses with one tag.
fn addresses_of_one_tag() -> [u64; 2] {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    // Each step doubles the number of right bits, from three on.
    let inverse = (0..5).fold(FACTOR, |inverse: u64, _| {
        inverse.wrapping_mul(2_u64.wrapping_sub(FACTOR.wrapping_mul(inverse)))
    });
    let addresses = [1, 2].map(|low: u64| inverse.wrapping_mul(7 << 40 | low));
    assert_eq!(Tag::<3>::of(addresses[0]), Tag::<3>::of(addresses[1]));
    addresses
}

#[test]
fn tables_of_one_tag_are_not_mixed_up() {
    let mut with = world();
    for (at, address) in (0..).zip(addresses_of_one_tag()) {
        let files = Some(vec![(5 + at, passwd()), (9, if at == 0 { passwd() } else { libc() })]);
        let thread = FakeThread { files, table: address, ..FakeThread::new(101 + at) };
        with.process(100).threads.push(thread);
    }
    let mut watch = Watch::quiet();
    assert_eq!(watch.scan(&with), ["limit Descriptors 64 2"]);
    assert_eq!(watch.scan(&with), NOTHING);
    with.process(100).threads.reverse();
    assert_eq!(watch.scan(&with), NOTHING);
}

/// Each thread of another process may share one large table.
#[test]
fn a_table_that_threads_of_many_processes_share_is_compared_once() {
    let mut with = world();
    for pid in [200, 300] {
        let mut process = FakeProcess::new(pid);
        let files = Some(vec![(9, passwd())]);
        process.threads.push(FakeThread { files, ..FakeThread::new(pid + 1) });
        with.processes.push(process);
    }
    let show = |watch: &mut Watch, world: &World| {
        world.show(&mut watch.snapshot);
        let table = |snapshot: &crate::walk::Snapshot, tid: u32| {
            let mut threads = snapshot.threads.iter();
            threads.find(|row| row.task.pid == tid).unwrap().files.unwrap()
        };
        let shared = table(&watch.snapshot, 201);
        for row in watch.snapshot.threads.iter_mut().filter(|row| row.task.pid == 301) {
            row.files = Some(shared);
        }
        watch.update_from()
    };
    let mut watch = Watch::quiet();
    assert_eq!(show(&mut watch, &with), NOTHING);
    assert_eq!(watch.state.usage(Limit::Descriptors).used, 3);
    with.process(200).threads[0].files.as_mut().unwrap().push((10, libc()));
    assert_eq!(show(&mut watch, &with), ["+fd 200/10 /libc.so.6"]);
}
