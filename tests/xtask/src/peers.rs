//! `cargo xtask bench --peers`: the facts of the reference node by Panoptes, drgn and Volatility 3.
//!
//! All read the same memory in the same run. The measure is processor time, which other load on the
//! machine changes least. Panoptes and drgn take turns; each plugin of Volatility runs once, and is
//! cut after a limit. What drgn finds is compared with Panoptes' lines attribute by attribute, what
//! Volatility lists is counted. The scripts of the peers are in tests/peers.

mod core;
mod facts;
mod symbols;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use panoptes_bounded as bounded;
use panoptes_rig::{cache, output};
use serde_json::Value;

use crate::{cargo, program};
use symbols::Python;

/// Number of turns of Panoptes and drgn.
const TURNS: usize = 5;
/// Number of scans in a turn of Panoptes.
const SCANS: &str = "20";

/// A plugin of Volatility 3 that lists facts of a scan.
struct Plugin {
    arguments: &'static [&'static str],
    /// What it lists.
    kind: &'static str,
    /// The columns that tell two objects apart.
    keys: &'static str,
    /// The rows that count: `COLUMN=VALUE`, or all.
    only: &'static str,
}

const PLUGINS: [Plugin; 4] = [
    Plugin { arguments: &["linux.pslist", "--threads"], kind: "thread", keys: "PID,TID", only: "" },
    Plugin { arguments: &["linux.proc.Maps"], kind: "memory", keys: "PID,Start", only: "" },
    Plugin { arguments: &["linux.lsof"], kind: "file_descriptor", keys: "PID,FD", only: "" },
    Plugin {
        arguments: &["linux.sockstat"],
        kind: "connection",
        keys: "Sock Offset",
        only: "Proto=TCP",
    },
];

/// What all of them read, and with what.
struct Bench {
    folder: PathBuf,
    dump: PathBuf,
    core: PathBuf,
    vmlinux: PathBuf,
    python: Python,
    floor: PathBuf,
}

/// Processor times in seconds.
#[derive(Clone, Debug, Default)]
struct Times(Vec<f64>);

impl Times {
    fn sorted(&self) -> Vec<f64> {
        let mut times = self.0.clone();
        times.sort_by(f64::total_cmp);
        times
    }

    fn median(&self) -> f64 {
        let times = self.sorted();
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The least and the greatest, where there is more than one.
    fn spread(&self) -> String {
        match self.sorted()[..] {
            [least, .., greatest] => format!("{} to {}", seconds(least), seconds(greatest)),
            _ => "one run".to_owned(),
        }
    }
}

/// Measures everything on the dump of the node, with this limit for a plugin of Volatility 3, and
/// prints the table.
pub(crate) fn compare(dump: PathBuf, limit_seconds: u64) -> Result<(), String> {
    let panoptes = program::build()?;
    let floor = build_floor()?;
    let folder = cache::folder("peers")?;
    let vmcoreinfo = core::vmcoreinfo(&dump)?;
    let core = folder.join("node.core");
    core::make(&dump, &vmcoreinfo, &core)?;
    let vmlinux = symbols::vmlinux(vmcoreinfo.release(), &folder)?;
    let python = Python::obtain(&folder)?;
    let bench = Bench { folder, dump, core, vmlinux, python, floor };
    let isf = symbols::isf(&bench.python, &bench.core, &bench.vmlinux, &bench.folder)?;

    println!("== machine\n{}\n{}", machine(), bench.python.version()?);
    let lines = bench.folder.join("panoptes.jsonl");
    scan(&panoptes, &bench.dump, &lines)?;
    let [scans, written, drgn] = bench.take_turns()?;
    let compared = facts::compare(&facts::read(&lines)?, &bench.facts_of_drgn())?;
    println!("== facts of drgn");
    for (kind, compared) in &compared {
        println!("{}", compared.line(kind));
    }
    let base = scans.median();
    let mut table = vec![
        row("Panoptes: a scan of everything, cold", &scans, "", base),
        row("Panoptes: writing its lines", &written, "", base),
        row("drgn: the script of tests/peers", &drgn, "", base),
    ];
    println!("== plugins of Volatility 3, each cut after {limit_seconds} s of processor time");
    let mut total = Total::default();
    for plugin in &PLUGINS {
        let result = bench.volatility(plugin, &isf, limit_seconds)?;
        table.push(total.add(plugin, &result, &compared, base)?);
    }
    table.push(total.row(base));
    println!("\n| | processor time | spread | ÷ scan |\n|---|---|---|---|");
    for row in table {
        println!("{row}");
    }
    let differs = compared.iter().find(|(_, compared)| !compared.agrees());
    differs.map_or(Ok(()), |(kind, _)| Err(format!("drgn and Panoptes differ in kind {kind}")))
}

impl Bench {
    fn facts_of_drgn(&self) -> PathBuf {
        self.folder.join("drgn.jsonl")
    }

    /// Times of scans, of writing their lines, and of drgn.
    fn take_turns(&self) -> Result<[Times; 3], String> {
        let [mut scans, mut written, mut drgn] = [const { Times(Vec::new()) }; 3];
        println!("== {TURNS} turns: {SCANS} scans, drgn");
        for turn in 1..=TURNS {
            let text = output(Command::new(&self.floor).args(["--runs", SCANS]).arg(&self.dump))?;
            if turn == 1 {
                print!("{text}");
            }
            scans.0.push(cell(&text, "scan", 1)? / 1e3);
            written.0.push(cell(&text, "written", 1)? / 1e3);
            let mut script = self.python.script("drgn_scan.py");
            script.arg(&self.core).arg(&self.vmlinux).arg(self.facts_of_drgn());
            let result = json(&output(&mut script)?)?;
            drgn.0.push(number(&result, "cpu")?);
            println!("turn {turn}: scan {:.1} ms, drgn {result}", scans.median() * 1e3);
        }
        Ok([scans, written, drgn])
    }

    fn volatility(&self, plugin: &Plugin, isf: &Path, limit: u64) -> Result<Value, String> {
        let mut script = self.python.script("volatility.py");
        script.arg(&self.core).arg(isf).arg(self.folder.join("volatility"));
        script.args([&limit.to_string(), plugin.keys, plugin.only]).args(plugin.arguments);
        let result = json(&output(&mut script)?)?;
        println!("{}: {result}", plugin.arguments.join(" "));
        Ok(result)
    }
}

/// The sum over the plugins of Volatility 3.
#[derive(Debug, Default)]
struct Total {
    cpu: f64,
    is_cut: bool,
}

impl Total {
    /// Adds a plugin, and returns its row of the table.
    fn add(
        &mut self,
        plugin: &Plugin,
        result: &Value,
        compared: &BTreeMap<&'static str, facts::Compared>,
        base: f64,
    ) -> Result<String, String> {
        let (cpu, is_cut) = (number(result, "cpu")?, result["cut"] == true);
        self.cpu += cpu;
        self.is_cut |= is_cut;
        let ours = compared.get(plugin.kind).map_or(0, |compared| compared.ours);
        let what = format!(
            "Volatility 3: `{}`: {} rows, {} of {ours} objects{}",
            plugin.arguments.join(" "),
            result["rows"],
            result["objects"],
            if is_cut { ", then cut" } else { "" }
        );
        Ok(row(&what, &Times(vec![cpu]), at_least(is_cut), base))
    }

    fn row(&self, base: f64) -> String {
        let times = Times(vec![self.cpu]);
        row("Volatility 3: the plugins together", &times, at_least(self.is_cut), base)
    }
}

const fn at_least(is_cut: bool) -> &'static str {
    if is_cut { "≥ " } else { "" }
}

/// A row of the table.
fn row(what: &str, times: &Times, at_least: &str, base: f64) -> String {
    let (median, spread) = (times.median(), times.spread());
    let ratio = median / base;
    let ratio = if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.0}") };
    format!("| {what} | {at_least}{} | {spread} | {at_least}{ratio} |", seconds(median))
}

fn seconds(time: f64) -> String {
    if time < 1.0 { format!("{:.1} ms", time * 1e3) } else { format!("{time:.1} s") }
}

pub(crate) fn build_floor() -> Result<PathBuf, String> {
    let mut command = cargo::command();
    let package = ["build", "--release", "--package", "panoptes-benches", "--bin", "scan_floor"];
    command.args(package);
    cargo::program(command, "bin", "scan_floor")
}

/// Writes the lines of `panoptes scan`.
fn scan(panoptes: &Path, dump: &Path, lines: &Path) -> Result<(), String> {
    let file = File::create(lines).map_err(|e| format!("{}: {e}", lines.display()))?;
    let mut command = Command::new(panoptes);
    command.arg("scan").arg(dump).stdout(file).stderr(Stdio::null());
    let status = bounded::status_within(&mut command, bounded::LONG)
        .map_err(|e| format!("cannot start panoptes: {e}"))?;
    status.success().then_some(()).ok_or_else(|| format!("panoptes scan failed ({status})"))
}

/// A number in the row `name` of scan_floor's table.
fn cell(text: &str, name: &str, column: usize) -> Result<f64, String> {
    let row = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then_some(words)
    });
    let cell = row.and_then(|mut words| words.nth(column)?.parse().ok());
    cell.ok_or_else(|| format!("scan_floor printed no times of {name}"))
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text.trim()).map_err(|e| format!("a script printed {text:?}: {e}"))
}

fn number(value: &Value, name: &str) -> Result<f64, String> {
    value[name].as_f64().ok_or_else(|| format!("a script printed no number {name}"))
}

/// The processor, the memory and the kernel of this machine.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = read("/proc/cpuinfo");
    let (model, family) = (value(&cpu, "model name"), value(&cpu, "cpu family"));
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    format!(
        "{processors} processors {model} (family {family}), {memory} of memory, Linux {}, load {}",
        kernel.trim(),
        load.split(' ').next().unwrap_or("?")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_in_the_table_of_scan_floor() {
        let text = "ram: Linux 6.12, core 1, 20 runs\nfrom the start: scan 44.0\n\
            scan              26.161    26.746          25.637    26.302\n\
            written                                     19.619    19.884\n";
        assert_eq!(cell(text, "scan", 1), Ok(26.746));
        assert_eq!(cell(text, "written", 1), Ok(19.884));
        assert!(cell(text, "pages", 1).is_err());
    }

    #[test]
    fn rows_have_medians_spreads_and_ratios() {
        let times = Times(vec![12.0, 10.0, 11.0]);
        assert_eq!(row("x", &times, "", 0.02), "| x | 11.0 s | 10.0 s to 12.0 s | 550 |");
        let once = Times(vec![0.05]);
        assert_eq!(row("y", &once, "≥ ", 0.02), "| y | ≥ 50.0 ms | one run | ≥ 2.50 |");
    }
}
