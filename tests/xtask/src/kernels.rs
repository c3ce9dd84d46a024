//! `cargo xtask kernels`: scans every kernel on every kind of machine and compares with the truth.
//!
//! A separate campaign: `cargo xtask test` has the two kernels that differ most. A kernel that
//! fails does not stop the others. docs/kernels.md has the table.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use panoptes_rig::product::{self, FROM_MEMORY};
use panoptes_rig::{
    Architecture, Build, Flavor, Guest, GuestSpec, Kernel, Report, Series, compare, death, setup,
};
use serde_json::Value;

use crate::{hashes, program};

/// Scans every kernel on machines of every kind, hashes files on plain ones, compares with the
/// truth in the guest, and prints the table of docs/kernels.md
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Use plain machines only
    #[arg(long)]
    plain: bool,
    /// The kernels of Debian 13's backports, in place of those of its releases
    #[arg(long, conflicts_with = "names")]
    backports: bool,
    /// An unpacked kernel of any distribution, in place of the others: its modules are in
    /// FOLDER/lib/modules/RELEASE, its vmlinuz is there or in FOLDER/boot
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["names", "backports"])]
    unpacked: Option<PathBuf>,
    /// Size of each guest's memory
    #[arg(long, value_name = "MIB", default_value_t = MEMORY_MIB)]
    memory: u64,
    /// Names of kernels (6.1, 7-cloud, 6.12-rt …); all by default
    #[arg(value_parser = Flavor::from_name)]
    names: Vec<Flavor>,
}

/// A truth may change this often during its check before the machine counts as failed.
const ATTEMPTS: u32 = 5;

/// The memory size that the bound on a cold start is stated for.
const MEMORY_MIB: u64 = 1024;

/// How often a cold start and a scan are timed; the median is reported.
const TIMED: usize = 5;

/// Number of files made on each filesystem of a kernel's plain machine and hashed from the page
/// cache.
const HASHED: &str = "60";

/// The agent's command before the check: objects of every kind.
const WORK: &str = "zoo";

/// The same for a kernel whose modules are not to be had: without what needs some of them.
const WORK_WITHOUT_MODULES: &str = "zoo files kinds memory processes containers";

/// The kinds of objects to compare on a kernel whose modules are not to be had: the truth about
/// connections comes from one of them.
const KINDS_WITHOUT_MODULES: &str = "processes,threads,files,memory,interfaces,containers";

/// A kind of machine that a kernel runs on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Machine {
    five_level: bool,
    page_table_isolation: bool,
    two_nodes: bool,
    processor: Processor,
}

/// The processor of an arm64 machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Processor {
    /// Every feature that QEMU supports.
    #[default]
    Max,
    /// 48-bit addresses.
    CortexA72,
    /// As `CortexA72`, and pages of 16 KiB too.
    CortexA76,
}

impl Processor {
    /// QEMU's name for the processor.
    const fn name(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::CortexA72 => "cortex-a72",
            Self::CortexA76 => "cortex-a76",
        }
    }
}

/// The result for one guest.
struct Row {
    flavor: Flavor,
    release: String,
    machine: Machine,
    outcome: Result<Outcome, String>,
}

struct Outcome {
    report: Report,
    cold_start: Duration,
    /// Time of a cold start with this kernel's built-in profile, if there is one.
    built_in: Option<Duration>,
    scan: Duration,
    /// The result of hashing files, on a plain machine.
    hashes: Option<hashes::Outcome>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    setup::ensure()?;
    // Built before any guest runs: a build and a guest would compete for the processor.
    let program = program::obtain()?;
    let mut rows = Vec::new();
    for (flavor, kernel) in chosen(options)? {
        let kernel = kernel.map_or_else(|| Kernel::obtain(flavor), Ok).map_err(String::from);
        let mut machines = machines(flavor);
        machines.retain(|machine| !options.plain || *machine == Machine::default());
        for machine in machines {
            let release = kernel.as_ref().map_or("", Kernel::release).to_owned();
            eprintln!(
                "kernels: {} {release}, {}",
                flavor.name(),
                machine.text(flavor.architecture)
            );
            let outcome = kernel.clone().and_then(|kernel| {
                death::survive(|| check(kernel.clone(), machine, options.memory, &program))
            });
            // In a guest of its own, with disks.
            let outcome = outcome.and_then(|outcome| {
                let words = ["--calm", "--count", HASHED, &flavor.name()].map(str::to_owned);
                let hashes = has_files(flavor, machine)
                    .then(|| hashes::compare(&words, |line| eprintln!("{line}")))
                    .transpose()?;
                Ok(Outcome { hashes, ..outcome })
            });
            let row = Row { flavor, release, machine, outcome };
            eprintln!("{}", row.line());
            rows.push(row);
        }
    }
    print!("{}", table(&rows));
    let failed = rows.iter().filter(|row| !row.is_exact()).count();
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} failed", rows.len())) }
}

/// The kernels that are scanned; those that are not here yet are obtained one by one.
fn chosen(options: &Options) -> Result<Vec<(Flavor, Option<Kernel>)>, String> {
    if let Some(folder) = &options.unpacked {
        let kernel = Kernel::unpacked(folder)?;
        return Ok(vec![(kernel.flavor(), Some(kernel))]);
    }
    let flavors = match options.names.as_slice() {
        [] if options.backports => Flavor::BACKPORTS,
        [] => Flavor::ALL,
        names => names,
    };
    Ok(flavors.iter().map(|&flavor| (flavor, None)).collect())
}

/// The machines for a kernel: a plain one, each feature by itself, and all of them. Builds that
/// differ little from a generic one, backports and unpacked kernels get the first and the last.
fn machines(flavor: Flavor) -> Vec<Machine> {
    let plain = Machine::default();
    if !holds_under_load(flavor) {
        return vec![plain];
    }
    if flavor.architecture == Architecture::Arm64 {
        let processor = match flavor.build {
            Build::Pages16Kib => Processor::CortexA76,
            _ => Processor::CortexA72,
        };
        return vec![plain, Machine { processor, ..plain }];
    }
    // Debian builds 5.10 without five-level page tables.
    let five_level = flavor.series != Series::V5_10;
    // The kernel emulates nodes (`CONFIG_NUMA_EMU`), which cloud builds cannot, and
    // other distributions' may not.
    let two_nodes = flavor.build != Build::Cloud && flavor.series != Series::Unpacked;
    let all = Machine { five_level, page_table_isolation: true, two_nodes, ..plain };
    if flavor.build != Build::Generic || !is_of_release(flavor) {
        return vec![plain, all];
    }
    let mut machines = vec![
        plain,
        Machine { five_level, ..plain },
        Machine { page_table_isolation: true, ..plain },
        Machine { two_nodes: true, ..plain },
        all,
    ];
    machines.dedup();
    machines
}

/// Whether a kernel runs reliably under load. The cloud build of 6.12 corrupts its own memory
/// within seconds under QEMU's emulation (seen with QEMU 7.2), so it is paused and scanned right
/// after boot.
fn holds_under_load(flavor: Flavor) -> bool {
    (flavor.series, flavor.build, flavor.architecture)
        != (Series::V6_12, Build::Cloud, Architecture::Amd64)
}

/// Whether a kernel is that of a release of Debian. The others get fewer machines, and `cargo xtask
/// hashes` alone hashes their files.
fn is_of_release(flavor: Flavor) -> bool {
    !matches!(flavor.series, Series::Backport(_) | Series::Unpacked)
}

/// Whether files are hashed on a machine.
fn has_files(flavor: Flavor, machine: Machine) -> bool {
    machine == Machine::default() && holds_under_load(flavor) && is_of_release(flavor)
}

/// Boots a machine and compares a scan of it with the truth.
fn check(
    kernel: Kernel,
    machine: Machine,
    memory_mib: u64,
    program: &Path,
) -> Result<Outcome, String> {
    let flavor = kernel.flavor();
    let (work, kinds, only) = if kernel.lacks_modules() {
        let only = vec!["--only", KINDS_WITHOUT_MODULES];
        (WORK_WITHOUT_MODULES, KINDS_WITHOUT_MODULES, only)
    } else {
        (WORK, "", Vec::new())
    };
    let spec = GuestSpec {
        memory_mib,
        five_level: machine.five_level,
        page_table_isolation: machine.page_table_isolation,
        numa_nodes: if machine.two_nodes { 2 } else { 1 },
        cpu: (machine.processor != Processor::Max).then(|| machine.processor.name().to_owned()),
        ..GuestSpec::new(kernel)
    };
    let mut guest = Guest::boot(&spec)?;
    if flavor.architecture == Architecture::Amd64 {
        machine.check(&mut guest)?;
    }
    if holds_under_load(flavor) {
        guest.agent(work)?;
    }
    let (mut times, mut built_in) = (Vec::new(), Vec::new());
    let report = compare::exact(&mut guest, kinds, ATTEMPTS, |guest| {
        times.clear();
        built_in.clear();
        for _ in 0..TIMED {
            times.push(timed(&product::scan_with(program, guest, FROM_MEMORY_SUMMARY)?)?);
            built_in.push(timed(&product::scan_with(program, guest, SUMMARY)?)?);
        }
        let from_memory = [&[FROM_MEMORY], only.as_slice()].concat();
        let lines = product::scan_with(program, guest, &from_memory)?;
        if product::scan_with(program, guest, &only)? != lines {
            let why = "with its built-in profile the scan of the same memory differs";
            return Err(panoptes_rig::Error::new(why));
        }
        Ok(lines)
    })?;
    let has_table = built_in.iter().all(|times| times.is_built_in);
    Ok(Outcome {
        report,
        cold_start: median(&times, |times| times.find_kernel),
        built_in: has_table.then(|| median(&built_in, |times| times.find_kernel)),
        scan: median(&times, |times| times.scan),
        hashes: None,
    })
}

fn median(times: &[Times], pick: fn(&Times) -> Duration) -> Duration {
    let mut sorted: Vec<Duration> = times.iter().map(pick).collect();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The options that make a scan print its duration.
const SUMMARY: &[&str] = &["--summary", "--json"];
const FROM_MEMORY_SUMMARY: &[&str] = &["--summary", "--json", FROM_MEMORY];

/// The durations of finding the kernel and of one scan.
struct Times {
    find_kernel: Duration,
    scan: Duration,
    is_built_in: bool,
}

fn timed(lines: &[String]) -> panoptes_rig::Result<Times> {
    let summary: Value =
        lines.first().and_then(|line| serde_json::from_str(line).ok()).ok_or_else(|| {
            panoptes_rig::Error::new("`panoptes scan --summary --json` printed no JSON")
        })?;
    let stage =
        |name: &str| Duration::from_nanos(summary["stages_ns"][name].as_u64().unwrap_or_default());
    let origin = summary["profile_origin"].as_str().unwrap_or_default();
    Ok(Times {
        find_kernel: stage("find_kernel"),
        scan: stage("scan"),
        is_built_in: origin.starts_with("built-in"),
    })
}

impl Machine {
    fn text(self, architecture: Architecture) -> String {
        if architecture == Architecture::Arm64 {
            return format!("-cpu {}", self.processor.name());
        }
        let mut words = vec![if self.five_level { "5 levels" } else { "4 levels" }];
        if self.page_table_isolation {
            words.push("isolated page tables");
        }
        if self.two_nodes {
            words.push("2 nodes");
        }
        words.join(", ")
    }

    /// Checks in an x86-64 guest that the machine has these features: a row must not claim untested
    /// ones.
    fn check(self, guest: &mut Guest) -> Result<(), String> {
        let mut shows = |command: &str, words: &str| {
            let lines = guest.agent(command)?;
            Ok::<_, String>(lines.iter().any(|line| line.contains(words)))
        };
        let seen = Self {
            processor: self.processor,
            five_level: shows("run grep -m1 flags /proc/cpuinfo", " la57")?,
            page_table_isolation: shows("run dmesg", "page tables isolation: enabled")?,
            two_nodes: shows("run cat /sys/devices/system/node/has_memory", "0-1")?,
        };
        if seen == self {
            return Ok(());
        }
        let text = |machine: Self| machine.text(Architecture::Amd64);
        Err(format!("the machine has {}, not {}", text(seen), text(self)))
    }
}

impl Row {
    fn is_exact(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| {
            outcome.report.is_exact() && outcome.hashes.is_none_or(|hashes| hashes.failed == 0)
        })
    }

    /// The result as one line, for people who watch the run.
    fn line(&self) -> String {
        match &self.outcome {
            Ok(outcome) => format!(
                "{}cold start {:.0} ms, with a built-in profile {}, scan {:.2} ms",
                outcome.report,
                milliseconds(outcome.cold_start),
                built_in_text(outcome.built_in),
                milliseconds(outcome.scan)
            ),
            Err(error) => format!("failed: {error}"),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn built_in_text(time: Option<Duration>) -> String {
    time.map_or_else(|| "none".to_owned(), |time| format!("{:.1} ms", milliseconds(time)))
}

/// The table in readable Markdown. Each kind has the number of objects found and in the truth.
fn table(rows: &[Row]) -> String {
    let reports = || rows.iter().filter_map(|row| Some(&row.outcome.as_ref().ok()?.report));
    let seen =
        |kind: &&str| reports().any(|report| report.kind(kind) != compare::KindReport::default());
    let kinds: Vec<&str> = compare::kinds().filter(seen).collect();
    let mut lines = vec![["kernel", "machine"].map(str::to_owned).to_vec()];
    lines[0].extend(kinds.iter().map(|kind| kind.replace('_', " ")));
    let figures = ["missing", "extra", "wrong", "files hashed", "cold start", "built in", "scan"];
    lines[0].extend(figures.map(str::to_owned));
    for row in rows {
        let release = if row.release.is_empty() { row.flavor.name() } else { row.release.clone() };
        let mut cells = vec![release, row.machine.text(row.flavor.architecture)];
        match &row.outcome {
            Ok(Outcome { report, cold_start, built_in, scan, hashes }) => {
                cells.extend(kinds.iter().map(|kind| {
                    let kind = report.kind(kind);
                    format!("{}/{}", kind.found, kind.truth)
                }));
                let sum = |pick: fn(&compare::KindReport) -> usize| {
                    report.kinds.iter().map(|(_, kind)| pick(kind)).sum::<usize>().to_string()
                };
                cells.push(sum(|kind| kind.missing));
                cells.push(sum(|kind| kind.extra));
                cells.push(sum(|kind| kind.differing));
                cells.push(hashes.map_or_else(String::new, |hashes| match hashes.failed {
                    0 => hashes.files.to_string(),
                    failed => format!("{failed} of {} checks wrong", hashes.checks),
                }));
                cells.push(format!("{:.0} ms", milliseconds(*cold_start)));
                cells.push(built_in_text(*built_in));
                cells.push(format!("{:.2} ms", milliseconds(*scan)));
            }
            Err(error) => {
                let first = error.lines().next().unwrap_or_default().replace('|', "/");
                cells.push(format!("failed: {first}"));
                cells.resize(lines[0].len(), String::new());
            }
        }
        lines.push(cells);
    }
    let mut text = String::new();
    for (index, cells) in lines.iter().enumerate() {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if index == 0 {
            let rule = cells.iter().enumerate().map(|(at, _)| if at < 2 { "---" } else { "---:" });
            let _ = writeln!(text, "|{}|", rule.collect::<Vec<_>>().join("|"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_a_plain_machine_first() {
        for &flavor in Flavor::ALL.iter().chain(Flavor::BACKPORTS) {
            let machines = machines(flavor);
            assert_eq!(machines[0], Machine::default(), "{}", flavor.name());
            assert!(machines[1..].iter().all(|machine| *machine != Machine::default()));
        }
        assert_eq!(machines(Flavor::V6_1).len(), 5);
        assert!(Flavor::BACKPORTS.iter().all(|&flavor| machines(flavor).len() == 2));
        assert_eq!(machines(Flavor::V5_10).len(), 4);
    }

    #[test]
    fn a_failure_is_a_row_of_its_own() {
        let row = |outcome| Row {
            flavor: Flavor::V6_1,
            release: "6.1.0-1-amd64".into(),
            machine: Machine::default(),
            outcome,
        };
        let exact = compare::KindReport { truth: 3, found: 3, ..compare::KindReport::default() };
        let report = Report { kinds: vec![("process".into(), exact)], ..Report::default() };
        let good = Outcome {
            report: report.clone(),
            cold_start: Duration::from_millis(120),
            built_in: Some(Duration::from_micros(1500)),
            scan: Duration::from_micros(2500),
            hashes: Some(hashes::Outcome { checks: 4, files: 480, failed: 0 }),
        };
        let mut wrong = report;
        wrong.kinds[0].1.missing = 1;
        let rows = [row(Ok(good)), row(Err("it did\nnot boot".into()))];
        let table = table(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[2].contains("| 3/3 |")
                && lines[2].ends_with("| 480 | 120 ms | 1.5 ms | 2.50 ms |")
        );
        assert!(lines[3].contains("failed: it did |"), "{table}");
        let bars = |line: &str| line.matches('|').count();
        assert!(lines.iter().all(|line| bars(line) == bars(lines[0])), "{table}");
        assert!(rows[0].is_exact() && !rows[1].is_exact());
        let zero = Duration::ZERO;
        let missing =
            Outcome { report: wrong, cold_start: zero, built_in: None, scan: zero, hashes: None };
        assert!(!row(Ok(missing)).is_exact());
    }
}
