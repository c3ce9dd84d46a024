//! Rings made by hand: which of their files a scan has.

#![allow(clippy::unwrap_used, reason = "a test may")]

use panoptes_decoders::kernel::io_uring::IoRingCtx;

use super::*;
use crate::walk::snapshot::FilesRow;
use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};
use crate::walk::{Kernel, Walker, slot_of};

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
        walker.scratch.quotas.begin(1);
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
        let rows = snapshot.ring_files_of(table);
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
    assert_eq!(scene.walker.snapshot.losses.of(Part::Files).1, 1);
    // More slots than memory has.
    let mut scene = Scene::new(&[]);
    let context = scene.walker.snapshot.rings.iter().next().unwrap().context;
    scene.memory.set(context.0, "io_ring_ctx", "nr_user_files", u64::from(u32::MAX));
    scene.scan();
    assert_eq!(scene.files(), []);
    assert_eq!(scene.walker.snapshot.losses.of(Part::Files).1, 1);
}

#[test]
fn rings_share_what_a_scan_reads() {
    let one = addresses::<1>();
    let mut scene = Scene::new(&one.repeat(100));
    // A hog of further rings, none with a table.
    for number in 0..1000 {
        let ring = *scene.walker.snapshot.rings.iter().next().unwrap();
        let context = va(scene.memory.structure());
        let ring = || RingRow { context, ..ring };
        scene.walker.snapshot.rings.row_of(1 << 32 | number, ring);
    }
    scene.scan();
    assert_eq!(scene.files().len(), 65, "64 KiB slots for 1001 rings");
    assert_eq!(scene.walker.snapshot.losses.of(Part::Files).1, 1);
}

#[test]
fn only_the_kernels_name_makes_a_ring() {
    let mut walker = walker(&small());
    walker.scratch.quotas.begin(1);
    let mut note = |name: &[u8], context: u64| {
        let mut dentry = DentryRow::default();
        dentry.text[..name.len()].copy_from_slice(name);
        dentry.name.length = name.len() as u32;
        let mut file = FileRow::from(va(1));
        file.open.private_data = va(context);
        let rings = &mut walker.snapshot.rings;
        note_ring(rings, &mut walker.scratch.quotas, (Index::new(0).unwrap(), &file), &dentry);
        rings.len()
    };
    assert_eq!(note(b"[io_uring]", 0), 0, "without a context");
    assert_eq!(note(b"[eventpoll]", 2), 0);
    assert_eq!(note(b"[io_uring]", 2), 1);
}
