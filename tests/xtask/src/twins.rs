//! `cargo xtask twins`: runs harmless twins of detected activity for a while; no alert may occur.

use std::time::Duration;

use panoptes_rig::scenarios::twins::{self, TwinChoice};
use panoptes_rig::{Flavor, product};

use crate::program;

pub(crate) const USAGE: &str = "\
  twins [--list] [--minutes N] [--kernel NAME] [--log-folder DIR] [NAME]…
        runs everyday work in a guest (6.1) for N minutes (60), over and over: logins, compilers,
        web servers, databases, containers, language runtimes, upgrades …, while Panoptes watches
        it every 10 ms; prints how often each ran, the number of records, and every alert: there
        must be none
";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let mut choice = TwinChoice {
        flavor: Flavor::V6_1,
        names: Vec::new(),
        time: Duration::from_hours(1),
        log_folder: None,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value =
            || words.next().cloned().ok_or_else(|| format!("{word} needs a value after it"));
        match word.as_str() {
            "--list" => {
                for twin in twins::all().map_err(|e| e.to_string())? {
                    println!("{:<13} {}", twin.name, twin.about);
                }
                return Ok(());
            }
            "--kernel" => {
                choice.flavor = Flavor::from_name(&value()?).map_err(|e| e.to_string())?;
            }
            "--minutes" => {
                let minutes = value()?.parse().map_err(|e| format!("--minutes: {e}"))?;
                choice.time = Duration::from_mins(minutes);
            }
            "--log-folder" => choice.log_folder = Some(value()?.into()),
            option if option.starts_with('-') => {
                return Err(format!("twins has no option {option:?}; see `cargo xtask help`"));
            }
            name => choice.names.push(name.to_owned()),
        }
    }
    // The variable may name another program than the one built now.
    let program = match std::env::var_os(product::VARIABLE) {
        Some(path) => path.into(),
        None => program::build()?,
    };
    let report = twins::run(&choice, &program, |line| eprintln!("twins: {line}"));
    let report = report.map_err(|e| e.to_string())?;
    println!("{}", report.table());
    if report.is_good() {
        Ok(())
    } else {
        Err("there were alerts, or a twin never ran; see above".into())
    }
}
