//! Outputs that a changed configuration adds, changes and removes.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use panoptes_bounded::{self as bounded, Port};
use panoptes_sinks::output::folder::FolderLock;

use super::reload::{details, refuse, reload_whole};
use super::*;

/// A file with this content of `output`.
fn text(output: &str) -> String {
    format!(
        "auto_scan: false\nservice: {{state_dir: state}}\noutput: {{{output}}}\n\
         systems: {{a: {{system: /absent}}}}\n"
    )
}

/// Runs a service with this content of `output`, and a script.
fn serve(
    folder: &TempDir,
    output: &str,
    script: impl FnOnce(&Driver) + Send,
) -> (Result<Exit, Failure>, Kept) {
    let file = folder.path().join("p.yaml");
    fs::write(&file, text(output)).unwrap();
    let (exit, kept, _) = run(folder, &file, REAL, script);
    (exit, kept)
}

fn read(folder: &TempDir, path: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder.path().join(path)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["activity_data"]["name"].as_str().unwrap()).collect()
}

/// A receiver that accepts one connection, and returns its lines when that ends.
fn receiver() -> (SocketAddr, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let stream = BufReader::new(bounded::accept(&listener).unwrap());
        stream.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    });
    (address, thread)
}

/// Reads the configuration again, with this content of `output`.
fn reload(driver: &Driver, output: &str) {
    reload_whole(driver, &text(output));
}

#[test]
fn logs_in_another_folder_go_on_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (exit, kept) = serve(&folder, "log_folder: log", |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        reload(driver, "log_folder: other");
        reload(driver, "log_folder: log");
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let (first, other) = (read(&folder, "log/events.jsonl"), read(&folder, "other/events.jsonl"));
    assert_eq!(names(&other), ["configuration_reloaded"], "{other:?}");
    let all = names(&first);
    assert_eq!(all.iter().filter(|name| **name == "configuration_reloaded").count(), 1, "{all:?}");
    assert_eq!(all.last(), Some(&"service_gracefully_shutdown"));
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
    for path in ["log", "other"] {
        FolderLock::take(&folder.path().join(path)).unwrap();
    }
}

#[test]
fn a_log_with_other_settings_has_every_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let (exit, kept) = serve(&folder, "log_folder: log", |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        reload(driver, "log_folder: log, max_files: 3, sync: always");
        reload(driver, "log_folder: log, preset: alerts");
        reload(driver, "log_folder: log");
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let records = read(&folder, "log/events.jsonl");
    let all = names(&records);
    assert_eq!(all.iter().filter(|name| **name == "configuration_reloaded").count(), 3, "{all:?}");
    let mut ids: Vec<_> = records.iter().map(|record| record["message_id"].to_string()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "no record is doubled");
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
}

#[test]
fn receivers_come_and_go_and_change() {
    let folder = tempfile::tempdir().unwrap();
    let ((first, first_lines), (second, second_lines)) = (receiver(), receiver());
    let (exit, kept) = serve(&folder, "log_folder: log", |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        let one = format!("{{address: '{first}'}}");
        reload(driver, &format!("log_folder: log, telemetry: [{one}]"));
        driver.wait(&format!("{first} (tcp): connected"), 1);
        // Another order is no change.
        let both = format!("log_folder: log, telemetry: [{{address: '{second}'}}, {one}]");
        reload(driver, &both);
        driver.wait(&format!("{second} (tcp): connected"), 1);
        reload(driver, &format!("log_folder: log, telemetry: [{{address: '{second}'}}]"));
        reload(driver, "log_folder: log");
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let (first, second) = (first_lines.join().unwrap(), second_lines.join().unwrap());
    let log = read(&folder, "log/events.jsonl");
    let reloads: Vec<&Value> = log
        .iter()
        .filter(|record| record["activity_data"]["name"] == "configuration_reloaded")
        .collect();
    let of = |records: &[Value]| {
        let reloads = records.iter().filter(|one| reloads.contains(one));
        reloads.map(Value::to_string).collect::<Vec<_>>()
    };
    let all: Vec<String> = reloads.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 4, "{}", kept.text());
    // An output that ends may have the record about that.
    assert_eq!(of(&first)[..2], all[..2]);
    assert_eq!(of(&second)[..2], all[1..3]);
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
}

/// An operator who renews a token or a certificate sends SIGHUP.
#[test]
fn a_renewed_token_is_used_although_no_key_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "first").unwrap();
    let (sender, tokens) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in bounded::incoming(&listener) {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|length| length > 2) {
                if let Some(token) = line.strip_prefix("Token: ") {
                    sender.send(token.trim().to_owned()).unwrap();
                }
                line.clear();
            }
            let _ = stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let with = format!(
        "log_folder: log, telemetry: [{{transport: http, address: 'http://{address}/', \
         headers: {{Token: 'file:token'}}}}]"
    );
    let path = token.clone();
    let (_, kept) = serve(&folder, &with, move |driver| {
        assert_eq!(tokens.recv_timeout(PATIENCE).unwrap(), "first");
        fs::write(&path, "second").unwrap();
        reload_whole(driver, &fs::read_to_string(driver.folder.join("p.yaml")).unwrap());
        while tokens.recv_timeout(PATIENCE).unwrap() != "second" {}
    });
    assert_eq!(kept.count("nothing has changed"), 1, "{}", kept.text());
}

/// A receiver of this address.
fn telemetry(address: SocketAddr, more: &str) -> String {
    format!("log_folder: log, telemetry: [{{address: '{address}'{more}}}]")
}

#[test]
fn what_waited_for_a_receiver_goes_to_it_with_its_new_settings() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let address = port.address();
    let (sender, receiver) = std::sync::mpsc::channel();
    let (_, kept) = serve(&folder, &telemetry(address, ""), |driver| {
        driver.wait_for("record", || driver.log().contains("Connection refused"));
        for settings in [", severity: ERROR", ", backlog: {memory: 1M}", ", header: compact"] {
            reload(driver, &telemetry(address, settings));
        }
        reload(driver, &telemetry(address, ""));
        let listener = TcpListener::bind(address).unwrap();
        let stream = BufReader::new(bounded::accept(&listener).unwrap());
        let lines = stream.lines().map(|line| line.unwrap());
        sender.send(thread::spawn(|| lines.collect::<Vec<_>>())).unwrap();
    });
    let arrived = bounded::recv(&receiver).unwrap().join().unwrap();
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let first: Vec<_> = log.lines().take_while(|line| !line.contains("reloaded")).collect();
    assert!(first.len() >= 3, "{log}");
    assert_eq!(arrived[..first.len()], first);
    assert_eq!(arrived.last().map(String::as_str), log.lines().next_back());
    assert!(details(&log, "records_dropped").is_empty(), "{log}");
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
}

#[test]
fn what_waited_for_a_receiver_that_is_away_is_counted_when_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let absent = port.address();
    let (exit, kept) = serve(&folder, &telemetry(absent, ""), |driver| {
        driver.wait_for("record", || driver.log().contains("Connection refused"));
        reload(driver, "log_folder: log");
        driver.wait("records were lost: the output has ended before", 1);
    });
    // The output is gone, and its loss is not forgotten.
    let failure = exit.unwrap_err();
    assert_eq!(failure.exit, Exit::Output, "{}", kept.text());
    assert!(failure.message.starts_with(&format!("{absent} (tcp): ")), "{failure}");
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let lost = details(&log, "records_dropped");
    assert!(!lost.is_empty(), "{}", kept.text());
    assert_eq!(lost[0]["output"], format!("{absent} (tcp)"));
    assert!(lost[0]["dropped"].as_u64().unwrap() >= 3, "{lost:?}");
}

/// What waits on the disk is not lost, but nobody sends it.
#[test]
fn what_waits_on_the_disk_for_no_receiver_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let absent = port.address();
    let on_disk = telemetry(absent, ", backlog: {disk: 1M}");
    let why = "records wait here for a receiver that the configuration does not have";
    let (_, kept) = serve(&folder, &on_disk, |driver| {
        driver.wait_for("record", || driver.log().contains("Connection refused"));
        reload(driver, &telemetry(absent, ", backlog: {disk: 2M}"));
        reload(driver, "log_folder: log");
        driver.wait(why, 1);
    });
    assert_eq!(kept.count(why), 1, "{}", kept.text());
    let (_, kept) = serve(&folder, "log_folder: log", |driver| driver.wait(why, 1));
    assert_eq!(kept.count(why), 1, "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let failed = details(&log, "details_gathering_failed");
    let place = folder.path().join("state/backlog");
    let is_there =
        |one: &&Value| one["output"].as_str().unwrap().starts_with(place.to_str().unwrap());
    assert_eq!(failed.iter().filter(is_there).count(), 2, "{log}");
    // The receiver is there again, and gets them.
    let listener = TcpListener::bind(absent).unwrap();
    let lines = thread::spawn(move || {
        BufReader::new(bounded::accept(&listener).unwrap())
            .lines()
            .map(|line| line.unwrap())
            .collect()
    });
    let (_, kept) = serve(&folder, &on_disk, |driver| driver.wait("connected", 1));
    let lines: Vec<String> = lines.join().unwrap();
    assert_eq!(lines[0], log.lines().next().unwrap());
    assert_eq!(kept.count(why), 0, "{}", kept.text());
}

/// Nothing of a refused configuration applies, and what was in use stays so.
#[test]
fn an_output_that_cannot_be_opened_refuses_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let taken = folder.path().join("taken");
    let lock = FolderLock::take(&taken).unwrap();
    let (exit, kept) = serve(&folder, "log_folder: log", |driver| {
        driver.wait_for("record", || driver.log().contains("host_initialization_failed"));
        refuse(driver, &text("log_folder: file/log"), "file/log: Not a directory");
        refuse(driver, &text("log_folder: taken"), "writes its logs there");
        let token = "telemetry: [{transport: http, address: 'http://127.0.0.1:1/', \
                     headers: {A: 'file:missing'}}]";
        refuse(driver, &text(&format!("log_folder: log, {token}")), "No such file");
        refuse(driver, &text("stdout: true, log_folder: none"), "`output.stdout` needs one");
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    drop(lock);
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    assert_eq!(details(&log, "configuration_refused").len(), 4, "{log}");
    assert!(details(&log, "configuration_reloaded").is_empty());
}

#[test]
fn metrics_move_to_another_port_and_a_taken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ports = [(); 2].map(|()| Port::reserve().unwrap());
    let [first, second] = ports.each_ref().map(Port::address);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let with = |address| text(&format!("log_folder: log, metrics: {{address: '{address}'}}"));
    let answers = |address: SocketAddr| bounded::connect(address).is_ok();
    let first_of = format!("log_folder: log, metrics: {{address: '{first}'}}");
    let (exit, kept) = serve(&folder, &first_of, |driver| {
        driver.wait_for("port", || answers(first));
        let address = taken.local_addr().unwrap();
        refuse(driver, &with(address), "Address already in use");
        assert!(answers(first));
        let any = SocketAddr::from(([0, 0, 0, 0], first.port()));
        refuse(driver, &with(any), "has that port until metrics are switched off");
        assert!(answers(first));
        reload_whole(driver, &with(second));
        driver.wait_for("port", || answers(second) && !answers(first));
        reload(driver, "log_folder: log");
        driver.wait_for("end", || !answers(second));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}

#[test]
fn a_log_of_a_system_that_cannot_be_opened_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    let systems = folder.path().join("log/systems");
    fs::write(&systems, "").unwrap();
    let with = "log_folder: log, log_per_system: true";
    let (exit, kept) = serve(&folder, with, |driver| {
        driver.wait_for("record", || driver.log().contains("a has no log of its own until now"));
        fs::remove_file(&systems).unwrap();
        driver.wait_for("log", || systems.join("a/events.jsonl").exists());
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("has no log of its own until now"), 1, "{}", kept.text());
}

#[test]
fn logs_of_single_systems_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let own = "log/systems/a/events.jsonl";
    let with = "log_folder: log, log_per_system: true";
    let (exit, kept) = serve(&folder, with, |driver| {
        driver.wait_for("record", || !read(&folder, own).is_empty());
        reload(driver, &format!("{with}, max_files: 3"));
        reload(driver, "log_folder: log");
        reload(driver, with);
        reload(driver, "log_folder: other, log_per_system: true");
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let records = read(&folder, own);
    assert_eq!(names(&records), ["host_initialization_started", "host_initialization_failed"]);
    assert_eq!(kept.count("records were lost"), 0, "{}", kept.text());
}

/// A log that cannot be opened with its new settings is tried again, and another configuration is
/// read meanwhile.
#[test]
fn an_output_that_cannot_be_opened_any_more_delays_no_other_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let blocker = folder.path().join("other/systems");
    fs::create_dir_all(blocker.parent().unwrap()).unwrap();
    fs::write(&blocker, "not a folder").unwrap();
    let own = "log/systems/a/events.jsonl";
    let (exit, kept) = serve(&folder, "log_folder: log, log_per_system: true", |driver| {
        driver.wait_for("record", || !read(&folder, own).is_empty());
        reload(driver, "log_folder: other, log_per_system: true");
        driver.wait("it can't be opened with its new settings: Not a directory", 1);
        reload(driver, "log_folder: log, log_per_system: true");
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("other/events.jsonl")).unwrap();
    let failed = details(&log, "details_gathering_failed");
    assert_eq!(failed.len(), 1, "{log}");
    assert!(failed[0]["output"].as_str().unwrap().ends_with(own), "{log}");
}

/// What a receiver needs is checked before its place is emptied.
#[test]
fn a_backlog_on_disk_without_its_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let absent = port.address();
    let with = |more: &str| format!("log_folder: log, telemetry: [{{address: '{absent}'{more}}}]");
    let (_, kept) = serve(&folder, &with(""), |driver| {
        driver.wait_for("record", || driver.log().contains("Connection refused"));
        fs::remove_dir_all(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("state"), "").unwrap();
        refuse(driver, &text(&with(", backlog: {disk: 1MiB}")), "Not a directory");
    });
    assert_eq!(kept.count("the output has ended before"), 0, "{}", kept.text());
}

/// Until a restart, records have their old form, and events their old rules.
#[test]
fn what_follows_from_a_key_that_needs_a_restart_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    fs::write(&file, text("log_folder: log")).unwrap();
    let old = request(&file);
    let other = text("log_folder: log, stdout: true");
    let other = other.replace("state_dir: state", "state_dir: state, compatibility: doca_argus");
    fs::write(&file, &other).unwrap();
    let read = old.reload().unwrap();
    assert_ne!(read.configuration.default.events, old.configuration.default.events);
    let applied = old.reload_as_far_as_possible(&read).unwrap();
    assert_eq!(applied.configuration, old.configuration);
    assert_eq!(old.reload_as_far_as_possible(&old).unwrap().configuration, old.configuration);
}
