//! Measures how long it takes to write records and scan lines, and to get them into a file by both
//! ways: `cargo run --release -p panoptes-sinks --example measure_records [FOLDER]`.
//!
//! A quick measurement, not a benchmark: those are in `/benches`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::{
    NOW_NS, STRING_LENGTH, bash, connection, libc_text, limit_reached, stdin_socket, web_1_header,
};
use panoptes_sinks::activities::Activity;
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output, OutputKind};
use panoptes_sinks::queue::{QueueSize, Waker, queue};
use panoptes_sinks::record::scan::ScanLine;
use panoptes_sinks::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};
use panoptes_sinks::writer::Writer;

const ROUNDS: u32 = 1_000_000;

fn measure(name: &str, mut write: impl FnMut(&mut [u8]) -> usize) {
    let mut out = vec![0; RECORD_BYTES_MAX];
    let mut bytes = 0;
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS / 5 {
            bytes = black_box(write(black_box(&mut out)));
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(ROUNDS / 5));
    }
    println!(
        "{name:<36} {bytes:>5} bytes {:>7.1} ns {:>6.2} GB/s",
        best * 1e9,
        bytes as f64 / best / 1e9
    );
}

fn main() {
    let header = web_1_header();
    let (process, descriptor, connection) = (bash(), stdin_socket(), connection());
    let (memory, limit) = (libc_text(), limit_reached());
    let parents = [Details::FileDescriptor(&descriptor), Details::Process(&process)];
    let records = [
        Record::new(Activity::ProcessCreated, Details::Process(&process)),
        Record::new(Activity::FileDescriptorOpen, Details::FileDescriptor(&descriptor))
            .with_parents(&parents[1..]),
        Record::new(Activity::NetworkConnectionCreated, Details::NetworkConnection(&connection))
            .with_parents(&parents),
        Record::new(Activity::NewFileMapped, Details::ProcessMemory(&memory))
            .with_parents(&parents[1..]),
        Record::new(Activity::ProcessLimitReached, Details::SystemActivity(&limit)),
    ];
    for record in &records {
        let mut writer = RecordWriter::new(1, STRING_LENGTH);
        measure(record.activity.name(), |out| {
            writer.write(out, &header, black_box(record), NOW_NS).expect("it fits")
        });
    }
    let lines = [
        ScanLine::Process(&process),
        ScanLine::FileDescriptor { process_id: 714, details: &descriptor },
        ScanLine::Memory(&memory),
        ScanLine::Connection {
            process_id: Some(714),
            details: &connection,
            network_namespace: None,
        },
    ];
    for line in &lines {
        measure(&format!("scan {}", line.kind().name()), |out| {
            black_box(line).write(out, STRING_LENGTH).expect("it fits")
        });
    }
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for kind in [OutputKind::Plain, OutputKind::IoUring] {
        measure_file(&folder, kind, "300-byte records copied", 4_000_000, |room, _| {
            room[..299].fill(b'x');
            299
        });
        measure_latency(&folder, kind);
        let mut writer = RecordWriter::new(1, STRING_LENGTH);
        measure_file(&folder, kind, "records written", 1_000_000, |room, number| {
            let record = &records[number % records.len()];
            writer.write(room, &header, black_box(record), NOW_NS).unwrap_or(usize::MAX)
        });
    }
}

/// Scanner and writer on a thread each. The scanner waits when the queue is full, so this is the
/// writer's speed.
fn measure_file(
    folder: &Path,
    kind: OutputKind,
    name: &str,
    count: usize,
    mut write: impl FnMut(&mut [u8], usize) -> usize,
) {
    let path = folder.join("panoptes-measure.jsonl");
    let transport = TransportSettings { kind, ..TransportSettings::default() };
    let options =
        FileOptions { transport, max_files: 0, rotate_size: 1 << 30, ..FileOptions::default() };
    let output = Output::File(FileOutput::open(&path, options).expect("the folder is writable"));
    let counters = output.counters().clone();
    let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
    let mut writer = Writer::new(vec![consumer], vec![output]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let clock = || start.elapsed().as_nanos() as u64;
            writer.run(&clock, &AtomicBool::new(false))
        });
        for number in 0..count {
            let mut push = || {
                producer.push_with(|room| {
                    if room.len() < RECORD_BYTES_MAX {
                        return Err(panoptes_sinks::json::Full);
                    }
                    Ok(write(room, number))
                })
            };
            while push().is_err() {
                std::thread::yield_now();
            }
        }
        drop(producer);
    });
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{kind:?} {name:<28} {:>6.2} M records/s {:>6.2} GB/s, {} dropped, {} + {} writes",
        counters.records() as f64 / seconds / 1e6,
        counters.bytes() as f64 / seconds / 1e9,
        counters.dropped(),
        counters.ring_writes(),
        counters.plain_writes(),
    );
    let _ = std::fs::remove_file(path);
}

/// Time from the end of a scan with one record until the kernel has the record.
fn measure_latency(folder: &Path, kind: OutputKind) {
    const ROUNDS: usize = 1000;
    let path = folder.join("panoptes-measure.jsonl");
    let transport = TransportSettings { kind, ..TransportSettings::default() };
    let options = FileOptions { transport, ..FileOptions::default() };
    let output = Output::File(FileOutput::open(&path, options).expect("the folder is writable"));
    let counters = output.counters().clone();
    let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
    let mut writer = Writer::new(vec![consumer], vec![output]);
    let start = Instant::now();
    let mut times = Vec::with_capacity(ROUNDS);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let clock = || start.elapsed().as_nanos() as u64;
            writer.run(&clock, &AtomicBool::new(false))
        });
        for round in 1..=ROUNDS as u64 {
            std::thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            producer.try_push(&[b'x'; 2000]).expect("the queue is empty");
            producer.flush();
            while counters.records() < round {
                std::thread::yield_now();
            }
            times.push(start.elapsed());
        }
        drop(producer);
    });
    times.sort();
    println!(
        "{kind:?} one record to the file: median {:?}, p99 {:?}, worst {:?}",
        times[ROUNDS / 2],
        times[ROUNDS * 99 / 100],
        times[ROUNDS - 1],
    );
    let _ = std::fs::remove_file(path);
}
