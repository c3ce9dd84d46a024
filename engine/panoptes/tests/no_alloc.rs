//! After start nothing is allocated: neither by the scanner thread nor by the writer thread, with
//! large tables and with full tables, while the watched machine changes all the time.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::Write;
use std::os::unix::thread::JoinHandleExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser as _;
use nix::sys::signal::Signal;
use panoptes::cli::{Arguments, Command};
use panoptes::config::LogLevel;
use panoptes::message::Messages;
use panoptes::request::WatchRequest;
use panoptes_allocations::{AllocatorCall, HookAllocator};
use panoptes_engine::detect::binary_attestation::{
    ShippedBuilder, ShippedFile, ShippedFiles, ShippedSubject,
};
use panoptes_engine::limits::Limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::time::{Monotonic, Now, RealTime};
use panoptes_engine::watch::{MachineIdentity, SLICE_BYTES, Setup, WatchedMachine, Workspace};
use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_records::activities::Activity;
use panoptes_records::filter::Filter;
use panoptes_records::json::Limits as TextLimits;
use panoptes_records::queue::{QueueSize, Waker, queue};
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_records::record::value::IndexedObjects;
use panoptes_records::redact::{Pattern, Redactor};
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::lines::LineForm;
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output, OutputKind};
use panoptes_sinks::writer::Writer;
use panoptes_sources::{FileSource, MachineSource as _};
use panoptes_tables::HashKey;

const SCANS: u32 = 1000;
const INTERVAL: Duration = Duration::from_millis(10);
/// Work that changes all the time, so that tables reach their limits again and again.
const CHANGES: [&str; 2] = ["churn seconds=100000", "storm rate=50 seconds=100000"];

/// Makes more than [`LOGGED`] bytes of records, however few scans there are: the load stays until
/// then. The background work never ends, so the agent does not wait for the guest to be at rest.
const LOAD: &str = "load processes=20 threads=2 fds=20 areas=20 connections=1 rest=0";
const LOGGED: u64 = 256 << 10;
/// Maximum time that the service may take to write the records.
const PATIENCE: Duration = Duration::from_mins(1);

thread_local! {
    static SEALED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the service's own threads are sealed, by their names.
static SERVICE_SEALED: AtomicBool = AtomicBool::new(false);
static OFFENCES: AtomicU64 = AtomicU64::new(0);
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Counts an allocation on a sealed thread, and keeps a backtrace of the first one.
fn note(call: AllocatorCall) {
    if call.requested().is_none() {
        return;
    }
    thread_local! {
        /// Set while an allocation is recorded, because recording allocates too.
        static NOTING: Cell<bool> = const { Cell::new(false) };
    }
    // A thread that is ending has no thread-local values any more.
    if NOTING.try_with(|noting| noting.replace(true)).unwrap_or(true) {
        return;
    }
    if is_sealed() && OFFENCES.fetch_add(1, Ordering::Relaxed) == 0 {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("a thread");
        let offence = format!("{thread}: {call:?}\n{}", Backtrace::force_capture());
        *FIRST.lock().unwrap() = Some(offence);
    }
    NOTING.set(false);
}

fn is_sealed() -> bool {
    SEALED.get()
        || SERVICE_SEALED.load(Ordering::Relaxed)
            && matches!(std::thread::current().name(), Some("panoptes-scanner" | "panoptes-writer"))
}

#[global_allocator]
static ALLOCATOR: HookAllocator = HookAllocator::new(note);

/// One test at a time, because the counters are global.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[track_caller]
fn assert_nothing_was_allocated(what: &str) {
    let offences = OFFENCES.swap(0, Ordering::Relaxed);
    let first = FIRST.lock().unwrap().take();
    assert_eq!(offences, 0, "{what}; the first: {}", first.unwrap_or_default());
}

/// Table sizes, each with a name.
fn capacities() -> [(&'static str, Limits); 3] {
    let room = Limits::default();
    let tiny = Limits {
        processes: 20,
        threads: 40,
        file_descriptors: 100,
        vmas: 200,
        connections: 5,
        containers: 3,
        string_length: 64,
        ..Limits::DEFAULT
    };
    // Every process is tracked, but hardly any of their objects.
    let poor = Limits { processes: 4096, threads: 1, file_descriptors: 10, vmas: 50, ..tiny };
    [
        ("room for everything", room),
        ("no room for processes", tiny),
        ("room for processes only", poor),
    ]
}

/// Outputs to a file and to `/dev/null`, each with `io_uring` and with `write`.
fn outputs(folder: &Path) -> Vec<Box<dyn Output>> {
    let mut outputs: Vec<Box<dyn Output>> = Vec::new();
    for kind in [OutputKind::IoUring, OutputKind::Plain] {
        let transport = TransportSettings { kind, ..TransportSettings::default() };
        let options = FileOptions {
            rotate_size: 1 << 20,
            max_files: 2,
            sync_ns: Some(100_000_000),
            filter: Filter::ALL,
            form: LineForm::Compact,
            transport,
        };
        let path = folder.join(format!("{kind:?}.jsonl"));
        outputs.push(Box::new(FileOutput::open(&path, options).unwrap()));
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        outputs.push(Box::new(StreamOutput::new(null, transport)));
    }
    outputs
}

fn watched(source: &mut FileSource, limits: Limits) -> WatchedMachine {
    let profile = discover(source, &DiscoveryOptions::default(), &mut ()).unwrap();
    let text = TextLimits::new(limits.string_length as usize);
    let watcher = BluefieldSystem { bluefield_networking_interfaces: Some(IndexedObjects(&[])) };
    let mut policy = PolicyConfig::default();
    for &activity in Activity::ALL {
        policy.set_enabled(activity, true);
    }
    let mut watched = WatchedMachine::new(Setup {
        limits,
        key: HashKey::new(1),
        message_ids: 2,
        policy,
        login_servers: <_>::default(),
        content_rules: Arc::default(),
        containers: std::sync::Arc::default(),
        exceptions: std::sync::Arc::default(),
        report_existing: true,
        waits_for_clock: false,
        header: RecordHeader::new(&"NONE".into(), &watcher, text),
        identity: MachineIdentity { name: "guest".to_owned(), ..MachineIdentity::default() },
        profile: &profile,
        shipped: Arc::new(one_hash()),
    });
    let patterns = ["[a-z]+[= /]([^ ]+)", "a", "[0-9]{2}"];
    let patterns = patterns.map(|pattern| Arc::new(Pattern::new(pattern).unwrap()));
    watched.set_redactor(Redactor::new(&patterns));
    watched
}

/// One approved hash, so that every program must be checked and none is approved.
fn one_hash() -> ShippedFiles {
    let mut builder = ShippedBuilder::new();
    let everywhere = builder.subject(&ShippedSubject::Everywhere).unwrap();
    let file = ShippedFile { sha256: Some([7; 32]), ..ShippedFile::default() };
    builder.add(everywhere, &file).unwrap();
    builder.build()
}

/// Scans `scans` times, sealed from the first scan on, in the way of the service's threads.
fn scan_sealed(memory: &Path, limits: Limits, scans: u32, interval: Duration, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut source = FileSource::open(memory).unwrap();
    let mut watched = watched(&mut source, limits);
    let mut workspace = Workspace::new(&limits, HashKey::new(3));
    let (mut producer, consumer) =
        queue(QueueSize { blocks: 128, block_bytes: 256 * 1024 }, &Waker::default());
    let outputs = outputs(folder.path());
    let counters: Vec<_> =
        outputs.iter().map(|output| (output.kind(), output.counters().clone())).collect();
    let mut writer = Writer::new(vec![consumer], outputs);
    let start = Instant::now();
    let writing = std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
        let clock = || start.elapsed().as_nanos() as u64;
        SEALED.set(true);
        let end = writer.run(&clock, &AtomicBool::new(false));
        SEALED.set(false);
        end
    });
    let (mut failed, mut due) = (0, Instant::now());
    SEALED.set(true);
    for _ in 0..scans {
        sleep(due.saturating_duration_since(Instant::now()));
        due = Instant::now() + interval;
        source.refresh();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = Now {
            monotonic: Monotonic::from_ns(start.elapsed().as_nanos() as i64),
            real: RealTime::from_ns(since.as_nanos() as i64),
        };
        let scanned = watched.scan(&mut workspace, &mut source, now, &mut producer);
        failed += u32::from(scanned.is_err());
        watched.work(&mut workspace, &mut source, SLICE_BYTES);
        producer.flush();
    }
    SEALED.set(false);
    let (refused, took) = (producer.refused(), start.elapsed());
    drop(producer);
    let end = writing.unwrap().join().unwrap();
    println!(
        "{what}: {scans} scans in {:.1} s, {refused} records refused, {end:?}",
        took.as_secs_f64()
    );
    for (kind, counters) in &counters {
        println!(
            "    {kind:?}: {} records in {} writes by the ring and {} by calls, {} rotations, {} \
             dropped",
            counters.records(),
            counters.ring_writes(),
            counters.plain_writes(),
            counters.rotations(),
            counters.dropped(),
        );
        assert!(counters.records() > 0);
        assert_eq!(
            (counters.ring_writes() > 0, counters.plain_writes() > 0),
            match kind {
                OutputKind::IoUring => (true, false),
                OutputKind::Plain => (false, true),
            }
        );
    }
    assert_eq!(failed, 0, "scans failed");
    assert_nothing_was_allocated(what);
}

fn boot() -> Guest {
    setup::ensure().unwrap();
    let mut guest = Guest::boot(&GuestSpec::new(Kernel::obtain(Flavor::V6_1).unwrap())).unwrap();
    for change in CHANGES {
        guest.agent(change).unwrap();
    }
    guest
}

#[test]
#[ignore = "boots a guest"]
fn a_thousand_scans_of_a_changing_machine_allocate_nothing() {
    let guest = boot();
    let _turn = turn();
    for (what, limits) in capacities() {
        scan_sealed(guest.ram_path(), limits, SCANS, INTERVAL, what);
    }
}

/// Keeps the messages.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The service itself, with its scanner and its writer, as in `panoptes watch`.
#[test]
#[ignore = "boots a guest"]
fn the_service_allocates_nothing_while_it_watches() {
    let mut guest = boot();
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let ram = guest.ram_path().display().to_string();
    let log_folder = folder.path().join("log").display().to_string();
    let state = format!("service.state_dir={}", folder.path().display());
    let words = ["panoptes", "watch", &ram, "--log-folder", &log_folder, "--set", &state];
    let words = [&words[..], &["--set", "output.stdout=false", "--interval", "10ms"]].concat();
    let Command::Watch(watch) = Arguments::try_parse_from(words).unwrap().command else {
        panic!("the command line is good");
    };
    let request = WatchRequest::watch(watch, false).unwrap();
    let said = Said::default();
    let messages = Arc::new(Messages::new(Box::new(said.clone()), false, LogLevel::Info));
    let service = std::thread::spawn(move || panoptes::watch::watch(&request, &messages));
    let begin = Instant::now();
    // The scanner still allocates its memory when the first system is found, so wait for a scan.
    let process = Activity::ProcessCreated.name();
    let log = || {
        let files = std::fs::read_dir(&log_folder).into_iter().flatten();
        files.filter_map(|file| std::fs::read_to_string(file.unwrap().path()).ok())
    };
    while !log().any(|text| text.contains(process)) {
        assert!(begin.elapsed() < Duration::from_mins(2), "{}", said.text());
        sleep(INTERVAL);
    }
    let logged = || -> u64 {
        let files = std::fs::read_dir(&log_folder).unwrap();
        files.filter_map(|file| file.unwrap().metadata().ok()).map(|data| data.len()).sum()
    };
    SERVICE_SEALED.store(true, Ordering::Relaxed);
    let before = logged();
    guest.agent(LOAD).unwrap();
    let begin = Instant::now();
    while logged() < before + LOGGED {
        assert!(begin.elapsed() < PATIENCE, "{} bytes, {}", logged() - before, said.text());
        sleep(INTERVAL);
    }
    // The number of scans depends on the speed of the host. More scans test more.
    sleep(INTERVAL * SCANS);
    SERVICE_SEALED.store(false, Ordering::Relaxed);
    // Only the service's threads block the signal: sent to the process, it would end the tests.
    nix::sys::pthread::pthread_kill(service.as_pthread_t(), Signal::SIGTERM).unwrap();
    service.join().unwrap().unwrap();
    println!("{}", said.text());
    assert_nothing_was_allocated("the service");
}

#[test]
fn an_allocation_on_a_sealed_thread_is_caught_and_named() {
    let _turn = turn();
    SEALED.set(true);
    let boxed = std::hint::black_box(Box::new([1_u8; 4321]));
    SEALED.set(false);
    drop(boxed);
    assert_eq!(OFFENCES.swap(0, Ordering::Relaxed), 1);
    let first = FIRST.lock().unwrap().take().unwrap();
    assert!(first.contains("Allocate { bytes: 4321 }"), "{first}");
    assert!(first.contains("an_allocation_on_a_sealed_thread"), "{first}");
    drop(std::hint::black_box(Box::new([1_u8; 4321])));
    assert_nothing_was_allocated("an open thread");
}

/// The recorded images, in the folder that the engine's tests use.
fn recorded() -> Vec<PathBuf> {
    let folder = match std::env::var_os("PANOPTES_RECORDED").filter(|given| !given.is_empty()) {
        Some(given) if Path::new(&given).is_dir() => PathBuf::from(given),
        Some(given) => return vec![given.into()],
        None => match panoptes_rig::cache::root() {
            Ok(root) => root.join("recorded"),
            Err(_) => return Vec::new(),
        },
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut images: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "image"))
        .collect();
    images.sort();
    images
}

#[test]
fn scans_of_recorded_machines_allocate_nothing() {
    let images = recorded();
    if images.is_empty() {
        panoptes_needs::skip::test("recorded images");
    }
    let _turn = turn();
    for image in images {
        for (what, limits) in capacities() {
            scan_sealed(&image, limits, 20, Duration::ZERO, what);
        }
    }
}
