//! The sensor of flows in the service, at the loopback interface of a network of its own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::atomic::AtomicU64;

use nix::sched::{CloneFlags, unshare};
use panoptes_bounded::Port;
use panoptes_records::queue::RecordBlock;
use panoptes_sinks::output::file::FileOptions;
use panoptes_sinks::output::{Output, OutputCounters, OutputKind, OutputStatus};

use super::reload::{details, refuse, reload_whole};
use super::*;
use crate::watch::metrics::tests::{get, parse, value};
use crate::watch::outputs::{Recipe, WatchedOutput};

/// The port to which datagrams go.
const PORT: u16 = 7001;

/// Runs a test in a network that only the loopback interface is in. Without the permission for
/// that, it passes with a message.
fn in_network(test: impl FnOnce() + Send) {
    scope(|scope| {
        let entered = scope.spawn(|| {
            let is_root = nix::unistd::geteuid().is_root();
            if !is_root || unshare(CloneFlags::CLONE_NEWNET).is_err() {
                panoptes_needs::skip::test("network namespaces");
                return;
            }
            let mut command = Command::new("ip");
            let up = bounded::output(command.args(["link", "set", "lo", "up"])).unwrap();
            assert!(up.status.success(), "{up:?}");
            test();
        });
        entered.join().unwrap_or_else(|panic| resume_unwind(panic));
    });
}

/// A configuration with this `output` beside the log, and these `flows`.
fn text(output: &str, flows: &str) -> String {
    format!(
        "auto_scan: false\nservice: {{state_dir: state}}\n\
         output: {{log_folder: log{output}}}\nsystems: {{a: {{system: /absent}}}}\n\
         flows: {{{flows}}}\n"
    )
}

/// Runs a service, and a script in the same network.
fn serve(
    folder: &TempDir,
    text: &str,
    script: impl FnOnce(&Driver) + Send,
) -> (Result<Exit, Failure>, Kept) {
    let file = folder.path().join("p.yaml");
    fs::write(&file, text).unwrap();
    let (exit, kept, _) = run(folder, &file, REAL, script);
    (exit, kept)
}

/// Sends so many datagrams from one port to another one.
fn send(from: &UdpSocket, port: u16, count: usize) {
    for _ in 0..count {
        from.send_to(b"twenty bytes of data", ("127.0.0.1", port)).unwrap();
    }
}

fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn port(socket: &UdpSocket) -> u16 {
    socket.local_addr().unwrap().port()
}

/// The records of a file.
fn records(folder: &TempDir, path: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.path().join(path)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The records of each sensor, which begin and end with its own state.
fn sensors(folder: &TempDir) -> Vec<Vec<Value>> {
    let mut sensors: Vec<Vec<Value>> = Vec::new();
    for record in records(folder, "log/flows.jsonl") {
        if record["kind"] == "flow_sensor" && record["cause"] == "start" {
            sensors.push(Vec::new());
        }
        sensors.last_mut().expect("a sensor begins").push(record);
    }
    for records in &sensors {
        assert_eq!(records.last().unwrap()["cause"], "stop", "{records:?}");
    }
    sensors
}

/// Packets and bytes by the ports of both ends, of flows of UDP.
fn sums(records: &[Value]) -> BTreeMap<(u16, u16), (u64, u64)> {
    let mut sums = BTreeMap::<_, (u64, u64)>::new();
    for record in records.iter().filter(|record| record["kind"] == "flow") {
        // What nobody receives is answered by ICMP.
        if record["protocol"] != "udp" {
            continue;
        }
        let number = |key: &str| record[key].as_u64().unwrap();
        let ports = ["source_port", "destination_port"].map(|key| number(key) as u16);
        let sum = sums.entry((ports[0], ports[1])).or_default();
        sum.0 += number("source_packets");
        sum.1 += number("source_bytes");
    }
    sums
}

/// The bytes of such a datagram in a frame.
const FRAME_BYTES: u64 = 14 + 20 + 8 + 20;

fn sent(from: &UdpSocket, to: u16, count: u64) -> BTreeMap<(u16, u16), (u64, u64)> {
    BTreeMap::from([((port(from), to), (count, count * FRAME_BYTES))])
}

#[test]
fn the_last_records_of_flows_come_before_the_end_of_the_service() {
    in_network(|| {
        let folder = tempfile::tempdir().unwrap();
        let from = socket();
        let text = text("", "interfaces: [lo], status_interval: 1h");
        let (exit, kept) = serve(&folder, &text, |driver| {
            driver.wait("lo: auditing", 1);
            send(&from, PORT, 300);
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
        let sensors = sensors(&folder);
        assert_eq!(sensors.len(), 1);
        assert_eq!(sums(&sensors[0]), sent(&from, PORT, 300), "{}", kept.text());
        let last = &sensors[0].last().unwrap();
        assert_eq!(last["dropped_packets"], 0);
        // Events have none of them.
        let events = records(&folder, "log/events.jsonl");
        assert!(events.iter().all(|record| record["kind"].is_null()), "{events:?}");
        let name = &events.last().unwrap()["activity_data"]["name"];
        assert_eq!(name, "service_gracefully_shutdown");
        assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
    });
}

/// They are more than the queue has room for.
#[test]
fn the_last_records_of_many_flows_are_all_written() {
    write_last_records_of_many_flows(1);
}

#[test]
fn the_last_records_of_several_threads_are_all_written() {
    write_last_records_of_many_flows(3);
}

fn write_last_records_of_many_flows(threads: usize) {
    const FLOWS: u16 = 30_000;
    in_network(move || {
        let folder = tempfile::tempdir().unwrap();
        // To all addresses, so that each thread has some.
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        let flows =
            format!("interfaces: [lo], filter: udp, status_interval: 1h, threads: {threads}");
        let text = text("", &flows);
        let (exit, kept) = serve(&folder, &text, |driver| {
            driver.wait("lo: auditing", 1);
            for to in 1..=FLOWS {
                let address = Ipv4Addr::new(127, 0, 0, 1 + (to % 16) as u8);
                from.send_to(b"twenty bytes of data", (address, to)).unwrap();
                if to % 256 == 0 {
                    // On a busy machine the ring would be full, and lose packets.
                    sleep(Duration::from_millis(2));
                }
            }
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
        let sensors = sensors(&folder);
        assert_eq!(sensors[0].last().unwrap()["dropped_packets"], 0);
        let expected: BTreeMap<_, _> =
            (1..=FLOWS).map(|to| ((port(&from), to), (1, FRAME_BYTES))).collect();
        assert!(sums(&sensors[0]) == expected, "{}", kept.text());
    });
}

/// A writer that stands still until a message has come, and an output that makes it do that.
#[derive(Debug)]
struct Gate {
    counters: Arc<OutputCounters>,
    is_open: Arc<AtomicBool>,
}

impl Output for Gate {
    fn kind(&self) -> OutputKind {
        OutputKind::Plain
    }

    fn counters(&self) -> &Arc<OutputCounters> {
        &self.counters
    }

    fn append(&mut self, _: &RecordBlock, range: Range<usize>, _: u64) -> usize {
        let begin = Instant::now();
        while !self.is_open.load(Ordering::Relaxed) && begin.elapsed() < PATIENCE {
            sleep(Duration::from_millis(1));
        }
        range.len()
    }

    fn advance(&mut self, _: u64, _: Duration) -> OutputStatus {
        OutputStatus::Idle
    }

    fn finish(&mut self) {}
}

#[test]
fn last_records_that_find_no_room_show_in_the_exit_code() {
    const FLOWS: u16 = 30_000;
    const LOST: &str = "records were lost: the queue of flow records to the writer was full";
    in_network(|| {
        let folder = tempfile::tempdir().unwrap();
        let from = socket();
        let file = folder.path().join("p.yaml");
        fs::write(&file, text("", "interfaces: [lo], filter: udp, status_interval: 1h")).unwrap();
        let is_open = Arc::new(AtomicBool::new(false));
        let its = Arc::clone(&is_open);
        let add = |control: &mut ControlThread, _: &Signals| {
            let gate = Gate { counters: Arc::default(), is_open: its };
            let watched = WatchedOutput {
                name: "gate".to_owned(),
                counters: Arc::clone(&gate.counters),
                recipe: Recipe::File {
                    path: folder.path().join("gate"),
                    options: FileOptions::default(),
                    lock: None,
                },
            };
            control.outputs.add(Box::new(gate), watched);
        };
        let (exit, kept, _) = run_changed(&folder, &file, REAL, add, |driver| {
            driver.wait("lo: auditing", 1);
            (1..=FLOWS).for_each(|to| send(&from, to, 1));
            let kept = driver.kept.clone();
            // The writer continues when the sensor has given up its last records.
            std::thread::spawn(move || {
                let begin = Instant::now();
                while kept.count(LOST) == 0 && begin.elapsed() < PATIENCE {
                    sleep(Duration::from_millis(1));
                }
                is_open.store(true, Ordering::Relaxed);
            });
        });
        let failure = exit.unwrap_err();
        assert_eq!(failure.exit, Exit::Output, "{}", kept.text());
        let text = kept.text();
        let lines = text.lines().filter(|line| line.contains(LOST));
        let numbers = lines.map(|line| {
            line.split(' ').find_map(|word| word.parse::<u64>().ok()).expect("a number")
        });
        let lost: u64 = numbers.sum();
        let expected =
            format!("{lost} records of flows were lost: the queue to the writer was full");
        // The log may have lost some before, and only one loss is the failure.
        assert!(failure.message == expected || text.contains(&expected), "{failure}: {text}");
        let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
        let dropped = details(&log, "records_dropped");
        let of_queue = dropped.iter().filter(|details| details["output"] == "queue");
        let of_queue: u64 = of_queue.filter_map(|details| details["dropped"].as_u64()).sum();
        assert_eq!(of_queue, lost, "{log}");
    });
}

#[test]
fn sensors_that_follow_one_another_miss_no_packet_and_count_none_twice() {
    follow_one_another(1, 6);
}

#[test]
fn sensors_of_several_threads_follow_one_another() {
    follow_one_another(3, 4);
}

/// How many threads of this process divide packets.
fn packet_threads() -> usize {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let names = threads.filter_map(|thread| fs::read(thread.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(b"packets-")).count()
}

/// The old sensor takes some time for its last records.
fn follow_one_another(threads: usize, turns: u16) {
    in_network(move || {
        let folder = tempfile::tempdir().unwrap();
        // Addresses divide the packets.
        let from = [2, 3, 4, 5, 6, 7];
        let from = from.map(|host| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap());
        let flows = format!("interfaces: [lo], filter: udp, threads: {threads}");
        let with = |seconds: u16| text("", &format!("{flows}, status_interval: {seconds}s"));
        let count = AtomicU64::new(0);
        let (exit, kept) = serve(&folder, &with(60), |driver| {
            driver.wait("lo: auditing", 1);
            driver.wait_for("threads", || threads == 1 || packet_threads() >= threads);
            let others = socket();
            let is_over = AtomicBool::new(false);
            scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        for from in &from {
                            send(from, PORT, 2);
                        }
                        count.fetch_add(2 * from.len() as u64, Ordering::Relaxed);
                        sleep(Duration::from_millis(1));
                    }
                });
                for turn in 1..=turns {
                    (10_000..15_000).for_each(|to| send(&others, to, 1));
                    reload_whole(driver, &with(60 + turn));
                }
                is_over.store(true, Ordering::Relaxed);
            });
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
        let sensors = sensors(&folder);
        assert_eq!(sensors.len(), 1 + usize::from(turns), "{}", kept.text());
        let of = |records: &Vec<Value>| -> u64 {
            let sums = sums(records);
            sums.iter().filter(|((_, to), _)| *to == PORT).map(|(_, (packets, _))| packets).sum()
        };
        let packets: Vec<_> = sensors.iter().map(of).collect();
        let sum: u64 = packets.iter().sum();
        let lost = |records: &Vec<Value>| records.last().unwrap()["dropped_packets"].clone();
        let lost: Vec<_> = sensors.iter().map(lost).collect();
        assert_eq!(sum, count.into_inner(), "{packets:?}, {lost:?}: {}", kept.text());
    });
}

#[test]
fn a_sensor_without_packets_makes_steps() {
    in_network(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.yaml");
        fs::write(&file, text("", "interfaces: [lo], filter: 'udp port 1'")).unwrap();
        let figures = Arc::new(Mutex::new(None));
        let its = Arc::clone(&figures);
        let keep = move |control: &mut ControlThread, _: &Signals| {
            assert!(control.flows.goes_on());
            *its.lock().unwrap() = control.flows.figures();
        };
        let (exit, kept, _) = run_changed(&folder, &file, REAL, keep, |driver| {
            let figures = figures.lock().unwrap().clone().expect("a sensor");
            let begin = Instant::now();
            sleep(Duration::from_millis(200));
            driver.wait_for("step", || figures.goes_on_within(begin.elapsed() / 2));
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    });
}

#[test]
fn a_sensor_comes_and_goes_and_a_refused_one_changes_nothing() {
    in_network(|| {
        let folder = tempfile::tempdir().unwrap();
        let from = socket();
        let with = |flows: &str| text("", flows);
        let (exit, kept) = serve(&folder, &with(""), |driver| {
            send(&from, PORT, 1);
            reload_whole(driver, &with("interfaces: [lo]"));
            send(&from, PORT, 2);
            // Neither an interface that is not there nor a key of something else ends the flow.
            let missing = with("interfaces: [lo, nothing0]");
            refuse(driver, &missing, "flows: there is no network interface nothing0");
            refuse(driver, &with("interfaces: [lo], filter: tcp prot 80"), "no filter of packets");
            reload_whole(driver, &with("interfaces: [lo]").replace("/absent", "/other"));
            send(&from, PORT, 4);
            reload_whole(driver, &with(""));
            send(&from, PORT, 8);
            reload_whole(driver, &with("interfaces: [lo], filter: 'udp port 7002'"));
            send(&from, PORT, 16);
            send(&from, PORT + 1, 32);
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
        let text = kept.text();
        let sensors = sensors(&folder);
        let sums: Vec<_> = sensors.iter().map(|records| sums(records)).collect();
        assert_eq!(sums, [sent(&from, PORT, 6), sent(&from, PORT + 1, 32)], "{text}");
        let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
        let keys: Vec<String> = details(&log, "configuration_reloaded")
            .iter()
            .filter_map(|details| details.get("keys").map(Value::to_string))
            .collect();
        let expected = [
            r#"["flows.interfaces"]"#,
            r#"["systems.a.system"]"#,
            r#"["flows.interfaces"]"#,
            r#"["flows.interfaces","flows.filter"]"#,
        ];
        let of_flows: Vec<_> = keys.iter().filter(|keys| !keys.contains("systems.a")).collect();
        assert_eq!(of_flows[0], expected[0], "{keys:?}");
        assert!(keys.last().unwrap() == expected[3], "{keys:?}");
        assert_eq!(details(&log, "configuration_refused").len(), 2);
    });
}

/// A value of a key, and whether a sensor with it shows that. It gets the records of the sensor.
type Shown = (&'static str, fn(&[Value], &str) -> bool);

fn any(records: &[Value], key: &str) -> bool {
    records.iter().any(|record| !record[key].is_null())
}

fn state(records: &[Value], key: &str, value: u64) -> bool {
    records[0][key] == value
}

/// The key, its other value, and what that changes. The second argument of it is the list of
/// interfaces, as iproute2 prints it while the sensor runs.
const SHOWN: [(&str, Shown); 12] = [
    ("filter", ("udp port 7002", |all, _| sums(all).keys().all(|(_, to)| *to == 7002))),
    ("application", ("[dns]", |all, _| any(all, "dns"))),
    ("sequence", ("3", |all, _| any(all, "packet_sequence"))),
    ("jitter", ("true", |all, _| any(all, "source_jitter_active"))),
    ("packet_sizes", ("true", |all, _| any(all, "source_packet_size_max"))),
    ("hardware_addresses", ("true", |all, _| any(all, "source_hardware_address"))),
    ("user_data", ("8B", |all, _| any(all, "source_user_data"))),
    ("status_interval", ("7s", |all, _| state(all, "status_interval_s", 7))),
    ("management_interval", ("60s", |all, _| state(all, "management_interval_s", 60))),
    ("flows", ("1", |all, _| all.last().unwrap()["tracked_flows"] == 0)),
    ("promiscuous", ("false", |_, links| links.contains("promiscuity 0"))),
    ("system", ("a", |_, _| true)),
];

/// A question about a name: RFC 1035 §4.1.
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";

#[test]
fn each_key_of_flows_applies_to_the_sensor_that_follows() {
    in_network(|| {
        let folder = tempfile::tempdir().unwrap();
        let links = Mutex::new(Vec::new());
        let turn = |driver: &Driver, more: &str| {
            reload_whole(driver, &text("", &format!("interfaces: [lo]{more}")));
            let from = [socket(), socket()];
            send(&from[0], PORT, 3);
            send(&from[1], PORT + 1, 3);
            from[0].send_to(QUESTION, "127.0.0.1:53").unwrap();
            let mut command = Command::new("ip");
            let shown = bounded::output(command.args(["-d", "link", "show", "lo"])).unwrap();
            links.lock().unwrap().push(String::from_utf8(shown.stdout).unwrap());
        };
        let (exit, kept) = serve(&folder, &text("", ""), |driver| {
            turn(driver, "");
            for (key, (other, _)) in SHOWN {
                let quoted =
                    if other.starts_with('[') { other.into() } else { format!("'{other}'") };
                turn(driver, &format!(", {key}: {quoted}"));
            }
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
        let (sensors, links) = (sensors(&folder), links.into_inner().unwrap());
        assert_eq!(sensors.len(), 1 + SHOWN.len(), "{}", kept.text());
        for (at, (key, (_, is_shown))) in SHOWN.into_iter().enumerate() {
            assert!(is_shown(&sensors[at + 1], &links[at + 1]), "{key}: {:?}", sensors[at + 1]);
            let shows_always = matches!(key, "flows" | "system");
            assert!(shows_always || !is_shown(&sensors[0], &links[0]), "{key} is shown without it");
        }
        // One table of one flow: the others went early.
        let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
        let limits = details(&log, "flows_limit_reached");
        assert_eq!(limits.len(), 1, "{log}");
        assert_eq!((&limits[0]["capacity"], &limits[0]["limit"]), (&1.into(), &"flows".into()));
    });
}

#[test]
fn the_scanner_of_the_service_and_the_sensor_share_a_system() {
    in_network(|| {
        let folder = tempfile::tempdir().unwrap();
        if machine(folder.path()).is_none() {
            panoptes_needs::skip::test("xz");
            return;
        }
        let with = |flows: &str| text("", flows).replace("/absent", "ram, file_format: raw");
        let file = folder.path().join("p.yaml");
        fs::write(&file, with("interfaces: [lo], system: a")).unwrap();
        let traffic_link = Arc::new(Mutex::new(None));
        let its = Arc::clone(&traffic_link);
        let keep = move |control: &mut ControlThread, _: &Signals| {
            *its.lock().unwrap() = control.flows.traffic_link_of("a");
            assert!(control.flows.traffic_link_of("b").is_none());
        };
        let scans = || {
            traffic_link.lock().unwrap().as_ref().map_or(0, |traffic_link| traffic_link.scans().all)
        };
        let (exit, kept, _) = run_changed(&folder, &file, REAL, keep, |driver| {
            driver.wait("is being watched, found in ", 1);
            driver.wait_for("scan", || scans() > 2);
            // Without a system, it is attached to again, and scans note nothing more.
            reload_whole(driver, &with("interfaces: [lo]"));
            driver.wait("is being watched, found in ", 2);
            let before = scans();
            let events = || driver.log().matches("host_initialization_successful").count();
            driver.wait_for("attaching again", || events() >= 2);
            sleep(Duration::from_millis(100));
            assert_eq!(scans(), before);
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    });
}

#[test]
fn a_receiver_gets_records_of_flows_where_it_may() {
    in_network(|| {
        let folder = tempfile::tempdir().unwrap();
        let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.each_ref().map(|one| one.local_addr().unwrap());
        let choices = [
            "",
            ", preset: security",
            ", activities: [network_flow]",
            ", activities: [service_gracefully_shutdown]",
        ];
        let receivers: Vec<String> = addresses
            .iter()
            .zip(choices)
            .map(|(address, choice)| format!("{{address: '{address}'{choice}}}"))
            .collect();
        let output = format!(", telemetry: [{}]", receivers.join(", "));
        let threads = listeners.map(|listener| {
            std::thread::spawn(move || {
                let mut text = String::new();
                let mut stream = bounded::accept(&listener).unwrap();
                io::Read::read_to_string(&mut stream, &mut text).unwrap();
                text
            })
        });
        let from = socket();
        let flows = format!("interfaces: [lo], filter: 'udp port {PORT}'");
        let (exit, kept) = serve(&folder, &text(&output, &flows), |driver| {
            // The last one has nothing to tell until the end.
            driver.wait("connected", 3);
            send(&from, PORT, 5);
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
        let got = threads.map(|thread| {
            let text: String = thread.join().unwrap();
            let lines: Vec<Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            lines
        });
        let expected = sent(&from, PORT, 5);
        let none = BTreeMap::new();
        assert_eq!(
            got.each_ref().map(|lines| sums(lines)),
            [expected.clone(), none.clone(), expected, none,]
        );
        let events = |lines: &[Value]| lines.iter().any(|line| !line["activity_data"].is_null());
        assert_eq!(got.each_ref().map(|lines| events(lines)), [true, true, false, true]);
    });
}

#[test]
fn metrics_have_the_figures_of_the_sensor() {
    in_network(|| {
        let folder = tempfile::tempdir().unwrap();
        let reserved = Port::reserve().unwrap();
        let address: SocketAddr = reserved.address();
        let output = format!(", metrics: {{address: '{address}'}}");
        let from = socket();
        let flows = format!("interfaces: [lo], filter: 'udp port {PORT}', flows: 1000");
        let (exit, kept) = serve(&folder, &text(&output, &flows), |driver| {
            driver.wait("lo: auditing", 1);
            send(&from, PORT, 7);
            let page = || parse(&get(address, "/metrics").unwrap().1);
            let of = |name: &str| value(&page(), &format!("panoptes_flow_{name}"), &[]);
            driver.wait_for("seven packets", || of("packets_total") as u64 == 7);
            assert_eq!(of("bytes_total") as u64, 7 * FRAME_BYTES);
            assert_eq!([of("flows"), of("flows_limit")].map(|it| it as u64), [1, 1000]);
            assert_eq!([of("evictions_total"), of("records_total")].map(|it| it as u64), [0, 0]);
            let samples = page();
            let with = |name: &str, label: (&str, &str)| value(&samples, name, &[label]) as u64;
            assert_eq!(with("panoptes_flow_packets_lost_total", ("interface", "lo")), 0);
            // That of its start.
            let queue = ("output", "queue");
            assert_eq!(with("panoptes_flow_output_records_total", queue), 1);
            assert_eq!(with("panoptes_flow_output_dropped_total", queue), 0);
            assert_eq!(with("panoptes_flow_gap", ("gap", "packets")), 0);
            reload_whole(driver, &text(&output, ""));
            assert!(!page().keys().any(|(name, _)| name.starts_with("panoptes_flow_")));
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    });
}
