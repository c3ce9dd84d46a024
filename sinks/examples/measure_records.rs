//! Measures how long it takes to get records into a file by both ways:
//! `cargo run --release -p panoptes-sinks --example measure_records [FOLDER]`.
//!
//! A quick measurement, not a benchmark: those are in `/benches`.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use panoptes_records::queue::{Producer, QueueSize, RecordClass, Waker, queue};
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output as _, OutputCounters, OutputKind};
use panoptes_sinks::writer::Writer;

fn main() {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for kind in [OutputKind::Plain, OutputKind::IoUring] {
        measure_throughput(&folder, kind);
        measure_latency(&folder, kind);
    }
}

/// Runs `push` beside a writer on its own thread, until all is written.
fn written(folder: &Path, kind: OutputKind, push: impl FnOnce(&mut Producer, &OutputCounters)) {
    let path = folder.join("panoptes-measure.jsonl");
    let transport = TransportSettings { kind, ..TransportSettings::default() };
    let options =
        FileOptions { transport, max_files: 0, rotate_size: 1 << 30, ..FileOptions::default() };
    let output = FileOutput::open(&path, options).expect("the folder is writable");
    let counters = output.counters().clone();
    let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
    let mut writer = Writer::new(vec![consumer], vec![Box::new(output)]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let clock = || start.elapsed().as_nanos() as u64;
            writer.run(&clock, &AtomicBool::new(false))
        });
        push(&mut producer, &counters);
        drop(producer);
    });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{kind:?}: {:.2} M records/s {:.2} GB/s, {} dropped, {} + {} writes",
        counters.records() as f64 / seconds / 1e6,
        counters.bytes() as f64 / seconds / 1e9,
        counters.dropped(),
        counters.ring_writes(),
        counters.plain_writes(),
    );
    let _ = std::fs::remove_file(path);
}

/// The scanner waits when the queue is full, so this is the writer's speed.
fn measure_throughput(folder: &Path, kind: OutputKind) {
    written(folder, kind, |producer, _| {
        for _ in 0..4_000_000 {
            while producer.try_push(RecordClass::default(), &[b'x'; 299]).is_err() {
                std::thread::yield_now();
            }
        }
    });
}

/// Time from the end of a scan with one record until the kernel has the record.
fn measure_latency(folder: &Path, kind: OutputKind) {
    const ROUNDS: usize = 1000;
    written(folder, kind, |producer, counters| {
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 1..=ROUNDS as u64 {
            std::thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            producer.try_push(RecordClass::default(), &[b'x'; 2000]).expect("the queue is empty");
            producer.flush();
            while counters.records() < round {
                std::thread::yield_now();
            }
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "{kind:?}: one record to the file: median {:?}, p99 {:?}, worst {:?}",
            times[ROUNDS / 2],
            times[ROUNDS * 99 / 100],
            times[ROUNDS - 1],
        );
    });
}
