//! The settings of `panoptes flow`: options of the command line, and variables of `argus.conf`.
//!
//! `table` has one row for each setting. The parser of options, the reader of `argus.conf`, the
//! help text and `docs/flow-options.md` use these rows. Not for: how a command line is divided into
//! options and values (`options`), or a configuration into lines (`configuration`).

mod effects;
mod table;

use std::ffi::OsStr;

use self::table::{GROUPS, IGNORED};
use super::devices;
use super::request::FlowRequest;
use crate::exit::Failure;

/// Names of variables begin with this.
pub(in crate::flow) const PREFIX: &str = "ARGUS_";
/// The heading of variables that change nothing, in documents.
pub(in crate::flow) const WITHOUT_EFFECT: &str = "Without effect";
/// Maximum length of a line of the help text.
const HELP_COLUMNS: usize = 100;
/// Columns of a line of the help text before the words about an option.
const HELP_INDENT: usize = 14;
/// The end of the help text.
const HELP_ENDING: &str = "\
SIGHUP, SIGINT and SIGTERM end the program; it writes all active flows first.

Exit codes: 0 done, 2 wrong command line, 65 a capture is damaged, 66 a source can't be opened, 74
output failed, 77 permission denied, 78 the configuration is wrong.
";

/// Settings that have a heading in common.
struct FlowSettingGroup {
    heading: &'static str,
    settings: &'static [FlowSetting],
}

/// An option, variables with the same effect, or both.
pub(in crate::flow) struct FlowSetting {
    /// The option and the name of its value, as the help text has them: `-s BYTES`. Options of
    /// argus(8) are letters; longer names are those of Panoptes. Empty if there is no option.
    usage: &'static str,
    /// Names without [`PREFIX`].
    variables: &'static [&'static str],
    /// One paragraph of the help text, with the default in parentheses.
    help: &'static str,
    pub(in crate::flow) effect: FlowSettingEffect,
}

/// The change that a setting makes in the request, and the value that it takes. Functions receive
/// the request, the name of the option or variable for messages, and the value.
pub(in crate::flow) enum FlowSettingEffect {
    /// The option takes no value. A variable is `yes` or `no`.
    Switch(OptionSwitch, fn(&mut FlowRequest) -> &mut bool),
    /// The option takes no value. A variable does this if it is `yes`.
    Act(fn(&mut FlowRequest)),
    Text(fn(&mut FlowRequest, &str, &str) -> Result<(), Failure>),
    /// The sensor's id, which a variable may have in double quotes.
    SensorId,
    /// Names of interfaces. The option takes all operands behind it.
    Interfaces,
    /// An output and the filter of its records.
    Output,
    /// No variable has this effect.
    CommandLine(CommandLineEffect),
}

/// The state that an option gives its switch.
#[derive(Clone, Copy)]
pub(in crate::flow) enum OptionSwitch {
    On,
    Off,
    Toggle,
}

/// Effects that only options have.
pub(in crate::flow) enum CommandLineEffect {
    /// A value that need not be text.
    Bytes(fn(&mut FlowRequest, &str, &OsStr) -> Result<(), Failure>),
    /// Captures: a value and all operands behind it.
    Captures,
    /// A folder of captures, if an operand follows.
    Folder,
    /// An `argus.conf`.
    Configuration,
    /// The row is for documents: the parser knows the option, or another row has it.
    ShownOnly,
}

impl FlowSetting {
    /// The option with its hyphens; empty if there is none.
    pub(in crate::flow) fn option(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }

    /// Whether the option takes a value that may be attached to its letter.
    pub(in crate::flow) fn has_value(&self) -> bool {
        use CommandLineEffect::{Bytes, Captures, Configuration, Folder, ShownOnly};
        match &self.effect {
            FlowSettingEffect::Text(_)
            | FlowSettingEffect::SensorId
            | FlowSettingEffect::Interfaces
            | FlowSettingEffect::Output
            | FlowSettingEffect::CommandLine(Bytes(_) | Captures | Configuration) => true,
            FlowSettingEffect::Switch(..)
            | FlowSettingEffect::Act(_)
            | FlowSettingEffect::CommandLine(Folder | ShownOnly) => false,
        }
    }

    fn is_shown_only(&self) -> bool {
        matches!(self.effect, FlowSettingEffect::CommandLine(CommandLineEffect::ShownOnly))
    }
}

/// Variables of argus(8) that change nothing here.
pub(in crate::flow) struct IgnoredVariable {
    /// Names without [`PREFIX`].
    names: &'static [&'static str],
    /// Values that ask for nothing that is missing here, in lower case.
    pub(in crate::flow) values: &'static [&'static str],
    pub(in crate::flow) others: OtherValues,
    /// One paragraph for documents.
    help: &'static str,
}

impl IgnoredVariable {
    /// The paragraph for documents, with what other values cause.
    fn text(&self) -> String {
        let shown = |value: &&str| match *value {
            "" => "an empty one".to_owned(),
            value => format!("`{value}`"),
        };
        let values = self.values.iter().map(shown).collect::<Vec<_>>().join(" or ");
        match self.others {
            OtherValues::Allowed => self.help.to_owned(),
            OtherValues::Warned => {
                format!("{}. Other values than {values} cause a warning", self.help)
            }
            OtherValues::Refused(_) => {
                format!("{}. Other values than {values} are refused", self.help)
            }
        }
    }
}

/// The consequence of another value of an ignored variable.
#[derive(Clone, Copy)]
pub(in crate::flow) enum OtherValues {
    Allowed,
    Warned,
    /// A mistake, with this reason.
    Refused(&'static str),
}

/// Whether interfaces and outputs were set in one command line or configuration: the first ones
/// replace those of an earlier configuration.
#[derive(Default)]
pub(in crate::flow) struct ReplacedSettings {
    streams: bool,
    outputs: bool,
}

impl ReplacedSettings {
    /// Adds interfaces.
    ///
    /// # Errors
    ///
    /// The text names none; the message begins with `what`.
    pub(in crate::flow) fn add_interfaces(
        &mut self,
        request: &mut FlowRequest,
        what: &str,
        text: &str,
    ) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.streams, true) {
            request.interfaces.streams.clear();
        }
        request.interfaces.streams.extend(devices::parse(what, text)?);
        Ok(())
    }

    /// Adds an output and the filter of its records.
    ///
    /// # Errors
    ///
    /// The text names no output; the message begins with `what`.
    pub(in crate::flow) fn add_output(
        &mut self,
        request: &mut FlowRequest,
        what: &str,
        to: &str,
        filter: Option<&str>,
    ) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.outputs, true) {
            request.outputs.clear();
        }
        request.add_output(what, to, filter)
    }
}

fn settings() -> impl Iterator<Item = &'static FlowSetting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting of an option with a long name, such as `--flows`.
pub(in crate::flow) fn of_option(option: &str) -> Option<&'static FlowSetting> {
    settings().find(|setting| setting.option() == option && !setting.is_shown_only())
}

/// The setting of an option of one letter.
pub(in crate::flow) fn of_letter(letter: u8) -> Option<&'static FlowSetting> {
    let is_of_letter = |setting: &FlowSetting| setting.option().as_bytes() == [b'-', letter];
    settings().find(|setting| is_of_letter(setting) && !setting.is_shown_only())
}

/// The setting of a variable, whose name lacks [`PREFIX`].
pub(in crate::flow) fn of_variable(name: &str) -> Option<&'static FlowSetting> {
    settings().find(|setting| setting.variables.contains(&name))
}

/// The variable of this name, without [`PREFIX`], if it changes nothing.
pub(in crate::flow) fn ignored(name: &str) -> Option<&'static IgnoredVariable> {
    IGNORED.iter().find(|variable| variable.names.contains(&name))
}

/// The help text behind its first lines.
pub(crate) fn help() -> String {
    let mut text = String::new();
    for group in GROUPS {
        let options = group.settings.iter().filter(|setting| !setting.usage.is_empty());
        let mut lines = String::new();
        for FlowSetting { usage, help, .. } in options {
            add_option(&mut lines, usage, help);
        }
        if !lines.is_empty() {
            text.extend([group.heading, ":\n", lines.as_str(), "\n"]);
        }
    }
    text + HELP_ENDING
}

/// Adds an option to the help text. Words that find no room begin another line.
fn add_option(text: &mut String, usage: &str, help: &str) {
    let width = HELP_INDENT - 4;
    let mut line = format!("  {usage:<width$} ");
    for word in help.split(' ') {
        if line.len() + 1 + word.len() > HELP_COLUMNS {
            text.extend([line.as_str(), "\n"]);
            line = " ".repeat(HELP_INDENT - 1);
        }
        line.extend([" ", word]);
    }
    text.extend([line.as_str(), "\n"]);
}

/// A setting as documents show it.
#[derive(Clone, Debug)]
pub struct FlowSettingText {
    pub heading: &'static str,
    /// The option and the name of its value, as in the help text; empty if there is no option.
    pub usage: &'static str,
    /// Full names.
    pub variables: Vec<String>,
    /// One paragraph.
    pub help: String,
}

/// All settings in the order of the help text, then the variables that change nothing.
pub fn flow_setting_texts() -> Vec<FlowSettingText> {
    let full = |names: &[&str]| {
        names.iter().map(|name| format!("{PREFIX}{name}")).collect::<Vec<String>>()
    };
    let mut texts = Vec::new();
    for group in GROUPS {
        texts.extend(group.settings.iter().map(|setting| FlowSettingText {
            heading: group.heading,
            usage: setting.usage,
            variables: full(setting.variables),
            help: setting.help.to_owned(),
        }));
    }
    texts.extend(IGNORED.iter().map(|variable| FlowSettingText {
        heading: WITHOUT_EFFECT,
        usage: "",
        variables: full(variable.names),
        help: variable.text(),
    }));
    texts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_option_and_each_variable_has_one_row() {
        let (mut options, mut variables) = (BTreeSet::new(), BTreeSet::new());
        for setting in settings().filter(|setting| !setting.is_shown_only()) {
            let option = setting.option();
            assert!(option.is_empty() || options.insert(option), "{option}");
            assert!(!option.is_empty() || !setting.variables.is_empty(), "{}", setting.help);
        }
        let ignored = IGNORED.iter().flat_map(|variable| variable.names);
        for name in settings().flat_map(|setting| setting.variables).chain(ignored) {
            assert!(variables.insert(*name), "{name}");
        }
        assert!(options.len() > 40 && variables.len() > 50);
    }

    #[test]
    fn options_are_found_by_their_names() {
        assert_eq!(of_letter(b's').map(FlowSetting::option), Some("-s"));
        assert!(of_letter(b's').is_some_and(FlowSetting::has_value));
        assert!(of_letter(b'A').is_some_and(|setting| !setting.has_value()));
        assert_eq!(of_option("--flows").map(FlowSetting::option), Some("--flows"));
        // The parser knows it, alone.
        assert!(of_letter(b'h').is_none());
        assert!(of_option("--flow").is_none() && of_letter(b'-').is_none());
    }

    #[test]
    fn variables_have_effects_that_variables_can_have() {
        for setting in settings().filter(|setting| !setting.variables.is_empty()) {
            let is_possible = !matches!(setting.effect, FlowSettingEffect::CommandLine(_));
            assert!(is_possible, "{:?}", setting.variables);
        }
    }

    #[test]
    fn the_help_text_fits_into_a_window() {
        let help = help();
        assert!(help.starts_with("Input:\n  -i NAME...  Audit these network interfaces, as one"));
        let entry = "\n  --endpoint  Audit this machine in at most 16 MiB, with no configuration: \
            all interfaces that are\n              up, 4096 flows; clients connect to \
            127.0.0.1:561 if there is no other output\n  -p          Leave interfaces out of \
            promiscuous mode\n";
        assert!(help.contains(entry), "{help}");
        assert!(!help.contains("Idle flows"), "no option is in this group: {help}");
        assert!(help.contains("\n  -h          Print this help\n\nSIGHUP, SIGINT"), "{help}");
        for line in help.lines() {
            assert!(line.len() <= HELP_COLUMNS && !line.ends_with(' '), "{line:?}");
        }
    }
}
