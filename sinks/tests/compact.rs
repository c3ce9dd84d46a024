//! Compact headers: every file begins with the whole header of each system, and who reads a file
//! from its beginning misses nothing.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../engine/records/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use common::{
    NOW_NS, STRING_LENGTH, bash, eth0, limit_reached, plain_record, pod, service_header,
    web_1_header,
};
use panoptes_records::activities::Activity;
use panoptes_records::dialect::Dialect;
use panoptes_records::queue::{Producer, QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::value::IndexedObjects;
use panoptes_records::record::workload::Workload;
use panoptes_records::record::{Details, Record, RecordWriter};
use panoptes_records::schema::record_schema;
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::lines::LineForm;
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output, OutputKind};
use panoptes_sinks::writer::{WorkLeft, Writer};
use serde_json::Value;

const WATCHER: &str = "bluefield_system_information";
const WATCHER_LIST: &str = "bluefield_networking_interfaces";
const WORKLOAD: &str = "workload_information";
const WORKLOAD_LIST: &str = "workload_networking_interfaces";
const COUNT: usize = 400;

/// The headers of the service, of systems with and without interfaces, of one with so many that
/// the list is cut, and of the first system after one of its interfaces is gone.
fn headers() -> [RecordHeader; 5] {
    let of = |name: &'static str, interfaces: Option<usize>| {
        let mut header = service_header();
        let interfaces = interfaces.map(|count| vec![eth0(); count]);
        header.set_workload(&Workload {
            unique_identifier: Some(name.into()),
            hostname: Some(name.into()),
            workload_networking_interfaces: interfaces.as_deref().map(IndexedObjects),
            ..Workload::default()
        });
        header
    };
    [service_header(), web_1_header(), of("db-1", None), of("big", Some(400)), of("web-1", Some(1))]
}

/// Which header each record has: systems take turns of several records, and one changes its list
/// back and forth.
fn header_of(number: usize) -> usize {
    match number {
        150..200 => [0, 4, 2, 3][number / 3 % 4],
        _ => [0, 1, 2, 3][number / 3 % 4],
    }
}

/// Writes the same records to each of some outputs.
fn write(outputs: Vec<Box<dyn Output>>) {
    let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
    let mut writer = Writer::new(vec![consumer], outputs);
    let (headers, mut records) = (headers(), RecordWriter::new(7, STRING_LENGTH));
    let mut push = |producer: &mut Producer, header: &RecordHeader, record: &Record<'_>| {
        let class = header.class(record.activity);
        producer.push_with(class, |room| records.write(room, header, record, NOW_NS)).unwrap();
    };
    for number in 0..COUNT {
        let (process, limit, pod) = (bash(), limit_reached(), pod());
        let header = &headers[header_of(number)];
        match number % 3 {
            0 => push(&mut producer, header, &plain_record(&process)),
            1 => {
                let container = Some(&pod);
                push(&mut producer, header, &Record { container, ..plain_record(&process) });
            }
            _ => {
                let details = Details::SystemActivity(&limit);
                let record = Record::new(Activity::ProcessLimitReached, details);
                push(&mut producer, header, &record);
            }
        }
        if number % 10 == 0 {
            producer.flush();
            // The queue has room again when all is written.
            let now_ns = number as u64 * 1_000_000_000;
            while writer.step(now_ns, Duration::from_millis(1)) != WorkLeft::Nothing {}
        }
    }
    drop(producer);
    writer.finish(&|| 0);
}

/// The records of each file of a log, oldest first.
fn files(path: &Path) -> Vec<Vec<Value>> {
    let old = (1..).map(|number| path.with_extension(format!("jsonl.{number}")));
    let mut paths: Vec<_> = old.take_while(|path| path.exists()).collect();
    paths.reverse();
    paths.push(path.to_owned());
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    paths
        .iter()
        .map(|path| fs::read_to_string(path).unwrap().lines().map(parse).collect())
        .collect()
}

/// Adds the lists that the records of a file leave out, from earlier records of that file. Returns
/// the number of whole records.
fn complete(file: &mut [Value]) -> usize {
    let mut known: BTreeMap<String, (Value, Value)> = BTreeMap::new();
    let mut whole = 0;
    for record in file {
        let system = record[WORKLOAD]["unique_identifier"].as_str().unwrap_or("").to_owned();
        if record[WATCHER].get(WATCHER_LIST).is_some() {
            known
                .insert(system, (record[WATCHER].clone(), record[WORKLOAD][WORKLOAD_LIST].clone()));
            whole += 1;
            continue;
        }
        let (watcher, list) = known.get(&system).expect("the file has the whole header before");
        assert_eq!(record[WORKLOAD].get(WORKLOAD_LIST), None);
        record[WATCHER] = watcher.clone();
        if !list.is_null() {
            record[WORKLOAD][WORKLOAD_LIST] = list.clone();
        }
    }
    whole
}

#[test]
fn every_file_of_a_log_has_the_whole_header_of_each_system_before_compact_ones() {
    let schema = serde_json::from_str(&record_schema(Dialect::Panoptes)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for kind in [OutputKind::IoUring, OutputKind::Plain] {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, form: LineForm| -> Box<dyn Output> {
            let transport = TransportSettings { kind, ..TransportSettings::default() };
            let rotate_size = 100_000;
            let options = FileOptions {
                rotate_size,
                max_files: 1000,
                form,
                transport,
                ..FileOptions::default()
            };
            Box::new(FileOutput::open(&folder.path().join(name), options).unwrap())
        };
        write(vec![open("full.jsonl", LineForm::Full), open("compact.jsonl", LineForm::Compact)]);
        let full = files(&folder.path().join("full.jsonl")).concat();
        let mut compact = files(&folder.path().join("compact.jsonl"));
        assert_eq!(full.len(), COUNT);
        assert!(compact.len() > 3, "{} files", compact.len());
        for record in compact.iter().flatten() {
            assert!(validator.is_valid(record), "{record}");
        }
        let whole: Vec<usize> = compact.iter_mut().map(|file| complete(file)).collect();
        // Four systems; the list of one changes twice in all.
        assert!(whole.iter().sum::<usize>() <= 4 * compact.len() + 2, "{whole:?}");
        assert!(compact.concat() == full, "records differ");
    }
}

#[test]
fn a_stream_begins_with_whole_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream");
    let file = File::create(&path).unwrap();
    let stream = StreamOutput::new(file, TransportSettings::default()).with_form(LineForm::Compact);
    write(vec![Box::new(stream)]);
    let mut records = files(&path).concat();
    assert_eq!(records.len(), COUNT);
    assert_eq!(complete(&mut records), 4 + 2);
}

#[test]
fn a_log_that_is_continued_begins_with_whole_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    for _ in 0..2 {
        let options = FileOptions { form: LineForm::Compact, ..FileOptions::default() };
        write(vec![Box::new(FileOutput::open(&path, options).unwrap())]);
    }
    let mut records = files(&path).concat();
    assert_eq!(complete(&mut records[COUNT..]), 4 + 2);
}
