//! Records through queue and writer into real files and pipes, by both ways of writing.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use panoptes_records::activities::Preset;
use panoptes_records::filter::{Filter, FilterSubject};
use panoptes_records::people::LineStyle;
use panoptes_records::queue::{Producer, QueueSize, RecordClass, Waker, queue};
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::lines::LineForm;
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output, OutputCounters, OutputKind};
use panoptes_sinks::writer::{OutputChange, WorkLeft, Writer, WriterEnd};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};

const ALERTS: Filter = Filter { alerts_only: true, ..Filter::ALL };
const KINDS: [OutputKind; 2] = [OutputKind::IoUring, OutputKind::Plain];

fn settings(kind: OutputKind) -> TransportSettings {
    TransportSettings { kind, ..TransportSettings::default() }
}

fn file_output(path: &Path, kind: OutputKind, options: FileOptions) -> Box<dyn Output> {
    let options = FileOptions { transport: settings(kind), ..options };
    let output = FileOutput::open(path, options).unwrap();
    assert_eq!(output.kind(), kind);
    Box::new(output)
}

fn stream_output(file: File, kind: OutputKind) -> Box<dyn Output> {
    let output = StreamOutput::new(file, settings(kind));
    assert_eq!(output.kind(), kind);
    Box::new(output)
}

/// A writer on its own thread.
struct Running {
    thread: thread::JoinHandle<WriterEnd>,
    counters: Vec<Arc<OutputCounters>>,
    stop: Arc<AtomicBool>,
}

fn start(size: QueueSize, outputs: Vec<Box<dyn Output>>) -> (Producer, Running) {
    let (producer, consumer) = queue(size, &Waker::default());
    let counters = outputs.iter().map(|output| Arc::clone(output.counters())).collect();
    let mut writer = Writer::new(vec![consumer], outputs);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        let start = Instant::now();
        writer.run(&|| start.elapsed().as_nanos() as u64, &stopped)
    });
    (producer, Running { thread, counters, stop })
}

fn record(number: usize) -> String {
    format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(number % 300))
}

/// Pushes all records, waiting while the queue is full, with a flush now and then as at a scan's
/// end.
fn push_all(producer: &mut Producer, count: usize) {
    for number in 0..count {
        let record = record(number);
        while producer.try_push(RecordClass::default(), record.as_bytes()).is_err() {
            thread::yield_now();
        }
        if number % 1000 == 999 {
            producer.flush();
        }
    }
    producer.flush();
}

/// Checks that the text is exactly this many records, in order from the first.
fn check_complete(text: &str, count: usize) {
    let mut lines = text.lines();
    for number in 0..count {
        assert_eq!(lines.next(), Some(record(number).as_str()));
    }
    assert_eq!(lines.next(), None);
}

/// A queue that never overruns in these tests, so that every loss is a fault.
const LARGE: QueueSize = QueueSize { blocks: 600, block_bytes: 64 * 1024 };

/// The reading and the writing end of a pipe.
fn pipe() -> (File, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    let reader = File::from(std::os::fd::OwnedFd::from(reader));
    (reader, File::from(std::os::fd::OwnedFd::from(writer)))
}

fn check_way(counters: &OutputCounters, kind: OutputKind) {
    let (ring, plain) = (counters.ring_writes(), counters.plain_writes());
    match kind {
        OutputKind::IoUring => assert!(ring > 0 && plain == 0, "{counters:?}"),
        OutputKind::Plain => assert!(ring == 0 && plain > 0, "{counters:?}"),
    }
}

#[test]
fn rotation_under_load_keeps_every_record_once_and_whole() {
    const COUNT: usize = 100_000;
    for kind in KINDS {
        for sync_ns in [None, Some(3_000_000)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("events.jsonl");
            let options = FileOptions {
                rotate_size: 1_000_000,
                max_files: 100,
                sync_ns,
                ..FileOptions::default()
            };
            let (mut producer, running) = start(LARGE, vec![file_output(&path, kind, options)]);
            push_all(&mut producer, COUNT);
            drop(producer);
            assert_eq!(running.thread.join().unwrap(), WriterEnd::Finished);
            let counters = &running.counters[0];
            let mut text = String::new();
            for number in (1..=100).rev() {
                let old = folder.path().join(format!("events.jsonl.{number}"));
                if let Ok(old) = fs::read_to_string(old) {
                    assert!(old.len() <= 1_000_000 && old.ends_with('\n'));
                    text += &old;
                }
            }
            text += &fs::read_to_string(&path).unwrap();
            check_complete(&text, COUNT);
            check_way(counters, kind);
            assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
            assert_eq!(counters.bytes(), text.len() as u64);
            assert!(counters.rotations() >= 17, "{counters:?}");
            assert_eq!(counters.errors(), 0);
            assert_eq!(counters.syncs() > 0, sync_ns.is_some());
        }
    }
}

#[test]
fn a_folder_that_is_removed_under_load_is_made_anew_and_has_all_that_follows() {
    for kind in KINDS {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("log");
        let path = folder.join("events.jsonl");
        let output = file_output(&path, kind, FileOptions::default());
        let (mut producer, running) = start(LARGE, vec![output]);
        let begin = Instant::now();
        let (mut count, mut before) = (0, None);
        while begin.elapsed() < Duration::from_millis(1500) {
            producer.try_push(RecordClass::default(), format!("{count}").as_bytes()).unwrap();
            producer.flush();
            count += 1;
            if before.is_none() && begin.elapsed() > Duration::from_millis(200) {
                before = Some(running.counters[0].records());
                fs::remove_dir_all(&folder).unwrap();
            }
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(running.counters[0].remade(), 1, "{:?}", running.counters[0]);
        drop(producer);
        running.thread.join().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers[0] <= before.unwrap());
        assert_eq!(numbers, (numbers[0]..count).collect::<Vec<_>>());
        assert_eq!(running.counters[0].dropped(), 0);
    }
}

#[test]
fn old_files_beyond_the_limit_are_removed() {
    for (kind, max_files) in KINDS.into_iter().flat_map(|kind| [(kind, 0), (kind, 3)]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let options = FileOptions { rotate_size: 10_000, max_files, ..FileOptions::default() };
        let (mut producer, running) = start(LARGE, vec![file_output(&path, kind, options)]);
        push_all(&mut producer, 1000);
        drop(producer);
        running.thread.join().unwrap();
        let count = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(count, max_files as usize + 1);
        let last = fs::read_to_string(&path).unwrap();
        assert_eq!(last.lines().last(), Some(record(999).as_str()));
    }
}

#[test]
fn an_old_file_is_continued_without_its_torn_last_line() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, "{\"old\":true}\n{\"torn\":").unwrap();
        for mended in [1, 0] {
            let output = file_output(&path, kind, FileOptions::default());
            let (mut producer, running) = start(QueueSize::default(), vec![output]);
            push_all(&mut producer, 2);
            drop(producer);
            running.thread.join().unwrap();
            assert_eq!(running.counters[0].mended(), mended);
        }
        let records = [record(0), record(1), record(0), record(1), String::new()].join("\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"old\":true}\n".to_owned() + &records);
    }
}

#[test]
fn a_file_that_cannot_be_synced_counts_its_records_as_unsynced() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let options = FileOptions { sync_ns: Some(0), ..FileOptions::default() };
        let (mut producer, running) = start(LARGE, vec![file_output(&path, kind, options)]);
        push_all(&mut producer, 10);
        drop(producer);
        running.thread.join().unwrap();
        let counters = &running.counters[0];
        assert!(counters.failed_syncs() > 0 && counters.syncs() == 0, "{counters:?}");
        assert_eq!((counters.records(), counters.unsynced()), (10, 10));
    }
}

#[test]
fn files_that_were_moved_are_opened_again_on_request_without_losing_a_record() {
    const COUNT: usize = 20_000;
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let (mut producer, consumer) = queue(LARGE, &Waker::default());
        let output = file_output(&path, kind, FileOptions::default());
        let counters = Arc::clone(output.counters());
        let (changes, changed) = std::sync::mpsc::channel();
        let mut writer = Writer::with_changes(vec![consumer], vec![output], changed);
        let thread = thread::spawn(move || {
            let start = Instant::now();
            writer.run(&|| start.elapsed().as_nanos() as u64, &AtomicBool::new(false))
        });
        let mut names = Vec::new();
        for number in 0..COUNT {
            producer.try_push(RecordClass::default(), record(number).as_bytes()).unwrap();
            if number % 5000 == 2500 {
                producer.flush();
                names.push(folder.path().join(format!("moved-{number}")));
                fs::rename(&path, names.last().unwrap()).unwrap();
                changes.send(OutputChange::Reopen).unwrap();
                thread.thread().unpark();
                while !path.exists() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        drop(producer);
        thread.join().unwrap();
        names.push(path);
        let text: String = names.iter().map(|name| fs::read_to_string(name).unwrap()).collect();
        check_complete(&text, COUNT);
        assert_eq!((counters.errors(), counters.dropped()), (0, 0));
    }
}

#[test]
fn a_slow_pipe_gets_every_record_whole_through_short_writes() {
    const COUNT: usize = 20_000;
    for kind in KINDS {
        let (mut reader, writer) = pipe();
        let (mut producer, running) = start(LARGE, vec![stream_output(writer, kind)]);
        let reading = thread::spawn(move || {
            let mut text = Vec::new();
            let mut part = [0; 3001];
            loop {
                let length = reader.read(&mut part).unwrap();
                if length == 0 {
                    return String::from_utf8(text).unwrap();
                }
                text.extend_from_slice(&part[..length]);
            }
        });
        push_all(&mut producer, COUNT);
        drop(producer);
        assert_eq!(running.thread.join().unwrap(), WriterEnd::Finished);
        check_way(&running.counters[0], kind);
        check_complete(&reading.join().unwrap(), COUNT);
    }
}

/// As of an ssh session that ends: nobody reads what comes later.
#[test]
fn a_terminal_that_has_gone_is_an_end_and_no_error() {
    for kind in KINDS {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let window = openpt(flags).unwrap();
        unlockpt(&window).unwrap();
        let path = ptsname(&window, Vec::new()).unwrap();
        let terminal = open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let output = stream_output(File::from(terminal), kind);
        let (mut producer, running) = start(LARGE, vec![output]);
        drop(window);
        producer.try_push(RecordClass::default(), record(0).as_bytes()).unwrap();
        producer.flush();
        assert_eq!(running.thread.join().unwrap(), WriterEnd::NoReader);
        let counters = &running.counters[0];
        assert_eq!((counters.errors(), counters.dropped()), (0, 0));
    }
}

#[test]
fn a_closed_pipe_is_an_end_and_no_error() {
    for kind in KINDS {
        let (reader, writer) = pipe();
        let (mut producer, running) = start(LARGE, vec![stream_output(writer, kind)]);
        producer.try_push(RecordClass::default(), record(0).as_bytes()).unwrap();
        producer.flush();
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next().unwrap().unwrap(), record(0));
        drop(lines);
        producer.try_push(RecordClass::default(), record(1).as_bytes()).unwrap();
        producer.flush();
        assert_eq!(running.thread.join().unwrap(), WriterEnd::NoReader);
        let counters = &running.counters[0];
        assert_eq!((counters.errors(), counters.dropped()), (0, 0));
    }
}

#[test]
fn a_closed_pipe_leaves_the_file_beside_it_alone() {
    const COUNT: usize = 5000;
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let (reader, writer) = pipe();
        drop(reader);
        let outputs =
            vec![stream_output(writer, kind), file_output(&path, kind, FileOptions::default())];
        let (mut producer, running) = start(LARGE, outputs);
        push_all(&mut producer, COUNT);
        drop(producer);
        assert_eq!(running.thread.join().unwrap(), WriterEnd::Finished);
        let counters = &running.counters[1];
        let counted = (counters.records(), counters.dropped());
        assert_eq!(counted, (COUNT as u64, 0), "{kind:?} {counters:?}");
        check_complete(&fs::read_to_string(&path).unwrap(), COUNT);
    }
}

#[test]
fn a_reader_that_never_reads_costs_no_other_output_a_record() {
    const COUNT: usize = 30_000;
    const SMALL: QueueSize = QueueSize { blocks: 16, block_bytes: 64 * 1024 };
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let (reader, writer) = pipe();
        let outputs =
            vec![stream_output(writer, kind), file_output(&path, kind, FileOptions::default())];
        let (mut producer, running) = start(SMALL, outputs);
        // No faster than the file, which would otherwise rightly lose records too.
        for number in 0..COUNT {
            producer.try_push(RecordClass::default(), record(number).as_bytes()).unwrap();
            if number % 500 == 499 {
                producer.flush();
                while running.counters[1].records() <= number as u64 {
                    thread::sleep(Duration::from_micros(100));
                }
            }
        }
        running.stop.store(true, Ordering::Relaxed);
        assert_eq!(running.thread.join().unwrap(), WriterEnd::Stopped);
        check_complete(&fs::read_to_string(&path).unwrap(), COUNT);
        let stream = &running.counters[0];
        assert_eq!(running.counters[1].dropped(), 0);
        assert!(stream.dropped() > 0);
        assert_eq!(stream.records() + stream.dropped(), COUNT as u64, "{stream:?}");
        drop(reader);
    }
}

#[test]
fn a_full_disk_is_an_error_that_counts_what_is_lost_and_never_blocks() {
    const SMALL: QueueSize = QueueSize { blocks: 4, block_bytes: 64 * 1024 };
    for kind in KINDS {
        let output = stream_output(File::options().write(true).open("/dev/full").unwrap(), kind);
        let (mut producer, running) = start(SMALL, vec![output]);
        push_all(&mut producer, 20_000);
        drop(producer);
        assert_eq!(running.thread.join().unwrap(), WriterEnd::Finished);
        let counters = &running.counters[0];
        assert_eq!((counters.records(), counters.dropped()), (0, 20_000), "{counters:?}");
        assert!(counters.errors() > 0);
        assert_eq!(counters.last_error(), 28, "ENOSPC");
    }
}

#[test]
fn a_record_alone_is_written_within_milliseconds() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let output = file_output(&path, kind, FileOptions::default());
        let (mut producer, running) = start(QueueSize::default(), vec![output]);
        let mut times = Vec::new();
        for number in 0..50 {
            thread::sleep(Duration::from_millis(2));
            let start = Instant::now();
            producer.try_push(RecordClass::default(), record(number).as_bytes()).unwrap();
            producer.flush();
            while running.counters[0].records() <= number as u64 {
                thread::yield_now();
            }
            times.push(start.elapsed());
        }
        times.sort();
        // A generous bound, since other work shares the machine.
        assert!(times[25] < Duration::from_millis(20), "{kind:?} {times:?}");
        drop(producer);
        running.thread.join().unwrap();
    }
}

/// An output of alerts has each of them once, in order, and an event flood neither rotates its file
/// nor costs it a record.
#[test]
fn alerts_have_a_file_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (events, alerts) = (folder.path().join("events.jsonl"), folder.path().join("alerts.jsonl"));
    let small = FileOptions { rotate_size: 2000, max_files: 1, ..FileOptions::default() };
    let outputs = vec![
        file_output(&events, OutputKind::IoUring, small),
        file_output(
            &alerts,
            OutputKind::Plain,
            FileOptions { filter: ALERTS, ..FileOptions::default() },
        ),
    ];
    let (mut producer, consumer) = queue(LARGE, &Waker::default());
    let mut writer = Writer::new(vec![consumer], outputs);
    let mut now_ns = 0;
    for number in 0..1000 {
        let is_alert = number % 20 == 7;
        let class = RecordClass { is_urgent: is_alert, is_alert, ..RecordClass::default() };
        producer.try_push(class, record(number).as_bytes()).unwrap();
        if number % 9 == 0 {
            producer.flush();
            now_ns += 1_000_000;
            writer.step(now_ns, Duration::ZERO);
        }
    }
    drop(producer);
    while writer.step(now_ns, Duration::from_millis(1)) != WorkLeft::Nothing {
        now_ns += 1_000_000;
    }
    let lines = fs::read_to_string(&alerts).unwrap();
    let expected: Vec<_> = (0..50).map(|alert| record(alert * 20 + 7)).collect();
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    assert!(fs::read_to_string(&events).unwrap().lines().count() < 200, "the events have rotated");
}

#[test]
fn two_scanners_share_a_writer_and_each_keeps_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    let waker = Waker::default();
    let (mut first, first_queue) = queue(LARGE, &waker);
    let (mut second, second_queue) = queue(LARGE, &waker);
    let output = file_output(&path, OutputKind::IoUring, FileOptions::default());
    let mut writer = Writer::new(vec![first_queue, second_queue], vec![output]);
    let mut now_ns = 0;
    for number in 0..1000 {
        first.try_push(RecordClass::default(), format!("a{number:04}").as_bytes()).unwrap();
        second.try_push(RecordClass::default(), format!("b{number:04}").as_bytes()).unwrap();
        if number % 7 == 0 {
            first.flush();
        }
        now_ns += 100_000;
        writer.step(now_ns, Duration::ZERO);
    }
    drop((first, second));
    while writer.step(now_ns, Duration::from_millis(1)) != WorkLeft::Nothing {
        now_ns += 1_000_000;
    }
    assert!(writer.is_finished());
    let text = fs::read_to_string(&path).unwrap();
    for name in ["a", "b"] {
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(name)).collect();
        assert!(lines.len() == 1000 && lines.is_sorted());
    }
}

#[test]
fn records_of_all_queues_go_out_in_the_order_they_were_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let waker = Waker::default();
    let (mut producers, consumers): (Vec<_>, Vec<_>) = (0..3).map(|_| queue(LARGE, &waker)).unzip();
    let output = file_output(&path, OutputKind::Plain, FileOptions::default());
    let mut writer = Writer::new(consumers, vec![output]);
    for number in 0..60 {
        let producer = &mut producers[(60 - number) * number % 3];
        producer.try_push(RecordClass::default(), record(number).as_bytes()).unwrap();
        producer.flush();
    }
    drop(producers);
    writer.finish(&|| 0);
    check_complete(&fs::read_to_string(&path).unwrap(), 60);
}

/// Outputs come and go while the writer runs. Each has the records of its own system only.
#[test]
fn a_system_s_output_can_be_added_and_ended_while_the_writer_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for kind in KINDS {
        let all = path("all");
        let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
        let (changes, changed) = std::sync::mpsc::channel();
        let outputs = vec![file_output(&all, kind, FileOptions::default())];
        let mut writer = Writer::with_changes(vec![consumer], outputs, changed);
        let step = {
            let start = Instant::now();
            move |writer: &mut Writer| {
                let now = start.elapsed().as_nanos() as u64 + 1_000_000_000;
                writer.step(now, Duration::from_millis(1))
            }
        };
        let mut push = |system: Option<u32>, text: &str| {
            producer.set_subject(FilterSubject { system, ..FilterSubject::SERVICE });
            producer.try_push(RecordClass::default(), text.as_bytes()).unwrap();
            producer.flush();
        };
        push(Some(1), "before its log");
        step(&mut writer);
        for system in [1, 2] {
            let filter = Filter { system: Some(system), ..Filter::ALL };
            let options = FileOptions { filter, ..FileOptions::default() };
            let log = file_output(&path(&system.to_string()), kind, options);
            changes.send(OutputChange::Add(log, 0)).unwrap();
        }
        push(Some(1), "one");
        push(None, "of the service");
        push(Some(2), "two");
        push(Some(1), "the last of one");
        changes.send(OutputChange::End(1)).unwrap();
        let begin = Instant::now();
        while step(&mut writer) != WorkLeft::Nothing && begin.elapsed() < Duration::from_mins(1) {}
        push(Some(1), "after its log");
        drop(producer);
        writer.finish(&|| begin.elapsed().as_nanos() as u64);
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        assert_eq!(read("1"), "one\nthe last of one\n");
        assert_eq!(read("2"), "two\n");
        assert_eq!(read("all").lines().count(), 6);
        for name in ["all", "1", "2"] {
            fs::remove_file(path(name)).unwrap();
        }
    }
}

#[test]
fn a_terminal_shows_a_preset_as_lines_for_people() {
    let folder = tempfile::tempdir().unwrap();
    for kind in KINDS {
        let path = folder.path().join("terminal");
        let output = StreamOutput::new(File::create(&path).unwrap(), settings(kind))
            .with_form(LineForm::ForPeople(LineStyle::default()))
            .with_filter(Filter::of_preset(Preset::Security));
        let (mut producer, running) = start(QueueSize::default(), vec![Box::new(output)]);
        let names = ["process_created", "thread_created", "reverse_shell_detected"];
        let presets = [Preset::Security, Preset::Everything, Preset::Alerts];
        for (name, preset) in names.into_iter().zip(presets) {
            let text = format!(
                "{{\"occurred_message_time_iso_8601_ns\":\"2026-11-20T07:31:46.905224659+00:00\",\
                 \"severity\":\"INFO\",\"activity_data\":{{\"name\":\"{name}\"}}}}"
            );
            producer
                .try_push(RecordClass { preset, ..RecordClass::default() }, text.as_bytes())
                .unwrap();
        }
        drop(producer);
        running.thread.join().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "07:31:46.905  INFO    process_created",
                "07:31:46.905  INFO    reverse_shell_detected"
            ]
        );
        assert_eq!(running.counters[0].records(), 2);
    }
}
