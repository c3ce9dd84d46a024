//! `cargo xtask bench --compare REV`: the cost of a scan before a change and after it.
//!
//! Both revisions are built and measured in the same run, in turns: figures of two runs differ
//! more by what else the machine does than by the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use panoptes_rig::{cache, output};

use crate::folders::ROOT;
use crate::{cargo, cost, recorded};

/// Number of times that each revision is measured; the least time counts.
const ROUNDS: usize = 5;
/// The program that measures times; it exists in all revisions that can be compared.
const PROGRAM: &str = "watch_parts";

/// Times by part.
type Times = BTreeMap<String, Duration>;

/// Prints instructions and times of `revision` and of this tree.
pub(crate) fn compare(revision: &str) -> Result<(), String> {
    let here =
        Path::new(ROOT).canonicalize().map_err(|e| format!("cannot find the sources: {e}"))?;
    let before = worktree(&here, revision)?;
    compare_instructions(&before, &here, revision)?;
    let programs = [build(&before)?, build(&here)?];
    for image in images()? {
        println!("== {}, processor time of one scan", image.display());
        let mut least = [Times::new(), Times::new()];
        for _ in 0..ROUNDS {
            for (program, least) in programs.iter().zip(&mut least) {
                for (name, time) in measure(program, &image)? {
                    let entry = least.entry(name).or_insert(time);
                    *entry = time.min(*entry);
                }
            }
        }
        let [before, after] = least;
        print!("{}", table(&before, &after));
    }
    Ok(())
}

fn compare_instructions(before: &Path, here: &Path, revision: &str) -> Result<(), String> {
    if !before.join("benches/src/bin/scan_cost.rs").exists() {
        println!("{revision} cannot count instructions: `cargo xtask cost` is younger");
        return Ok(());
    }
    let (before, after) = (cost::measure(before)?, cost::measure(here)?);
    println!("== instructions of each stage");
    for (name, &now) in &after {
        print!("{}", cost::row(name, before.get(name).copied().unwrap_or_default(), now));
    }
    Ok(())
}

/// The sources of a revision, in a folder of their own, which is kept for the next time.
fn worktree(here: &Path, revision: &str) -> Result<PathBuf, String> {
    let folder = here.join("target/before");
    let git = |folder: &Path, arguments: &[&str]| {
        output(Command::new("git").current_dir(folder).args(arguments))
    };
    if folder.join(".git").exists() {
        git(&folder, &["checkout", "--quiet", "--detach", revision])?;
    } else {
        let path = folder.to_str().ok_or("the name of the folder is not UTF-8")?;
        git(here, &["worktree", "add", "--quiet", "--force", "--detach", path, revision])?;
    }
    Ok(folder)
}

fn build(tree: &Path) -> Result<PathBuf, String> {
    let mut command = cargo::command();
    command.current_dir(tree).args(["build", "--release", "--package", "panoptes-benches"]);
    command.args(["--bin", PROGRAM, "--target-dir"]).arg(tree.join("target"));
    cargo::program(command, "bin", PROGRAM)
}

fn images() -> Result<Vec<PathBuf>, String> {
    let mut images = cache::list(&recorded::folder()?)?;
    images.retain(|path| cache::has_extension(path, "image"));
    if images.is_empty() {
        return Err("there is no recorded image: make them with `cargo xtask record`".to_owned());
    }
    Ok(images)
}

fn measure(program: &Path, image: &Path) -> Result<Times, String> {
    Ok(medians(&output(Command::new(program).args(["--runs", "50"]).arg(image))?))
}

/// The times in lines such as `the walk alone: median 1.25ms, …`.
fn medians(text: &str) -> Times {
    let median = |line: &str| {
        let (name, rest) = line.split_once(": median ")?;
        let time = rest.split([' ', ',']).next()?;
        Some((name.trim().to_owned(), duration(time)?))
    };
    text.lines().filter_map(median).collect()
}

/// Reads a duration as `{:?}` writes it.
fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let unit = match &text[end..] {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(text[..end].parse::<f64>().ok()? * unit).ok()
}

fn table(before: &Times, after: &Times) -> String {
    let mut text = String::new();
    for (name, now) in after {
        let Some(old) = before.get(name) else { continue };
        let ratio = now.as_secs_f64() / old.as_secs_f64().max(f64::MIN_POSITIVE);
        let _ = writeln!(text, "{name:>16} {old:>10.2?} → {now:>10.2?} ({ratio:.3})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for nanoseconds in [12, 34_500, 6_780_000, 1_230_000_000] {
            let time = Duration::from_nanos(nanoseconds);
            assert_eq!(duration(&format!("{time:.2?}")), Some(time));
        }
        assert_eq!(duration("12"), None);
        assert_eq!(duration("1.2 h"), None);
    }

    #[test]
    fn medians_of_parts_are_found() {
        let text = "   none: the first scan 9ms, then hashing 1ms\nthe walk alone: median 2.00ms\n\
            \x20  none: median 2.50ms (+0.0 %), 0 records\n";
        let times = medians(text);
        assert_eq!(times["none"], Duration::from_micros(2500));
        assert_eq!(times["the walk alone"], Duration::from_millis(2));
        let row = table(&times, &times);
        assert!(row.contains("the walk alone") && row.contains("(1.000)"), "{row}");
    }
}
