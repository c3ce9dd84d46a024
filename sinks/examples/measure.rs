//! How long it takes to write records and scan lines: `cargo run --release -p panoptes-sinks --example measure`.
//!
//! A quick look, not a benchmark: those are in `/benches`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::Instant;

use common::{
    NOW_NS, STRING_LENGTH, bash, connection, libc_text, limit_reached, stdin_socket, web_1_header,
};
use panoptes_sinks::activities::Activity;
use panoptes_sinks::record::scan::ScanLine;
use panoptes_sinks::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};

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
        measure(&format!("scan {}", line.kind()), |out| {
            black_box(line).write(out, STRING_LENGTH).expect("it fits")
        });
    }
}
