//! `cargo xtask neighbours`: what a hostile system costs the others. With `--flow`: what hostile
//! senders cost a sensor of flows.
//!
//! The measure itself is the program of `tests/neighbours`, which needs crates that the other
//! commands can do without.

use clap::Args;

use crate::{cargo, program};

/// Watches synthetic systems beside a hostile one, and prints what it costs them
///
/// `--help` lists the options: attacks, seconds, number of systems, JSON. With --flow, audits the
/// flows of a neighbour beside everything hostile.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Options of the measure
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    // The machines share the processors with the watcher, so they must not be slow either.
    let mut build = cargo::command();
    build.args(["build", "--profile", "cost", "--package", "panoptes-neighbours"]);
    let measure = cargo::program(build, "bin", "panoptes-neighbours")?;
    let mut command = std::process::Command::new(measure);
    let asks = ["--help", "-h", "--list"];
    if options.options.iter().any(|option| asks.contains(&option.as_str())) {
        // Only the program's name is needed.
        command.args(["--program", "panoptes"]);
    } else {
        command.arg("--program").arg(program::obtain()?);
    }
    let holds = cargo::succeeds(command.args(&options.options))?;
    holds
        .then_some(())
        .ok_or_else(|| "a bound was missed, or a measure failed; see above".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    #[test]
    fn options_are_passed_on() {
        let words = ["xtask", "neighbours", "--attack", "A1", "--seconds", "5", "--help"];
        match crate::Command::try_parse_from(words) {
            Ok(crate::Command::Neighbours(options)) => assert_eq!(options.options, words[2..]),
            other => panic!("{other:?}"),
        }
    }
}
