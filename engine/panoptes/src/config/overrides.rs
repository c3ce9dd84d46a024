//! Options that override the configuration: `--set`, `--limits`, `--interval`, `--cores`.
//!
//! Each option is inserted into the tree of the file before the tree is read, so that it goes
//! through the same checks. Its place is the option itself, so that a mistake names the option. The
//! special options are applied after `--set`.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use panoptes_engine::limits::Limits;

use super::LimitsPreset;
use super::problem::{ConfigLocation, Problem, printable};
use super::section::nearest;
use super::tree::{ConfigEntry, ConfigNode, ConfigOrigin, ConfigValue, parse};
use super::value::Setting as _;

/// The options that override the configuration, as typed; of several `--set`, the last one wins.
#[derive(clap::Args, Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    /// Set one key of the configuration, such as service.scan_interval=5ms; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[arg(long, value_name = "PRESET|NAME=NUMBER,…", help = limits_help())]
    pub limits: Vec<String>,
    /// Time from the start of one scan to the start of the next, when watching: 10ms, 2s, 1m
    #[arg(long, value_name = "DURATION")]
    pub interval: Option<String>,
    /// Cores to scan on, with one pinned thread each: numbers and ranges such as 0-3,8
    #[arg(long, value_name = "CORES")]
    pub cores: Option<String>,
    /// Write the event log to this folder
    #[arg(long, value_name = "DIR")]
    pub log_folder: Option<PathBuf>,
}

fn limits_help() -> String {
    let names = Limits::SETTINGS.iter().map(|setting| setting.key.replace('_', "-"));
    let names: Vec<String> = names.collect();
    let presets = LimitsPreset::form();
    format!("Limits of what is tracked in every system: {}; or {presets}", names.join(", "))
}

impl Overrides {
    /// Inserts the options into `root`, except the folder, whose path may not be text.
    pub(crate) fn apply(&self, root: &mut ConfigNode, problems: &mut Vec<Problem>) {
        for text in &self.set {
            let place = ConfigLocation::Option(format!("--set {text}").into());
            note(set(root, text, problems), place, problems);
        }
        for limit in self.limits.iter().flat_map(|text| text.split(',')) {
            let place = ConfigLocation::Option(format!("--limits {limit}").into());
            note(set_limit(root, limit, &place), place, problems);
        }
        for (option, value, key) in
            [("--interval", &self.interval, "scan_interval"), ("--cores", &self.cores, "cores")]
        {
            let Some(value) = value else { continue };
            let place = ConfigLocation::Option(format!("{option} {value}").into());
            let path = ["service".to_owned(), key.to_owned()];
            note(insert(root, &path, scalar(value, &place)), place, problems);
        }
    }
}

fn note(result: Result<(), String>, place: ConfigLocation, problems: &mut Vec<Problem>) {
    if let Err(message) = result {
        problems.push(Problem::error(Some(place), message));
    }
}

fn scalar(text: &str, place: &ConfigLocation) -> ConfigNode {
    ConfigNode { place: place.clone(), value: ConfigValue::Scalar(text.trim().to_owned()) }
}

fn set_limit(root: &mut ConfigNode, limit: &str, place: &ConfigLocation) -> Result<(), String> {
    let path = |key: String| ["default".to_owned(), "limits".to_owned(), key];
    let Some((key, value)) = limit.split_once('=') else {
        if LimitsPreset::read(limit.trim(), Path::new("")).is_err() {
            return Err(no_preset(limit.trim()));
        }
        // It stands for all limits, wherever they are.
        forget_limits(root, |_| true);
        if let Some(default) = child(root, "default") {
            forget_in(default, |_| true);
        }
        return insert(root, &path("preset".to_owned()), scalar(limit, place));
    };
    let key = key.trim().replace('-', "_");
    forget_limits(root, |limit| limit == key);
    add_to_presets(root, &key, &scalar(value, place));
    if let Some(default) = child(root, "default") {
        name_preset(default);
    }
    insert(root, &path(key), scalar(value, place))
}

/// The mistake in a limit without `=` that is no preset.
fn no_preset(word: &str) -> String {
    let key = word.replace('-', "_");
    if Limits::SETTINGS.iter().any(|setting| setting.key == key) {
        return format!("has no number; write NAME=NUMBER, such as {word}=8192");
    }
    if let Some(near) = nearest(word, &LimitsPreset::words()) {
        return format!("is no preset; did you mean `{near}`?");
    }
    let presets = LimitsPreset::form();
    format!("is no preset; write {presets}, or NAME=NUMBER, such as processes=8192")
}

/// Adds a limit to those of single systems that have a preset, which stands for all limits.
fn add_to_presets(root: &mut ConfigNode, key: &str, value: &ConfigNode) {
    let Some(ConfigNode { value: ConfigValue::Map(systems), .. }) = child(root, "systems") else {
        return;
    };
    for system in systems {
        let Some(limits) = child(&mut system.value, "limits") else { continue };
        if child(limits, "preset").is_some() {
            // It is a mapping, so nothing stands in the way.
            let _ = insert(limits, &[key.to_owned()], value.clone());
        }
    }
}

fn set(root: &mut ConfigNode, text: &str, problems: &mut Vec<Problem>) -> Result<(), String> {
    let (path, value) = split_path(text)?;
    let option: Arc<str> = format!("--set {text}").into();
    let (node, mistakes) = parse(value, &ConfigOrigin::Option(option));
    let good = mistakes.is_empty();
    problems.extend(mistakes);
    if good { insert(root, &path, node) } else { Ok(()) }
}

/// Splits `systems."web.example.com".limits.processes=5` into its keys and the text after `=`.
fn split_path(text: &str) -> Result<(Vec<String>, &str), String> {
    let mut path = vec![String::new()];
    let mut quoted = false;
    for (index, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '=' if !quoted => {
                if path.iter().any(String::is_empty) {
                    return Err("has an empty key; write KEY=VALUE with a dotted key, such as \
                                service.scan_interval=5ms"
                        .to_owned());
                }
                return Ok((path, &text[index + 1..]));
            }
            '.' if !quoted => {
                if path.len() == PATH_LENGTH_MAX {
                    return Err(format!("has more than {PATH_LENGTH_MAX} keys"));
                }
                path.push(String::new());
            }
            _ => path.last_mut().expect("it starts with one key").push(character),
        }
    }
    Err("write KEY=VALUE, such as service.scan_interval=5ms".to_owned())
}

/// Inserts `value` at `path` and creates missing mappings on the path.
fn insert(node: &mut ConfigNode, path: &[String], value: ConfigNode) -> Result<(), String> {
    let Some((key, rest)) = path.split_first() else {
        *node = value;
        return Ok(());
    };
    if matches!(node.value, ConfigValue::Null) {
        node.value = ConfigValue::Map(Vec::new());
    }
    let kind = node.kind();
    let ConfigValue::Map(entries) = &mut node.value else {
        return Err(format!(
            "`{}` can't be set there: the file has {kind} in that place",
            printable(key)
        ));
    };
    let index = entries.iter().position(|entry| entry.key == *key).unwrap_or_else(|| {
        let place = value.place.clone();
        entries.push(ConfigEntry {
            key: key.clone(),
            place: place.clone(),
            value: ConfigNode::null(place),
        });
        entries.len() - 1
    });
    insert(&mut entries[index].value, rest, value)
}

/// Removes limits of single systems, so that those of the command line apply to all.
fn forget_limits(root: &mut ConfigNode, is_given: impl Fn(&str) -> bool) {
    let Some(systems) = child(root, "systems") else { return };
    let ConfigValue::Map(systems) = &mut systems.value else { return };
    for system in systems {
        forget_in(&mut system.value, &is_given);
    }
}

/// Removes limits of `default`, or of a system.
fn forget_in(settings: &mut ConfigNode, is_given: impl Fn(&str) -> bool) {
    name_preset(settings);
    if let Some(ConfigNode { value: ConfigValue::Map(limits), .. }) = child(settings, "limits") {
        limits.retain(|entry| !is_given(&entry.key));
    }
}

/// Writes `limits: small` as `limits: {preset: small}`.
fn name_preset(settings: &mut ConfigNode) {
    let Some(limits) = child(settings, "limits") else { return };
    if let ConfigValue::Scalar(_) = limits.value {
        let (place, key) = (limits.place.clone(), "preset".to_owned());
        let value = mem::replace(limits, ConfigNode::null(place.clone()));
        limits.value = ConfigValue::Map(vec![ConfigEntry { key, place, value }]);
    }
}

fn child<'a>(node: &'a mut ConfigNode, key: &str) -> Option<&'a mut ConfigNode> {
    let ConfigValue::Map(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.value)
}

/// The longest path of the configuration has five keys.
const PATH_LENGTH_MAX: usize = 16;
