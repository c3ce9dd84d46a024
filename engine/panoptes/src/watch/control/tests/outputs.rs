//! What becomes of the logs, while the control thread runs.

use std::io::{BufRead as _, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::AtomicUsize;
use std::thread;

use panoptes_bounded::{self as bounded, Port};
use panoptes_sinks::output::folder::FolderLock;

use super::*;

/// The configuration of a service whose only system is absent.
fn idle(folder: &TempDir) -> PathBuf {
    configure(folder.path(), "systems: {a: {system: /absent}}")
}

#[test]
fn a_folder_of_logs_that_goes_away_is_made_anew_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (exit, kept, _) = run(&folder, &idle(&folder), REAL, |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        fs::remove_dir_all(&log).unwrap();
        driver.wait_for("record", || driver.log().matches("is made anew").count() == 2);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    for name in ["events.jsonl", "alerts.jsonl"] {
        let name = log.join(name).display().to_string();
        let message = format!("{name}: the file was moved or removed, and is made anew");
        assert_eq!(kept.count(&message), 1, "{}", kept.text());
        let all = lines(&log.join("events.jsonl"));
        let reports = all.iter().filter(|(_, line)| line.contains("is made anew"));
        assert_eq!(reports.filter(|(_, line)| line.contains(&name)).count(), 1);
    }
}

#[test]
fn a_second_service_does_not_write_into_the_folder_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = idle(&folder);
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        let before = driver.log();
        let quiet = Arc::new(Messages::new(Box::new(io::sink()), false, LogLevel::Error));
        let signals = Signals::take().unwrap();
        let failure = control(&request(&file), &quiet, &signals).unwrap_err();
        assert_eq!(failure.exit, Exit::Output);
        let log = folder.path().join("log");
        let expected = format!(
            "cannot write to {}: another panoptes (process {}) writes its logs there",
            log.display(),
            std::process::id()
        );
        assert_eq!(failure.message, expected);
        assert_eq!(driver.log(), before);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    FolderLock::take(&folder.path().join("log")).unwrap();
}

#[test]
fn a_torn_last_line_is_removed_at_start_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fs::create_dir(&log).unwrap();
    fs::write(log.join("events.jsonl"), "{\"torn\":").unwrap();
    let (exit, kept, _) = run(&folder, &idle(&folder), REAL, |driver| {
        driver.wait_for("record", || driver.log().contains("\"records_dropped\""));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let reason = "1 records were lost: broken lines at the end of the file were removed";
    assert_eq!(kept.count(reason), 1, "{}", kept.text());
    let all = lines(&log.join("events.jsonl"));
    let mut reports = all.iter().filter(|(_, line)| line.contains("\"records_dropped\""));
    let report = &reports.next().unwrap().1;
    assert!(report.contains("\"dropped\":1}") && report.contains("events.jsonl"), "{report}");
    assert!(reports.next().is_none());
}

#[test]
fn a_failed_sync_is_reported_and_is_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fs::create_dir(&log).unwrap();
    std::os::unix::fs::symlink("/dev/null", log.join("events.jsonl")).unwrap();
    let file = idle(&folder);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("log_folder: log", "log_folder: log, sync: always")).unwrap();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait("a sync failed, and ", 1);
    });
    let failure = exit.unwrap_err();
    assert_eq!(failure.exit, Exit::Output, "{}", kept.text());
    assert!(failure.message.contains("events.jsonl: a sync failed, and "), "{failure}");
    assert!(failure.message.ends_with(": Invalid argument (os error 22)"), "{failure}");
}

#[test]
fn the_debug_log_has_a_line_about_each_record_of_systems_at_the_level_debug() {
    let (info, debug) = ("log_level: info", "log_level: debug");
    let of_a = |level| format!("a: {{{level}, ");
    // The service's level, that of system a, and the systems whose records are expected.
    let cases: [(&str, String, &[&str]); 4] = [
        (info, of_a(info), &[]),
        (debug, "a: {".to_owned(), &["a", "b"]),
        (info, of_a(debug), &["a"]),
        (debug, of_a(info), &["b"]),
    ];
    for (level, of_a, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let systems = format!("systems: {{{of_a}system: /absent}}, b: {{system: /absent}}}}");
        let file = configure(folder.path(), &systems);
        let text = fs::read_to_string(&file).unwrap();
        let service = format!("service: {{{level}, debug_log_folder: debug, ");
        fs::write(&file, text.replace("service: {", &service)).unwrap();
        let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
            let failed = || driver.log().matches("host_initialization_failed").count();
            driver.wait_for("records", || failed() == 2);
        });
        assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
        let debug = folder.path().join("debug/panoptes-events.log");
        assert_eq!(debug.exists(), !expected.is_empty());
        if !expected.is_empty() {
            let lines = fs::read_to_string(debug).unwrap();
            let records = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
            // That the search begins, and that it fails.
            let left_out = 2 * (2 - expected.len());
            assert_eq!(lines.lines().count(), records.lines().count() - left_out, "{lines}");
            let failed = lines.lines().filter(|line| line.contains("host_initialization_failed"));
            assert_eq!(failed.count(), expected.len(), "{lines}");
        }
    }
}

#[test]
fn sigusr1_opens_moved_logs_again_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (exit, kept, _) = run(&folder, &idle(&folder), REAL, |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        for name in ["events.jsonl", "alerts.jsonl"] {
            fs::rename(log.join(name), log.join(format!("{name}-20261123"))).unwrap();
        }
        driver.signal(Signal::SIGUSR1);
        for name in ["events.jsonl", "alerts.jsonl"] {
            driver.wait_for(name, || log.join(name).exists());
        }
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("opens the files of its outputs again"), 1, "{}", kept.text());
    assert!(!lines(&log.join("events.jsonl-20261123")).is_empty());
    let last = lines(&log.join("events.jsonl"));
    assert!(last.last().unwrap().1.contains("service_gracefully_shutdown"));
}

#[test]
fn receivers_get_what_the_log_has_in_the_same_order() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let file = idle(&folder);
    let text = fs::read_to_string(&file).unwrap();
    let telemetry = format!(
        "log_folder: log, telemetry: [{{address: '{address}'}}, \
         {{address: '{address}', severity: ERROR}}]"
    );
    fs::write(&file, text.replace("log_folder: log", &telemetry)).unwrap();
    let readers: Vec<_> = [(); 2]
        .map(|()| listener.try_clone().unwrap())
        .map(|listener| {
            thread::spawn(move || {
                let mut text = String::new();
                bounded::accept(&listener).unwrap().read_to_string(&mut text).unwrap();
                text
            })
        })
        .into();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let connected = format!("{address} (tcp): connected");
    assert_eq!(kept.count(&connected), 2, "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let mut texts: Vec<String> = readers.into_iter().map(|one| one.join().unwrap()).collect();
    texts.sort_by_key(String::len);
    assert_eq!(texts[1], log);
    let errors = log.lines().filter(|line| line.contains("\"severity\":\"ERROR\""));
    assert!(texts[0].lines().eq(errors));
    assert!(texts[0].contains("host_initialization_failed"), "{}", texts[0]);
}

#[test]
fn a_receiver_that_is_not_there_is_reported_and_costs_the_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let address = port.address();
    let file = idle(&folder);
    let text = fs::read_to_string(&file).unwrap();
    let telemetry = format!("log_folder: log, telemetry: [{{address: '{address}'}}]");
    fs::write(&file, text.replace("log_folder: log", &telemetry)).unwrap();
    let failure = format!("cannot connect to {address} (tcp): Connection refused");
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait_for("record", || driver.log().contains(&failure));
    });
    let exit = exit.unwrap_err();
    assert_eq!(exit.exit, Exit::Output, "{}", kept.text());
    assert!(exit.message.contains(&failure), "{exit}");
    let log = lines(&folder.path().join("log/events.jsonl"));
    let report = log.iter().find(|(_, line)| line.contains(&failure)).unwrap();
    assert!(report.1.contains("details_gathering_failed"), "{}", report.1);
    assert!(log.last().unwrap().1.contains("service_gracefully_shutdown"));
}

/// A receiver of HTTP that ends each connection after its answer, and refuses requests with such a
/// text; returns its address, and the number of its connections.
fn receive_http(refused: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in bounded::incoming(&listener) {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let Some(length) = length else { continue };
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            let is_refused = String::from_utf8(body).unwrap().contains(refused);
            let status = if is_refused { "400 Bad Request" } else { "204 No Content" };
            write!(stream.get_mut(), "HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").unwrap();
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    (address, connections)
}

#[test]
fn a_receiver_that_refuses_every_record_is_never_reported_as_connected() {
    let folder = tempfile::tempdir().unwrap();
    let file = idle(&folder);
    let text = fs::read_to_string(&file).unwrap();
    // Every record has a name.
    let (address, connections) = receive_http("\"name\"");
    let telemetry =
        format!("log_folder: log, telemetry: [{{address: 'http://{address}/', transport: http}}]");
    fs::write(&file, text.replace("log_folder: log", &telemetry)).unwrap();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait("it refuses every record", 1);
        let before = connections.load(Ordering::Relaxed);
        driver.wait_for("connection", || connections.load(Ordering::Relaxed) > before);
    });
    let exit = exit.unwrap_err();
    assert!(exit.message.contains("it answers 400 Bad Request"), "{exit}");
    assert_eq!(kept.count(": connected"), 0, "{}", kept.text());
    assert!(kept.count("it is tried again: ") > 0, "{}", kept.text());
}

#[test]
fn a_receiver_of_http_is_reported_once_as_connected_and_refused_records_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = idle(&folder);
    let text = fs::read_to_string(&file).unwrap();
    let (address, connections) = receive_http("\"configuration_reloaded\"");
    let telemetry =
        format!("log_folder: log, telemetry: [{{address: 'http://{address}/', transport: http}}]");
    fs::write(&file, text.replace("log_folder: log", &telemetry)).unwrap();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        driver.wait_for("request", || connections.load(Ordering::Relaxed) > 0);
        driver.signal(Signal::SIGHUP);
        driver.wait("1 records were lost: the receiver refuses them: ", 1);
    });
    let exit = exit.unwrap_err();
    assert_eq!(exit.exit, Exit::Output, "{}", kept.text());
    assert!(exit.message.contains("1 records were lost: cannot deliver records"), "{exit}");
    assert!(exit.message.contains("it answers 400 Bad Request"), "{exit}");
    assert!(connections.load(Ordering::Relaxed) > 2);
    assert_eq!(kept.count(": connected"), 1, "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    assert!(log.contains("the receiver refuses them"), "{log}");
}
