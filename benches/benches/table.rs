//! The time to find an object by its address: in the table that each scan fills anew, and in the
//! tables that live from scan to scan; half full, and small enough or too large for the processor's
//! caches.
//!
//!     cargo bench --bench table
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use panoptes_benches::KEY;
use panoptes_tables::AddressMap;
use panoptes_tables::{HashKey, Key, Row, ScanNumber, Table};

/// Addresses as in a slab: 192 bytes apart, visited in another order.
fn addresses(count: usize) -> Vec<u64> {
    let count = count as u64;
    (0..count).map(|index| 0xffff_8880_0000_0000 + index * 7919 % count * 192).collect()
}

fn address_map(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("AddressMap");
    for count in [1000, 16_000, 250_000] {
        let present = addresses(count);
        let absent: Vec<u64> = present.iter().map(|address| address + 64).collect();
        group.throughput(Throughput::Elements(count as u64));
        let mut map = AddressMap::new(count, KEY);
        group.bench_function(BenchmarkId::new("clear and insert", count), |bencher| {
            bencher.iter(|| {
                map.clear();
                for (index, &address) in present.iter().enumerate() {
                    black_box(map.insert(address, index as u32));
                }
            });
        });
        each(&mut group, "insert what is there", &present, |address| map.insert(address, 0));
        each(&mut group, "get", &present, |address| map.get(address));
        each(&mut group, "get what is not there", &absent, |address| map.get(address));
    }
    group.finish();
}

/// The time of `work` with each of these addresses.
fn each<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    addresses: &[u64],
    mut work: impl FnMut(u64) -> T,
) {
    group.bench_function(BenchmarkId::new(name, addresses.len()), |bencher| {
        bencher.iter(|| {
            for &address in addresses {
                black_box(work(address));
            }
        });
    });
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Address(u64);

impl Key for Address {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash(&self.0.to_le_bytes())
    }
}

/// About as large as a row of the state's tables.
#[derive(Clone, Copy, Debug)]
struct Object {
    address: Address,
    facts: [u64; 11],
}

impl Object {
    fn at(address: u64) -> Self {
        Self { address: Address(address), facts: [address; 11] }
    }
}

impl Row for Object {
    type Key = Address;

    fn key(&self) -> Address {
        self.address
    }
}

fn state_table(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("state::Table");
    for count in [1000, 16_000, 250_000] {
        let present = addresses(count);
        group.throughput(Throughput::Elements(count as u64));
        let mut table = Table::new(count * 2, KEY);
        group.bench_function(BenchmarkId::new("insert and remove", count), |bencher| {
            bencher.iter(|| {
                for &address in &present {
                    table.insert(Object::at(address), ScanNumber(1));
                }
                for &address in &present {
                    let id = table.find(&Address(address)).expect("it is there");
                    black_box(table.remove(id));
                }
            });
        });
        for &address in &present {
            table.insert(Object::at(address), ScanNumber(1));
        }
        let mut scan = ScanNumber(1);
        group.bench_function(BenchmarkId::new("find and see", count), |bencher| {
            bencher.iter(|| {
                scan = scan.next();
                for &address in &present {
                    let id = table.find(&Address(address)).expect("it is there");
                    black_box(table.get(id).map(|row| row.facts[3]));
                    table.see(id, scan);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, address_map, state_table);
criterion_main!(benches);
