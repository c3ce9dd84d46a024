//! The time to get from a kernel's address to bytes: by arithmetic, by a walk through page tables,
//! and by a cached walk.
//!
//!     cargo bench --bench translation
//!
//! On page tables made by hand: a thousand objects of 64 bytes, each in a page of its own.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::paging::{KernelSpace, PageTableLevels};
use panoptes_engine::address::{MemoryReader, ReaderSizes};
use panoptes_sources::Replay;

const PAGES: u64 = 1024;
const OBJECT_BYTES: u32 = 64;
const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
const VMALLOC: u64 = 0xffff_c900_0000_0000;
/// The physical address of the first page; the tables are before it.
const FIRST_PAGE: u64 = 0x10_0000;
const MEMORY_BYTES: u64 = FIRST_PAGE + PAGES * 4096;

/// A machine whose vmalloc range maps `PAGES` pages, not in their order.
fn machine() -> (Replay, KernelSpace) {
    let frames: Vec<u64> = (0..MEMORY_BYTES / 4096).collect();
    let bytes = vec![0xa5; MEMORY_BYTES as usize];
    let regions = std::iter::once(0..MEMORY_BYTES).collect();
    let mut memory = Replay::from_pages(regions, frames, bytes).expect("the frames are in order");
    let mut put = |at: u64, entry: u64| {
        assert!(memory.write(PhysicalAddress(at), &entry.to_le_bytes()), "it is there");
    };
    let index = |shift: u32| (VMALLOC >> shift & 511) * 8;
    put(0x1000 + index(39), 0x2003);
    put(0x2000 + index(30), 0x3003);
    for table in 0..PAGES / 512 {
        put(0x3000 + table * 8, (0x4000 + table * 4096) | 3);
    }
    for page in 0..PAGES {
        let frame = FIRST_PAGE + page * 389 % PAGES * 4096;
        put(0x4000 + page * 8, frame | 3);
    }
    let space = KernelSpace {
        levels: PageTableLevels::default(),
        root: PhysicalAddress(0x1000),
        direct_map: DIRECT_MAP..DIRECT_MAP + MEMORY_BYTES,
        ..KernelSpace::default()
    };
    (memory, space)
}

fn translation(criterion: &mut Criterion) {
    let (mut memory, space) = machine();
    let mut group = criterion.benchmark_group("translation");
    group.throughput(Throughput::Elements(PAGES));
    let linear: Vec<KernelVa> = (0..PAGES)
        .map(|page| KernelVa(DIRECT_MAP + FIRST_PAGE + page * 389 % PAGES * 4096))
        .collect();
    let walked: Vec<KernelVa> = (0..PAGES).map(|page| KernelVa(VMALLOC + page * 4096)).collect();

    group.bench_function("linear, arithmetic alone", |bencher| {
        bencher.iter(|| {
            for &address in &linear {
                black_box(space.linear(black_box(address)));
            }
        });
    });
    let mut reader = MemoryReader::new(ReaderSizes::default());
    let mut read = |reader: &mut MemoryReader, addresses: &[KernelVa]| {
        reader.clear();
        for &address in addresses {
            reader.push_bytes(&space, address, OBJECT_BYTES);
        }
        reader.run(&mut memory, space.levels);
        assert!(reader.object(PAGES as usize - 1).is_some(), "all of it can be read");
    };
    group.bench_function("linear, read", |bencher| {
        bencher.iter(|| read(&mut reader, &linear));
    });
    group.bench_function("walked, read", |bencher| {
        bencher.iter(|| {
            reader.forget_translations();
            read(&mut reader, &walked);
        });
    });
    group.bench_function("walked before, read", |bencher| {
        bencher.iter(|| read(&mut reader, &walked));
    });
    group.finish();
}

criterion_group!(benches, translation);
criterion_main!(benches);
