//! `cargo xtask delivery`: a million records to real receivers, through faults.
//!
//! The campaign itself is the program of `tests/delivery`. Here are the receivers: rsyslog and
//! syslog-ng from Debian's packages, and the Forward server of an npm package, all in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use panoptes_bounded as bounded;
use panoptes_rig::{cache, package};

use crate::{cargo, program};

/// Sends a million records to real receivers through faults, and prints what arrived
///
/// `--help` lists the options: number of records, faults, restarts.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the campaign
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

/// The Forward server.
const FLUENT: &str = "@fluent-org/logger";
const FLUENT_VERSION: &str = "1.0.10";

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut build = cargo::command();
    build.args(["build", "--profile", "cost", "--package", "panoptes-delivery"]);
    let campaign = cargo::program(build, "bin", "panoptes-delivery")?;
    let mut command = Command::new(campaign);
    command.arg("run");
    let asks = ["--help", "-h", "--list"];
    if options.options.iter().any(|option| asks.contains(&option.as_str())) {
        // Only the program's name is needed.
        command.args(["--program", "panoptes"]);
    } else {
        command.arg("--rsyslog").arg(package("rsyslog", "usr/sbin/rsyslogd")?);
        command.arg("--syslog-ng").arg(package("syslog-ng-core", "usr/sbin/syslog-ng")?);
        if let Some(folder) = fluent()? {
            command.arg("--fluent").arg(folder);
        }
        command.arg("--program").arg(program::obtain()?);
    }
    let holds = cargo::succeeds(command.args(&options.options))?;
    holds
        .then_some(())
        .ok_or_else(|| "a rule was broken, or the campaign failed; see above".to_owned())
}

/// The folder where npm has installed the Forward server; `None` without npm.
fn fluent() -> Result<Option<PathBuf>, String> {
    let folder = cache::folder("programs")?.join("fluent");
    if is_installed(&folder) {
        return Ok(Some(folder));
    }
    cache::create(&folder)?;
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&folder);
    install.arg(format!("{FLUENT}@{FLUENT_VERSION}"));
    if bounded::status_within(&mut install, bounded::LONG).is_err() {
        eprintln!("xtask: left out: {FLUENT} needs node and npm");
        return Ok(None);
    }
    let missing = || format!("npm did not install {FLUENT}; see above");
    is_installed(&folder).then_some(Some(folder)).ok_or_else(missing)
}

fn is_installed(folder: &Path) -> bool {
    folder.join("node_modules").join(FLUENT).join("package.json").is_file()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    #[test]
    fn options_are_passed_on() {
        let words = ["xtask", "delivery", "--fault", "frozen", "--records", "5000", "--help"];
        match crate::Command::try_parse_from(words) {
            Ok(crate::Command::Delivery(options)) => assert_eq!(options.options, words[2..]),
            other => panic!("{other:?}"),
        }
    }
}
