//! The time to write one line of `panoptes scan` and one record.
//!
//!     cargo bench --bench serialiser
//!
//! On the machine of the golden records.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

#[path = "../../engine/records/tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{
    CREATED_NS, NOW_NS, STRING_LENGTH, bash, connection, libc_text, stdin_socket, web_1_header,
};
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use panoptes_records::activities::Activity;
use panoptes_records::json::Limits;
use panoptes_records::json::command_line::CommandLine;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_records::record::process::ProcessDetails;
use panoptes_records::record::scan::{ScanLine, ScanObject};
use panoptes_records::record::value::Uuid;
use panoptes_records::record::workload::Workload;
use panoptes_records::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};

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
    group.bench_function(BenchmarkId::new(T::NAME, length), |bencher| {
        bencher.iter(|| black_box(line).write(black_box(&mut out), STRING_LENGTH));
    });
}

fn records(criterion: &mut Criterion) {
    let header = web_1_header();
    let (process, descriptor, connection) = (bash(), stdin_socket(), connection());
    let parents = [Details::FileDescriptor(&descriptor), Details::Process(&process)];
    let created = |process| Record::new(Activity::ProcessCreated, Details::Process(process));
    let mut group = criterion.benchmark_group("record");
    let short = sshd();
    record(&mut group, "25_fields", &short_header(), &created(&short));
    let records = [
        created(&process),
        Record::new(Activity::FileDescriptorOpen, Details::FileDescriptor(&descriptor))
            .with_parents(&parents[1..]),
        Record::new(Activity::NetworkConnectionCreated, Details::NetworkConnection(&connection))
            .with_parents(&parents),
    ];
    for one in &records {
        record(&mut group, one.activity.name(), &header, one);
    }
    group.finish();
}

fn record(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    header: &RecordHeader,
    record: &Record<'_>,
) {
    let mut writer = RecordWriter::new(1, STRING_LENGTH);
    let mut out = vec![0; RECORD_BYTES_MAX];
    let length = writer.write(&mut out, header, record, NOW_NS).expect("it fits");
    group.throughput(Throughput::Bytes(length as u64));
    group.bench_function(BenchmarkId::new(name, length), |bencher| {
        bencher.iter(|| writer.write(black_box(&mut out), header, black_box(record), NOW_NS));
    });
}

/// A header without interfaces: fourteen fields and the activity's name.
fn short_header() -> RecordHeader {
    let limits = Limits::new(STRING_LENGTH);
    let mut header = RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), limits);
    header.set_workload(&Workload {
        unique_identifier: Some("web-1".into()),
        os_version: Some("Linux Kernel 6.1".into()),
        boot_uuid: Some(Uuid(0x5f0e_5a63_7a52_4d0b_9a39_3a5e_0a4c_6b11_u128.to_be_bytes())),
        hostname: Some("web-1".into()),
        ..Workload::default()
    });
    header
}

/// A process with ten fields: with those of [`short_header`], a record of 25.
fn sshd() -> ProcessDetails<'static> {
    ProcessDetails {
        process_name: "sshd".into(),
        process_id: 20_714,
        process_executable_path: Some("/usr/sbin/sshd".into()),
        process_current_working_directory: Some("/".into()),
        process_command_line_arguments: Some(CommandLine::new(b"sshd\0-D\0")),
        process_creation_time_iso_8601_ns: Some(Timestamp::from_ns(CREATED_NS)),
        process_parent_process_id: Some(1),
        process_real_user_id: Some(1000),
        process_real_group_id: Some(1000),
        ..ProcessDetails::default()
    }
}

criterion_group!(benches, lines, records);
criterion_main!(benches);
