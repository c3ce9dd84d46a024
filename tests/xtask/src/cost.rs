//! `cargo xtask cost`: how many instructions each stage of a scan takes, and whether that is more
//! than it was.
//!
//! The machine is a recorded image that is part of the sources, so counts differ only by the code
//! and the compiler. valgrind counts; processors of rented machines often cannot. The program is
//! linked statically: valgrind would need the debug symbols of the C library's loader otherwise.
//!
//! Not for: time. Caches and memory decide that, and `cargo xtask bench` measures it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use panoptes_rig::{cache, output};
use serde_json::{Map, Value, json};

use crate::cargo;
use crate::folders::ROOT;

/// Counts the instructions of each stage of a scan, and fails if a stage takes over 2 % more than
/// benches/cost.json lists
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Write that file again
    #[arg(long)]
    update: bool,
}

/// A stage that takes more than this beyond the listed count fails, in percent.
const MORE_MAX: u64 = 2;
/// The same if another compiler made the listed counts.
const OTHER_COMPILER_MORE_MAX: u64 = 10;
/// A stage that takes at most this many instructions more never fails: the smallest stages take a
/// few times as many, and a walk takes thousands of times as many.
const MORE_MIN: u64 = 10_000;
/// The only target whose counts are listed.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How both programs are built.
const OPTIONS: [&str; 4] = ["--profile", "cost", "--target", TARGET];
/// The program whose stages are counted.
const COUNTED: &str = "scan_cost";

/// Instructions of one run, by stage.
type Counts = BTreeMap<String, u64>;

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let counts = measure(Path::new(ROOT))?;
    if options.update {
        return write(&counts);
    }
    if compare(&counts)? { Ok(()) } else { Err(String::new()) }
}

/// Measures this tree and compares; `false` if a stage costs too much. Other architectures have no
/// listed counts and pass.
pub(crate) fn check() -> Result<bool, String> {
    if !cfg!(target_arch = "x86_64") {
        crate::skips::note("instructions needs x86-64: benches/cost.json has no other counts");
        return Ok(true);
    }
    compare(&measure(Path::new(ROOT))?)
}

/// Builds `panoptes` with failpoints by the same profile.
pub(crate) fn build_with_failpoints() -> Result<PathBuf, String> {
    let root = Path::new(ROOT);
    let mut command = cargo::command();
    command.arg("build").args(OPTIONS).args(["--package", "panoptes", "--bin", "panoptes"]);
    command.args(["--features", "failpoints", "--target-dir"]).arg(target(root));
    command.current_dir(root);
    cargo::find(&cargo::build(command)?, "bin", "panoptes")
}

fn list_path() -> PathBuf {
    Path::new(ROOT).join("benches/cost.json")
}

/// Builds the program of a tree and counts the instructions of its stages.
pub(crate) fn measure(tree: &Path) -> Result<Counts, String> {
    let folder = target(tree);
    count(&build(tree, &folder)?, &folder)
}

fn target(tree: &Path) -> PathBuf {
    tree.join("target/cost")
}

/// Counts the instructions of a program's stages.
fn count(program: &Path, folder: &Path) -> Result<Counts, String> {
    let image = folder.join("machine.image");
    let packed = Path::new(ROOT).join("benches/images/6.1.image.xz");
    output(Command::new(program).arg("--unpack").arg(packed).arg(&image))?;
    let profile = folder.join("callgrind.out");
    let mut valgrind = panoptes_rig::valgrind()?;
    valgrind.args(["--tool=callgrind", "--quiet"]);
    valgrind.arg(format!("--callgrind-out-file={}", profile.display()));
    let printed = output(valgrind.arg(program).arg(&image))?;
    let runs = printed.split(' ').next().and_then(|runs| runs.parse().ok());
    let runs: u64 = runs.ok_or("scan_cost does not print how often each stage ran")?;
    let profile = cache::read(&profile)?;
    let mut counts = parts(&sums(&String::from_utf8_lossy(&profile))?);
    for count in counts.values_mut() {
        *count /= runs.max(1);
    }
    if counts.is_empty() { Err("valgrind counted no stage".to_owned()) } else { Ok(counts) }
}

/// Builds the counted program of a tree. Only its own link is static.
fn build(tree: &Path, folder: &Path) -> Result<PathBuf, String> {
    let mut command = cargo::command();
    command.current_dir(tree).arg("rustc").args(OPTIONS);
    command.args(["--package", "panoptes-benches", "--bin", COUNTED]);
    command.args(["--no-default-features", "--target-dir"]).arg(folder);
    let built = cargo::build_with(command, &["-C", "target-feature=+crt-static"])?;
    cargo::find(&built, "bin", COUNTED)
}

/// The inclusive instructions of every `stage_` function in a profile of callgrind's (Callgrind
/// Format Specification, valgrind 3.19 manual): the costs in a function's blocks, calls included.
fn sums(profile: &str) -> Result<Counts, String> {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut sums = Counts::new();
    let mut stage: Option<String> = None;
    for line in profile.lines() {
        for prefix in ["fn=", "cfn="] {
            let Some(name) = line.strip_prefix(prefix) else { continue };
            // `(7) name` defines 7, and `(7)` is the same name again.
            let (number, rest) = name.split_once(')').ok_or("a profile without numbers")?;
            if !rest.trim().is_empty() {
                names.insert(number, rest.trim());
            }
            if prefix == "fn=" {
                stage = names.get(number).and_then(|name| stage_of(name)).map(str::to_owned);
            }
        }
        let Some(stage) = &stage else { continue };
        if line.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-' || c == '*') {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            *sums.entry(stage.clone()).or_default() += cost.ok_or("a line without a cost")?;
        }
    }
    Ok(sums)
}

/// The stage that a function is, as in `scan_cost::stage_walk`.
fn stage_of(function: &str) -> Option<&str> {
    let (_, name) = function.split_once("scan_cost::stage_")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The cost of each part: a detector's is what watching with it takes more than without.
fn parts(sums: &Counts) -> Counts {
    let sum = |name: &str| sums.get(name).copied();
    let mut parts = Counts::new();
    for name in ["discovery", "walk", "lines", "first_scan"] {
        parts.extend(sum(name).map(|count| (name.to_owned(), count)));
    }
    let more = |name, with: &str, without: &str| {
        Some((String::from(name), sum(with)?.saturating_sub(sum(without)?)))
    };
    parts.extend(more("comparison", "watch", "walk"));
    parts.extend(more("reverse shells", "watch_shells", "watch"));
    parts.extend(more("shell history", "watch_history", "watch"));
    parts.extend(more("attestation", "watch_attestation", "watch"));
    parts.extend(more("changed paths", "watch_paths", "watch"));
    parts
}

fn compare(counts: &Counts) -> Result<bool, String> {
    let path = list_path();
    let list: Value = serde_json::from_slice(&cache::read(&path)?)
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let compiler = compiler()?;
    let same = list["compiler"] == compiler.as_str();
    if !same {
        println!("the listed counts are of {}, this is {compiler}", list["compiler"]);
    }
    let allowed = if same { MORE_MAX } else { OTHER_COMPILER_MORE_MAX };
    let listed = list["instructions"].as_object().ok_or("cost.json lists no instructions")?;
    let (text, holds) = table(counts, listed, allowed);
    print!("{text}");
    if !holds {
        println!(
            "== FAILED: a stage costs over {allowed} % more. Make it cheaper, or list the new \
             counts with `cargo xtask cost --update` and give the reason in the commit"
        );
    }
    Ok(holds)
}

/// A line for each stage, and whether all are within what is allowed.
fn table(counts: &Counts, listed: &Map<String, Value>, allowed: u64) -> (String, bool) {
    let mut text = String::new();
    let mut holds = listed.len() == counts.len();
    for (name, &count) in counts {
        let before = listed.get(name).and_then(Value::as_u64).unwrap_or_default();
        let more = count.saturating_sub(before);
        let is_allowed = more <= MORE_MIN || more * 100 <= before * allowed;
        holds &= listed.contains_key(name) && is_allowed;
        text.push_str(&row(name, before, count));
    }
    (text, holds)
}

/// The change from one count to another, in percent.
fn change(before: u64, now: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}

/// One stage before and now.
pub(crate) fn row(name: &str, before: u64, now: u64) -> String {
    format!("{name:>16} {before:>12} → {now:>12} instructions ({:+.2} %)\n", change(before, now))
}

fn write(counts: &Counts) -> Result<(), String> {
    let path = list_path();
    let list = json!({ "compiler": compiler()?, "instructions": counts });
    let text = serde_json::to_string_pretty(&list).map_err(|e| e.to_string())?;
    cache::write(&path, (text + "\n").as_bytes())?;
    println!("wrote {}", path.display());
    Ok(())
}

/// `rustc 1.95.0 (…)`: another one makes other code.
fn compiler() -> Result<String, String> {
    Ok(output(Command::new("rustc").arg("--version"))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, u64)]) -> Counts {
        list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn costs_of_calls_count_for_their_callers() {
        let profile = "events: Ir\n\nfn=(1) scan_cost::main\n1 5\ncfn=(2) scan_cost::stage_walk\n\
            calls=2 10\n2 300\n\nfn=(2)\n10 100\n+3 50\ncfn=(3) memcpy\ncalls=1 1\n* 150\n\n\
            fn=(3)\n1 150\ntotals: 455\n";
        assert_eq!(sums(profile).unwrap(), counts(&[("walk", 300)]));
    }

    #[test]
    fn detectors_cost_the_difference() {
        let sums = counts(&[("walk", 100), ("watch", 130), ("watch_shells", 137)]);
        assert_eq!(
            parts(&sums),
            counts(&[("comparison", 30), ("reverse shells", 7), ("walk", 100)])
        );
    }

    #[test]
    fn a_small_stage_may_grow_a_little() {
        let listed = json!({ "attestation": 28_000 });
        let listed = listed.as_object().unwrap();
        let holds = |count| table(&counts(&[("attestation", count)]), listed, 2).1;
        assert!(holds(38_000) && !holds(38_001));
    }

    #[test]
    fn a_stage_that_costs_more_fails() {
        let listed = json!({ "walk": 10_000_000 });
        let listed = listed.as_object().unwrap();
        let holds = |count| table(&counts(&[("walk", count)]), listed, 2).1;
        assert!(holds(10_200_000) && holds(5_000_000));
        assert!(!holds(10_200_001));
        assert!(!table(&counts(&[]), listed, 2).1, "a stage that is gone");
        assert!(!table(&counts(&[("walk", 1), ("new", 1)]), listed, 2).1, "a new stage");
    }
}
