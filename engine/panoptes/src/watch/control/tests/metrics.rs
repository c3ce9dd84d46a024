//! Metrics of a control thread that watches a recorded machine.

#![allow(clippy::float_cmp, reason = "the numbers are small and whole")]

use std::net::{SocketAddr, TcpListener};

use panoptes_bounded::Port;

use super::*;
use crate::watch::metrics::tests::{get, parse, value};

/// The status of a page; 0 if there is no answer.
fn status(address: SocketAddr, path: &str) -> u16 {
    get(address, path).map_or(0, |(status, _)| status)
}

#[test]
fn metrics_have_the_figures_of_a_machine_that_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    if machine(folder.path()).is_none() {
        panoptes_needs::skip::test("xz");
        return;
    }
    let port = Port::reserve().unwrap();
    let address = port.address();
    let more = "systems: {web: {system: ram, file_format: raw}, absent: {system: /absent}}";
    let file = configure(folder.path(), more);
    let text = fs::read_to_string(&file).unwrap();
    let metrics = format!("log_folder: log, metrics: {{address: '{address}'}}");
    fs::write(&file, text.replace("log_folder: log", &metrics)).unwrap();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait("web: Linux 6.1", 1);
        driver.wait_for("readiness", || status(address, "/readyz") == 200);
        assert_eq!(status(address, "/healthz"), 200);
        let page = || parse(&get(address, "/metrics").unwrap().1);
        let web = [("system", "web")];
        driver.wait_for("scan", || value(&page(), "panoptes_scans_total", &web) > 2.0);
        driver.wait_for("search", || driver.log().contains("\"host_initialization_failed\""));
        let samples = page();
        let of_web =
            |name: &str, more: &[(&str, &str)]| value(&samples, name, &[&web[..], more].concat());
        let scans = of_web("panoptes_scans_total", &[]);
        assert_eq!(of_web("panoptes_system_watched", &[]), 1.0);
        assert_eq!(value(&samples, "panoptes_system_watched", &[("system", "absent")]), 0.0);
        let walks = of_web("panoptes_scan_duration_seconds_count", &[("stage", "walk")]);
        assert!((walks - scans).abs() < 3.0, "{walks} of {scans}: they are written one by one");
        let intervals = of_web("panoptes_scan_interval_seconds_count", &[]);
        assert!((intervals - scans).abs() < 3.0, "{intervals} of {scans}");
        assert!(of_web("panoptes_read_bytes_total", &[]) / scans > 100_000.0);
        assert!(of_web("panoptes_read_batches_total", &[]) / scans < 1000.0);
        let last = of_web("panoptes_last_scan_timestamp_seconds", &[]);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((now - 60.0..=now).contains(&last), "{last} {now}");
        for (table, least) in [("processes", 10.0), ("threads", 10.0), ("file_descriptors", 5.0)] {
            let table = [("table", table)];
            let (used, capacity) = (
                of_web("panoptes_table_entries", &table),
                of_web("panoptes_table_capacity", &table),
            );
            assert!(least < used && used < capacity, "{table:?}: {used} of {capacity}");
        }
        let events = folder.path().join("log/events.jsonl").display().to_string();
        let written = value(&samples, "panoptes_output_records_total", &[("output", &events)]);
        assert!(written > 0.0 && written <= driver.log().lines().count() as f64, "{written}");
        let kind = [("type", "SYSTEM_ACTIVITY"), ("activity", "host_initialization_failed")];
        assert_eq!(value(&samples, "panoptes_records_total", &kind), 1.0);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count(&format!("metrics are at http://{address}/metrics")), 1);
}

#[test]
fn a_port_that_is_taken_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /absent}}");
    let text = fs::read_to_string(&file).unwrap();
    let metrics = format!("log_folder: log, metrics: {{address: '{address}'}}");
    fs::write(&file, text.replace("log_folder: log", &metrics)).unwrap();
    let messages = Arc::new(Messages::new(Box::new(io::sink()), false, LogLevel::Error));
    let signals = Signals::take().unwrap();
    let failure = control(&request(&file), &messages, &signals).unwrap_err();
    assert_eq!(failure.exit, Exit::Output);
    let expected = format!("output.metrics.address: {address}: Address already in use");
    assert!(failure.message.starts_with(&expected), "{failure}");
}
