//! Outputs of one writer with different filters: each gets exactly the records that it takes.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use panoptes_records::activities::{Activity, Preset, Severity};
use panoptes_records::filter::{Activities, Filter, FilterSubject};
use panoptes_records::queue::{Producer, QueueSize, RecordClass, Waker, queue};
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output, OutputCounters, OutputKind};
use panoptes_sinks::writer::{Writer, WriterEnd};

const KINDS: [OutputKind; 2] = [OutputKind::IoUring, OutputKind::Plain];
const SIZE: QueueSize = QueueSize { blocks: 16, block_bytes: 64 * 1024 };
const COUNT: usize = 30_000;

/// What record `number` is, and what it is about. The period of each property is another one, so
/// that all occur together.
fn kind_of(number: usize) -> (RecordClass, FilterSubject) {
    let activities =
        [Activity::ProcessCreated, Activity::ProcessHidden, Activity::FileDescriptorOpen];
    let severities = [Severity::Info, Severity::Medium, Severity::Info, Severity::High];
    let activity = activities[number % 3];
    let class = RecordClass {
        activity,
        severity: severities[number % 4],
        is_alert: activity == Activity::ProcessHidden,
        preset: activity.preset(),
        ..RecordClass::default()
    };
    let subject = match number / 50 % 5 {
        0 => FilterSubject::SERVICE,
        system => FilterSubject { system: Some(system as u32), receivers: 1 << system },
    };
    (class, subject)
}

fn record(number: usize) -> String {
    format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(number % 300))
}

fn file_output(path: &Path, kind: OutputKind, filter: Filter) -> Box<dyn Output> {
    let transport = TransportSettings { kind, ..TransportSettings::default() };
    let options = FileOptions { filter, transport, ..FileOptions::default() };
    Box::new(FileOutput::open(path, options).unwrap())
}

/// Runs a writer on its own thread while `push` produces.
fn run(outputs: Vec<Box<dyn Output>>, push: impl FnOnce(&mut Producer, &[Arc<OutputCounters>])) {
    let (mut producer, consumer) = queue(SIZE, &Waker::default());
    let counters: Vec<_> = outputs.iter().map(|output| Arc::clone(output.counters())).collect();
    let mut writer = Writer::new(vec![consumer], outputs);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        let start = Instant::now();
        writer.run(&|| start.elapsed().as_nanos() as u64, &stopped)
    });
    push(&mut producer, &counters);
    stop.store(true, Ordering::Relaxed);
    assert_eq!(thread.join().unwrap(), WriterEnd::Stopped);
}

/// Pushes all records, no faster than the output with these counters, which takes all.
fn push_all(producer: &mut Producer, complete: &OutputCounters) {
    for number in 0..COUNT {
        let (class, subject) = kind_of(number);
        producer.set_subject(subject);
        producer.try_push(class, record(number).as_bytes()).unwrap();
        if number % 500 == 499 {
            producer.flush();
            while complete.records() <= number as u64 {
                thread::sleep(Duration::from_micros(100));
            }
        }
    }
}

type Takes = fn(&RecordClass, &FilterSubject) -> bool;

#[test]
fn each_output_gets_what_its_filter_takes_in_order() {
    let outputs: [(Filter, Takes); 5] = [
        (Filter::ALL, |_, _| true),
        (
            Filter { severity: Severity::Medium, receiver: Some(2), ..Filter::ALL },
            |class, subject| {
                class.severity >= Severity::Medium && matches!(subject.system, None | Some(2))
            },
        ),
        (
            Filter {
                activities: Activities::of([Activity::ProcessCreated, Activity::ProcessHidden]),
                ..Filter::of_preset(Preset::Security)
            },
            |class, _| class.activity != Activity::FileDescriptorOpen,
        ),
        (Filter { alerts_only: true, system: Some(3), ..Filter::ALL }, |class, subject| {
            class.is_alert && subject.system == Some(3)
        }),
        (Filter { activities: Activities::of([]), ..Filter::ALL }, |_, _| false),
    ];
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = |index: usize| folder.path().join(index.to_string());
        let opened = outputs.iter().enumerate();
        let opened = opened.map(|(index, (filter, _))| file_output(&path(index), kind, *filter));
        let mut counters = Vec::new();
        run(opened.collect(), |producer, all| {
            push_all(producer, &all[0]);
            counters = all.to_vec();
        });
        for (index, (filter, takes)) in outputs.iter().enumerate() {
            let taken = (0..COUNT).filter(|&number| {
                let (class, subject) = kind_of(number);
                takes(&class, &subject)
            });
            let expected: Vec<String> = taken.map(record).collect();
            let text = fs::read_to_string(path(index)).unwrap();
            assert!(text.lines().eq(expected.iter().map(String::as_str)), "{kind:?} {filter:?}");
            let counted = (counters[index].records(), counters[index].dropped());
            assert_eq!(counted, (expected.len() as u64, 0), "{kind:?} {filter:?}");
        }
    }
}

#[test]
fn an_output_counts_as_dropped_only_what_it_takes() {
    let severity = Severity::High;
    let filter = Filter { severity, alerts_only: true, receiver: Some(1), ..Filter::ALL };
    let is_taken = |number: &usize| {
        let (class, subject) = kind_of(*number);
        class.severity == severity && class.is_alert && subject.receivers & 0b10 != 0
    };
    let wanted = (0..COUNT).filter(is_taken).count() as u64;
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        // A pipe that is full before the first record, and that nobody reads.
        let writer = File::from(OwnedFd::from(writer));
        fill(&writer);
        let transport = TransportSettings { kind, ..TransportSettings::default() };
        let stuck = StreamOutput::new(writer, transport).with_filter(filter);
        let all = file_output(&folder.path().join("all"), kind, Filter::ALL);
        let mut stuck_counters = Arc::default();
        run(vec![Box::new(stuck), all], |producer, counters| {
            push_all(producer, &counters[1]);
            stuck_counters = Arc::clone(&counters[0]);
        });
        let counted = (stuck_counters.records(), stuck_counters.dropped());
        assert_eq!(counted, (0, wanted), "{kind:?}");
        drop(reader);
    }
}

/// Fills a pipe.
fn fill(pipe: &File) {
    use std::io::Write as _;

    rustix::io::ioctl_fionbio(pipe, true).unwrap();
    let mut pipe: &File = pipe;
    while pipe.write(&[b'\n'; 4096]).is_ok() {}
    while pipe.write(b"\n").is_ok() {}
    rustix::io::ioctl_fionbio(pipe, false).unwrap();
}
