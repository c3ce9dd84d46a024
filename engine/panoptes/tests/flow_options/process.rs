//! The process: -d, -c, -u, -g, -D, -F, -X, -h, and signals.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::live::{Live, connection, facts, listen, truth};
use crate::network::{LEFT, RIGHT, enter, send_all};
use crate::programs::{BOTH, Folder, Running, Sensor, argus, run, settle, signal_to, until};
use crate::stream::{group, management, plain, rows, same};

/// A process that is no child; killed at the end of the test.
struct Daemon(u32);

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            signal_to(self.0, Signal::SIGKILL);
        }
    }
}

impl Daemon {
    /// Reads the only PID file of a folder.
    #[track_caller]
    fn find(folder: &Path) -> Self {
        let text = || {
            let mut all = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let path = all.next()?.path();
            std::fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        until(|| "no PID file".to_owned(), || text().is_some());
        Self(text().expect("a number"))
    }

    fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}/exe", self.0)).exists()
    }

    /// The number of its session: the fourth field behind its name (`proc_pid_stat(5)`).
    fn session(&self) -> u32 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).expect("it runs");
        let (_, rest) = stat.rsplit_once(") ").expect("a name");
        rest.split(' ').nth(3).and_then(|word| word.parse().ok()).expect("a number")
    }
}

#[test]
fn option_d_runs_in_the_background() {
    if !enter(1) {
        return;
    }
    for sensor in BOTH {
        let folder = Folder::new();
        std::fs::create_dir(folder.path("pid")).expect("a folder");
        let configuration =
            format!("ARGUS_SET_PID=yes\nARGUS_PID_PATH=\"{}\"\n", folder.text("pid"));
        let configuration = folder.write("argus.conf", configuration.as_bytes());
        let records = folder.path("records");
        let options = ["-F", &configuration, "-S", "60", "-d", "-i", RIGHT[0], "-w"];
        Running::start(sensor.with(&options).arg(&records)).ended().succeeded();
        let daemon = Daemon::find(&folder.path("pid"));
        assert_eq!(daemon.session(), daemon.0, "{sensor:?}");
        assert!(folder.path("pid/argus.right0.0.pid").exists(), "{sensor:?}");
        let output = std::fs::read_link(format!("/proc/{}/fd/1", daemon.0)).expect("it runs");
        assert_eq!(output, PathBuf::from("/dev/null"), "{sensor:?}");
        settle(daemon.0);
        send_all(LEFT[0], &connection(1));
        settle(daemon.0);
        signal_to(daemon.0, Signal::SIGTERM);
        until(|| format!("{sensor:?} does not end"), || !daemon.is_running());
        assert_eq!(facts(&records), truth(connection(1).flows(), "0.0.0.0"));
        assert!(!folder.path("pid/argus.right0.0.pid").exists(), "{sensor:?}");
    }
}

#[test]
fn option_d_reports_an_output_that_cannot_be_made() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let records = folder.text("none/records");
    let configuration = folder.write("argus.conf", b"ARGUS_SET_PID=no\n");
    let options = ["-F", &configuration, "-d", "-i", RIGHT[0], "-w", &records];
    let ended = Running::start(&mut Sensor::Panoptes.with(&options)).ended();
    assert_eq!(ended.status.code(), Some(74), "{}", ended.messages);
    assert!(ended.messages.contains(&records), "{}", ended.messages);
}

#[test]
fn option_d_reports_what_goes_wrong_before() {
    let folder = Folder::new();
    let records = folder.text("records");
    let mut command = Sensor::Panoptes.with(&["-d", "-i", "nothing0", "-w", &records]);
    let ended = Running::start(&mut command).ended();
    assert_eq!(ended.status.code(), Some(66), "{}", ended.messages);
    assert!(ended.messages.contains("nothing0"), "{}", ended.messages);
}

/// A line of `/proc/PID/status`.
fn status(process: u32, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.split_whitespace().map(ToOwned::to_owned).collect()
}

/// The number of a name in `/etc/passwd` or `/etc/group`.
fn number_of(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).expect("a table");
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|words| words[0] == name).expect(name)[2].to_owned()
}

#[test]
fn option_c_makes_a_folder_the_root() {
    if !enter(1) {
        return;
    }
    for sensor in BOTH {
        let folder = Folder::new();
        let root = folder.text("");
        let options = ["-S", "60", "-i", RIGHT[0], "-c", &root, "-w", "/records"];
        let running = listen(sensor, &mut sensor.with(&options), &[RIGHT[0]]);
        let link = std::fs::read_link(format!("/proc/{}/root", running.id())).expect("it runs");
        assert_eq!(link, Path::new(root.trim_end_matches('/')), "{sensor:?}");
        send_all(LEFT[0], &connection(1));
        running.settle();
        let ended = running.end(Signal::SIGTERM);
        // In an empty folder, argus misses a library when it ends.
        if sensor == Sensor::Panoptes {
            ended.succeeded();
            let records = folder.path("records");
            assert_eq!(facts(&records), truth(connection(1).flows(), "0.0.0.0"));
        }
    }
}

#[test]
fn option_u_changes_the_user() {
    changes_identity(&["-u", "nobody"], Some("nobody"), None);
}

#[test]
fn option_g_changes_the_group() {
    changes_identity(&["-g", "nogroup"], None, Some("nogroup"));
}

/// Sensors run as this user and group, and their files belong to them.
#[track_caller]
fn changes_identity(options: &[&str], user: Option<&str>, group: Option<&str>) {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    folder.open_to_all();
    for sensor in BOTH {
        let options = [&["-S", "60", "-i", RIGHT[0]], options].concat();
        let live = Live::start(sensor, &folder, &options, &[RIGHT[0]]);
        let id = live.running.id();
        if let Some(user) = user {
            let uid = number_of("/etc/passwd", user);
            assert_eq!(status(id, "Uid:"), vec![uid; 4], "{sensor:?}");
        }
        if let Some(group) = group {
            let gid = number_of("/etc/group", group);
            assert_eq!(status(id, "Gid:"), vec![gid; 4], "{sensor:?}");
        }
        send_all(LEFT[0], &connection(1));
        assert_eq!(facts(&live.end()), truth(connection(1).flows(), "0.0.0.0"), "{sensor:?}");
    }
}

/// A signal ends both sensors, and they write the flows that are active.
#[track_caller]
fn ends(signal: Signal) {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-S", "60", "-i", RIGHT[0]];
    let live = BOTH.map(|sensor| Live::start(sensor, &folder, &options, &[RIGHT[0]]));
    let capture = group(0);
    send_all(LEFT[0], &capture);
    let causes = live.map(|live| {
        live.running.settle();
        live.running.end(signal).succeeded();
        assert_eq!(facts(&live.records), truth(capture.flows(), "0.0.0.0"));
        let rows = argus().ra_fields(&live.records, &["saddr", "dport", "state", "cause"]);
        let mut causes: Vec<_> =
            rows.expect("records").iter().map(|row| format!("{row:?}")).collect();
        causes.sort();
        causes
    });
    // The cause of the records is the end of the sensor.
    assert_eq!(causes[0], causes[1]);
}

#[test]
fn sighup_ends_the_sensor() {
    ends(Signal::SIGHUP);
}

#[test]
fn sigint_ends_the_sensor() {
    ends(Signal::SIGINT);
}

#[test]
fn sigterm_ends_the_sensor() {
    ends(Signal::SIGTERM);
}

#[test]
fn option_d_upper_and_signals_change_the_debug_level() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-D", "2", "-i", RIGHT[0]];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    // Debian's argus has no messages for debugging.
    live.running.signal(Signal::SIGUSR1);
    live.running.wait_for("the debug level is 3");
    live.running.signal(Signal::SIGUSR1);
    live.running.wait_for("the debug level is 4");
    live.running.signal(Signal::SIGUSR2);
    live.running.wait_for("the debug level is 0");
    live.running.signal(Signal::SIGUSR1);
    live.running.wait_for("the debug level is 1");
    live.end();
}

#[test]
fn sigusr1_and_sigusr2_do_not_end_the_sensor() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-S", "60", "-i", RIGHT[0]];
    // Not argus: it was seen to crash after these signals.
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    live.running.signal(Signal::SIGUSR1);
    live.running.signal(Signal::SIGUSR2);
    live.running.settle();
    send_all(LEFT[0], &connection(1));
    assert_eq!(facts(&live.end()), truth(connection(1).flows(), "0.0.0.0"));
}

/// Records that both sensors make of a capture with these arguments, and the id of ours.
#[track_caller]
fn with_configuration(text: &str, arguments: &[&str]) -> (usize, String, bool) {
    let folder = Folder::new();
    let configuration = folder.write("argus.conf", text.as_bytes());
    let capture = folder.capture("a.pcap", &plain());
    let arguments: Vec<_> = arguments
        .iter()
        .map(|word| if *word == "FILE" { &configuration[..] } else { word })
        .collect();
    let files = BOTH.map(|sensor| {
        let records = folder.path(&format!("{sensor:?}"));
        let mut command = sensor.configured();
        command.args(&arguments).args(["-S", "3600", "-r", &capture, "-w"]).arg(&records);
        Running::start(&mut command).ended().succeeded();
        records
    });
    let own = same(&files);
    let ids = argus().ra_fields(&files[1], &["srcid"]).expect("records");
    let theirs = argus().ra_fields(&files[0], &["srcid"]).expect("records");
    assert_eq!(ids, theirs);
    let has_bytes = own.iter().any(|row| row.number("sappbytes") > 0);
    (own.len(), ids[0].text("srcid").to_owned(), has_bytes)
}

const CONFIGURATION: &str = "# A sensor\nARGUS_MONITOR_ID=7\nARGUS_GENERATE_APPBYTE_METRIC=yes\n\
    ARGUS_FILTER=\"udp port 53\"\n";

#[test]
fn option_f_upper_reads_a_configuration() {
    let (count, id, has_bytes) = with_configuration(CONFIGURATION, &["-F", "FILE"]);
    assert_eq!((count, &id[..], has_bytes), (4, "7", true));
}

#[test]
fn option_f_upper_overrides_the_options_before_it() {
    let (_, id, _) = with_configuration(CONFIGURATION, &["-e", "5", "-F", "FILE"]);
    assert_eq!(id, "7");
    let (_, id, _) = with_configuration(CONFIGURATION, &["-F", "FILE", "-e", "5"]);
    assert_eq!(id, "5");
}

#[test]
fn option_x_upper_forgets_the_options_before_it() {
    let (count, id, has_bytes) = with_configuration(CONFIGURATION, &["-F", "FILE", "-X"]);
    assert_eq!((count, &id[..], has_bytes), (plain().flows().len(), "0.0.0.0", false));
}

#[test]
fn the_default_configuration_is_read() {
    const PLACE: &str = "/etc/argus.conf";
    if !panoptes_needs::skip::can_mount() || !panoptes_needs::skip::has(PLACE) {
        return;
    }
    let folder = Folder::new();
    let configuration = folder.write("argus.conf", CONFIGURATION.as_bytes());
    let capture = folder.capture("a.pcap", &plain());
    let [theirs, own] = BOTH.map(|sensor| {
        let records = folder.path(&format!("{sensor:?}"));
        let command = sensor.configured();
        // In a mount namespace of its own.
        let mut script = Command::new("unshare");
        let mount = format!("mount --bind {configuration} {PLACE} && exec \"$@\"");
        script.args(["-m", "sh", "-c", &mount, "sh"]).arg(command.get_program());
        script.args(command.get_args()).args(["-S", "3600", "-r", &capture, "-w"]);
        Running::start(script.arg(&records)).ended().succeeded();
        records
    });
    assert_eq!(same(&[&theirs, &own]).len(), 4);
    assert_eq!(management(&own)[0].id, (0x0040_0000, [0, 0, 0, 7]));
}

#[test]
fn option_h_lists_the_options() {
    let text = run(&mut Sensor::Panoptes.with(&["-h"]));
    let letters = "AbBcCdDeFfghiJmMNOpPRrsStTuUwXZ";
    for letter in letters.chars().filter(|letter| *letter != 'h') {
        assert!(text.lines().any(|line| line.starts_with(&format!("  -{letter} "))), "-{letter}");
    }
}

#[test]
fn a_program_with_the_name_argus_is_the_auditor() {
    let folder = Folder::new();
    let capture = folder.capture("a.pcap", &plain());
    let name = folder.path("argus");
    symlink(env!("CARGO_BIN_EXE_panoptes"), &name).expect("a link");
    let records = folder.path("records");
    run(Command::new(name).args(["-X", "-S", "3600", "-r", &capture, "-w"]).arg(&records));
    assert_eq!(rows(&records).len(), plain().flows().len());
}
