//! The name of a shell on the command line.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, ValueEnum as _};
use clap_complete::Shell;

/// Reads the name of a shell. One without completions is no typing mistake of another one's name.
#[derive(Clone, Debug)]
pub(crate) struct ShellParser;

impl TypedValueParser for ShellParser {
    type Value = Shell;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Shell, clap::Error> {
        TypedValueParser::parse_ref(&(shell as fn(&str) -> _), command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Shell::value_variants().iter().filter_map(Shell::to_possible_value)))
    }
}

fn shell(name: &str) -> Result<Shell, String> {
    const SHELLS: &str = "bash, elvish, fish, powershell and zsh";
    Shell::from_str(name, true).map_err(|_| format!("there are none for {name}, but for {SHELLS}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn a_shell_without_completions_is_named() {
        assert_eq!(shell("zsh"), Ok(Shell::Zsh));
        assert!(shell("tcsh").unwrap_err().starts_with("there are none for tcsh, but for bash"));
        let refused = Arguments::command()
            .try_get_matches_from(["panoptes", "completions", "tcsh"])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("there are none for tcsh"), "{refused}");
        assert!(!refused.contains("similar"), "{refused}");
    }
}
