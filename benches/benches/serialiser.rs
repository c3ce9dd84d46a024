//! The time to write one line of `panoptes scan` and one record.
//!
//!     cargo bench -p panoptes-benches --bench serialiser
//!
//! On the machine of the golden records.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[path = "../../sinks/tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{NOW_NS, STRING_LENGTH, bash, connection, libc_text, stdin_socket, web_1_header};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use panoptes_sinks::activities::Activity;
use panoptes_sinks::record::scan::{ScanLine, ScanObject};
use panoptes_sinks::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};

fn lines(criterion: &mut Criterion) {
    let (process, descriptor, memory) = (bash(), stdin_socket(), libc_text());
    let connection = connection();
    let mut group = criterion.benchmark_group("scan line");
    line(&mut group, &ScanLine::new(&process));
    line(&mut group, &ScanLine::of_process(714, &descriptor));
    line(&mut group, &ScanLine::new(&memory));
    line(&mut group, &ScanLine::of_process(714, &connection));
    group.finish();
}

fn line<T: ScanObject>(group: &mut BenchmarkGroup<'_, WallTime>, line: &ScanLine<'_, T>) {
    let mut out = vec![0; RECORD_BYTES_MAX];
    let length = line.write(&mut out, STRING_LENGTH).expect("it fits");
    group.throughput(Throughput::Bytes(length as u64));
    group.bench_function(BenchmarkId::new(T::KIND.name(), length), |bencher| {
        bencher.iter(|| black_box(line).write(black_box(&mut out), STRING_LENGTH));
    });
}

fn records(criterion: &mut Criterion) {
    let header = web_1_header();
    let (process, descriptor, connection) = (bash(), stdin_socket(), connection());
    let parents = [Details::FileDescriptor(&descriptor), Details::Process(&process)];
    let records = [
        Record::new(Activity::ProcessCreated, Details::Process(&process)),
        Record::new(Activity::FileDescriptorOpen, Details::FileDescriptor(&descriptor))
            .with_parents(&parents[1..]),
        Record::new(Activity::NetworkConnectionCreated, Details::NetworkConnection(&connection))
            .with_parents(&parents),
    ];
    let mut writer = RecordWriter::new(1, STRING_LENGTH);
    let mut out = vec![0; RECORD_BYTES_MAX];
    let mut group = criterion.benchmark_group("record");
    for record in records {
        let length = writer.write(&mut out, &header, &record, NOW_NS).expect("it fits");
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new(record.activity.name(), length), |bencher| {
            bencher.iter(|| writer.write(black_box(&mut out), &header, black_box(&record), NOW_NS));
        });
    }
    group.finish();
}

criterion_group!(benches, lines, records);
criterion_main!(benches);
