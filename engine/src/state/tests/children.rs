//! Descriptors and memory areas.

use proptest::prelude::*;

use super::watch::{NOTHING, Watch, limits};
use super::world::{BOOT_NS, FakeArea, FakeFile, FakeProcess, FakeThread, R, W, World, X};
use crate::limits::Limits;
use crate::state::{Limit, StateSettings};

pub(super) fn passwd() -> FakeFile {
    FakeFile::regular(0xffff_8885_0000_0000, 70, "passwd")
}

pub(super) fn libc() -> FakeFile {
    FakeFile::regular(0xffff_8885_0000_0200, 71, "libc.so.6")
}

pub(super) fn world() -> World {
    World::default().with(
        FakeProcess::new(100)
            .with_file(0, FakeFile::pipe(0xffff_8885_0000_1000, 9))
            .with_file(3, FakeFile::regular(0xffff_8885_0000_1100, 72, "log")),
    )
}

#[test]
fn descriptors_open_and_close() {
    let mut watch = Watch::after(&world());
    let mut more = world();
    more.process(100).files.insert(1, (1, passwd()));
    more.process(100).files.push((7, FakeFile::socket(0xffff_8885_0000_1200, 13_731, 0)));
    assert_eq!(watch.scan(&more), ["+fd 100/1 /passwd", "+fd 100/7 socket:[13731]"]);
    assert_eq!(watch.scan(&more), NOTHING);
    assert_eq!(watch.scan(&world()), ["-fd 100/1 /passwd", "-fd 100/7 socket:[13731]"]);
    let mut less = world();
    less.process(100).files.clear();
    assert_eq!(watch.scan(&less), ["-fd 100/0 pipe:[9]", "-fd 100/3 /log"]);
}

#[test]
fn the_same_address_under_the_same_number_can_be_another_file() {
    let mut watch = Watch::after(&world());
    let mut other = world();
    // close() and open() between two scans: the slab gives the same struct file out again.
    other.process(100).files[1].1.ino = 99;
    other.process(100).files[1].1.name = "other".into();
    assert_eq!(watch.scan(&other), ["-fd 100/3 /log", "+fd 100/3 /other"]);
}

#[test]
fn an_incompletely_read_table_closes_nothing() {
    let mut watch = Watch::after(&world());
    let mut torn = world();
    torn.process(100).files_complete = false;
    torn.process(100).files.remove(0);
    torn.process(100).files.push((5, passwd()));
    assert_eq!(watch.scan(&torn), ["+fd 100/5 /passwd"]);
    assert_eq!(watch.scan(&world()), ["-fd 100/5 /passwd"]);
}

#[test]
fn a_descriptor_that_moved_while_it_was_read_is_neither_closed_nor_opened() {
    let mut watch = Watch::after(&world());
    let mut torn = world();
    torn.process(100).files_moved = true;
    torn.process(100).files.push((5, passwd()));
    assert_eq!(watch.scan(&torn), NOTHING);
    torn.process(100).files_moved = false;
    assert_eq!(watch.scan(&torn), ["+fd 100/5 /passwd"]);
}

#[test]
fn a_thread_can_have_its_own_descriptors() {
    let mut with = world();
    with.process(100).threads.push(FakeThread::new(101));
    let mut watch = Watch::after(&with);
    // It starts with a copy of its process's table and then changes on its own.
    let mut apart = with.clone();
    let mut own = apart.process(100).files.clone();
    own.push((9, passwd()));
    apart.process(100).threads[0].files = Some(own);
    assert_eq!(watch.scan(&apart), ["+fd 100/9 /passwd"]);
    assert_eq!(watch.scan(&apart), NOTHING);
    apart.process(100).threads[0].files.as_mut().unwrap().remove(0);
    assert_eq!(watch.scan(&apart), ["-fd 100/0 pipe:[9]"]);
    apart.process(100).files.remove(0);
    assert_eq!(watch.scan(&apart), ["-fd 100/0 pipe:[9]"]);
    apart.process(100).threads.clear();
    assert_eq!(watch.scan(&apart), ["-thread 100/101"], "its table ended with it");
    assert_eq!(watch.state.usage(Limit::Descriptors).used, 1);
}

/// Each thread can have its own table, and none of them is left out.
#[test]
fn descriptors_of_every_thread_are_compared() {
    const THREADS: u32 = 30;
    let mut with = world();
    for tid in 101..101 + THREADS {
        let files = Some(with.process(100).files.clone());
        with.process(100).threads.push(FakeThread { files, ..FakeThread::new(tid) });
    }
    let mut watch =
        Watch::new(&Limits { file_descriptors: 200, ..limits() }, StateSettings::default());
    assert_eq!(watch.scan(&with), NOTHING);
    let mut more = with.clone();
    for thread in &mut more.process(100).threads {
        thread.files.as_mut().unwrap().push((9, passwd()));
    }
    assert_eq!(watch.scan(&more), vec!["+fd 100/9 /passwd"; THREADS as usize]);
    assert_eq!(watch.scan(&with), vec!["-fd 100/9 /passwd"; THREADS as usize]);
}

#[test]
fn a_process_that_changed_while_it_was_read_keeps_its_state() {
    let with =
        world().with(
            FakeProcess::new(200)
                .with_thread(201)
                .with_file(0, passwd())
                .with_area(FakeArea::of_file(0x1000, 0x2000, R, &libc())),
        );
    let mut watch = Watch::after(&with);
    let mut torn = with.clone();
    let process = torn.process(200);
    process.stable = false;
    process.files.clear();
    process.areas.clear();
    process.threads.clear();
    assert_eq!(watch.scan(&torn), NOTHING);
    assert_eq!(watch.scan(&with), NOTHING);
}

#[test]
fn what_ends_with_its_process_is_not_reported_separately() {
    let mut watch = Watch::after(&world());
    let with =
        world().with(
            FakeProcess::new(200)
                .with_thread(201)
                .with_file(4, passwd())
                .with_area(FakeArea::of_file(0x1000, 0x2000, R, &libc())),
        );
    assert_eq!(
        watch.scan(&with),
        [
            "+process 200 task200",
            "+thread 200/201",
            "+fd 200/4 /passwd",
            "+area 200 1000-2000 /libc.so.6"
        ]
    );
    assert_eq!(watch.scan(&world()), ["-process 200 task200"]);
    let mut dead = with.clone();
    dead.process(200).start += 1;
    watch.scan(&dead);
    dead.process(200).become_zombie();
    assert_eq!(watch.scan(&dead), NOTHING);
}

#[test]
fn a_full_table_of_descriptors_is_reported_once() {
    let small = Limits { file_descriptors: 3, ..limits() };
    let mut watch = Watch::new(&small, StateSettings::default());
    assert_eq!(watch.scan(&world()), NOTHING);
    let mut more = world();
    more.process(100).files.push((4, passwd()));
    more.process(100).files.push((5, libc()));
    let changes = watch.scan(&more);
    assert_eq!(changes, ["+fd 100/4 /passwd", "limit Descriptors 3 1"]);
    assert_eq!(watch.scan(&more), NOTHING);
    assert_eq!(watch.scan(&world()), ["-fd 100/4 /passwd", "cleared Descriptors 3"]);
}

#[test]
fn a_name_that_finds_no_room_is_reported_once() {
    let mut watch = Watch::after(&world());
    // Names fill the smallest arena, of 64 KiB.
    let mut more = world();
    let long = |number: u64| {
        FakeFile::regular(
            0xffff_8886_0000_0000 + number * 512,
            1000 + number,
            &format!("{number:030}"),
        )
    };
    let mut changes = Vec::new();
    for round in 0..60_u64 {
        more.processes[1].arguments = vec![b'a' + (round % 26) as u8; 1000 + round as usize];
        more.processes.push(FakeProcess::new(1000 + round as u32));
        let arguments = vec![b'0' + (round % 10) as u8; 1500 + round as usize];
        more.processes.last_mut().unwrap().arguments = arguments;
        changes.extend(watch.scan(&more));
    }
    assert_eq!(changes.iter().filter(|line| line.starts_with("limit Strings")).count(), 1);
    more.process(100).files.push((9, long(1)));
    let opened = watch.scan(&more);
    assert!(opened.contains(&format!("+fd 100/9 /{:030}", 1)), "{opened:?}");
}

#[test]
fn areas_are_mapped_and_unmapped() {
    let with = world().with(FakeProcess::new(200));
    let mut watch = Watch::after(&with);
    let mut more = with.clone();
    more.process(200).areas = vec![
        FakeArea::of_file(0x1000, 0x2000, R, &libc()),
        FakeArea::of_file(0x2000, 0x4000, R | X, &libc()),
        FakeArea::anonymous(0x9000, 0xa000, R | W),
    ];
    assert_eq!(
        watch.scan(&more),
        [
            "+area 200 1000-2000 /libc.so.6",
            "+area 200 2000-4000 /libc.so.6",
            "+area 200 9000-a000 -"
        ]
    );
    assert_eq!(watch.scan(&more), NOTHING);
    more.process(200).areas.remove(1);
    assert_eq!(watch.scan(&more), ["-area 200 2000-4000 /libc.so.6"]);
    more.process(200).areas.clear();
    assert_eq!(watch.scan(&more), ["-area 200 1000-2000 /libc.so.6", "-area 200 9000-a000 -"]);
}

fn with_areas(areas: &[FakeArea]) -> World {
    let mut process = FakeProcess::new(200);
    process.areas = areas.to_vec();
    process.brk = (0x10_0000, 0x10_8000);
    world().with(process)
}

#[test]
fn areas_that_grow_split_or_merge_are_not_reported() {
    let heap = |end| FakeArea::anonymous(0x10_0000, end, R | W);
    let stack = |start| FakeArea::anonymous(start, 0x80_0000, R | W);
    let whole = FakeArea::of_file(0x20_0000, 0x20_8000, R | W, &libc());
    let halves = [
        FakeArea::of_file(0x20_0000, 0x20_4000, R | W, &libc()),
        FakeArea::of_file(0x20_4000, 0x20_8000, R | W, &libc()),
    ];
    let mut watch = Watch::after(&with_areas(&[heap(0x10_1000), whole.clone(), stack(0x7f_0000)]));
    let [low, high] = halves;
    let grown = with_areas(&[heap(0x10_8000), low, high, stack(0x70_0000)]);
    assert_eq!(watch.scan(&grown), NOTHING);
    let merged = with_areas(&[heap(0x10_2000), whole, stack(0x7e_0000)]);
    assert_eq!(watch.scan(&merged), NOTHING);
    let changes = watch.scan(&with_areas(&[]));
    assert_eq!(
        changes,
        [
            "-area 200 100000-102000 [heap]",
            "-area 200 200000-208000 /libc.so.6",
            "-area 200 7e0000-800000 -"
        ]
    );
}

#[test]
fn a_part_with_new_permissions_is_only_a_change_of_permissions() {
    let whole = FakeArea::anonymous(0x20_0000, 0x20_8000, R | W);
    let parts = [
        FakeArea::anonymous(0x20_0000, 0x20_1000, R | W),
        FakeArea::anonymous(0x20_1000, 0x20_2000, R | X),
        FakeArea::anonymous(0x20_2000, 0x20_8000, R | W),
    ];
    let mut watch = Watch::after(&with_areas(&[whole]));
    assert_eq!(watch.scan(&with_areas(&parts)), ["~area 200 201000-202000 3>5"]);
    assert_eq!(watch.scan(&with_areas(&parts)), NOTHING);
}

#[test]
fn another_file_at_the_same_place_is_another_mapping() {
    let at = |file: FakeFile| FakeArea::of_file(0x20_0000, 0x20_8000, R, &file);
    let mut watch = Watch::after(&with_areas(&[at(libc())]));
    let changes = watch.scan(&with_areas(&[at(passwd())]));
    assert_eq!(changes, ["-area 200 200000-208000 /libc.so.6", "+area 200 200000-208000 /passwd"]);
}

#[test]
fn an_exec_starts_a_new_address_space() {
    let old = with_areas(&[FakeArea::of_file(0x20_0000, 0x20_8000, R, &passwd())]);
    let mut watch = Watch::after(&old);
    let mut new = with_areas(&[FakeArea::of_file(0x30_0000, 0x30_8000, R, &libc())]);
    new.process(200).mm += 0x800;
    new.process(200).exec_id += 1;
    assert_eq!(watch.scan(&new), ["+area 200 300000-308000 /libc.so.6"]);
}

#[test]
fn an_incompletely_read_address_space_keeps_its_areas() {
    let whole = with_areas(&[FakeArea::of_file(0x20_0000, 0x20_8000, R, &libc())]);
    let mut watch = Watch::after(&whole);
    let mut torn = with_areas(&[]);
    torn.process(200).mm_complete = false;
    assert_eq!(watch.scan(&torn), NOTHING);
    let mut wild = with_areas(&[
        FakeArea::anonymous(0x30_0000, 0x30_8000, R),
        FakeArea::anonymous(0x20_0000, 0x20_8000, R),
    ]);
    assert_eq!(watch.scan(&wild), NOTHING, "areas of no tree overlap");
    wild.process(200).areas[1] = FakeArea::anonymous(0x30_7000, 0x40_0000, R);
    assert_eq!(watch.scan(&wild), NOTHING, "nor in this way");
    assert_eq!(watch.scan(&whole), NOTHING);
}

/// A scan that shows only these areas of process 200.
fn with_some_areas(areas: &[FakeArea]) -> World {
    let mut some = with_areas(areas);
    some.process(200).mm_complete = false;
    some
}

/// A process that maps and unmaps memory all the time is never read as a whole.
#[test]
fn what_a_torn_scan_shows_of_an_address_space_is_compared() {
    let anonymous = FakeArea::anonymous;
    let library = FakeArea::of_file(0x20_0000, 0x20_8000, R, &libc());
    let mut watch = Watch::after(&with_areas(&[library, anonymous(0x30_0000, 0x30_8000, R | W)]));
    // A part of memory becomes executable, and another library is mapped.
    let parts = [
        anonymous(0x30_2000, 0x30_3000, R | X),
        FakeArea::of_file(0x40_0000, 0x40_1000, R | X, &passwd()),
    ];
    let changes = watch.scan(&with_some_areas(&parts));
    assert_eq!(changes, ["~area 200 302000-303000 3>5", "+area 200 400000-401000 /passwd"]);
    assert_eq!(watch.scan(&with_some_areas(&parts)), NOTHING);
    assert_eq!(watch.scan(&with_some_areas(&parts[1..])), NOTHING);
    // All others are as they were.
    let [executable, passwd] = parts;
    let whole = with_areas(&[
        FakeArea::of_file(0x20_0000, 0x20_8000, R, &libc()),
        anonymous(0x30_0000, 0x30_2000, R | W),
        executable,
        anonymous(0x30_3000, 0x30_8000, R | W),
        passwd,
    ]);
    assert_eq!(watch.scan(&whole), NOTHING);
    // Another area at its place ends an area.
    let other = anonymous(0x20_0000, 0x21_0000, R);
    let changes = watch.scan(&with_some_areas(&[other]));
    assert_eq!(changes, ["-area 200 200000-208000 /libc.so.6", "+area 200 200000-210000 -"]);
    let changes = watch.scan(&with_areas(&[]));
    let areas = ["200000-210000 -", "300000-302000 -", "302000-303000 -", "303000-308000 -"];
    let expected: Vec<_> = areas.iter().map(|area| format!("-area 200 {area}")).collect();
    assert_eq!(changes[..4], expected);
    assert_eq!(changes[4..], ["-area 200 400000-401000 /passwd"]);
}

#[test]
fn areas_that_come_and_go_unseen_are_not_kept_for_ever() {
    let area = |number: u64| FakeArea::anonymous(number * 0x2000, number * 0x2000 + 0x1000, R);
    let mut watch = Watch::new(&Limits { vmas: 1000, ..limits() }, StateSettings::default());
    assert_eq!(watch.scan(&with_areas(&[area(1)])), NOTHING);
    for number in 0x100..2000 {
        // Above the heap.
        let start = number * 0x2000;
        let mapped = format!("+area 200 {start:x}-{:x} -", start + 0x1000);
        assert_eq!(watch.scan(&with_some_areas(&[area(number)])), [mapped]);
        let tracked = watch.state.usage(Limit::Areas).used;
        assert!(tracked <= 2 + 64 + 8 + 4, "{tracked} areas of a process with one");
    }
}

/// A scan that is torn right after a large unmap shows few of the areas that are left.
#[test]
fn areas_that_are_left_after_a_large_unmap_are_not_mapped_anew() {
    let area = |number: u64| {
        let start = 0x100_0000 + number * 0x2000;
        FakeArea::anonymous(start, start + 0x1000, R | X)
    };
    let areas = |count: u64| (0..count).map(area).collect::<Vec<_>>();
    let mut watch = Watch::new(&Limits { vmas: 1000, ..limits() }, StateSettings::default());
    assert_eq!(watch.scan(&with_areas(&areas(300))), NOTHING);
    let mut torn = with_some_areas(&areas(2));
    torn.process(200).unread_areas = 8;
    assert_eq!(watch.scan(&torn), NOTHING);
    let lines = watch.scan(&with_areas(&areas(10)));
    assert!(lines.iter().all(|line| line.starts_with("-area 200")), "{lines:?}");
    assert_eq!(lines.len(), 290);
}

#[test]
fn areas_that_a_torn_first_scan_does_not_show_are_not_new() {
    let areas = [
        FakeArea::anonymous(0x20_0000, 0x20_8000, R | W),
        FakeArea::anonymous(0x30_0000, 0x30_8000, R),
    ];
    let mut watch = Watch::after(&with_some_areas(&areas[1..]));
    assert_eq!(watch.scan(&with_some_areas(&areas)), NOTHING);
    let [mut first, second] = areas;
    first.flags = R | X;
    let changed = [first, second];
    assert_eq!(watch.scan(&with_some_areas(&changed)), ["~area 200 200000-208000 3>5"]);
    assert_eq!(watch.scan(&with_areas(&changed)), NOTHING);
}

proptest! {
    /// Areas that do not change are never reported, whichever of them scans show. Those that were
    /// split, merged or given other permissions meanwhile are as the next whole scan has them.
    #[test]
    fn scans_that_show_some_areas_report_nothing_false(
        pages in prop::collection::vec((0_u64..3, 1_u64..5, any::<bool>()), 1..8),
        shown in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut at = 0x20_0000;
        let areas: Vec<_> = pages
            .iter()
            .map(|&(gap, count, is_file)| {
                let (start, end) = (at + gap * 0x1000, at + (gap + count) * 0x1000);
                at = end;
                if is_file {
                    FakeArea::of_file(start, end, R, &libc())
                } else {
                    FakeArea::anonymous(start, end, R)
                }
            })
            .collect();
        let some = |mask: u8| -> Vec<_> {
            let is_shown = |number: usize| mask >> number & 1 == 1;
            let areas = areas.iter().enumerate().filter(|(number, _)| is_shown(*number));
            areas.map(|(_, area)| area.clone()).collect()
        };
        let whole = with_areas(&areas);
        let mut watch = Watch::after(&whole);
        for mask in shown {
            prop_assert_eq!(watch.scan(&with_some_areas(&some(mask))), NOTHING);
            let halves: Vec<_> = some(mask)
                .into_iter()
                .flat_map(|area| {
                    let middle = u64::midpoint(area.start, area.end) & !0xfff;
                    let (mut low, mut high) = (area.clone(), area);
                    (low.end, high.start) = (middle, middle);
                    [low, high].into_iter().filter(|area| area.start < area.end)
                })
                .collect();
            prop_assert_eq!(watch.scan(&with_some_areas(&halves)), NOTHING);
        }
        prop_assert_eq!(watch.scan(&whole), NOTHING);
        let ended = watch.scan(&with_areas(&[]));
        prop_assert_eq!(ended.len(), areas.len());
    }
}

/// What a scan could not read, by place: inodes and open files.
fn show_torn(watch: &mut Watch, world: &World, inodes: u16, files: u16) -> Vec<String> {
    world.show(&mut watch.snapshot);
    let is_torn = |mask: u16, at: usize| mask >> (at % 16) & 1 == 1;
    for (at, inode) in watch.snapshot.inodes.iter_mut().enumerate() {
        if is_torn(inodes, at) {
            let address = inode.address;
            *inode = crate::walk::InodeRow { address, ..Default::default() };
        }
    }
    for (at, file) in watch.snapshot.files.iter_mut().enumerate() {
        if is_torn(files, at) {
            let address = file.address;
            *file = crate::walk::FileRow { address, ..Default::default() };
        }
    }
    watch.update_from()
}

proptest! {
    /// Inodes and open files that single scans cannot read change nothing.
    #[test]
    fn what_a_scan_cannot_read_neither_ends_nor_begins(
        torn in prop::collection::vec((any::<u16>(), any::<u16>()), 1..6),
    ) {
        let mut world = with_areas(&[
            FakeArea::of_file(0x20_0000, 0x20_8000, R, &libc()),
            FakeArea::of_file(0x30_0000, 0x30_8000, R, &passwd()),
        ]);
        let file = |number: u64| FakeFile::regular(0x9000 + number * 512, 80 + number, "log");
        world.process(200).files = (0..10).map(|index| (index, file(index.into()))).collect();
        world.process(200).files.push((10, FakeFile::socket(0xf000, 99, 0)));
        let mut watch = Watch::after(&world);
        for (inodes, files) in torn {
            prop_assert_eq!(show_torn(&mut watch, &world, inodes, files), NOTHING);
        }
        prop_assert_eq!(watch.scan(&world), NOTHING);
        // They are as they were.
        world.process(200).files.remove(10);
        world.process(200).areas.remove(1);
        let ended = ["-fd 200/10 socket:[99]", "-area 200 300000-308000 /passwd"];
        prop_assert_eq!(watch.scan(&world), ended);
    }
}

/// An inode that could not be read when its descriptor was opened is known later.
#[test]
fn an_inode_that_is_read_late_is_the_same() {
    let mut watch = Watch::after(&world());
    let mut more = world();
    more.process(100).files.push((5, passwd()));
    assert_eq!(show_torn(&mut watch, &more, u16::MAX, 0), ["+fd 100/5 /passwd"]);
    assert_eq!(watch.scan(&more), NOTHING);
    more.process(100).files[2].1.ino = 71;
    assert_eq!(watch.scan(&more), ["-fd 100/5 /passwd", "+fd 100/5 /passwd"]);
}

/// A file of unknown path counts as important, so its change is an alert.
#[test]
fn a_name_that_was_changing_is_known_a_scan_later() {
    let mut watch = Watch::after(&world());
    let mut more = world();
    more.process(100).files.push((5, FakeFile::regular(0x9000, 80, "late")));
    more.show(&mut watch.snapshot);
    let changing = |row: &&mut crate::walk::DentryRow| row.text.starts_with(b"late");
    watch.snapshot.dentries.iter_mut().find(changing).unwrap().readable = false;
    assert_eq!(watch.update_from(), ["+fd 100/5 -"]);
    assert_eq!(watch.scan(&more), NOTHING);
    more.process(100).files.pop();
    assert_eq!(watch.scan(&more), ["-fd 100/5 /late"]);
}

#[test]
fn a_torn_scan_loses_no_area_of_a_full_table() {
    let small = Limits { vmas: 2, ..limits() };
    let area = |start, flags| FakeArea::anonymous(start, start + 0x1000, flags);
    let mut watch = Watch::new(&small, StateSettings::default());
    let two = |flags| [area(0x5000, flags), area(0x9000, R)];
    assert_eq!(watch.scan(&with_areas(&two(R))), NOTHING);
    let changes = watch.scan(&with_some_areas(&two(R)));
    assert!(changes.iter().all(|change| !change.contains("area 200")), "{changes:?}");
    assert!(watch.scan(&with_some_areas(&two(R | X))).contains(&"~area 200 5000-6000 1>5".into()));
    assert_eq!(watch.scan(&with_areas(&two(R | X))), NOTHING);
}

#[test]
fn a_full_table_of_areas_keeps_the_lowest_ones() {
    let small = Limits { vmas: 2, ..limits() };
    let area = |start| FakeArea::anonymous(start, start + 0x1000, R);
    let mut watch = Watch::new(&small, StateSettings::default());
    assert_eq!(watch.scan(&with_areas(&[area(0x5000), area(0x9000)])), NOTHING);
    let three = with_areas(&[area(0x1000), area(0x5000), area(0x9000)]);
    assert_eq!(watch.scan(&three), ["+area 200 1000-2000 -", "limit Areas 2 1"]);
    assert_eq!(watch.scan(&three), NOTHING);
    assert_eq!(
        watch.scan(&with_areas(&[area(0x5000)])),
        ["-area 200 1000-2000 -", "cleared Areas 2"]
    );
}

#[test]
fn special_mappings_are_marked_as_such() {
    let mut vdso = FakeArea::anonymous(0x7000, 0x8000, R | X);
    vdso.special = true;
    let mut watch = Watch::after(&with_areas(&[]));
    let changes = watch.scan(&with_areas(&[vdso, FakeArea::anonymous(0x9000, 0xa000, R | X)]));
    assert_eq!(changes, ["+area 200 7000-8000 special", "+area 200 9000-a000 -"]);
}

/// Shows a world in which all files are open for reading and writing, with a modification time and
/// a calendar time.
pub(super) fn show_writable(
    watch: &mut Watch,
    world: &World,
    modified_ns: i64,
    clock_ns: i64,
) -> Vec<String> {
    world.show(&mut watch.snapshot);
    for file in watch.snapshot.files.iter_mut() {
        file.open.mode = 3;
    }
    for inode in watch.snapshot.inodes.iter_mut() {
        inode.attributes.mtime_ns = modified_ns;
    }
    watch.snapshot.machine.calendar_ns = Some(clock_ns);
    watch.update_from()
}

#[test]
fn a_writer_of_a_regular_file_is_reported_when_it_closes() {
    let mut watch = Watch::quiet();
    assert_eq!(show_writable(&mut watch, &world(), 500, 1000), NOTHING);
    let mut more = world();
    more.process(100).files.insert(1, (1, passwd()));
    assert_eq!(show_writable(&mut watch, &more, 1100, 1200), ["+fd 100/1 /passwd"]);
    // Modified after the scan in which it was not open yet: by the process that opened it, or just
    // before.
    assert_eq!(
        show_writable(&mut watch, &world(), 1300, 1400),
        [
            "-fd 100/1 /passwd",
            "writer 100/1 FileAtOpen { size: 4096, modify_time_ns: 1100, written: true }"
        ]
    );
    assert_eq!(show_writable(&mut watch, &more, 1300, 1500), ["+fd 100/1 /passwd"]);
    // Writers that ended with their process are reported too. Nothing shows that a baseline file
    // was written. Pipes are not reported.
    assert_eq!(
        show_writable(&mut watch, &World::default(), 0, 1600),
        [
            "-process 100 task100",
            "writer 100/1 FileAtOpen { size: 4096, modify_time_ns: 1300, written: false }",
            "writer 100/3 FileAtOpen { size: 4096, modify_time_ns: 500, written: false }",
        ]
    );
}

#[test]
fn an_inherited_file_was_not_written_by_the_child() {
    let mut watch = Watch::quiet();
    let mut forked = world();
    let child = FakeProcess::new(101)
        .with_file(2, passwd())
        .with_file(3, FakeFile::regular(0xffff_8885_0000_1100, 72, "log"));
    forked.processes.push(FakeProcess { parent: 100, ..child });
    let born = BOOT_NS + forked.process(101).start as i64;
    let before = born - 1_000_000_000;
    assert_eq!(show_writable(&mut watch, &world(), before, before), NOTHING);
    // The child is reported after it had time to call exec.
    let modified = born + 1_000_000;
    show_writable(&mut watch, &forked, modified, modified + 1);
    show_writable(&mut watch, &forked, modified, modified + 10_000_000);
    let changes = show_writable(&mut watch, &world(), modified, modified + 20_000_000);
    let writers: Vec<_> = changes.iter().filter(|line| line.starts_with("writer")).collect();
    assert_eq!(writers.len(), 2, "{changes:?}");
    assert!(writers[0].starts_with("writer 101/2") && writers[0].ends_with("written: true }"));
    assert!(writers[1].starts_with("writer 101/3") && writers[1].ends_with("written: false }"));
}
