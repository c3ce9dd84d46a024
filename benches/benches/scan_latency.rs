//! The time of a whole scan, and of its lines, on each recorded machine: the one among the sources,
//! and those that `cargo xtask record` made.
//!
//!     cargo bench --bench scan_latency
//!
//! An image is packed in memory, so this is the walk without most of the cache misses of a real
//! machine's memory: `scan_floor` measures those.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use panoptes_benches::{KEY, LineWriter, Machine, objects_of, write_lines};
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{Scope, Walker};

fn scan_latency(criterion: &mut Criterion) {
    for Machine { name, mut memory, kernel, .. } in Machine::all() {
        let limits = Limits::default();
        let mut walker = Walker::new(&limits, KEY);
        let mut lines = LineWriter::new(&limits);
        let snapshot = walker.scan(&mut memory, &kernel, Scope::ALL).expect("it can be scanned");
        objects_of(snapshot).unwrap_or_else(|error| panic!("{name}: {error}"));
        let count = write_lines(snapshot, &kernel, &mut lines).lines;
        let mut group = criterion.benchmark_group("scan_latency");
        group.sample_size(20);
        let processes = Scope { command_lines: true, ..Scope::LEAST };
        for (what, scope) in [("whole", Scope::ALL), ("processes and threads", processes)] {
            group.bench_function(BenchmarkId::new(what, &name), |bencher| {
                bencher.iter(|| {
                    walker.forget();
                    walker.scan(&mut memory, &kernel, scope).is_ok()
                });
            });
        }
        walker.forget();
        let snapshot = walker.scan(&mut memory, &kernel, Scope::ALL).expect("it can be scanned");
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("lines", &name), |bencher| {
            bencher.iter(|| write_lines(snapshot, &kernel, &mut lines));
        });
        group.finish();
    }
}

criterion_group!(benches, scan_latency);
criterion_main!(benches);
