//! `panoptes check`: lists every mistake of a configuration, or what the configuration watches.
//!
//! The SBOMs that the configuration names are read too. Not for: finding mistakes (`config`), and
//! not for checking whether anything else that the configuration names exists.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::config::{
    Configuration, Loaded, Loader, Mode, Overrides, Place, Problem, Report, Weight, printable,
    show_duration,
};
use crate::exit::Exit;
use crate::sbom::Sboms;

/// The output of the command, and its exit code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// For standard output.
    pub out: String,
    /// For standard error, a line each.
    pub err: Vec<String>,
    pub exit: Exit,
}

/// Checks a file as the service would read it.
pub fn check(file: &Path, json: bool) -> Answer {
    let loader =
        Loader { mode: Mode::Run, file: Some(file.to_owned()), overrides: Overrides::default() };
    let loaded = loader.load().and_then(with_sboms);
    let (report, configuration) = match &loaded {
        Ok(loaded) => (&loaded.warnings, Some(&loaded.configuration)),
        Err(report) => (report, None),
    };
    if json {
        let mut object = problems(file, report);
        if let Some(configuration) = configuration {
            object["systems"] = systems(configuration);
        }
        return Answer { out: format!("{object}\n"), err: Vec::new(), exit: report.exit() };
    }
    let out = configuration.map(|configuration| summary(file, configuration)).unwrap_or_default();
    // Lines that editors and other tools can follow: each starts with the place.
    let err = report.to_string().lines().map(str::to_owned).collect();
    Answer { out, err, exit: report.exit() }
}

/// Reads the SBOMs that a configuration names. A mistake in an SBOM is a mistake of the
/// configuration.
fn with_sboms(loaded: Loaded) -> Result<Loaded, Report> {
    match Sboms::load(&loaded.configuration) {
        Ok(_) => Ok(loaded),
        Err(faults) => {
            let problems = faults.iter().map(|fault| Problem::error(None, fault.to_string()));
            Err(Report { problems: problems.collect(), ..loaded.warnings })
        }
    }
}

fn summary(file: &Path, configuration: &Configuration) -> String {
    let mut text = format!("{}: ok\n", printable(&file.to_string_lossy()));
    let output = &configuration.output;
    let mut targets = Vec::new();
    if output.stdout {
        targets.push("standard output".to_owned());
    }
    if let Some(folder) = &output.log_folder {
        targets.push(printable(&folder.to_string_lossy()));
    }
    let _ = writeln!(
        text,
        "scans every {}, records go to {}",
        show_duration(configuration.service.scan_interval),
        targets.join(" and ")
    );
    if configuration.auto_scan {
        text.push_str("watches every QEMU guest of this machine\n");
    }
    for system in &configuration.systems {
        let events = &system.settings.events;
        let _ = writeln!(
            text,
            "watches {} ({}): reports {} of {} activities, tracks up to {} processes",
            system.name,
            system.address,
            events.enabled_count(),
            events.iter().count(),
            system.settings.limits.processes
        );
    }
    text
}

fn problems(file: &Path, report: &Report) -> Value {
    let of = |weight| {
        let chosen = report.problems.iter().filter(|problem| problem.weight == weight);
        let list: Vec<Value> = chosen
            .map(|problem| match problem.place {
                Some(Place::File { line, column }) => {
                    json!({"line": line, "column": column, "message": problem.message})
                }
                _ => json!({"message": problem.message}),
            })
            .collect();
        Value::from(list)
    };
    json!({
        "file": file.to_string_lossy(),
        "valid": !report.has_errors(),
        "errors": of(Weight::Error),
        "warnings": of(Weight::Warning),
    })
}

fn systems(configuration: &Configuration) -> Value {
    let systems = configuration.systems.iter();
    systems
        .map(|system| json!({"name": system.name, "system": system.address.to_string()}))
        .collect()
}
