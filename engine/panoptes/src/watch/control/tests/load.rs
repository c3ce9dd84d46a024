//! A machine that changes all the time, and a service that watches it while its configuration is
//! read again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use panoptes_bounded as bounded;
use panoptes_synthetic::{Machine, Size, profile};
use serde_json::json;

use super::reload::AGAIN;
use super::*;
use crate::watch::counters::SystemFigures;
use crate::watch::metrics::Figures;
use crate::watch::system_events::Notice;

const RELEASE: &str = "6.1.0-50-amd64";
const MEMORY_BYTES: u64 = 192 << 20;
/// From one change of the machine to the next.
const STEP: Duration = Duration::from_millis(8);
/// Processes that live at a time, besides those of the start.
const ALIVE: usize = 4;
/// The name of the system.
pub(super) const LIVE: &str = "live";

type Order = Box<dyn FnOnce(&mut Machine) + Send>;

/// A machine in a file. In its thread, its clock goes, and processes start, act and end.
pub(super) struct Live {
    orders: Sender<Order>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    pub(super) fn boot(path: &Path) -> Self {
        let size = Size {
            processes: 4,
            kernel_threads: 2,
            threads: 1,
            descriptors: 1,
            areas: 1,
            connections: 0,
            containers: 2,
            processors: 1,
            modules: 0,
        };
        let builder = Machine::builder(&profile(RELEASE)).size(size).memory(MEMORY_BYTES);
        let mut machine = builder.build();
        let mut options = fs::File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(path).unwrap();
        machine.memory().mirror_to(file).unwrap();
        let (orders, receiver) = channel();
        let is_over = Arc::<AtomicBool>::default();
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || change(&mut machine, &receiver, &ends));
        Self { orders, is_over, thread: Some(thread) }
    }

    /// Has the machine do something, and waits for it.
    pub(super) fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Machine) -> T + Send + 'static,
    ) -> T {
        let (sender, result) = channel();
        let order = move |machine: &mut Machine| {
            let _ = sender.send(act(machine));
        };
        self.orders.send(Box::new(order)).unwrap();
        result.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The address of the machine, and of the peer of its connections.
pub(super) fn ends(port: u16) -> (SocketAddr, SocketAddr) {
    let own = SocketAddr::from((Ipv4Addr::new(10, 0, 2, 15), port));
    (own, SocketAddr::from((Ipv4Addr::new(10, 9, 9, 9), 443)))
}

fn change(machine: &mut Machine, orders: &Receiver<Order>, is_over: &AtomicBool) {
    let mut ticked = Instant::now();
    let (mut alive, mut number) = (Vec::new(), 0_u16);
    while !is_over.load(Ordering::Relaxed) {
        while let Ok(order) = orders.try_recv() {
            order(machine);
        }
        if number % 2 == 0 {
            let pid = machine.fork(1);
            machine.exec(pid, "/usr/bin/busy", &["busy", &number.to_string()]);
            machine.open(pid, "/tmp/busy");
            let (own, peer) = ends(20_000 + number % 10_000);
            machine.connect(pid, own, peer);
            alive.push(pid);
        } else if alive.len() > ALIVE {
            machine.kill(alive.remove(0));
        }
        number = number.wrapping_add(1);
        let passed = ticked.elapsed();
        ticked += passed;
        machine.tick(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        machine.memory().flush();
        sleep(STEP);
    }
}

/// A service that watches such a machine.
pub(super) struct Service<'a> {
    pub(super) driver: &'a Driver,
    pub(super) live: &'a Live,
    pub(super) figures: Arc<Figures>,
    /// What workers report.
    pub(super) notices: Sender<Notice>,
    configuration: RefCell<Value>,
    /// How far the log was read, and its records.
    log: RefCell<(u64, Vec<Value>)>,
}

/// The configuration at the start: the machine, and what `more` sets.
fn configuration(more: &[(&str, Value)]) -> Value {
    let mut all = json!({
        "auto_scan": false,
        // Tests wait for numbers of scans that stand for times.
        "service": {"state_dir": "state", "scan_interval": "5ms", "early_scans": false},
        "output": {"stdout": false, "log_folder": "log", "rotate_size": "1GiB"},
        // Little memory: several tests run at a time.
        "default": {"limits": {
            "processes": 512, "threads": 1024, "file_descriptors": 4096, "vmas": 8192,
            "connections": 512, "containers": 64,
        }},
        "systems": {LIVE: {"system": "file:ram"}},
    });
    for (path, value) in more {
        set(&mut all, path, value.clone());
    }
    all
}

/// Sets the value at a path such as `output.telemetry[0].tag`.
pub(super) fn set(all: &mut Value, path: &str, value: Value) {
    let mut place = all;
    for part in path.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        place = &mut place[name];
        if let Some(index) = index {
            place = &mut place[index];
        }
    }
    *place = value;
}

/// Watches a machine under load while `script` runs; returns the folder and the messages. No record
/// may be lost, doubled or torn.
pub(super) fn under_load(
    more: &[(&str, Value)],
    work: WorkerJobs,
    script: impl FnOnce(&Service<'_>) + Send,
) -> (TempDir, Kept) {
    let (folder, exit, kept) = watch(more, work, script);
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
    check_complete(&logged(&folder.path().join("log")));
    (folder, kept)
}

/// Watches a machine while `script` runs; returns the folder, how it ended, and the messages.
pub(super) fn watch(
    more: &[(&str, Value)],
    work: WorkerJobs,
    script: impl FnOnce(&Service<'_>) + Send,
) -> (TempDir, Result<Exit, Failure>, Kept) {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::boot(&folder.path().join("ram"));
    let all = configuration(more);
    let file = folder.path().join("p.yaml");
    fs::write(&file, all.to_string()).unwrap();
    super::keys::turn::write_sbom(folder.path());
    let (sender, shared) = channel();
    let pass = move |control: &mut ControlThread, _: &Signals| {
        sender.send((Arc::clone(&control.cx.figures), control.cx.notices.0.clone())).unwrap();
    };
    let live = &live;
    let (exit, kept, _) = run_changed(&folder, &file, work, pass, move |driver| {
        let (figures, notices) = bounded::recv(&shared).unwrap();
        let (configuration, log) = (RefCell::new(all), RefCell::default());
        let service = Service { driver, live, figures, notices, configuration, log };
        service.ready();
        script(&service);
    });
    (folder, exit, kept)
}

impl Service<'_> {
    /// What the scanner counts of the system.
    fn of_system(&self) -> Arc<SystemFigures> {
        self.figures.system(LIVE)
    }

    /// Waits until so many scans more have ended: the first of them may have begun before.
    #[track_caller]
    pub(super) fn scan(&self, more: u64) {
        let figures = self.of_system();
        let count = || figures.scans.load(Ordering::Relaxed);
        let until = count() + more;
        self.driver.wait_for("scan", || count() >= until);
    }

    /// Waits until the system is watched, and was scanned.
    #[track_caller]
    fn ready(&self) {
        self.driver.wait(" is being watched, found in ", 1);
        self.scan(3);
    }

    /// Sets keys, has the configuration read again, and waits until that was reported.
    #[track_caller]
    pub(super) fn set(&self, keys: &[(&str, Value)]) {
        let count = self.driver.kept.count(AGAIN);
        self.set_quietly(keys);
        self.driver.wait_for(AGAIN, || {
            let kept = &self.driver.kept;
            assert_eq!(kept.count("is refused and not changed"), 0, "{}", kept.text());
            self.driver.kept.count(AGAIN) > count
        });
    }

    /// Sets keys, and has the configuration read again.
    pub(super) fn set_quietly(&self, keys: &[(&str, Value)]) {
        for (path, value) in keys {
            set(&mut self.configuration.borrow_mut(), path, value.clone());
        }
        let text = self.configuration.borrow().to_string();
        fs::write(self.driver.folder.join("p.yaml"), text).unwrap();
        self.driver.signal(Signal::SIGHUP);
    }

    /// The same as [`Self::set`], and waits until the scanner uses it.
    #[track_caller]
    pub(super) fn set_and_scan(&self, keys: &[(&str, Value)]) {
        self.set(keys);
        self.scan(2);
    }

    /// The same for keys for which the system is attached to again.
    #[track_caller]
    pub(super) fn set_and_attach(&self, keys: &[(&str, Value)]) {
        let count = self.driver.kept.count(" is being watched, found in ");
        self.set(keys);
        self.driver.wait(" is being watched, found in ", count + 1);
        self.scan(2);
    }

    /// What a key has in the file.
    pub(super) fn value(&self, key: &str) -> Value {
        let path = key.replace('[', ".").replace(']', "").replace('.', "/");
        self.configuration.borrow().pointer(&format!("/{path}")).cloned().unwrap_or_default()
    }

    /// Checks whether there is such a record from this one on: `scans` scans are enough for it.
    #[track_caller]
    pub(super) fn check(
        &self,
        what: &str,
        is_expected: bool,
        (from, scans): (usize, u64),
        is_it: impl Fn(&Value) -> bool,
    ) {
        if is_expected {
            self.record(what, from, is_it);
        } else {
            self.scan(scans);
            assert_eq!(self.records(from, is_it), [Value::Null; 0], "{what}");
        }
    }

    /// How many records the log has.
    pub(super) fn count(&self) -> usize {
        self.read();
        self.log.borrow().1.len()
    }

    /// The records from this one on for which `is_it` holds.
    pub(super) fn records(&self, from: usize, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.read();
        self.log.borrow().1[from..].iter().filter(|record| is_it(record)).cloned().collect()
    }

    /// Waits for a record from this one on for which `is_it` holds.
    #[track_caller]
    pub(super) fn record(&self, what: &str, from: usize, is_it: impl Fn(&Value) -> bool) -> Value {
        self.driver.wait_for(what, || !self.records(from, &is_it).is_empty());
        self.records(from, is_it).swap_remove(0)
    }

    /// Reads what is new in the log.
    fn read(&self) {
        let mut log = self.log.borrow_mut();
        let (offset, records) = &mut *log;
        let Ok(file) = fs::File::open(self.driver.folder.join("log/events.jsonl")) else { return };
        let length = file.metadata().unwrap().len();
        let mut bytes = vec![0; length.saturating_sub(*offset) as usize];
        file.read_exact_at(&mut bytes, *offset).unwrap();
        if bytes.is_empty() {
            return;
        }
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        *offset += whole as u64;
        let lines = bytes[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        records.extend(lines.map(|line| serde_json::from_slice::<Value>(line).unwrap()));
    }
}

/// The name of a record's activity.
pub(super) fn name(record: &Value) -> &str {
    record["activity_data"]["name"].as_str().unwrap_or_default()
}

/// Whether a record is about a process.
pub(super) fn is_of(record: &Value, pid: u32) -> bool {
    let details = &record["activity_data"];
    if details["process_details"]["process_id"] == pid {
        return true;
    }
    // A reverse shell has several processes.
    let shell = &details["reverse_shell_details"];
    let text = if shell.is_null() { String::new() } else { shell.to_string() };
    [',', '}'].iter().any(|end| text.contains(&format!("\"process_id\":{pid}{end}")))
}

/// The number of the record among all of its writer, and the writer: each writer counts from 1 on
/// (`panoptes_records::record::message_id`).
fn number(record: &Value) -> (u64, u64) {
    let id: String = record["message_id"].as_str().unwrap().replace('-', "");
    let id = u128::from_str_radix(&id, 16).unwrap();
    let (high, low) = ((id >> 64) as u64, id as u64);
    ((high & 0xfff) << 20 | low >> 42 & 0xf_ffff, low & ((1 << 42) - 1))
}

/// Checks that these records are all of their writers, each once, and those of one writer in their
/// order.
#[track_caller]
pub(super) fn check_complete<'a>(records: impl IntoIterator<Item = &'a Value>) {
    let mut writers: BTreeMap<u64, u64> = BTreeMap::new();
    for record in records {
        let (number, writer) = number(record);
        let last = writers.entry(writer).or_default();
        assert_eq!(number, *last + 1, "{record}");
        *last = number;
    }
    assert!(!writers.is_empty());
}

/// The records of a file; each line is one.
pub(super) fn records_of(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{}", path.display());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The records of a log and of the files that it was rotated to, in their order.
pub(super) fn logged(folder: &Path) -> Vec<Value> {
    let name = |number: u32| format!("events.jsonl.{number}");
    let old = (1..1000).map(|number| folder.join(name(number))).take_while(|path| path.exists());
    let mut paths: Vec<PathBuf> = old.collect();
    paths.reverse();
    paths.push(folder.join("events.jsonl"));
    paths.iter().flat_map(|path| records_of(path)).collect()
}

/// Checks that the numbers of each writer's records follow each other, whatever the first one is.
#[track_caller]
pub(super) fn check_row(records: &[Value]) {
    let mut writers: BTreeMap<u64, u64> = BTreeMap::new();
    for record in records {
        let (number, writer) = number(record);
        let last = writers.insert(writer, number);
        assert!(last.is_none_or(|last| number == last + 1), "{last:?}: {record}");
    }
}

/// Checks that the numbers of each writer's records grow.
#[track_caller]
pub(super) fn check_order(records: &[Value]) {
    let mut writers: BTreeMap<u64, u64> = BTreeMap::new();
    for record in records {
        let (number, writer) = number(record);
        let last = writers.insert(writer, number);
        assert!(last.is_none_or(|last| number > last), "{last:?}: {record}");
    }
}
