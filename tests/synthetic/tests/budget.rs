//! Scans that may not read everything: what they report, what they read, and that each object is
//! read after a few of them.

mod common;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use panoptes_engine::detect::binary_attestation::{ShippedBuilder, ShippedFiles};
use panoptes_engine::limits::{Limit, Limits};
use panoptes_engine::time::Now;
use panoptes_engine::walk::{Budget, ScanError, Scope};
use panoptes_engine::watch::{Setup, WatchedMachine, Workspace};
use panoptes_profiles::Profile;
use panoptes_records::queue::{Consumer, Producer, QueueSize, Waker, queue};
use panoptes_synthetic::{Counts, ForkOptions, Machine, Size, Source, When, profile};
use serde_json::Value;

use common::setup::{KEY, everything, one_hash, setup};
use common::{RELEASES, expected, found, kernel, walker};

fn limits() -> Limits {
    Limits {
        processes: 1024,
        file_descriptors: 32_768,
        vmas: 65_536,
        connections: 8192,
        ..Limits::default()
    }
}

/// A machine of which a scan without a budget leaves most.
fn builder() -> panoptes_synthetic::Builder {
    let size = Size {
        processes: 150,
        threads: 1,
        descriptors: 20,
        areas: 60,
        connections: 10,
        ..Size::default()
    };
    Machine::builder(&profile(RELEASES[2])).size(size)
}

/// The budgets of a test: by one of the bounds, or by a deadline that passes at a question.
#[derive(Clone, Copy, Debug)]
enum Bound {
    None,
    Batches(u32),
    Bytes(u64),
    Rows(u32),
    Question(u32),
}

impl Bound {
    fn with<T>(self, scan: impl FnOnce(&Budget<'_>) -> T) -> T {
        let asked = Cell::new(0_u32);
        let last = if let Self::Question(last) = self { last } else { u32::MAX };
        let is_over = || {
            asked.set(asked.get() + 1);
            asked.get() > last
        };
        let mut budget = Budget::NONE.until(&is_over);
        match self {
            Self::Batches(batches) => budget.batches = batches,
            Self::Bytes(bytes) => budget.bytes = bytes,
            Self::Rows(rows) => budget.rows = rows,
            Self::None | Self::Question(_) => {}
        }
        scan(&budget)
    }
}

/// A range of bounds, from one that leaves nearly everything to one that leaves nothing.
fn bounds(full: Counts, rows: u64) -> Vec<Bound> {
    let mut bounds = Vec::new();
    for tenths in [0, 3, 5, 6, 7, 8, 9, 10, 15] {
        bounds.push(Bound::Batches((full.batches * tenths / 10) as u32));
        bounds.push(Bound::Bytes(full.bytes * tenths / 10));
        bounds.push(Bound::Rows((rows * tenths / 10) as u32));
    }
    // Every batch is followed by a question.
    bounds.extend((0..full.batches as u32).map(Bound::Question));
    bounds
}

/// What a whole scan reads, and how many objects it finds.
fn full_scan(machine: &mut Machine) -> (Counts, u64) {
    let kernel = kernel(machine);
    let mut walker = walker(&limits());
    let mut source = Source::new(&mut *machine);
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).expect("processes are found");
    let rows = snapshot.descriptors.len() + snapshot.vmas.len() + 4 * snapshot.files.len();
    (source.counts(), rows as u64)
}

/// Number of partial scans after which everything was read.
const SCANS: usize = 24;

#[test]
fn every_object_is_read_after_a_few_partial_scans() {
    let mut machine = builder().build();
    let (full, rows) = full_scan(&mut machine);
    let kernel = kernel(&mut machine);
    let all = expected(&machine);
    let mut walker = walker(&limits());
    let mut partial = 0;
    for bound in bounds(full, rows) {
        walker.forget();
        let mut unseen = all.clone();
        for scan in 0..SCANS {
            let mut source = Source::new(&mut machine);
            let snapshot = bound
                .with(|budget| {
                    walker.scan_within(&mut source, &kernel, Scope::ALL, budget).map(|_| ())
                })
                .map(|()| walker.snapshot())
                .expect("processes are found");
            partial += usize::from(!snapshot.left.is_empty());
            assert_eq!(snapshot.losses.unreadable, 0, "{bound:?}");
            assert!(snapshot.processes.iter().all(|process| process.stable));
            assert!(snapshot.task_list_closed && snapshot.idr_complete);
            let lines = found(snapshot);
            let is_whole =
                |line: &&String| !line.contains("incomplete") && !line.ends_with("unreadable");
            // Areas of files that were left have no names.
            let wrong: Vec<_> = lines
                .iter()
                .filter(is_whole)
                .filter(|line| !all.contains(*line) && snapshot.left.is_empty())
                .collect();
            assert!(wrong.is_empty(), "{bound:?}, scan {scan}: {wrong:#?}");
            unseen.retain(|line| !lines.contains(line));
            if unseen.is_empty() {
                break;
            }
        }
        let some: Vec<_> = unseen.iter().take(5).collect();
        assert!(unseen.is_empty(), "{bound:?}: {} were not read: {some:#?}", unseen.len());
    }
    assert!(partial > 100, "{partial} partial scans are hardly a test");
}

/// Watches a machine; its records as lines without times.
struct Watcher {
    watched: WatchedMachine,
    workspace: Workspace,
    producer: Producer,
    consumer: Consumer,
    now: Now,
    partial: usize,
}

impl Watcher {
    fn new(profile: &Profile) -> Self {
        Self::with(profile, ShippedBuilder::new().build())
    }

    /// One that checks what runs.
    fn attesting(profile: &Profile) -> Self {
        Self::with(profile, one_hash())
    }

    fn with(profile: &Profile, shipped: ShippedFiles) -> Self {
        let limits = limits();
        let watched = WatchedMachine::new(Setup {
            report_existing: false,
            ..setup(&limits, profile, everything(), Arc::new(shipped))
        });
        let workspace = Workspace::new(&limits, KEY);
        let size = QueueSize { blocks: 8, block_bytes: 1 << 20 };
        let (producer, consumer) = queue(size, &Waker::default());
        let now = Now::at(1_795_000_000_000_000_000);
        Self { watched, workspace, producer, consumer, now, partial: 0 }
    }

    /// Scans so often, and returns the records.
    fn scan(&mut self, machine: &mut Machine, bound: Bound, scans: usize) -> BTreeSet<String> {
        let mut records = BTreeSet::new();
        for _ in 0..scans {
            machine.tick(100_000_000);
            self.now = self.now.after(100_000_000);
            let mut source = Source::new(&mut *machine);
            let now = self.now;
            let Self { watched, workspace, producer, .. } = &mut *self;
            bound
                .with(|budget| watched.scan_until(workspace, &mut source, now, budget, producer))
                .expect("it can be scanned");
            self.partial += usize::from(self.watched.is_partial());
            self.producer.flush();
            while let Some(block) = self.consumer.pop() {
                records.extend(block.iter().filter_map(line_of));
                self.consumer.give_back(block);
            }
        }
        records
    }
}

/// The activity of a record and the objects that it is about; `None` for those about the watching
/// itself.
fn line_of(record: &[u8]) -> Option<String> {
    let record: Value = serde_json::from_slice(record).expect("a record is JSON");
    let mut line = String::new();
    describe(&record, &mut line);
    let about_watching = ["coverage_", "births_missed", "_limit_reached"];
    (!about_watching.iter().any(|word| line.contains(word))).then_some(line)
}

/// Writes the values that name an object, whenever it was seen.
fn describe(value: &Value, line: &mut String) {
    const KEYS: [&str; 16] = [
        "name",
        "process_id",
        "parent_process_id",
        "process_name",
        "process_executable",
        "thread_id",
        "file_descriptor_index",
        "file_descriptor_name",
        "file_descriptor_file_type",
        "file_descriptor_inode_number",
        "virtual_memory_area_start_address",
        "virtual_memory_area_end_address",
        "source_ip_address",
        "source_port",
        "destination_ip_address",
        "destination_port",
    ];
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if value.is_object() || value.is_array() {
                    describe(value, line);
                } else if KEYS.contains(&key.as_str()) {
                    for word in [key.as_str(), "=", &value.to_string(), " "] {
                        line.push_str(word);
                    }
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| describe(value, line)),
        _ => {}
    }
}

#[test]
fn a_machine_that_stands_still_has_no_record() {
    let mut machine = builder().build();
    let (full, rows) = full_scan(&mut machine);
    let profile = machine.discover();
    let mut partial = 0;
    let bounds = bounds(full, rows);
    for bound in bounds.into_iter().step_by(3).chain([Bound::None]) {
        let mut watcher = Watcher::new(&profile);
        let records = watcher.scan(&mut machine, bound, 12);
        assert_eq!(records, BTreeSet::new(), "{bound:?}");
        partial += watcher.partial;
    }
    assert!(partial > 100, "{partial} partial scans are hardly a test");
}

/// The changes of a machine, each between two scans.
const CHANGES: [fn(&mut Machine); 8] = [
    |machine| {
        let options = ForkOptions { container: 0, uid: 33, new_session: true };
        let child = machine.fork_with(1, options);
        machine.exec(child, "/bin/work", &["work", "--hard"]);
        machine.open(child, "/tmp/one");
    },
    |machine| {
        let pid = last(machine);
        machine.map_anonymous(pid, 20, 2);
        machine.start_thread(pid);
    },
    |machine| {
        let (pid, source) = (last(machine), address("10.0.2.15:999"));
        machine.connect(pid, source, address("10.9.9.9:443"));
        machine.dup2(pid, 0, 500);
    },
    |machine| {
        // Processes of the baseline change, too.
        for pid in users(machine).into_iter().step_by(7) {
            machine.open(pid, "/tmp/two");
            machine.map_anonymous(pid, 1, 1);
        }
    },
    |machine| {
        for pid in users(machine).into_iter().step_by(5) {
            machine.close(pid, 3);
        }
    },
    |machine| machine.exec(last(machine), "/usr/bin/other", &["other"]),
    |machine| {
        let child = machine.fork(last(machine));
        machine.listen(child, address("0.0.0.0:8080"));
    },
    |machine| {
        let pid = users(machine)[3];
        machine.kill(pid);
        machine.kill(last(machine));
    },
];

fn address(text: &str) -> SocketAddr {
    text.parse().expect("it is an address")
}

fn last(machine: &Machine) -> u32 {
    machine.processes().last().expect("there are processes").pid
}

/// The processes of users that were built.
fn users(machine: &Machine) -> Vec<u32> {
    let is_users = |pid: u32| machine.descriptors(pid).len() > 10;
    machine.processes().map(|process| process.pid).filter(|&pid| is_users(pid)).collect()
}

/// The records of a machine that changes, with so many scans after each change.
fn records_of_changes(bound: Bound, scans: usize) -> (BTreeSet<String>, usize) {
    let mut machine = builder().build();
    let profile = machine.discover();
    let mut watcher = Watcher::new(&profile);
    let mut records = watcher.scan(&mut machine, bound, SCANS);
    for change in CHANGES {
        change(&mut machine);
        records.extend(watcher.scan(&mut machine, bound, scans));
    }
    records.extend(watcher.scan(&mut machine, bound, SCANS));
    (records, watcher.partial)
}

#[test]
fn partial_scans_report_the_same_changes_in_the_end() {
    let (full, rows) = full_scan(&mut builder().build());
    let (all, none) = records_of_changes(Bound::None, SCANS);
    assert_eq!(none, 0);
    assert!(all.len() > 80, "{all:#?}");
    let (fast_all, _) = records_of_changes(Bound::None, 1);
    let bounds = bounds(full, rows).into_iter();
    let mut partial = 0;
    for bound in bounds.step_by(13) {
        let (some, count) = records_of_changes(bound, SCANS);
        let missing: Vec<_> = all.difference(&some).take(5).collect();
        let extra: Vec<_> = some.difference(&all).take(5).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{bound:?}: {missing:#?}, {extra:#?}");
        partial += count;
        // What lived only while no scan looked may be missing, but nothing is false.
        let (fast, _) = records_of_changes(bound, 1);
        let extra: Vec<_> = fast.difference(&fast_all).take(5).collect();
        assert!(extra.is_empty(), "{bound:?}: {extra:#?}");
    }
    assert!(partial > 100, "{partial} partial scans are hardly a test");
}

#[test]
fn a_reverse_shell_is_found_by_partial_scans() {
    for bound in [Bound::None, Bound::Question(0), Bound::Question(20), Bound::Bytes(0)] {
        let mut machine = builder().build();
        let mut watcher = Watcher::new(&machine.discover());
        watcher.scan(&mut machine, bound, SCANS);
        let shell = machine.fork(last(&machine));
        machine.exec(shell, "/bin/bash", &["bash", "-i"]);
        let peer = address("203.0.113.7:4444");
        let socket = machine.connect(shell, address("10.0.2.15:40000"), peer);
        for standard in 0..3 {
            machine.dup2(shell, socket, standard);
        }
        let records = watcher.scan(&mut machine, bound, 2 * SCANS);
        let alerts = records.iter().filter(|line| line.contains("reverse_shell")).count();
        assert_eq!(alerts, 1, "{bound:?}: {records:#?}");
    }
}

#[test]
fn a_machine_within_its_limits_never_meets_the_default_budget() {
    let mut machine = builder().build();
    let kernel = kernel(&mut machine);
    // Its processes, areas and connections fill these.
    let limits = Limits {
        processes: 180,
        threads: 330,
        file_descriptors: 5200,
        vmas: 11_000,
        connections: 1500,
        containers: 4,
        ..Limits::default()
    };
    let mut walker = walker(&limits);
    let counts = [Budget::NONE, Budget::default_for(&limits)].map(|budget| {
        walker.forget();
        let mut source = Source::new(&mut machine);
        let snapshot = walker
            .scan_within(&mut source, &kernel, Scope::ALL, &budget)
            .expect("processes are found");
        assert!(snapshot.left.is_empty(), "{:?}", snapshot.left);
        source.counts()
    });
    assert_eq!(counts[0], counts[1]);
}

/// Makes a population.
type Populate = fn(&mut Machine);

/// Populations that cost much in one way.
const HOSTILE: [(&str, Populate); 6] = [
    ("sparse tables", |machine| {
        for number in 0..40 {
            let pid = machine.fork(1);
            for place in 1..20 {
                machine.dup2(pid, 0, place * 3001 + number);
            }
        }
    }),
    ("open files", |machine| {
        let pid = machine.fork(1);
        for number in 0..10_000 {
            machine.open(pid, &format!("/tmp/{}/{number}", number % 64));
        }
    }),
    ("areas", |machine| {
        for _ in 0..3 {
            let pid = machine.fork(1);
            machine.exec(pid, "/bin/many", &["many"]);
            machine.map_anonymous(pid, 15_000, 1);
        }
    }),
    ("deep directories", |machine| {
        let pid = machine.fork(1);
        machine.open(pid, &"/d".repeat(1200));
    }),
    ("programs", |machine| {
        for number in 0..100 {
            let pid = machine.fork(1);
            machine.exec(pid, &format!("/bin/program{number}"), &["program"]);
        }
    }),
    ("threads", |machine| {
        let pid = machine.fork(1);
        for _ in 0..3000 {
            machine.start_thread(pid);
        }
    }),
];

#[test]
fn no_scan_reads_more_than_one_and_a_half_times_its_budget() {
    let mut walker = walker(&limits());
    for (name, populate) in HOSTILE {
        let size =
            Size { processes: 150, areas: 30, connections: 10, modules: 0, ..Size::default() };
        let builder = Machine::builder(&profile(RELEASES[2])).size(size).memory(1 << 30);
        let mut machine = builder.build();
        populate(&mut machine);
        let kernel = kernel(&mut machine);
        let mut work = |bound: Bound| {
            let mut source = Source::new(&mut machine);
            bound
                .with(|budget| {
                    walker.scan_within(&mut source, &kernel, Scope::ALL, budget).map(|_| ())
                })
                .expect("processes are found");
            (source.counts(), walker.snapshot().left)
        };
        let (full, left) = work(Bound::None);
        assert!(left.is_empty(), "{name}");
        // What a scan always reads.
        let (least, _) = work(Bound::Question(0));
        println!("{name}: {full:?}, at least {least:?}");
        for part in [1, 2, 4, 8] {
            for _ in 0..4 {
                let bytes = least.bytes + (full.bytes.saturating_sub(least.bytes)) * part / 8;
                let (read, left) = work(Bound::Bytes(bytes));
                assert!(read.bytes * 2 <= bytes * 3, "{name}: {read:?} of {bytes}, {left:?}");
                let batches =
                    least.batches + (full.batches.saturating_sub(least.batches)) * part / 8;
                let (read, left) = work(Bound::Batches(batches as u32));
                assert!(read.batches * 2 <= batches * 3, "{name}: {read:?} of {batches}, {left:?}");
            }
        }
    }
}

/// What a scan did up to a request to stop, and after it.
#[derive(Debug, Default)]
struct Stopped {
    /// Questions whether to stop, until the answer is yes.
    questions: u64,
    /// Most batches and requests from one question to the next.
    most: (u64, u64),
    /// Batches and requests after the request to stop.
    after: (u64, u64),
    result: Option<Result<(), ScanError>>,
    records: usize,
}

impl Watcher {
    /// Scans once; the question with this number, and those after it, are answered by a request to
    /// stop.
    fn stop_at(&mut self, machine: &mut Machine, last: u64) -> Stopped {
        machine.tick(100_000_000);
        self.now = self.now.after(100_000_000);
        let read = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let counts = || (read.0.load(Ordering::Relaxed), read.1.load(Ordering::Relaxed));
        let hooked = Arc::clone(&read);
        let mut source = Source::with_hook(&mut *machine, move |_, when, _| {
            if let When::Batch(requests) = when {
                hooked.0.fetch_add(1, Ordering::Relaxed);
                hooked.1.fetch_add(requests.len() as u64, Ordering::Relaxed);
            }
        });
        let (questions, before, at_stop) = (Cell::new(0), Cell::new((0, 0)), Cell::new(None));
        let most = Cell::new((0, 0));
        let must_stop = || {
            let (now, then) = (counts(), before.replace(counts()));
            if at_stop.get().is_none() {
                let (batches, requests) = most.get();
                most.set((batches.max(now.0 - then.0), requests.max(now.1 - then.1)));
                questions.set(questions.get() + 1);
                at_stop.set((questions.get() >= last).then_some(now));
            }
            at_stop.get().is_some()
        };
        let budget = Budget::NONE.unless(&must_stop);
        let Self { watched, workspace, producer, now, .. } = &mut *self;
        let result = watched.scan_until(workspace, &mut source, *now, &budget, producer);
        let (end, stop) = (counts(), at_stop.get().unwrap_or(counts()));
        self.producer.flush();
        let mut records = 0;
        while let Some(block) = self.consumer.pop() {
            records += block.iter().count();
            self.consumer.give_back(block);
        }
        Stopped {
            questions: questions.get(),
            most: most.get(),
            after: (end.0 - stop.0, end.1 - stop.1),
            result: Some(result),
            records,
        }
    }
}

#[test]
fn what_a_scan_has_cost_is_known() {
    let mut machine = builder().build();
    let mut watcher = Watcher::new(&machine.discover());
    watcher.scan(&mut machine, Bound::None, 2);
    assert_eq!(watcher.watched.figures().stages_ns, [0; 5], "without a clock");
    let ticks = Cell::new(0);
    // Each stage takes as long as the ones before it together.
    let clock = || {
        ticks.set(2 * ticks.get() + 1);
        ticks.get()
    };
    let budget = Budget::NONE.timed_by(&clock);
    machine.tick(100_000_000);
    let now = watcher.now.after(100_000_000);
    let mut source = Source::new(&mut machine);
    let Watcher { watched, workspace, producer, .. } = &mut watcher;
    let scanned = watched.scan_until(workspace, &mut source, now, &budget, producer);
    assert_eq!(scanned, Ok(()));
    let (figures, counts) = (watched.figures(), source.counts());
    assert_eq!(figures.stages_ns, [2, 4, 8, 16, 32]);
    assert_eq!(figures.work.batches, counts.batches);
    // Objects take whole words, and nothing was read twice.
    let bytes = figures.work.bytes;
    assert!((counts.bytes..counts.bytes * 2).contains(&bytes), "{bytes} {counts:?}");
    let processes = watched.usage(Limit::Processes);
    let found = workspace.snapshot().processes.len() as u64;
    assert_eq!((processes.used, processes.capacity, processes.untracked), (found, 1024, 0));
}

/// Objects of one batch have at most three requests each, and page-table walks one more each.
const REQUESTS_MAX: u64 = 3 * 32_768 + 16_384;
/// Batches of one round: one for each level of page tables, and one for the objects.
const BATCHES_MAX: u64 = 6;

/// SIGTERM takes effect in 100 ms: from one question to the next, a scan reads at most one batch of
/// objects, and afterwards nothing.
#[test]
fn a_scan_that_must_stop_reads_and_reports_nothing_more() {
    for (name, populate) in HOSTILE {
        let size =
            Size { processes: 150, areas: 30, connections: 10, modules: 0, ..Size::default() };
        let builder = Machine::builder(&profile(RELEASES[2])).size(size).memory(1 << 30);
        let mut machine = builder.build();
        let watched = machine.discover();
        let watcher = |machine: &mut Machine| {
            let mut watcher = Watcher::attesting(&watched);
            watcher.scan(machine, Bound::None, 6);
            watcher
        };
        let mut watchers: Vec<_> = (0..8).map(|_| watcher(&mut machine)).collect();
        populate(&mut machine);
        // The scan that does the most among those that report something, and the number of scans
        // before it. A later one may do more: it also looks for changed paths.
        let mut first = watchers.pop().expect("there is one");
        let all: Vec<_> = (0..8).map(|_| first.stop_at(&mut machine, u64::MAX)).collect();
        let reporting = (0..).zip(&all).filter(|(_, scan)| scan.records > 0);
        let most = reporting.max_by_key(|(_, scan)| scan.questions);
        let (before, whole) = most.expect("a scan reports something");
        for scan in &all {
            assert_eq!(scan.result, Some(Ok(())), "{name}");
            let (batches, requests) = scan.most;
            assert!(batches <= BATCHES_MAX && requests <= REQUESTS_MAX, "{name}: {scan:?}");
        }
        println!("{name}, scan {before}: {whole:?}");
        let parts = watchers.len() as u64;
        for (part, mut watcher) in (0..).zip(watchers) {
            watcher.scan(&mut machine, Bound::None, before);
            let last = 1 + whole.questions * part / parts;
            let stopped = watcher.stop_at(&mut machine, last);
            assert_eq!(stopped.result, Some(Err(ScanError::Stopped)), "{name}, {last}");
            assert_eq!(stopped.after, (0, 0), "{name}, {last}");
            assert!(stopped.records <= whole.records, "{name}, {last}: {stopped:?}");
        }
    }
}
