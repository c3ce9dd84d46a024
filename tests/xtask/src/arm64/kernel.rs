//! What an emulator of programs cannot run, on a real arm64 kernel in an emulator of machines.
//!
//! Two guests of the rig, one after the other. The first has little but the program, and scans
//! itself. The second is a Debian that has the tests on a disk, in the folders that they have here:
//! cargo has written into them where the program is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::disk::{self, Format};
use panoptes_rig::{
    Architecture, Build, Disk, Flavor, Guest, GuestSpec, Kernel, Series, Userland, cache, death,
    itself, output,
};
use serde_json::Value;

use super::{Tests, root, tests_of, title};
use crate::cargo::Executable;
use crate::folders;
use crate::results::{Count, Results};
use crate::stages::Stages;
use crate::test;

/// The tests that need a kernel, and what they start.
pub(super) const TESTS: &Tests = &[
    ("sinks", &["outputs", "panoptes_sinks", "refused", "small_disk", "sockets"]),
    ("sinks", &["remote", "remote_http", "remote_tls"]),
    ("engine/panoptes", &["panoptes"]),
    ("engine/sources", &["fault", "panoptes_sources", "process"]),
    ("engine/panoptes", &["command_line", "mistakes", "no_alloc", "runtime_failures"]),
    ("engine/panoptes", &["sandbox", "sboms", "service_manager", "shrinking", "terminal"]),
];

/// Those among them that are left out.
const SKIPPED: [&str; 8] = [
    // With the default limits, a service that may watch several systems needs more memory than the
    // guest has. Other tests have lower limits, or one system.
    "watch::control::",
    "a_check_names_what_has_an_effect_and_where_records_go",
    "a_good_configuration_is_summarised",
    "every_key_is_shown_with_its_value_and_its_origin",
    // It needs images that `cargo xtask record` makes.
    "scans_of_recorded_machines_allocate_nothing",
    // It needs a module that the rig does not keep.
    "a_file_system_that_does_not_answer_is_refused_at_once",
    // They measure time, and the emulator is too slow for them.
    "a_receiver_that_takes_long_to_answer_gets_the_next_request_at_once",
    "the_time_of_other_threads_is_no_cost_although_a_scan_has_waited",
];

/// Debian 12's kernel, of the series that most tests use.
const FLAVOR: Flavor =
    Flavor { series: Series::V6_1, build: Build::Generic, architecture: Architecture::Arm64 };
/// A service with the default limits needs more than half of it.
const MEMORY_MIB: u64 = 1024;
/// Minimum free space on the disk with the tests; it is sparse.
const DISK_MIB: u64 = 2048;
/// What tests read of the repository.
const FOLDERS: [&str; 4] = ["benches/images", "docs", "engine", "sinks"];
/// Where the disk is in the guest.
const MOUNTED: &str = "/mnt";

/// The shared libraries that the program needs, besides those of the guest's bash.
const LIBRARIES: [&str; 2] = ["libgcc_s.so.1", "libm.so.6"];
/// Where the cross compiler has them.
const LIBRARIES_FROM: &str = "/usr/aarch64-linux-gnu/lib";

/// Where the program is in the guest that scans itself.
const PROGRAM: &str = "/bin/panoptes";
/// The checks of `panoptes doctor` that must find nothing in the way of [`CONFIGURATION`].
const CHECKS: [&str; 3] = ["configuration", "io_uring", "host:"];
const CONFIGURATION: &str = "{auto_scan: false, service: {state_dir: /run/state}, \
                             systems: {this: {system: \"host:\"}}, output: {log_folder: /run/log}}";
/// The least number of processes that a guest with every kind of object has.
const PROCESSES_MIN: usize = 30;

/// Begins the line with the exit code of a test.
const ENDED: &str = "=ended ";

/// Runs all of it.
pub(super) fn run(programs: &[Executable], stages: &mut Stages) -> Count {
    let mut count = Count::default();
    let scans_itself = || death::survive(|| scans_itself(programs));
    count.add(test::part(stages, "a machine that scans itself", scans_itself));
    match stages.run("a disk with tests", || Machine::new(programs)) {
        Ok(mut machine) => {
            for test in tests_of(programs, TESTS) {
                count.add(test::part(stages, &title(test), || machine.tests(test)));
            }
        }
        Err(error) => {
            println!("== FAILED: {error}");
            count.add(Count::of_one(false));
        }
    }
    count
}

/// The program of the tests.
fn program(programs: &[Executable]) -> Result<&Path, String> {
    let is_it = |one: &&Executable| one.kind == "bin" && !one.is_test && one.name == "panoptes";
    let program = programs.iter().find(is_it).ok_or("cargo built no program panoptes")?;
    Ok(&program.path)
}

/// A machine on which nothing stands in the way scans itself; compares that with its own /proc.
fn scans_itself(programs: &[Executable]) -> Result<Count, String> {
    let kernel = Kernel::obtain(FLAVOR)?;
    let mut spec = GuestSpec { memory_mib: MEMORY_MIB, ..GuestSpec::new(kernel) };
    let library = |name| (format!("lib/{name}"), Path::new(LIBRARIES_FROM).join(name));
    spec.files = LIBRARIES.map(library).into();
    spec.files.push((PROGRAM.trim_start_matches('/').to_owned(), program(programs)?.to_owned()));
    let mut guest = boot(&spec)?;
    let is_healthy = is_healthy(&mut guest)?;
    guest.agent("zoo")?;
    let report = itself::exact(&mut guest, PROGRAM)?;
    println!("{report}");
    let is_exact = report.is_exact() && report.kind("process").truth > PROCESSES_MIN;
    let mut count = Count::of_one(is_healthy);
    count.add(Count::of_one(is_exact));
    Ok(count)
}

fn boot(spec: &GuestSpec) -> Result<Guest, String> {
    let guest = Guest::boot(spec)?;
    println!("Linux {} booted in {:.1} s", spec.kernel.release(), guest.boot_time().as_secs_f64());
    Ok(guest)
}

/// Whether `panoptes doctor` finds nothing in the way.
fn is_healthy(guest: &mut Guest) -> Result<bool, String> {
    guest.agent(&format!("run echo '{CONFIGURATION}' >/run/p.yaml"))?;
    let lines = guest.agent(&format!("run {PROGRAM} doctor --config /run/p.yaml; true"))?;
    println!("{}", lines.join("\n"));
    let answer = guest.agent(&format!("run {PROGRAM} doctor --config /run/p.yaml --json; true"))?;
    is_sound(&answer.concat())
}

/// Whether an answer of `panoptes doctor --json` has no obstacle, and each of [`CHECKS`] is good.
fn is_sound(answer: &str) -> Result<bool, String> {
    let wrong = |error| format!("panoptes doctor printed no JSON ({error}): {answer}");
    let answer: Value = serde_json::from_str(answer).map_err(wrong)?;
    let checks = answer["checks"].as_array().cloned().unwrap_or_default();
    let is_good =
        |name: &&str| checks.iter().any(|check| check["check"] == **name && check["state"] == "ok");
    Ok(answer["obstacles"] == 0 && CHECKS.iter().all(is_good))
}

/// A machine for tests: one guest after another, should one die by itself.
#[derive(Debug)]
struct Machine {
    disk: PathBuf,
    /// The folders that are here and there.
    folders: BTreeSet<PathBuf>,
    guest: Option<Guest>,
}

impl Machine {
    /// Makes the disk.
    fn new(programs: &[Executable]) -> Result<Self, String> {
        let here = Path::new(folders::ROOT).join("target/arm64");
        cache::remove(&here)?;
        let tree = here.join("tree");
        cache::create(&tree)?;
        let mut paths: Vec<&Path> =
            tests_of(programs, TESTS).map(|test| test.path.as_path()).collect();
        paths.push(program(programs)?);
        let mut copy = Command::new("cp");
        copy.args(["--recursive", "--parents"]).args(FOLDERS.map(|folder| root().join(folder)));
        output(copy.args(&paths).arg(&tree))?;
        let disk = here.join("disk");
        disk::make(Format::Ext4, &disk, DISK_MIB, Some(&tree), &["-E", "root_owner=0:0"])?;
        cache::remove(&tree)?;
        let mut folders = BTreeSet::from([root()]);
        let elsewhere = paths.iter().filter(|path| !path.starts_with(root()));
        folders.extend(elsewhere.filter_map(|path| path.parent().map(Path::to_owned)));
        Ok(Self { disk, folders, guest: None })
    }

    /// Runs a test in the guest. A guest that fails is replaced.
    fn tests(&mut self, test: &Executable) -> Result<Count, String> {
        death::survive(|| {
            let mut guest = match self.guest.take() {
                Some(guest) => guest,
                None => self.boot()?,
            };
            let count = tests(&mut guest, test)?;
            self.guest = Some(guest);
            Ok(count)
        })
    }

    fn boot(&self) -> Result<Guest, String> {
        let spec = GuestSpec {
            memory_mib: MEMORY_MIB,
            userland: Userland::Debian,
            modules: ["disk", "ext4"].map(str::to_owned).into(),
            disks: vec![Disk { image: self.disk.clone(), read_only: true }],
            ..GuestSpec::new(Kernel::obtain(FLAVOR)?)
        };
        let mut guest = boot(&spec)?;
        guest.agent(&format!("run mount -t ext4 -o ro /dev/vda {MOUNTED}"))?;
        for folder in &self.folders {
            let folder = folder.display();
            let bind = format!("mount --bind '{MOUNTED}{folder}' '{folder}'");
            guest.agent(&format!("run mkdir -p '{folder}' && {bind}"))?;
        }
        // Tests unpack images by the one, and read the others.
        guest.agent("run ln -s busybox /usr/bin/xz")?;
        guest.agent("run echo 8 >/proc/sys/vm/nr_hugepages")?;
        Ok(guest)
    }
}

/// Runs a test in a guest. What it leaves out counts as failed: this is where it is to run. One
/// after the other: services need most of the memory.
fn tests(guest: &mut Guest, test: &Executable) -> Result<Count, String> {
    let (folder, path) = (test.folder.display(), test.path.display());
    let skipped = SKIPPED.map(|name| format!("--skip {name}")).join(" ");
    let options = format!("--nocapture --test-threads=1 {skipped}");
    let run = format!("cd '{folder}' && '{path}' {options}; echo '{ENDED}'$?");
    let (mut results, mut status, mut left_out) = (Results::default(), None, 0);
    guest.agent_lines(&format!("run {run}"), |line| {
        if let Some(code) = line.strip_prefix(ENDED) {
            status = Some(code.to_owned());
        } else {
            left_out += u64::from(is_left_out(line));
            results.take(line);
        }
    })?;
    let status = status.ok_or("the guest's shell did not report the end of a test")?;
    let mut count = results.end(status == "0", &format!("exit code {status}"));
    if left_out > 0 {
        println!("== FAILED: {left_out} tests were left out");
        count.failed += left_out;
    }
    Ok(count)
}

/// Whether a test printed that it cannot run there.
fn is_left_out(line: &str) -> bool {
    ["skipped: ", ": left out: "].iter().any(|words| line.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_leaves_out_is_found() {
        assert!(is_left_out("skipped: it needs xz"));
        assert!(is_left_out("test a::b ... skipped: it needs root"));
        assert!(is_left_out("a_full_disk: left out: no user namespace with a file system"));
        assert!(!is_left_out("test result: ok. 1 passed; 0 failed; 0 ignored; 0 filtered out"));
    }

    #[test]
    fn a_machine_is_sound_only_if_every_check_is_good() {
        let answer = |obstacles, state: &str| {
            format!(
                r#"{{"obstacles":{obstacles},"checks":[{{"check":"configuration","state":"ok"}},
                    {{"check":"io_uring","state":"{state}"}},{{"check":"host:","state":"ok"}}]}}"#
            )
        };
        assert_eq!(is_sound(&answer(0, "ok")), Ok(true));
        assert_eq!(is_sound(&answer(0, "warning")), Ok(false));
        assert_eq!(is_sound(&answer(1, "ok")), Ok(false));
        assert_eq!(is_sound(r#"{"obstacles":0,"checks":[]}"#), Ok(false));
        assert!(is_sound("panoptes: wrong").is_err());
    }
}
