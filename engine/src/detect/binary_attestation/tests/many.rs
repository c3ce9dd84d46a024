//! Worlds with many files, processes and descriptors: the work grows with their number, not with
//! its square.

use super::*;

/// Limits with room for many files.
fn roomy() -> Limits {
    Limits { processes: 1024, file_descriptors: 8192, vmas: 16_384, ..limits() }
}

/// Checks that each open pair is found through its file, and returns their number.
fn open_pairs(attest: &BinaryAttestation) -> usize {
    for (at, waiting) in attest.waiting.iter().enumerate() {
        let item = attest.items.get(waiting.item).expect("its file has a row");
        assert_eq!(item.waiting, Index::new(at));
        let owner = attest.programs.get(waiting.program).expect("its program has a row");
        assert_eq!(item.serial, owner.serial);
    }
    let waits = |id| attest.items.get(id).is_some_and(|item| item.waiting.is_some());
    let open = attest.items.ids().filter(|&id| waits(id)).count();
    assert_eq!(open, attest.waiting.len());
    open
}

#[test]
fn open_pairs_are_found_through_their_files() {
    let mut watch = Watch::with(&roomy(), at_once(), shipped());
    let bash = (0..200).fold(process(9, &file(BASH, "bin/bash")), |bash, number| {
        let name = format!("tmp/{number}.so");
        library(bash, &file(1000 + number, &name), 0x10_0000 + number * 0x1000)
    });
    let world = world().with(bash);
    assert_eq!(watch.scans(&world, 3), [""; 0]);
    assert_eq!(open_pairs(&watch.attest), 200);
    // They are decided one by one, in an order of their own.
    for step in 0..200 {
        let number = 1000 + step * 77 % 200;
        watch.files.hold(number, 2);
        // Another version of an open file is noticed wherever the pair waits.
        let other = 1000 + (step * 77 + 31) % 200;
        watch.files.changed.insert(other, 5);
        watch.scans(&world, 2);
        open_pairs(&watch.attest);
    }
    watch.scans(&world, 200);
    assert_eq!(open_pairs(&watch.attest), 0);
}

#[test]
fn the_first_process_of_a_container_is_found_once_a_scan() {
    let looks_of = |containers: u32| {
        let mut watch = Watch::with(&roomy(), at_once(), shipped());
        watch.scan(&world());
        let mut world = world();
        for number in 0..containers {
            let mut inside = process(100 + number, &file(BASH, "bin/bash"));
            inside.container = format!("web-{}", number % 8);
            inside.arguments = b"bash\0-c\0evil\0".to_vec();
            inside.mount_namespace += 5;
            world = world.with(inside);
        }
        let mut found = watch.scans(&world, 8);
        found.sort();
        let first =
            |number| format!("{} not the entrypoint program /bin/bash hashed", 100 + number);
        assert_eq!(found, (0..8).map(first).collect::<Vec<_>>());
        watch.attest.first_processes.looked_at
    };
    let (some, twice) = (looks_of(100), looks_of(200));
    assert!(some > 0 && twice <= 2 * some, "{some}, {twice}");
}

#[test]
fn forks_without_their_parents_are_found_once_a_scan() {
    let looks_of = |forks: u32| {
        let mut watch = Watch::with(&roomy(), at_once(), shipped());
        watch.files.hold(20, 9);
        let evil = process(90, &file(20, "tmp/evil"));
        let world = world().with(evil);
        assert_eq!(watch.scans(&world, 3), ["90 foreign program /tmp/evil hashed"]);
        let before = watch.attest.relatives.looked_at;
        let forked = (0..forks).fold(world, |world, number| {
            let mut fork = process(100 + number, &file(20, "tmp/evil"));
            fork.flags = PF_FORKNOEXEC;
            world.with(fork)
        });
        assert_eq!(watch.scans(&forked, 5), [""; 0], "all of them were checked before");
        watch.attest.relatives.looked_at - before
    };
    let (some, twice) = (looks_of(150), looks_of(300));
    assert!(some > 0 && twice <= 2 * some, "{some}, {twice}");
}

#[test]
fn a_search_for_scripts_among_many_descriptors_is_limited() {
    let mut watch = Watch::with(&roomy(), at_once(), shipped());
    watch.files.hold(40, 9);
    watch.scan(&world());
    let mut script = (0..300).fold(process(9, &file(BASH, "bin/bash")), |script, number| {
        script.with_file(number, file(100 + u64::from(number), "tmp/other"))
    });
    script.name = "rc".into();
    script.arguments = b"/bin/bash\0/etc/rc\0".to_vec();
    let world = world().with(script.with_file(300, file(40, "etc/rc")));
    // As if other processes had left too few.
    world.show(&mut watch.snapshot);
    watch.attest.script_steps_left = 299;
    let row = watch.snapshot.process_by_pid(9).copied().unwrap();
    let cx = watch.state.scan_context(&watch.snapshot, Now::default());
    assert!(watch.attest.run_script(&cx, &row, RowId(0), b"/etc/rc", None));
    let refused = watch.attest.programs.get(RowId(0)).map(|program| program.refused);
    assert_eq!((watch.attest.script_steps_left, refused), (0, Some(1)));
    assert_eq!(watch.scans(&world, 3), ["9 modified script /etc/rc hashed"]);
}

/// A process that maps so many files of a shipped size executable, none of which is in memory.
fn hog(pid: u32, files: u64) -> FakeProcess {
    (0..files).fold(process(pid, &file(BASH, "bin/bash")), |hog, number| {
        let ino = 100_000 * u64::from(pid) + number;
        library(hog, &file(ino, &format!("tmp/{pid}/{number}.so")), 0x10_0000 + number * 0x1000)
    })
}

/// Files that never become known must not take the room of all others.
#[test]
fn a_process_with_very_many_open_files_hides_nothing_of_others() {
    let mut watch = Watch::with(&roomy(), at_once(), shipped());
    let room = watch.attest.waiting.capacity();
    let world = world().with(hog(9, room as u64 + 200));
    assert_eq!(watch.scan(&world), [""; 0]);
    let lost = watch.attest.unchecked();
    let (count, process_id) = (lost.missed(), lost.process_id());
    assert!(count > 200 && process_id == Some(9), "{count}");
    // At once, although nothing else has changed.
    watch.files.hold(20, 9);
    let evil = library(process(10, &file(20, "tmp/evil")), &file(20, "tmp/evil"), 0x5000);
    let attacked = world.clone().with(evil);
    assert_eq!(watch.scan(&attacked), ["10 foreign program /tmp/evil hashed"]);
    // And a program that was there first and loads something.
    let mut later = attacked;
    watch.files.hold(21, 9);
    let init = later.process(1);
    let evil = file(21, "tmp/evil.so");
    init.areas.push(FakeArea::of_file(0x5000, 0x6000, R | X, &evil));
    assert_eq!(watch.scans(&later, 2), ["1 foreign library /tmp/evil.so hashed"]);
    watch.scans(&later, 200);
    assert!(watch.attest.waiting.len() < room);
    open_pairs(&watch.attest);
}

/// The same by very many processes of one user.
#[test]
fn a_crowd_of_processes_takes_no_room_of_other_users() {
    let mut watch = Watch::with(&roomy(), at_once(), shipped());
    let room = watch.attest.waiting.capacity() as u32;
    let world = (0..64).fold(world(), |world, number| {
        let mut one = hog(100 + number, u64::from(room / 60));
        one.container = "crowd-1".into();
        one.mount_namespace += 5;
        world.with(one)
    });
    watch.scans(&world, 3);
    assert!(watch.attest.waiting.len() < room as usize);
    assert!(watch.attest.unchecked().process_id().is_some_and(|id| id >= 100));
    // It has more files than each of them.
    let mut attacked = world;
    for number in 0..u64::from(room / 30) {
        watch.files.hold(1000 + number, 9);
        let evil = file(1000 + number, &format!("tmp/evil{number}.so"));
        let start = 0x10_0000 + number * 0x1000;
        attacked.process(1).areas.push(FakeArea::of_file(start, start + 0x1000, R | X, &evil));
    }
    assert_eq!(watch.scans(&attacked, 2).len(), room as usize / 30);
    open_pairs(&watch.attest);
}

#[test]
fn an_ended_program_makes_room_for_a_new_one() {
    let mut watch = Watch::with(&limits(), at_once(), shipped());
    let room = watch.attest.programs.capacity() as u32;
    // Each ends while its file is not known yet.
    for pid in 100..100 + room {
        watch.scan(&world().with(process(pid, &file(u64::from(pid), "tmp/sleeper"))));
    }
    watch.scan(&world());
    let before = watch.attest.unchecked().missed();
    watch.files.hold(20, 9);
    let evil = world().with(process(9, &file(20, "tmp/evil")));
    assert_eq!(watch.scans(&evil, 2), ["9 foreign program /tmp/evil hashed"]);
    let lost = watch.attest.unchecked();
    let (count, process_id) = (lost.missed(), lost.process_id());
    assert!(count > before && process_id.is_some_and(|id| id >= 100), "{count} {process_id:?}");
}

#[test]
fn a_running_program_of_which_nothing_is_known_is_counted() {
    let mut watch = Watch::with(&limits(), at_once(), shipped());
    let unknown = library(process(9, &file(20, "tmp/x")), &file(21, "tmp/x.so"), 0x5000);
    let world = world().with(unknown);
    watch.scans(&world, 400);
    assert_eq!(watch.attest.unjudged.missed(), 0, "it may still be hashed");
    watch.scans(&world, 200);
    // In each scan while it lasts, and not when it is over.
    for _ in 0..600 {
        watch.scan(&world);
        assert_eq!(watch.attest.unjudged.standing(), 1);
    }
    assert_eq!(watch.attest.unjudged.process_id(), Some(9));
    let reasons = |watch: &mut Watch| {
        let mut all = Vec::new();
        watch.attest.losses(&mut |loss| all.extend(loss.stop.map(|stop| stop.to_string())));
        all
    };
    let all = reasons(&mut watch);
    assert!(all[0].starts_with("content of a program: changed at 0x"), "{all:?}");
    watch.files.hold(20, 9);
    assert_eq!(watch.scans(&world, 65), ["9 foreign program /tmp/x hashed"]);
    assert_eq!(watch.attest.unjudged.standing(), 0);
    assert_eq!(reasons(&mut watch), [""; 0]);
}
