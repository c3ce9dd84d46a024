//! `panoptes check`: lists every mistake of a configuration, or what the configuration watches.
//!
//! The SBOMs that the configuration names are read too. Not for: finding mistakes (`config`), and
//! not for checking whether anything else that the configuration names exists.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::config::{
    AutoScan, ConfigKey, ConfigLocation, Configuration, GuestName, LoadedConfiguration, Loader,
    Mode, Overrides, Problem, Report, SystemAddress, Weight, one_line, printable, show_duration,
};
use crate::exit::CommandOutput;
use crate::memory::{MemoryDemand, MemoryLeft, Plan, TOO_MUCH};
use crate::sbom::Sboms;
use crate::size::show;
use crate::watch::name_of;

/// Checks a file as the service would read it. `shows_keys`: prints every key with its value.
pub fn check(file: &Path, overrides: Overrides, json: bool, shows_keys: bool) -> CommandOutput {
    let loader = Loader { mode: Mode::Run, file: Some(file.to_owned()), overrides };
    let loaded = if shows_keys { loader.load_with_all_keys() } else { loader.load() };
    let loaded = loaded.and_then(with_sboms);
    let (report, configuration) = match &loaded {
        Ok((loaded, needed)) => (&loaded.warnings, Some((&loaded.configuration, needed))),
        Err(report) => (report, None),
    };
    let keys =
        loaded.as_ref().ok().filter(|_| shows_keys).map(|(loaded, _)| loaded.keys.as_slice());
    if json {
        let mut object = problems(file, report);
        if let Some((configuration, needed)) = configuration {
            object["systems"] = systems(configuration, needed);
            object["memory_bytes"] = needed.sum().into();
            // Part of that sum, and only used while changed SBOMs are applied.
            object["memory_bytes_for_reload"] = needed.reload.into();
        }
        if let Some(keys) = keys {
            object["effective"] = effective(keys).map(key_object).collect();
        }
        return CommandOutput { out: format!("{object}\n"), err: Vec::new(), exit: report.exit() };
    }
    let out = configuration.map(|(configuration, needed)| summary(file, configuration, needed));
    let mut out = out.unwrap_or_default();
    for (key, value, place) in keys.into_iter().flat_map(effective) {
        let origin = match place {
            Some(ConfigLocation::File { line, column }) => {
                format!("{}:{line}:{column}", printable(&file.to_string_lossy()))
            }
            Some(ConfigLocation::Option(option)) => printable(option),
            None => "default".to_owned(),
        };
        let _ = writeln!(out, "{}: {value} # {origin}", key.path);
    }
    // Lines that editors and other tools can follow: each starts with the place.
    let err = report.to_string().lines().map(str::to_owned).collect();
    CommandOutput { out, err, exit: report.exit() }
}

/// Reads the SBOMs that a configuration names. A mistake in an SBOM is a mistake of the
/// configuration.
fn with_sboms(loaded: LoadedConfiguration) -> Result<(LoadedConfiguration, MemoryDemand), Report> {
    match Sboms::load(&loaded.configuration) {
        Ok(sboms) => with_memory(loaded, &sboms),
        Err(faults) => {
            let problems = faults.iter().map(|fault| Problem::error(None, fault.to_string()));
            Err(Report { problems: problems.collect(), ..loaded.warnings })
        }
    }
}

/// Computes the memory that a configuration needs. More than this machine has is a mistake; how
/// much is left matters only at start.
fn with_memory(
    loaded: LoadedConfiguration,
    sboms: &Sboms,
) -> Result<(LoadedConfiguration, MemoryDemand), Report> {
    let configuration = &loaded.configuration;
    let needed = MemoryDemand::of(&Plan {
        configuration,
        systems: &configuration.systems,
        auto_scan: configuration.auto_scan,
        sboms: Some(sboms),
    });
    let checked = match (&needed, MemoryLeft::in_all()) {
        (Some(needed), Some(all)) => needed.check_in_all(&all).map_err(|failure| failure.message),
        (Some(_), None) => Ok(()),
        (None, _) => Err(TOO_MUCH.to_owned()),
    };
    match (needed, checked) {
        (Some(needed), Ok(())) => Ok((loaded, needed)),
        (_, checked) => {
            let message = checked.err().unwrap_or_default();
            Err(Report { problems: vec![Problem::error(None, message)], ..loaded.warnings })
        }
    }
}

fn summary(file: &Path, configuration: &Configuration, needed: &MemoryDemand) -> String {
    let mut text = format!("{}: ok\n", printable(&file.to_string_lossy()));
    let output = &configuration.output;
    let mut targets = Vec::new();
    if output.stdout {
        targets.push("standard output".to_owned());
    }
    if let Some(folder) = &output.log_folder {
        targets.push(printable(&folder.to_string_lossy()));
    }
    targets.extend(output.telemetry.iter().map(|receiver| printable(&name_of(receiver))));
    let _ = writeln!(
        text,
        "scans every {}, records go to {}",
        show_duration(configuration.service.scan_interval),
        targets.join(" and ")
    );
    if configuration.auto_scan {
        let guests = if configuration.auto_scan_guests == AutoScan::default() {
            "every QEMU guest of this machine, every other guest that uses KVM"
        } else {
            "the guests of this machine that `auto_scan` takes"
        };
        let _ = writeln!(
            text,
            "watches {guests}, and every machine behind functions of its DMA devices"
        );
    }
    for (system, (_, bytes)) in configuration.systems.iter().zip(&needed.systems) {
        let events = &system.settings.events;
        let _ = writeln!(
            text,
            "watches {} ({}): reports {} of {} activities, tracks up to {} processes in {}",
            system.name,
            what_is_watched(&system.address),
            events.enabled_count(),
            events.iter().count(),
            system.settings.limits.processes,
            show(*bytes)
        );
    }
    if configuration.flows.are_wanted() {
        let interfaces = configuration.flows.interfaces.iter();
        let names: Vec<String> = interfaces.map(|one| printable(&one.0)).collect();
        let flows = configuration.flows.flows;
        let _ = writeln!(text, "records flows of {}, up to {flows} at once", names.join(" and "));
    }
    for exception in configuration.exceptions.iter().filter(|exception| exception.has_effect()) {
        let _ = writeln!(text, "{exception}");
    }
    let _ = writeln!(text, "{needed}");
    text
}

/// The address of a system. Which of a file and a guest a bare word is depends on the machine.
fn what_is_watched(address: &SystemAddress) -> String {
    match address {
        SystemAddress::Guest(GuestName::Bare { .. }) => {
            format!("{address}: a file, else the guest")
        }
        _ => address.to_string(),
    }
}

/// Every key that has a value, with the value, and where that was given.
fn effective(
    keys: &[ConfigKey],
) -> impl Iterator<Item = (&ConfigKey, String, Option<&ConfigLocation>)> {
    let given = keys.iter().filter_map(|key| Some((key.path.as_str(), key.place.as_ref()?)));
    let given: HashMap<&str, &ConfigLocation> = given.collect();
    keys.iter().filter(|key| key.form.is_some()).map(move |key| {
        let inherited = || given.get(key.inherited()?.as_str()).copied();
        let is_secret = key.path.ends_with(".headers") && key.value != "{}";
        let value = if is_secret { "(not shown)".to_owned() } else { one_line(&key.value) };
        (key, value, key.place.as_ref().or_else(inherited))
    })
}

fn key_object((key, value, place): (&ConfigKey, String, Option<&ConfigLocation>)) -> Value {
    let mut object = json!({"key": key.path, "value": value});
    match place {
        Some(ConfigLocation::File { line, column }) => {
            object["line"] = (*line).into();
            object["column"] = (*column).into();
        }
        Some(ConfigLocation::Option(option)) => object["option"] = (&**option).into(),
        None => {}
    }
    object
}

fn problems(file: &Path, report: &Report) -> Value {
    let of = |weight| {
        let chosen = report.problems.iter().filter(|problem| problem.weight == weight);
        let list: Vec<Value> = chosen
            .map(|problem| match problem.place {
                Some(ConfigLocation::File { line, column }) => {
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

fn systems(configuration: &Configuration, needed: &MemoryDemand) -> Value {
    let systems = configuration.systems.iter().zip(&needed.systems);
    systems
        .map(|(system, (_, bytes))| {
            let address = system.address.to_string();
            json!({"name": system.name, "system": address, "memory_bytes": bytes})
        })
        .collect()
}
