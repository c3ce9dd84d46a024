//! Worlds with many files, processes and descriptors: the work grows with their number, not with
//! its square.

use super::*;

/// Limits with room for many files.
fn roomy() -> Limits {
    Limits { processes: 1024, file_descriptors: 8192, vmas: 16_384, ..limits() }
}

/// Checks that each open pair is found through its file, and returns their number.
fn open_pairs(attest: &Attest) -> usize {
    for (at, waiting) in attest.waiting.iter().enumerate() {
        let item = attest.items.get(waiting.item).expect("its file has a row");
        assert_eq!(item.waiting, Some(at as u32));
        let identity = &waiting.identity;
        assert_eq!((item.key.inode, item.key.number), (identity.inode, identity.number));
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
    assert_eq!((watch.attest.script_steps_left, watch.attest.unchecked()), (0, 1));
    assert_eq!(watch.scans(&world, 3), ["9 modified script /etc/rc hashed"]);
}
