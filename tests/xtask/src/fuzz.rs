//! `cargo xtask fuzz`: every fuzz target for some minutes each.
//!
//! A campaign of its own, not part of `cargo xtask test`. The targets and how to look into a crash:
//! fuzz/README.md.

use std::path::Path;
use std::process::Command;

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, setup};

use crate::cargo::example;
use crate::recorded;

pub(crate) const USAGE: &str = "\
  fuzz [--minutes N] [TARGET]…
        runs the fuzz targets, N minutes each (1 by default), on seeds out of a real kernel's memory
";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut minutes = 1_u64;
    let mut wanted = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--minutes" => {
                let value = words.next().ok_or("--minutes needs a number after it")?;
                minutes = value.parse().map_err(|e| format!("--minutes {value}: {e}"))?;
            }
            option if option.starts_with('-') => {
                return Err(format!("fuzz has no option {option:?}; see `cargo xtask help`"));
            }
            target => wanted.push(target.to_owned()),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fuzz = root.join("fuzz");
    let known = targets(&fuzz)?;
    if let Some(unknown) = wanted.iter().find(|target| !known.contains(target)) {
        return Err(format!("no fuzz target {unknown:?}; there are {}", known.join(", ")));
    }
    if wanted.is_empty() {
        wanted = known;
    }
    make_seeds(&fuzz)?;
    let mut failed = Vec::new();
    for target in &wanted {
        if !run_target(&fuzz, target, minutes)? {
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        println!("fuzz: {} targets ran {minutes} min each and found nothing", wanted.len());
        Ok(())
    } else {
        Err(format!("{} found something; see fuzz/artifacts and fuzz/README.md", failed.join(", ")))
    }
}

/// The targets by the files that they are in.
fn targets(fuzz: &Path) -> Result<Vec<String>, String> {
    let folder = fuzz.join("targets");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

/// Cuts seeds, and records the image that the walk is fuzzed on, out of a guest that has everything.
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
    let image = recorded::folder()?.join("7.image");
    example("record", &[guest.ram_path(), &image])
}

fn run_target(fuzz: &Path, target: &str, minutes: u64) -> Result<bool, String> {
    println!("== fuzz: {target}, {minutes} min");
    let corpus = fuzz.join("corpus").join(target);
    for folder in [&corpus, &fuzz.join("artifacts")] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let status = cargo(fuzz)
        .args(["run", "--release", "--quiet", "--bin", target, "--"])
        .arg(&corpus)
        .arg(format!("-max_total_time={}", minutes * 60))
        .args(["-max_len=8192", "-artifact_prefix=artifacts/", "-print_final_stats=1"])
        .status()
        .map_err(|e| format!("cannot start cargo: {e}"))?;
    Ok(status.success())
}

/// cargo in a folder, whose own `.cargo/config.toml` then counts.
fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    command
}
