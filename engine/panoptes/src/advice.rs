//! Advice in mistakes of the command line: words that may be meant, and none that are not.
//!
//! The parser suggests what has a few letters in common, and nothing for `panoptes help`.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

use crate::config::nearest;

/// Improves the advice of a mistake in `arguments`, which start with the program's own name.
pub(crate) fn advise(error: &mut Error, program: &Command, arguments: &[OsString]) {
    match error.kind() {
        ErrorKind::InvalidSubcommand => suggest_command(error, program, arguments),
        ErrorKind::InvalidValue => {
            remove_far(error, ContextKind::InvalidValue, ContextKind::SuggestedValue);
        }
        ErrorKind::UnknownArgument => {
            remove_far(error, ContextKind::InvalidArg, ContextKind::SuggestedArg);
            name_owner(error, program);
        }
        _ => {}
    }
}

/// Suggests a command for the one that `panoptes help` does not know.
fn suggest_command(error: &mut Error, program: &Command, arguments: &[OsString]) {
    let Some(wrong) = text(error, ContextKind::InvalidSubcommand).map(str::to_owned) else {
        return;
    };
    if error.get(ContextKind::SuggestedSubcommand).is_some() {
        return;
    }
    let mut command = program;
    for word in arguments.iter().skip(1).filter(|word| *word != "help") {
        let Some(next) = command.find_subcommand(word) else { break };
        command = next;
    }
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    if let Some(near) = nearest(&wrong, &names) {
        let near = ContextValue::Strings(vec![near.to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, near);
    }
}

/// Removes a suggestion that is hardly what was meant.
fn remove_far(error: &mut Error, given: ContextKind, suggested: ContextKind) {
    let bare = |text: &str| text.trim_start_matches('-').to_owned();
    let (Some(wrong), Some(near)) = (text(error, given), text(error, suggested)) else { return };
    if nearest(&bare(wrong), &[bare(near).as_str()]).is_none() {
        error.remove(suggested);
    }
}

/// Names the commands that have an option if the one of the mistake has not.
fn name_owner(error: &mut Error, program: &Command) {
    let Some(wrong) = text(error, ContextKind::InvalidArg) else { return };
    let Some(name) = wrong.strip_prefix("--").filter(|name| !name.is_empty()) else { return };
    if error.get(ContextKind::SuggestedArg).is_some() {
        return;
    }
    let mut owners = Vec::new();
    owners_of(name, program, program.get_name(), &mut owners);
    if owners.is_empty() {
        return;
    }
    let tip = format!("'--{name}' is an option of {}", owners.join(", "));
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
}

/// Adds the commands in `command`, whose words are `path`, that have an option.
fn owners_of(name: &str, command: &Command, path: &str, owners: &mut Vec<String>) {
    if command.get_arguments().any(|argument| argument.get_long() == Some(name)) {
        owners.push(format!("'{path}'"));
    }
    for inner in command.get_subcommands() {
        owners_of(name, inner, &format!("{path} {}", inner.get_name()), owners);
    }
}

fn text(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::Arguments;

    fn mistake(line: &str) -> String {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let mut error = Arguments::try_parse_from(&arguments).unwrap_err();
        advise(&mut error, &Arguments::command(), &arguments);
        error.to_string()
    }

    #[test]
    fn help_suggests_a_command() {
        for line in ["panoptes help scna", "panoptes scna"] {
            let text = mistake(line);
            assert!(text.contains("tip: ") && text.contains("'scan'"), "{text}");
        }
        let nested = mistake("panoptes help profile bild");
        assert!(nested.contains("a similar subcommand exists: 'build'"), "{nested}");
        assert!(!mistake("panoptes help zzz").contains("tip:"), "{}", mistake("panoptes help zzz"));
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let far = mistake("panoptes scan x --only nonsense");
        assert!(far.contains("possible values: processes") && !far.contains("tip:"), "{far}");
        let near = mistake("panoptes scan x --only processs");
        assert!(near.contains("a similar value exists: 'processes'"), "{near}");
        let near = mistake("panoptes scan x --sumary");
        assert!(near.contains("a similar argument exists: '--summary'"), "{near}");
    }

    #[test]
    fn an_option_of_another_command_is_said_to_be_one() {
        let other = mistake("panoptes watch x --only processes");
        assert!(other.contains("tip: '--only' is an option of 'panoptes scan'"), "{other}");
        let other = mistake("panoptes scan x --headers dir");
        assert!(other.contains("'--headers' is an option of 'panoptes profile build'"), "{other}");
        assert!(!mistake("panoptes watch x --zzz").contains("is an option of"));
    }

    #[test]
    fn lines_of_a_scan_are_those_of_its_alerts() {
        let line = "panoptes scan x --lines";
        assert!(mistake(line).contains("--alerts"), "{}", mistake(line));
        assert!(Arguments::try_parse_from((line.to_owned() + " --alerts").split(' ')).is_ok());
        let both = mistake("panoptes scan x --alerts --lines --json");
        assert!(both.contains("cannot be used with '--json'"), "{both}");
    }
}
