//! Requests over real sockets, and a small parser of Prometheus' text format.

#![allow(clippy::float_cmp, reason = "the numbers are small, or sums of the same durations")]

mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::scope;

use panoptes_bounded as bounded;
use panoptes_engine::limits::Limit;
use panoptes_engine::policy::exceptions::Exception;
use panoptes_engine::policy::gaps::GAPS_MAX;
use panoptes_engine::time::Now;
use panoptes_engine::watch::ScanStage;
use panoptes_records::activities::Activity;

use super::server::{CONNECTIONS_MAX, REQUEST_BYTES_MAX};
use super::text::{MetricKind, MetricLabelValue, MetricsPage};
use super::*;

/// A page of metrics: values by the name and the labels of the sample, as they are read.
pub(in crate::watch) type Samples = BTreeMap<Named, f64>;
type Named = (String, BTreeMap<String, String>);

/// Parses a page of metrics; panics if it breaks a rule of the format, version 0.0.4.
#[track_caller]
pub(in crate::watch) fn parse(page: &str) -> Samples {
    assert!(page.ends_with('\n') && !page.contains('\r'), "each line ends with a line feed");
    let (mut samples, mut known) = (Samples::new(), BTreeSet::new());
    let (mut helped, mut metric, mut kind) = (String::new(), String::new(), String::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a help has a text");
            assert!(known.insert(name.to_owned()) && is_name(name) && !text.is_empty(), "{line}");
            name.clone_into(&mut helped);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, word) = rest.split_once(' ').expect("a type has a word");
            assert!(name == helped && ["counter", "gauge", "histogram"].contains(&word), "{line}");
            (metric, kind) = (name.to_owned(), word.to_owned());
            assert_eq!(metric.ends_with("_total"), kind == "counter", "{line}");
        } else {
            let (name, labels, value) = sample(line);
            let suffix = name.strip_prefix(&metric).unwrap_or_else(|| panic!("{line}"));
            let is_of_histogram = ["_bucket", "_sum", "_count"].contains(&suffix);
            assert_eq!(kind == "histogram", is_of_histogram, "{line}");
            assert!(is_of_histogram || suffix.is_empty(), "{line}");
            assert!(samples.insert((name, labels), value).is_none(), "it occurs twice: {line}");
        }
    }
    check_histograms(&samples);
    samples
}

/// A sample: its name, its labels and its value.
#[track_caller]
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (value, after) = unescape(after).unwrap_or_else(|| panic!("{line}"));
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').and_then(|value| value.parse().ok());
    (name.to_owned(), labels, value.unwrap_or_else(|| panic!("{line}")))
}

/// The value before the next quotation mark, and what follows that.
fn unescape(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                one @ ('\\' | '"') => one,
                _ => return None,
            }),
            _ => value.push(character),
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_:".contains(&byte);
    name.bytes().all(is_part) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Buckets count up to the number of all values.
#[track_caller]
fn check_histograms(samples: &Samples) {
    let mut buckets: BTreeMap<Named, Vec<(f64, f64)>> = BTreeMap::new();
    for ((name, labels), &value) in samples {
        if let Some(metric) = name.strip_suffix("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap().parse().unwrap();
            buckets.entry((metric.to_owned(), labels)).or_default().push((bound, value));
        }
    }
    for ((metric, labels), mut buckets) in buckets {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by_key(|&(_, count)| count), "{metric} {labels:?}: {buckets:?}");
        let count = samples[&(format!("{metric}_count"), labels.clone())];
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{metric} {labels:?}");
        assert!(samples.contains_key(&(format!("{metric}_sum"), labels)), "{metric}");
    }
}

/// The value of a sample with these labels.
#[track_caller]
pub(in crate::watch) fn value(samples: &Samples, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let key = (name.to_owned(), labels.collect());
    *samples.get(&key).unwrap_or_else(|| panic!("no {key:?}"))
}

/// Sends a request, and returns the status and the body of the response.
pub(in crate::watch) fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    ask(address, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
}

/// As [`get`], for any request; `None` if there is no response.
fn ask(address: SocketAddr, request: &[u8]) -> Option<(u16, String)> {
    let mut stream = bounded::connect(address).ok()?;
    // The server may answer before it has read everything.
    let _ = stream.write_all(request);
    response(stream)
}

fn response(mut stream: TcpStream) -> Option<(u16, String)> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    assert!(head.contains("\r\nConnection: close"), "{head}");
    assert!(body.is_empty() || head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    Some((status, body.to_owned()))
}

/// Maximum time to wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a server while `test` asks it.
fn serve(patience: Duration, test: impl FnOnce(SocketAddr)) {
    let (server, address) = Server::for_tests(patience);
    let stop = AtomicBool::new(false);
    let pages = |path: &str| {
        let body = match path {
            "/long" => "x".repeat(8 << 20),
            "/good" | "/bad" => path.to_owned(),
            _ => return None,
        };
        Some(MetricsResponse { is_good: path != "/bad", body })
    };
    scope(|scope| {
        scope.spawn(|| server.run(&[&stop], &pages));
        let result = caught(|| test(address));
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn each_request_has_its_answer() {
    serve(PATIENCE, |address| {
        assert_eq!(get(address, "/good"), Some((200, "/good".to_owned())));
        assert_eq!(get(address, "/good?x=1"), Some((200, "/good".to_owned())));
        assert_eq!(get(address, "/bad"), Some((503, "/bad".to_owned())));
        assert_eq!(get(address, "/").unwrap().0, 404);
        assert_eq!(get(address, "/long").unwrap().1.len(), 8 << 20);
        let status = |request: &str| ask(address, request.as_bytes()).map(|(status, _)| status);
        for (path, status) in [("good", 200), ("bad", 503), ("absent", 404)] {
            let request = format!("HEAD /{path} HTTP/1.0\r\n\r\n");
            assert_eq!(ask(address, request.as_bytes()), Some((status, String::new())));
        }
        assert_eq!(status("POST /good HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), Some(405));
        for bad in
            ["GET\r\n\r\n", "\0\0\0\0", "GET /good HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}"]
        {
            assert_eq!(status(bad), Some(400), "{bad:?}");
        }
    });
}

#[test]
fn a_request_that_is_too_long_is_refused() {
    serve(PATIENCE, |address| {
        let status = |request: String| ask(address, request.as_bytes()).map(|(status, _)| status);
        let field = format!("A: {}\r\n", "x".repeat(REQUEST_BYTES_MAX));
        assert_eq!(status(format!("GET /good HTTP/1.1\r\n{field}")), Some(431));
        let fields = "A: b\r\n".repeat(100);
        assert_eq!(status(format!("GET /good HTTP/1.1\r\n{fields}\r\n")), Some(431));
        let path = "x".repeat(REQUEST_BYTES_MAX);
        assert_eq!(status(format!("GET /{path}")), Some(431));
    });
}

#[test]
fn a_client_that_is_slow_is_dropped() {
    serve(Duration::from_millis(500), |address| {
        let mut slow = bounded::connect(address).unwrap();
        slow.write_all(b"GET /good HT").unwrap();
        // It asks for much, and reads nothing.
        let mut deaf = bounded::connect(address).unwrap();
        deaf.write_all(b"GET /long HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(get(address, "/good").unwrap().0, 200);
        slow.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(slow.read(&mut [0; 9]).unwrap_or(0), 0);
        let mut text = Vec::new();
        let _ = deaf.read_to_end(&mut text);
        assert!(text.len() < 8 << 20, "the rest was not sent");
    });
}

#[test]
fn many_connections_shut_nobody_out() {
    serve(PATIENCE, |address| {
        let connect = |_| {
            let mut stream = bounded::connect(address).unwrap();
            stream.write_all(b"GET /good HT").unwrap();
            stream
        };
        let idle: Vec<_> = (0..3 * CONNECTIONS_MAX).map(connect).collect();
        assert_eq!(get(address, "/good").unwrap().0, 200);
        // The oldest ones have made room.
        let mut first = &idle[0];
        first.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(first.read(&mut [0; 9]).unwrap_or(0), 0);
        idle[3 * CONNECTIONS_MAX - 1].shutdown(Shutdown::Both).unwrap();
        assert_eq!(get(address, "/good").unwrap().0, 200);
    });
}

#[test]
fn labels_are_one_escaped_line_of_a_bounded_length() {
    let mut text = MetricsPage::default();
    text.metric("panoptes_x", MetricKind::Gauge, "A text.");
    let long = "ä".repeat(1000);
    let names = ["a\"b\\c", "a\nb", "}\u{1b}[31m\u{202e}", "", &long, &(long.clone() + "x")];
    for (number, name) in names.iter().enumerate() {
        text.sample(&[("system", &MetricLabelValue::new(name))], number);
    }
    let page = text.finish();
    let samples = parse(&page);
    let shown = |number: f64| {
        let mut found = samples.iter().filter(|(_, value)| **value == number);
        found.next().unwrap().0.1["system"].clone()
    };
    assert_eq!(shown(0.0), "a\"b\\c");
    assert_eq!(shown(1.0), "a\\u{a}b");
    assert_eq!(shown(2.0), "}\\u{1b}[31m\\u{202e}");
    assert_eq!(shown(3.0), "");
    assert_ne!(shown(4.0), shown(5.0));
    assert!(shown(4.0).starts_with("äää") && shown(4.0).len() <= 160, "{}", shown(4.0));
    assert_eq!(page.lines().count(), 2 + names.len());
}

/// Figures with two scanners, without a writer that runs.
fn figures(exceptions: Vec<Exception>) -> Figures {
    let start = Instant::now();
    let scanners = vec![Arc::default(), Arc::default()];
    let silenced = SilencedAlerts::new(Exceptions::new(exceptions), start);
    let writer = Writer::new(Vec::new(), Vec::new());
    Figures::new(start, &Arc::default(), scanners, &writer, &silenced)
}

fn body(figures: &Figures, path: &str) -> (bool, String) {
    let MetricsResponse { is_good, body } = figures.answer(path).unwrap();
    (is_good, body)
}

#[test]
fn a_scanner_that_stands_still_is_no_good_health() {
    let figures = figures(Vec::new());
    let healthy = (true, "ok\n".to_owned());
    assert_eq!(body(&figures, "/healthz"), healthy);
    let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
    let figures = Figures { start: long_ago, ..figures };
    let step = |scanner: usize, ago: u64| {
        let at = nanoseconds(figures.start.elapsed()) - ago * 1_000_000_000;
        figures.scanners[scanner].step_ns.store(at, Ordering::Relaxed);
    };
    let writer_step = |ago: u64| {
        let at = nanoseconds(figures.start.elapsed()) - ago * 1_000_000_000;
        figures.writer_ns.store(at, Ordering::Relaxed);
    };
    writer_step(9);
    step(0, 0);
    step(1, 9);
    assert_eq!(body(&figures, "/healthz"), healthy);
    step(1, 11);
    assert_eq!(body(&figures, "/healthz"), (false, "a scanner stands still\n".to_owned()));
    figures.shared.interval_ns.store(2_000_000_000, Ordering::Relaxed);
    assert_eq!(body(&figures, "/healthz"), healthy, "an interval is 2 s");
    step(1, 21);
    assert!(!body(&figures, "/healthz").0);
    step(1, 0);
    writer_step(11);
    assert_eq!(body(&figures, "/healthz"), (false, "the writer stands still\n".to_owned()));
    assert!(figures.writer_goes_on());
    writer_step(31);
    assert!(!figures.writer_goes_on());
}

#[test]
fn a_sensor_of_flows_that_stands_still_is_no_good_health() {
    let figures = figures(Vec::new());
    let started = |ago: u64| {
        let start = Instant::now().checked_sub(Duration::from_secs(ago)).unwrap();
        figures.set_flows(Some(Arc::new(SensorFigures::begun(start))));
        body(&figures, "/healthz")
    };
    assert_eq!(started(9), (true, "ok\n".to_owned()));
    assert_eq!(started(11), (false, "the sensor of flows stands still\n".to_owned()));
    figures.set_flows(None);
    assert!(body(&figures, "/healthz").0);
    figures.set_flow_sensor_missing();
    let missing = (false, "the sensor of flows could not be started\n".to_owned());
    assert_eq!(body(&figures, "/healthz"), missing);
    assert_eq!(started(0), (true, "ok\n".to_owned()));
}

/// A scanner may wait for memory that does not answer, which a restart does not change.
#[test]
fn the_service_is_alive_while_its_control_thread_goes_on() {
    let figures = figures(Vec::new());
    assert_eq!(body(&figures, "/livez"), (true, "alive\n".to_owned()));
    let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
    let figures = Figures { start: long_ago, ..figures };
    assert_eq!(body(&figures, "/livez"), (false, "the service stands still\n".to_owned()));
    figures.set_alive();
    assert!(body(&figures, "/livez").0 && !body(&figures, "/healthz").0);
}

#[test]
fn readiness_is_reported_once_the_service_is_ready() {
    let figures = figures(Vec::new());
    assert_eq!(body(&figures, "/readyz"), (false, "starting\n".to_owned()));
    figures.set_ready();
    assert_eq!(body(&figures, "/readyz"), (true, "ready\n".to_owned()));
    assert!(figures.answer("/").is_none());
}

#[test]
fn every_figure_is_on_the_page() {
    let exception = |reason: &str| Exception {
        activity: Activity::ExecutablePermissionsAdded,
        process_executable_path: None,
        process_name: None,
        user_id: Some(7),
        container: None,
        image: None,
        address: None,
        command_line: None,
        kernel_module_name: None,
        reason: reason.into(),
        until: None,
    };
    let figures = figures(vec![exception("a"), exception("b"), exception("a")]);
    let hostile = "web\"} 1\npanoptes_x{a=\"";
    let system = figures.system(hostile);
    system.set_watched(true);
    for ms in [0, 10, 20, 320] {
        system.begins(Now::at(1_000_000_000 + ms * 1_000_000));
    }
    system.hashed(Duration::from_micros(300));
    system.failed();
    system.tables[Limit::Threads as usize].used.store(5, Ordering::Relaxed);
    system.gaps[0].store(9, Ordering::Relaxed);
    system.read_errors.store(3, Ordering::Relaxed);
    let counters = [Arc::default(), Arc::default(), Arc::default()];
    let named = ["log", "a:1", "a:1"].into_iter().zip(&counters);
    figures.set_outputs(named.map(|(name, it)| (name.to_owned(), Arc::downgrade(it))).collect());
    figures.set_refused(4);
    let samples = parse(&body(&figures, "/metrics").1);
    let shown = "web\"} 1\\u{a}panoptes_x{a=\"";
    let of = |name: &str, more: &[(&str, &str)]| {
        value(&samples, name, &[&[("system", shown)][..], more].concat())
    };
    assert_eq!(of("panoptes_system_watched", &[]), 1.0);
    assert_eq!(of("panoptes_scan_interval_seconds_count", &[]), 3.0);
    assert_eq!(of("panoptes_scan_interval_seconds_sum", &[]), 0.32);
    assert_eq!(of("panoptes_scan_interval_seconds_bucket", &[("le", "0.01")]), 2.0);
    assert_eq!(of("panoptes_scan_interval_seconds_bucket", &[("le", "0.1")]), 2.0);
    assert_eq!(of("panoptes_scan_interval_seconds_bucket", &[("le", "1")]), 3.0);
    assert_eq!(of("panoptes_scan_duration_seconds_sum", &[("stage", "hash")]), 0.0003);
    assert_eq!(of("panoptes_failed_scans_total", &[]), 1.0);
    assert_eq!(of("panoptes_table_entries", &[("table", "threads")]), 5.0);
    assert_eq!(of("panoptes_coverage_missed", &[("gap", "events")]), 9.0);
    assert_eq!(of("panoptes_read_errors_total", &[]), 3.0);
    let all = |name: &str| samples.keys().filter(|(one, _)| one == name).count();
    assert_eq!(all("panoptes_table_capacity"), Limit::ALL.len());
    assert_eq!(all("panoptes_coverage_missed"), GAPS_MAX);
    assert_eq!(all("panoptes_scan_duration_seconds_count"), ScanStage::ALL.len());
    assert_eq!(all("panoptes_records_total"), Activity::ALL.len() + 3, "three have two types");
    assert_eq!(all("panoptes_last_scan_timestamp_seconds"), 0, "there was no scan");
    assert_eq!(all("panoptes_output_dropped_total"), 2, "two receivers have one address");
    assert_eq!(all("panoptes_exceptions_total"), 2, "two have the same reason");
    assert_eq!(value(&samples, "panoptes_queue_dropped_total", &[]), 4.0);
    drop(counters);
    figures.forget(hostile);
    let samples = parse(&body(&figures, "/metrics").1);
    assert!(!samples.keys().any(|(_, labels)| labels.contains_key("output")));
    assert!(!samples.keys().any(|(_, labels)| labels.contains_key("system")));
}
