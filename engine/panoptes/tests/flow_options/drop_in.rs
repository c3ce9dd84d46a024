//! Debian's package argus-server with Panoptes in the place of its program: the unit, the
//! configuration and the script that it has, with nothing changed but the path of the program.
//!
//! The files are those of the packages that tests have unpacked, of argus 3 and 5.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use panoptes_bounded as bounded;
use panoptes_needs::{check, skip};

use crate::live::{connection, facts, truth};
use crate::network::{LEFT, RIGHT, enter, send_all};
use crate::programs::{Folder, Running, settle, signal_to, until};
use crate::stream::rows;

/// Where the package has its program.
const PLACE: &str = "/usr/sbin/argus";
/// What it writes to, as its configuration says.
const RECORDS: &str = "log/argus/argus.out";

/// The root of an unpacked package; `None` if there is none.
fn unpacked(version: &str) -> Option<PathBuf> {
    let program = check::unpacked(version, "argus");
    let root = program.map(|path| path.with_file_name("").join("../root"));
    if root.is_none() {
        skip::test(if version == "argus-5" { "argus 5" } else { "argus" });
    }
    root
}

/// A folder for a machine: `/etc` with changes, `/run` and `/var/log` of its own, and a program of
/// the name `argus`.
fn machine(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    for name in ["run", "etc", "log", "log/argus"] {
        fs::create_dir(folder.path(name)).expect("a folder");
    }
    let mut copy = Command::new("cp");
    let copied = bounded::status(copy.args(["-a", "/etc/.", &folder.text("etc")]));
    assert!(copied.expect("coreutils").success());
    let _ = fs::remove_file(folder.path("etc/argus.conf"));
    for (name, text) in files {
        let path = folder.path("etc").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("there is room");
        fs::write(path, text).expect("there is room");
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_panoptes"), folder.path("argus"))
        .expect("a link");
    folder
}

/// A line for the shell on that machine.
fn on(folder: &Folder, line: &str) -> Command {
    let mount = "mount --bind run /run && mount --bind log /var/log && mount --bind etc /etc";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &format!("{mount} && {line}")]);
    command.current_dir(folder.path("."));
    command
}

/// The command line of the unit, with the program in another place.
fn command_line(root: &Path, program: &str) -> String {
    let unit = ["lib/systemd/system", "usr/lib/systemd/system"]
        .into_iter()
        .find_map(|place| fs::read_to_string(root.join(place).join("argus.service")).ok())
        .expect("the unit");
    assert!(!unit.contains("Type="), "it stays in the foreground");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    assert!(line.starts_with(PLACE), "{line}");
    line.replacen(PLACE, program, 1)
}

/// Starts the unit of a package on a machine with its configuration.
fn start(version: &str, program: &str) -> Option<(Folder, Running)> {
    let root = unpacked(version)?;
    let configuration = fs::read_to_string(root.join("etc/argus.conf")).expect("it has one");
    let id = "00112233445566778899aabbccddeeff\n";
    let folder = machine(&[("argus.conf", &configuration), ("machine-id", id)]);
    let link = folder.text("argus");
    let line = command_line(&root, if program.is_empty() { &link } else { program });
    let running = Running::start(&mut on(&folder, &format!("exec {line}")));
    running.wait_for(&format!("{}: auditing", RIGHT[0]));
    Some((folder, running))
}

#[test]
fn the_unit_of_debian_12_starts_panoptes() {
    if !skip::can_mount() || !enter(1) {
        return;
    }
    let flow = concat!(env!("CARGO_BIN_EXE_panoptes"), " flow");
    for program in ["", flow] {
        let Some((folder, running)) = start("argus-3", program) else { return };
        running.settle();
        send_all(LEFT[0], &connection(1));
        running.settle();
        let messages = running.end(Signal::SIGTERM).succeeded();
        assert!(!messages.contains("no effect"), "{messages}");
        let records = folder.path(RECORDS);
        assert_eq!(facts(&records), truth(connection(1).flows(), "0.0.0.0"), "{program}");
        // No daemon, no PID file.
        let mut made = fs::read_dir(folder.path("run")).expect("a folder").flatten();
        assert!(!made.any(|entry| entry.file_name().to_string_lossy().ends_with(".pid")));
    }
}

/// Its configuration asks for what this sensor has not: warnings tell so.
#[test]
fn the_unit_of_debian_13_starts_panoptes() {
    if !skip::can_mount() || !enter(1) {
        return;
    }
    let Some((folder, running)) = start("argus-5", "") else { return };
    running.wait_for("left0: auditing");
    running.settle();
    send_all(LEFT[0], &connection(1));
    running.settle();
    let messages = running.end(Signal::SIGTERM).succeeded();
    for name in ["ARGUS_KEYSTROKE=tcp", "ARGUS_GENERATE_HASH_METRICS=yes"] {
        let warning = format!("{name} is not supported; it has no effect");
        assert_eq!(messages.matches(&warning).count(), 1, "{name}: {messages}");
    }
    assert!(messages.contains("/etc/argus.conf:"), "{messages}");
    // Both interfaces are audited, each with flows of its own.
    let count = rows(&folder.path(RECORDS)).len();
    assert_eq!(count, 2 * connection(1).flows().len());
}

/// What the script takes from its distribution.
const FUNCTIONS: &str = "success() { return 0; }\nfailure() { return 1; }\n\
    killproc() { kill -TERM \"$(cat /run/$1.right0.0.pid)\"; }\n";

/// The script for System V that argus has, with another folder for the program.
#[test]
fn the_script_of_argus_starts_and_stops_panoptes() {
    if !skip::can_mount() || !enter(1) {
        return;
    }
    let Some(root) = unpacked("argus-3") else { return };
    let script = root.join("usr/share/doc/argus-server/examples/support/Startup/argus");
    let script = fs::read_to_string(script).expect("the script");
    let configuration =
        format!("ARGUS_OUTPUT_FILE=/var/log/argus/argus.out\nARGUS_INTERFACE={}\n", RIGHT[0]);
    let folder = machine(&[
        ("argus.conf", &configuration),
        ("init.d/functions", FUNCTIONS),
        ("sysconfig/network", "NETWORKING=yes\n"),
    ]);
    let script = script.replace("ARGUSDIR=/usr/local/sbin", "ARGUSDIR=\"$PWD\"");
    folder.write("script", script.as_bytes());
    // /var/lock is below /run.
    fs::create_dir_all(folder.path("run/lock/subsys")).expect("a folder");
    let line = "sh ./script start";
    let started = Running::collect(&mut on(&folder, line)).ended();
    let pid_file = folder.path(&format!("run/argus.{}.0.pid", RIGHT[0]));
    let daemon = fs::read_to_string(&pid_file).expect(&started.messages);
    let daemon: u32 = daemon.trim().parse().expect("a number");
    // pgrep, killall and start-stop-daemon search this name.
    let name = fs::read_to_string(format!("/proc/{daemon}/comm")).expect("it runs");
    settle(daemon);
    send_all(LEFT[0], &connection(1));
    settle(daemon);
    let stopped = Running::collect(&mut on(&folder, "sh ./script stop")).ended();
    let is_running = || Path::new(&format!("/proc/{daemon}/exe")).exists();
    let ends = std::panic::catch_unwind(|| until(|| stopped.messages.clone(), || !is_running()));
    if ends.is_err() {
        signal_to(daemon, Signal::SIGKILL);
        panic!("{}", stopped.messages);
    }
    assert_eq!(name, "argus\n");
    assert!(!pid_file.exists());
    assert_eq!(facts(&folder.path(RECORDS)), truth(connection(1).flows(), "0.0.0.0"));
}
