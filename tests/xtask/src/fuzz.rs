//! `cargo xtask fuzz`: runs every fuzz target for some minutes, or for a number of executions.
//!
//! Runs by minutes are a separate campaign, on seeds from a real kernel. [`smoke`] is the part of
//! `cargo xtask test`: it shows that each target compiles, starts and reaches its code. It boots no
//! guest. fuzz/README.md lists the targets and explains how to debug a crash.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};

use crate::cargo::{self, WORKSPACE, example};
use crate::recorded;

mod seeds;

pub(crate) const USAGE: &str = "\
  fuzz [--minutes N] [TARGET]…
        runs the fuzz targets, N minutes each (1 by default), on seeds from a real kernel's memory
  fuzz --executions N [TARGET]…
        runs the fuzz targets, N executions each, on seeds that need no guest
";

/// Executions of each target in `cargo xtask test`.
const SMOKE_EXECUTIONS: u64 = 1000;
/// Maximum time for the executions of one target: far more than any needs.
const EXECUTIONS_MAX: Duration = Duration::from_mins(5);
/// Number of lines shown of a failed target's output.
const LINES_SHOWN: usize = 40;

/// How long each target runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Length {
    Minutes(u64),
    Executions(u64),
}

/// The targets that passed, and the failures.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: Vec<String>,
    pub(crate) failed: Vec<String>,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let (length, mut wanted) = parse(arguments)?;
    let fuzz = folder();
    let known = targets(&fuzz)?;
    if let Some(unknown) = wanted.iter().find(|target| !known.contains(target)) {
        return Err(format!("no fuzz target {unknown:?}; there are {}", known.join(", ")));
    }
    if wanted.is_empty() {
        wanted = known;
    }
    let failed = match length {
        Length::Minutes(minutes) => campaign(&fuzz, &wanted, minutes)?,
        Length::Executions(executions) => execute(&fuzz, &wanted, executions)?.failed,
    };
    if !failed.is_empty() {
        return Err(format!("{} failed; see fuzz/artifacts and fuzz/README.md", failed.join(", ")));
    }
    println!("fuzz: {} targets ran and found nothing", wanted.len());
    Ok(())
}

/// Compiles all targets and executes each a thousand times.
///
/// The image that `walk` needs must already be recorded. An error means that a target did not
/// compile, or that no target could run.
pub(crate) fn smoke() -> Result<Outcome, String> {
    let fuzz = folder();
    execute(&fuzz, &targets(&fuzz)?, SMOKE_EXECUTIONS)
}

fn parse(arguments: &[String]) -> Result<(Length, Vec<String>), String> {
    let mut length = None;
    let mut wanted = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--minutes" | "--executions" => {
                let value =
                    words.next().ok_or_else(|| format!("{word} needs a number after it"))?;
                let number = value.parse().map_err(|e| format!("{word} {value}: {e}"))?;
                // libFuzzer treats zero as "without end".
                if number == 0 {
                    return Err(format!("{word} needs at least 1"));
                }
                let given = match word.as_str() {
                    "--minutes" => Length::Minutes(number),
                    _ => Length::Executions(number),
                };
                if length.replace(given).is_some() {
                    return Err("fuzz needs one of --minutes and --executions, once".to_owned());
                }
            }
            option if option.starts_with('-') => {
                return Err(format!("fuzz has no option {option:?}; see `cargo xtask help`"));
            }
            target => wanted.push(target.to_owned()),
        }
    }
    Ok((length.unwrap_or(Length::Minutes(1)), wanted))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The targets, by their files in fuzz/targets.
fn targets(fuzz: &Path) -> Result<Vec<String>, String> {
    let folder = fuzz.join("targets");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Runs targets one after the other for `minutes` each; returns those that failed.
fn campaign(fuzz: &Path, wanted: &[String], minutes: u64) -> Result<Vec<String>, String> {
    setup::ensure_for_fuzzing().map_err(|e| e.to_string())?;
    make_seeds(fuzz)?;
    let made = seeds::make(fuzz)?;
    let mut failed = Vec::new();
    for target in wanted {
        if !run_target(fuzz, &made, target, minutes)? {
            failed.push(target.clone());
        }
    }
    Ok(failed)
}

/// Extracts seeds from a guest with every kind of object, and records the image for fuzzing the
/// walk.
fn make_seeds(fuzz: &Path) -> Result<(), String> {
    let corpus = fuzz.join("corpus");
    if corpus.exists() {
        return Ok(());
    }
    let text = |e: panoptes_rig::Error| e.to_string();
    setup::ensure().map_err(text)?;
    let kernel = Kernel::obtain(Flavor::V7).map_err(text)?;
    println!("fuzz: booting Linux {} for seeds …", kernel.release());
    let mut guest = Guest::boot(&GuestSpec::new(kernel)).map_err(text)?;
    guest.agent("zoo").map_err(text)?;
    guest.pause().map_err(text)?;
    std::fs::create_dir_all(&corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
    example("fuzz_seeds", &[&corpus, guest.ram_path()])?;
    let symbols = corpus.join("symbols");
    std::fs::create_dir_all(&symbols).map_err(|e| format!("{}: {e}", symbols.display()))?;
    for (name, library) in panoptes_rig::strangers().map_err(text)? {
        if library.extension().is_some_and(|extension| extension == "so") {
            std::fs::copy(&library, symbols.join(name.replace('/', "-")))
                .map_err(|e| format!("{}: {e}", library.display()))?;
        }
    }
    example("record", &[guest.ram_path(), &image()?])
}

/// The image for fuzzing the walk.
fn image() -> Result<PathBuf, String> {
    Ok(recorded::folder()?.join("7.image"))
}

fn run_target(fuzz: &Path, made: &Path, target: &str, minutes: u64) -> Result<bool, String> {
    println!("== fuzz: {target}, {minutes} min");
    let corpus = fuzz.join("corpus").join(target);
    make_folder(&corpus)?;
    // Run in this folder because its `.cargo/config.toml` must apply.
    let status = cargo::command()
        .current_dir(fuzz)
        .args(["run", "--profile", "fuzz", "--quiet", "--bin", target, "--"])
        // libFuzzer writes new inputs to the first folder.
        .args([&corpus, &made.join(target)])
        .arg(format!("-max_total_time={}", minutes * 60))
        .env("PANOPTES_RECORDED", image()?)
        .args(["-max_len=8192", "-print_final_stats=1"])
        .arg(artifact_prefix(fuzz, target)?)
        .status()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    Ok(status.success())
}

/// Compiles all targets with one command and executes each `executions` times.
fn execute(fuzz: &Path, wanted: &[String], executions: u64) -> Result<Outcome, String> {
    let image = image()?;
    if wanted.iter().any(|target| target == "walk") && !image.exists() {
        return Err(format!("{} is missing; `cargo xtask record` makes it", image.display()));
    }
    // Some seeds need a compiler and xz.
    setup::ensure().map_err(|e| e.to_string())?;
    let programs = build(wanted)?;
    let made = seeds::make(fuzz)?;
    // In reverse: the slowest targets are late in the alphabet and should not begin last.
    let queue = Mutex::new(wanted.iter().rev());
    let outcome = Mutex::new(Outcome::default());
    let next = || queue.lock().ok()?.next();
    let work = || -> Result<(), String> {
        while let Some(target) = next() {
            let program = programs.get(target).ok_or_else(|| format!("no program of {target}"))?;
            let run = Run { fuzz, target, executions };
            let failure =
                run.finish(Command::new(program).env("PANOPTES_RECORDED", &image), &made)?;
            let mut outcome = outcome.lock().map_err(|e| e.to_string())?;
            if let Some(story) = failure {
                println!("{story}");
                outcome.failed.push(target.clone());
            } else {
                outcome.passed.push(target.clone());
            }
        }
        Ok(())
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| "a thread of fuzz panicked".to_owned())?
        })
    })?;
    let mut outcome = outcome.into_inner().map_err(|e| e.to_string())?;
    outcome.passed.sort();
    outcome.failed.sort();
    Ok(outcome)
}

/// Compiles targets with one command; returns their programs by name.
fn build(wanted: &[String]) -> Result<BTreeMap<String, PathBuf>, String> {
    // Continues after an error, so that one run names every target that does not compile. With a
    // test in the build, dependencies have the same features as for `cargo test` and are not
    // compiled again.
    let mut arguments = vec!["build", "--quiet", "--keep-going", "--test", "fuzz_inputs"];
    arguments.extend(WORKSPACE);
    arguments.extend(wanted.iter().flat_map(|target| ["--bin", target]));
    let built = cargo::build(&arguments)?;
    Ok(built.into_iter().map(|program| (program.name, program.path)).collect())
}

/// One target's executions.
struct Run<'a> {
    fuzz: &'a Path,
    target: &'a str,
    executions: u64,
}

impl Run<'_> {
    /// Runs the target to its end. Returns a description of the failure, if it failed.
    fn finish(&self, program: &mut Command, made: &Path) -> Result<Option<String>, String> {
        let artifacts = self.fuzz.join("artifacts").join(self.target);
        make_folder(&artifacts)?;
        let (input, log) = (artifacts.join("input"), made.join(format!("{}.log", self.target)));
        let wrong = |e| format!("{}: {e}", log.display());
        let file = File::create(&log).map_err(wrong)?;
        let began = Instant::now();
        let status = wait(
            program
                .arg(self.executions.to_string())
                .args([&made.join(self.target), &input])
                .stdin(Stdio::null())
                .stdout(file.try_clone().map_err(wrong)?)
                .stderr(file),
        )
        .map_err(|e| format!("cannot run the fuzz target {}: {e}", self.target))?;
        let text = std::fs::read(&log).map_err(wrong)?;
        let text = String::from_utf8_lossy(&text);
        let done = executed(&text).unwrap_or(0);
        let problem = match status {
            Some(status) if status.success() && done == self.executions => {
                let seconds = began.elapsed().as_secs_f64();
                println!("fuzz: {}: {done} executions in {seconds:.1} s", self.target);
                return Ok(None);
            }
            Some(status) => format!("it ended with {status}"),
            None => format!("it did not end in {EXECUTIONS_MAX:?}"),
        };
        let kept = keep(&input)?.map_or("none".to_owned(), |path| path.display().to_string());
        let target = self.target;
        Ok(Some(format!("{}\n== fuzz: {target} FAILED: {problem}; artifact: {kept}", end(&text))))
    }
}

/// Waits for a program for a limited time: `None` if it was killed.
fn wait(program: &mut Command) -> std::io::Result<Option<ExitStatus>> {
    let mut child = program.spawn()?;
    let deadline = Instant::now() + EXECUTIONS_MAX;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The number in the last line that the driver prints.
fn executed(text: &str) -> Option<u64> {
    text.lines().next_back()?.strip_prefix("executed ")?.parse().ok()
}

/// The end of an output.
fn end(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

/// Gives the input of a failed execution a unique name that later runs do not overwrite.
fn keep(input: &Path) -> Result<Option<PathBuf>, String> {
    if !input.exists() {
        return Ok(None);
    }
    let wrong = |e| format!("{}: {e}", input.display());
    let mut hasher = DefaultHasher::new();
    std::fs::read(input).map_err(wrong)?.hash(&mut hasher);
    let kept = input.with_file_name(format!("crash-{:016x}", hasher.finish()));
    std::fs::rename(input, &kept).map_err(wrong)?;
    Ok(Some(kept.canonicalize().unwrap_or(kept)))
}

/// libFuzzer's option that keeps artifacts in a folder per target, as cargo-fuzz does.
fn artifact_prefix(fuzz: &Path, target: &str) -> Result<String, String> {
    let folder = fuzz.join("artifacts").join(target);
    make_folder(&folder)?;
    let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(format!("-artifact_prefix={}/", folder.display()))
}

fn make_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<(Length, Vec<String>), String> {
        parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_read() {
        assert_eq!(parsed(&[]), Ok((Length::Minutes(1), vec![])));
        let targets = vec!["btf".to_owned(), "walk".to_owned()];
        assert_eq!(
            parsed(&["btf", "--executions", "1000", "walk"]),
            Ok((Length::Executions(1000), targets))
        );
        assert_eq!(parsed(&["--minutes", "5"]), Ok((Length::Minutes(5), vec![])));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for words in [
            &["--executions"][..],
            &["--executions", "many"],
            &["--executions", "0"],
            &["--minutes", "1", "--executions", "1"],
            &["--hours", "1"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_last_line_is_read() {
        assert_eq!(executed("walk: 1 runs\nexecuted 1000\n"), Some(1000));
        assert_eq!(executed("executed 1000\nthe target panicked"), None);
        assert_eq!(executed(""), None);
    }

    #[test]
    fn the_end_of_an_output_is_shown() {
        let lines: Vec<String> = (0..100).map(|line| line.to_string()).collect();
        assert_eq!(end(&lines.join("\n")), lines[100 - LINES_SHOWN..].join("\n"));
        assert_eq!(end("one"), "one");
    }

    #[test]
    fn every_target_is_a_program() {
        let fuzz = folder();
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        let listed = manifest.matches("[[bin]]").count();
        let targets = targets(&fuzz).unwrap();
        for target in &targets {
            assert!(manifest.contains(&format!("path = \"targets/{target}.rs\"")), "{target}");
        }
        assert_eq!(targets.len(), listed);
    }
}
