//! Rings made by hand: which of their files a scan has.

#![allow(clippy::unwrap_used, reason = "a test may")]

use panoptes_decoders::kernel::io_uring::IoRingCtx;

use super::*;
use crate::walk::snapshot::FilesRow;
use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};
use crate::walk::{Kernel, ScanPart, Walker, slot_of};

/// A process with a ring whose table has these slots, before its files are read.
struct Scene {
    memory: Sparse,
    walker: Walker,
    kernel: Kernel,
    array: u64,
}

impl Scene {
    fn new(slots: &[u64]) -> Self {
        let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
        let process = add_process(&mut walker, &mut memory, 0);
        let table = walker.snapshot.files_structs.row_of(1, FilesRow::default);
        walker.snapshot.processes[process].files = table;
        let [ring, context] = [memory.structure(), memory.structure()];
        let array = memory.room(8 * slots.len().max(1) as u64);
        memory.set(context, "io_ring_ctx", "nr_user_files", slots.len() as u64);
        memory.set(context, "io_ring_ctx", "file_table.files", array);
        for (at, &slot) in (0..).zip(slots) {
            memory.put(array + 8 * at, slot);
        }
        let row = FileRow { process: Some(process), ..va(ring).into() };
        let file = walker.snapshot.files.row_of(ring, || row).unwrap();
        walker.scratch.shares.begin(1);
        let ring = RingRow {
            file,
            context: va(context),
            process: Some(process),
            table: None,
            descriptors: Span::default(),
        };
        walker.snapshot.rings.row_of(va(context).0, || ring);
        Self { memory, walker, kernel: kernel(), array }
    }

    fn scan(&mut self) {
        self.memory.walk(&mut self.walker, &self.kernel, Walker::read_rings);
    }

    /// The slots of the ring, and the address of the open file of each.
    fn files(&self) -> Vec<(u32, u64)> {
        let snapshot = &self.walker.snapshot;
        let table = snapshot.processes[Index::new(0).unwrap()].files.unwrap();
        let rows = snapshot.descriptors_of(table);
        let with_file = rows.filter_map(|row| Some((row, snapshot.files.at(row.file)?)));
        with_file.map(|(row, file)| (slot_of(row.index).unwrap(), file.address.0)).collect()
    }
}

/// Addresses of structures in the direct map.
fn addresses<const N: usize>() -> [u64; N] {
    let mut memory = Sparse::default();
    // Far from those of a scene.
    memory.room(1 << 30);
    [(); N].map(|()| memory.structure())
}

#[test]
fn used_slots_are_files_without_their_flags() {
    let [one, other] = addresses();
    let mut scene = Scene::new(&[0, one | 1, 0, 0, other | 7]);
    scene.scan();
    assert_eq!(scene.files(), [(1, one), (4, other)]);
    assert_eq!(scene.walker.snapshot.losses.unreadable, 0);
}

#[test]
fn newer_kernels_have_a_node_between() {
    let [node, empty, file] = addresses();
    let mut scene = Scene::new(&[0, node, empty]);
    let layout = scene.kernel.layouts.io_ring_ctx.unwrap();
    let nodes = layout.files;
    scene.kernel.layouts.io_ring_ctx = Some(IoRingCtx { nodes, files: None, ..layout });
    scene.memory.set(node, "io_rsrc_node", "file_ptr", file | 2);
    scene.scan();
    assert_eq!(scene.files(), [(1, file)]);
}

#[test]
fn a_node_that_cannot_be_read_is_named() {
    let [node] = addresses();
    let mut scene = Scene::new(&[node]);
    let layout = scene.kernel.layouts.io_ring_ctx.unwrap();
    let nodes = layout.files;
    scene.kernel.layouts.io_ring_ctx = Some(IoRingCtx { nodes, files: None, ..layout });
    scene.memory.missing.push(node..node + 64);
    scene.scan();
    assert_eq!(scene.files(), []);
    let losses = &scene.walker.snapshot.losses;
    let stops: Vec<_> = losses.frequent_stops().iter().map(ToString::to_string).collect();
    assert!(stops.contains(&format!("slot of an io_uring: unreadable at {node:#x}")), "{stops:?}");
    assert_eq!(losses.of(ScanPart::Files), (0, 0), "it may have been emptied meanwhile");
}

#[test]
fn a_slot_that_changed_has_no_file() {
    let [one, other] = addresses();
    let mut scene = Scene::new(&[one, other]);
    scene.scan();
    scene.memory.put(scene.array, other);
    scene.memory.walk(&mut scene.walker, &scene.kernel, Walker::check_rings);
    assert_eq!(scene.files(), [(1, other)]);
}

#[test]
fn a_forged_ring_is_bounded() {
    let mut scene = Scene::new(&[1, u64::MAX, 0x1234]);
    scene.scan();
    assert_eq!(scene.files(), []);
    let used: Vec<u64> = addresses::<1>().repeat(3 * FILES);
    let mut scene = Scene::new(&used);
    scene.scan();
    assert!(scene.files().len() <= FILES);
    assert_eq!(scene.walker.snapshot.losses.of(ScanPart::Files).1, 1);
    // More slots than memory has.
    let mut scene = Scene::new(&[]);
    let context = scene.walker.snapshot.rings.iter().next().unwrap().context;
    scene.memory.set(context.0, "io_ring_ctx", "nr_user_files", u64::from(u32::MAX));
    scene.scan();
    assert_eq!(scene.files(), []);
    assert_eq!(scene.walker.snapshot.losses.of(ScanPart::Files).1, 1);
}

#[test]
fn a_hog_of_rings_leaves_those_of_other_processes_their_slots() {
    let one = addresses::<1>();
    let mut scene = Scene::new(&one.repeat(100));
    // Another process has rings whose tables have as many slots as the kernel allows.
    let hog = add_process(&mut scene.walker, &mut scene.memory, 1);
    scene.walker.scratch.shares.begin(2);
    let array = scene.memory.room(8 << 16);
    let context = scene.memory.structure();
    scene.memory.set(context, "io_ring_ctx", "nr_user_files", 1 << 20);
    scene.memory.set(context, "io_ring_ctx", "file_table.files", array);
    for number in 0..1000 {
        let ring = *scene.walker.snapshot.rings.iter().next().unwrap();
        let row = RingRow { context: va(context), process: Some(hog), ..ring };
        scene.walker.snapshot.rings.row_of(1 << 32 | number, || row);
    }
    scene.scan();
    let own = scene.walker.snapshot.rings.iter().next().unwrap().descriptors;
    assert_eq!(own.len(), 100);
    let gaps = scene.walker.snapshot.losses.of(ScanPart::Files).1;
    assert_eq!(gaps, 1000, "the tables of the hog need too many scans");
}

#[test]
fn a_ring_without_files_takes_no_share() {
    let one = addresses::<1>();
    let mut scene = Scene::new(&one.repeat(100));
    for number in 0..1000 {
        let ring = *scene.walker.snapshot.rings.iter().next().unwrap();
        let context = va(scene.memory.structure());
        scene.walker.snapshot.rings.row_of(1 << 32 | number, || RingRow { context, ..ring });
    }
    scene.scan();
    assert_eq!(scene.files().len(), 100);
    assert_eq!(scene.walker.snapshot.losses.of(ScanPart::Files).1, 0);
}

#[test]
fn a_large_table_is_read_over_several_scans_and_is_no_gap() {
    let [low, high, far] = addresses();
    let mut scene = Scene::new(&[low]);
    let slots = 300_000_u64;
    let context = scene.walker.snapshot.rings.iter().next().unwrap().context;
    let array = scene.memory.room(8 * slots);
    scene.memory.set(context.0, "io_ring_ctx", "nr_user_files", slots);
    scene.memory.set(context.0, "io_ring_ctx", "file_table.files", array);
    for (number, file) in [(5, low), (100_000, high), (slots - 1, far)] {
        scene.memory.put(array + 8 * number, file);
    }
    let mut seen = Vec::new();
    for scan in 0..20 {
        scene.walker.scans = scan;
        scene.walker.snapshot.descriptors.clear();
        scene.scan();
        scene.memory.walk(&mut scene.walker, &scene.kernel, Walker::check_rings);
        assert_eq!(scene.walker.snapshot.losses.of(ScanPart::Files).1, 0);
        let mut files = scene.files();
        files.sort_unstable();
        seen.push(files);
    }
    let all = [(5, low), (100_000, high), (slots as u32 - 1, far)];
    assert!(seen.iter().all(|files| files.first() == Some(&all[0])));
    assert_ne!(seen[0], all, "it needs further scans");
    assert!(seen[9..].iter().all(|files| *files == all), "{seen:?}");
    // A slot that is free by now is forgotten.
    scene.memory.put(array + 8 * (slots - 1), 0);
    scene.walker.snapshot.descriptors.clear();
    scene.scan();
    assert_eq!(scene.files().len(), 2);
    assert_eq!(scene.walker.ring_slots.len(), 1);
}

#[test]
fn a_slot_is_as_large_as_the_profile_tells() {
    use panoptes_decoders::kernel::io_uring::IoFixedFile;

    let [one, other] = addresses();
    let mut scene = Scene::new(&[0, one, 7, other]);
    let context = scene.walker.snapshot.rings.iter().next().unwrap().context;
    scene.memory.set(context.0, "io_ring_ctx", "nr_user_files", 2);
    let layout = scene.kernel.layouts.io_fixed_file.unwrap();
    let file_ptr = PackedField { offset: 8, ..layout.file_ptr };
    let with = |size| Some(IoFixedFile { size, file_ptr, ..layout });
    scene.kernel.layouts.io_fixed_file = with(16);
    scene.scan();
    assert_eq!(scene.files(), [(0, one), (1, other)]);
    // No kernel has such slots.
    for size in [0, 8, 4096, u32::MAX] {
        scene.kernel.layouts.io_fixed_file = with(size);
        assert_eq!(SlotLayout::of(&scene.kernel.layouts), SlotLayout { stride: 8, offset: 0 });
    }
}

#[test]
fn only_the_kernels_name_makes_a_ring() {
    let mut walker = walker(&small());
    walker.scratch.shares.begin(1);
    let mut note = |name: &[u8], context: u64| {
        let mut dentry = DentryRow::default();
        dentry.text[..name.len()].copy_from_slice(name);
        dentry.name.length = name.len() as u32;
        let mut file = FileRow::from(va(1));
        file.open.private_data = va(context);
        let rings = &mut walker.snapshot.rings;
        note_ring(rings, &mut walker.scratch.shares, (Index::new(0).unwrap(), &file), &dentry);
        rings.len()
    };
    assert_eq!(note(b"[io_uring]", 0), 0, "without a context");
    assert_eq!(note(b"[eventpoll]", 2), 0);
    assert_eq!(note(b"[io_uring]", 2), 1);
}
