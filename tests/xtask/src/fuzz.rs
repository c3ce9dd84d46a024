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

use clap::{Args, value_parser};
use panoptes_bounded as bounded;
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, cache, setup};

use crate::cargo::{self, WORKSPACE, example};
use crate::folders::ROOT;
use crate::{processes, recorded};

mod seeds;

/// Executions of each target in `cargo xtask test`.
const SMOKE_EXECUTIONS: u64 = 1000;
/// Maximum time for the executions of one target, and for each of many: far more than any needs.
const EXECUTIONS_MAX: Duration = Duration::from_mins(5);
const EXECUTION_MAX: Duration = Duration::from_millis(5);
/// A file in the corpus that shows that the seeds were extracted; it has the kernel's release.
const SEEDS_MARK: &str = ".seeds";
/// Number of lines shown of a failed target's output.
const LINES_SHOWN: usize = 40;

/// Runs the fuzz targets, each for minutes on seeds from a real kernel's memory, or for a number of
/// executions on seeds that need no guest
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Minutes of each target
    // libFuzzer treats zero as "without end".
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    minutes: u64,
    /// Executions of each target
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    executions: Option<u64>,
    /// Instead sends so many mutated packets, and mutated captures, through all of `panoptes flow`
    /// between a capture and its records, with a line of progress at times
    #[arg(long, value_name = "N", conflicts_with_all = ["minutes", "executions", "targets"])]
    packets: Option<u64>,
    /// With --packets: what the mutations follow from
    #[arg(long, value_name = "N", default_value_t = 1, requires = "packets")]
    seed: u64,
    /// All by default
    targets: Vec<String>,
}

/// The targets that passed, and the failures.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) passed: Vec<String>,
    pub(crate) failed: Vec<String>,
}

/// Runs the campaign of `engine/flow/examples/mutated_packets.rs`, with all checks of arithmetic.
fn mutate_packets(packets: u64, seed: u64) -> Result<(), String> {
    let program = ["run", "--quiet", "--profile", "fuzz", "--package", "panoptes-flow"];
    let numbers = [packets.to_string(), seed.to_string()];
    let mut command = cargo::command();
    command.args(program).args(["--example", "mutated_packets", "--"]);
    command.args(["--packets", &numbers[0], "--seed", &numbers[1]]);
    cargo::must(&mut command, "a program of mutated packets")
}

pub(crate) fn run(options: Options) -> Result<(), String> {
    if let Some(packets) = options.packets {
        return mutate_packets(packets, options.seed);
    }
    let mut wanted = options.targets;
    let fuzz = folder();
    let known = targets(&fuzz)?;
    if let Some(unknown) = wanted.iter().find(|target| !known.contains(target)) {
        return Err(format!("no fuzz target {unknown:?}; there are {}", known.join(", ")));
    }
    if wanted.is_empty() {
        wanted = known;
    }
    let failed = match options.executions {
        None => campaign(&fuzz, &wanted, options.minutes)?,
        Some(executions) => execute(&fuzz, &wanted, executions)?.failed,
    };
    if !failed.is_empty() {
        return Err(format!("{} failed; see fuzz/artifacts and fuzz/README.md", failed.join(", ")));
    }
    println!("fuzz: {} targets ran and found nothing", wanted.len());
    Ok(())
}

/// Compiles all targets and executes each a thousand times.
///
/// `walk` uses the recorded image of the newest kernel, or the one among the sources. An error
/// means that a target did not compile, or that no target could run.
pub(crate) fn smoke() -> Result<Outcome, String> {
    let fuzz = folder();
    execute(&fuzz, &targets(&fuzz)?, SMOKE_EXECUTIONS)
}

fn folder() -> PathBuf {
    Path::new(ROOT).join("fuzz")
}

/// The targets, by their files in fuzz/fuzz_targets.
fn targets(fuzz: &Path) -> Result<Vec<String>, String> {
    let paths = cache::list(&fuzz.join("fuzz_targets"))?;
    Ok(paths.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect())
}

/// Runs targets one after the other for `minutes` each; returns those that failed.
fn campaign(fuzz: &Path, wanted: &[String], minutes: u64) -> Result<Vec<String>, String> {
    setup::ensure_for_fuzzing()?;
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
    // Not the folder itself: cargo-fuzz makes it, too.
    let mark = corpus.join(SEEDS_MARK);
    if mark.exists() {
        return Ok(());
    }
    setup::ensure()?;
    let kernel = Kernel::obtain(Flavor::V7)?;
    let kernel_release = kernel.release().to_owned();
    println!("fuzz: booting Linux {kernel_release} for seeds …");
    let mut guest = Guest::boot(&GuestSpec::new(kernel))?;
    guest.agent("zoo")?;
    guest.pause()?;
    cache::create(&corpus)?;
    example("fuzz_seeds", &[&corpus, guest.ram_path()])?;
    let symbols = corpus.join("symbols");
    cache::create(&symbols)?;
    for (name, library) in panoptes_rig::strangers()? {
        if cache::has_extension(&library, "so") {
            cache::copy(&library, &symbols.join(name.replace('/', "-")))?;
        }
    }
    example("record", &[guest.ram_path(), &image()?])?;
    Ok(cache::write(&mark, kernel_release.as_bytes())?)
}

/// The image for fuzzing the walk.
fn image() -> Result<PathBuf, String> {
    Ok(recorded::folder()?.join("7.image"))
}

fn run_target(fuzz: &Path, made: &Path, target: &str, minutes: u64) -> Result<bool, String> {
    println!("== fuzz: {target}, {minutes} min");
    let corpus = fuzz.join("corpus").join(target);
    cache::create(&corpus)?;
    // Run in this folder because its `.cargo/config.toml` must apply.
    let mut command = cargo::command();
    command
        .current_dir(fuzz)
        .args(["run", "--profile", "fuzz", "--quiet", "--bin", target, "--"])
        // libFuzzer writes new inputs to the first folder.
        .args([&corpus, &made.join(target)])
        .arg(format!("-max_total_time={}", minutes * 60))
        .env("PANOPTES_RECORDED", image()?)
        .args(["-max_len=8192", "-print_final_stats=1"])
        .arg(artifact_prefix(fuzz, target)?);
    cargo::succeeds(&mut command)
}

/// Compiles all targets with one command and executes each `executions` times.
fn execute(fuzz: &Path, wanted: &[String], executions: u64) -> Result<Outcome, String> {
    let image = image()?;
    // Some seeds need a compiler and xz.
    setup::ensure()?;
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
            let mut command = Command::new(program);
            // Without it, `walk` uses the image among the sources.
            if image.exists() {
                command.env("PANOPTES_RECORDED", &image);
            }
            let failure = run.finish(&mut command, &made)?;
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
    let mut command = cargo::command();
    command.args(["build", "--keep-going", "--test", "fuzz_inputs"]).args(WORKSPACE);
    command.args(wanted.iter().flat_map(|target| ["--bin", target]));
    Ok(cargo::build(command)?.into_iter().map(|program| (program.name, program.path)).collect())
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
        cache::create(&artifacts)?;
        let (input, log) = (artifacts.join("input"), made.join(format!("{}.log", self.target)));
        let wrong = |e| format!("{}: {e}", log.display());
        let file = File::create(&log).map_err(wrong)?;
        let began = Instant::now();
        program.arg(self.executions.to_string()).args([&made.join(self.target), &input]);
        program.stdin(Stdio::null()).stdout(file.try_clone().map_err(wrong)?).stderr(file);
        let executions = u32::try_from(self.executions).unwrap_or(u32::MAX);
        let most = EXECUTIONS_MAX.max(EXECUTION_MAX.saturating_mul(executions));
        let status = wait(program, most)
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
            None => format!("it did not end in {most:?}"),
        };
        let kept = keep(&input)?.map_or("none".to_owned(), |path| path.display().to_string());
        let target = self.target;
        Ok(Some(format!("{}\n== fuzz: {target} FAILED: {problem}; artifact: {kept}", end(&text))))
    }
}

/// Waits for a program for a limited time: `None` if it was killed.
fn wait(command: &mut Command, most: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut child = command.spawn()?;
    let status = processes::wait(&mut child, most)?;
    if status.is_none() {
        child.kill()?;
        bounded::wait(&mut child)?;
    }
    Ok(status)
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
    cache::create(&folder)?;
    let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(format!("-artifact_prefix={}/", folder.display()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parsed(words: &str) -> Result<Options, clap::Error> {
        let words = format!("xtask fuzz {words}");
        match crate::Command::try_parse_from(words.split_whitespace())? {
            crate::Command::Fuzz(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arguments_are_read() {
        let options = parsed("").unwrap();
        assert_eq!((options.minutes, options.executions, options.targets.len()), (1, None, 0));
        let options = parsed("btf --executions 1000 walk").unwrap();
        assert_eq!(
            (options.executions, options.targets),
            (Some(1000), vec!["btf".into(), "walk".into()])
        );
        assert_eq!(parsed("--minutes 5").unwrap().minutes, 5);
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for words in [
            "--executions",
            "--executions many",
            "--executions 0",
            "--minutes 1 --executions 1",
            "--hours 1",
        ] {
            assert!(parsed(words).is_err(), "{words}");
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
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
        }
        assert_eq!(targets.len(), listed);
    }

    /// cargo-fuzz looks for a folder `fuzz` below the first manifest that is not of fuzz targets
    /// (its `project.rs`: `find_package`, `is_fuzz_manifest`), and for its targets by `name`.
    #[test]
    fn cargo_fuzz_recognises_the_folder() {
        let fuzz = folder();
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("\n[package.metadata]\ncargo-fuzz = true\n"), "the mark");
        assert!(manifest.contains("\n[target.'cfg(fuzzing)'.dependencies]\nlibfuzzer-sys = "));
        let root = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
        assert!(!root.contains("cargo-fuzz"), "the root is no folder of fuzz targets");
        for target in targets(&fuzz).unwrap() {
            let section = format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"\n");
            assert!(manifest.contains(&section), "{target}");
        }
    }
}
