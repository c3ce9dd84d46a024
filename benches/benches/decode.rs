//! The time to decode one object from its packed bytes, each time the next of a thousand.
//!
//!     cargo bench --bench decode
//!
//! On the largest recorded machine whose kernel has all of these structures.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use panoptes_benches::Machine;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::dentry::DirectoryEntry;
use panoptes_decoders::kernel::file::OpenFile;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_decoders::kernel::maple_tree::{self, MapleEntry};
use panoptes_decoders::kernel::sock::Endpoints;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_decoders::layout::PackedLayout;

const OBJECTS: usize = 1000;

fn decode(criterion: &mut Criterion) {
    let has_maple_trees = |machine: &Machine| machine.kernel.layouts.maple_node.is_some();
    let machine = Machine::all().into_iter().rfind(has_maple_trees);
    let mut machine = machine.expect("the machine among the sources has maple trees");
    let walker = machine.walked().expect("it can be scanned");
    let layouts = machine.kernel.layouts.clone();
    let snapshot = walker.snapshot();
    let at = KernelVa(0xffff_8880_0000_1000);

    let tasks = snapshot.threads.iter().map(|row| row.task.address).collect();
    bench(criterion, &mut machine, "task", &layouts.task_struct.packing, tasks, |bytes| {
        black_box(Task::decode(&layouts.task_struct, at, bytes));
    });
    let files = snapshot.files.iter().map(|row| row.address).collect();
    bench(criterion, &mut machine, "file", &layouts.file.packing, files, |bytes| {
        black_box(OpenFile::decode(&layouts.file, bytes));
    });
    let dentries = snapshot.dentries.iter().map(|row| row.name.address).collect();
    bench(criterion, &mut machine, "dentry", &layouts.dentry.packing, dentries, |bytes| {
        black_box(DirectoryEntry::decode(&layouts.dentry, at, bytes));
    });
    let inodes = snapshot.inodes.iter().map(|row| row.address).collect();
    bench(criterion, &mut machine, "inode", &layouts.inode.packing, inodes, |bytes| {
        black_box(Attributes::decode(&layouts.inode, bytes));
    });
    let socks = snapshot.connections.iter().map(|row| row.address).collect();
    bench(criterion, &mut machine, "sock", &layouts.sock_common.packing, socks, |bytes| {
        black_box(Endpoints::decode(&layouts.sock_common, bytes));
    });
    let (nodes, areas) = areas(&mut machine, snapshot.mms.iter().map(|mm| mm.ma_root));
    bench(criterion, &mut machine, "vma", &layouts.vm_area_struct.packing, areas, |bytes| {
        black_box(Vma::decode(&layouts.vm_area_struct, bytes));
    });
    let leaf = maple_tree::Enode(1 << 3);
    let maple_node = layouts.maple_node.as_ref().expect("the machine has maple trees");
    bench(criterion, &mut machine, "maple leaf", &maple_node.packing, nodes, |bytes| {
        let entries =
            maple_tree::for_each_entry(maple_node, leaf, bytes, u64::MAX, |entry, end| {
                black_box((entry, end));
            });
        entries.expect("it is a leaf");
    });
}

/// Addresses of leaves of maple trees and of the areas that they lead to: a snapshot has neither.
fn areas(
    machine: &mut Machine,
    roots: impl Iterator<Item = u64>,
) -> (Vec<KernelVa>, Vec<KernelVa>) {
    let (mut leaves, mut areas) = (Vec::new(), Vec::new());
    let Some(layout) = machine.kernel.layouts.maple_node else { return (leaves, areas) };
    let mut level: Vec<MapleEntry> = roots.map(maple_tree::root).collect();
    while !level.is_empty() && areas.len() < OBJECTS {
        let mut next = Vec::new();
        for entry in level {
            let MapleEntry::Node(node) = entry else { continue };
            for bytes in machine.packed(&layout.packing, &[node.address()]) {
                leaves.extend(node.is_leaf().then(|| node.address()));
                let each = |entry, _| match entry {
                    MapleEntry::Value(area) => areas.push(area),
                    entry => next.push(entry),
                };
                maple_tree::for_each_entry(&layout, node, &bytes, u64::MAX, each)
                    .expect("the kernel made it");
            }
        }
        level = next;
    }
    (leaves, areas)
}

fn bench(
    criterion: &mut Criterion,
    machine: &mut Machine,
    name: &str,
    packing: &PackedLayout,
    mut addresses: Vec<KernelVa>,
    mut decode: impl FnMut(&[u8]),
) {
    addresses.truncate(OBJECTS);
    let objects = machine.packed(packing, &addresses);
    assert!(!objects.is_empty(), "{} has no {name} to decode", machine.name);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(objects.len() as u64));
    group.bench_function(BenchmarkId::new(name, objects.len()), |bencher| {
        bencher.iter(|| objects.iter().for_each(|bytes| decode(black_box(bytes))));
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
