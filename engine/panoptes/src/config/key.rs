//! The keys of a configuration: what each holds, where it was given, and what a change of it needs.

use std::collections::{HashMap, HashSet};

use super::problem::ConfigLocation;

/// A key of the configuration as the reader knows it, and its value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigKey {
    /// The key with its path: `service.log_level`.
    pub path: String,
    /// How much of the path names a system or an element of a list, such as `systems.web` or
    /// `exceptions[0]`; 0 if nothing does.
    pub(super) element: usize,
    /// What it can hold; `None` for a section.
    pub form: Option<String>,
    /// The value without the key, as a user would write it; empty for a section.
    pub default: String,
    /// The value, in the same form.
    pub value: String,
    /// Where the value was given; `None`: it is the default.
    pub place: Option<ConfigLocation>,
    /// The least and the greatest value, if the reader checks a range.
    pub range: Option<(String, String)>,
}

/// What SIGHUP does about a key that has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It applies at once.
    Now,
    /// It applies when the SBOMs have been read.
    Sboms,
    /// It applies after a restart.
    Restart,
}

/// The keys, or beginnings of keys, with an effect other than that of the beginning. Systems have
/// the same keys as `default`.
const EFFECTS: [(&str, Effect); 18] = [
    ("service", Effect::Restart),
    ("service.immediate_shutdown", Effect::Now),
    ("service.log_level", Effect::Now),
    ("service.scan_interval", Effect::Now),
    ("service.shortcuts", Effect::Now),
    ("service.early_scans", Effect::Now),
    ("service.guest_users", Effect::Now),
    ("auto_scan", Effect::Now),
    ("profile_generation", Effect::Now),
    ("built_in_profiles", Effect::Now),
    ("default", Effect::Now),
    ("default.sbom", Effect::Sboms),
    ("systems", Effect::Now),
    ("output", Effect::Now),
    ("output.stdout", Effect::Restart),
    ("output.user_data", Effect::Restart),
    ("exceptions", Effect::Now),
    ("flows", Effect::Now),
];

/// A key that two configurations have differently, or an element that only one of them has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChangedKey {
    pub path: String,
    pub effect: Effect,
}

impl ConfigKey {
    /// The system or element that it belongs to, if it belongs to one.
    pub fn element(&self) -> Option<&str> {
        (self.element > 0).then(|| &self.path[..self.element])
    }

    /// The key whose value a system has that leaves this one out.
    pub fn inherited(&self) -> Option<String> {
        let element = self.element().filter(|element| element.starts_with(SYSTEMS))?;
        Some(format!("default{}", &self.path[element.len()..]))
    }

    /// What SIGHUP does if it has changed.
    pub fn effect(&self) -> Effect {
        let is_of_default = |path: &String| effect_of(path).1 > "default".len();
        match self.inherited().filter(is_of_default) {
            Some(path) => effect_of(&path).0,
            None => effect_of(&self.path).0,
        }
    }
}

const SYSTEMS: &str = "systems.";

/// The form of a list whose elements have keys.
pub(super) const MAPPINGS: &str = "list of mappings";

/// The effect of a key, and the length of the beginning that has it.
fn effect_of(path: &str) -> (Effect, usize) {
    let begins = |beginning: &str| {
        let rest = path.strip_prefix(beginning);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let all = EFFECTS.iter().filter(|(beginning, _)| begins(beginning));
    let longest = all.max_by_key(|(beginning, _)| beginning.len());
    longest.map_or((Effect::Restart, 0), |(beginning, effect)| (*effect, beginning.len()))
}

/// What two configurations have differently, in the order of reading. Their keys are those that are
/// given in systems, and all others.
pub fn changed_keys(old: &[ConfigKey], new: &[ConfigKey]) -> Vec<ChangedKey> {
    let (before, after) = (ConfigKeyIndex::of(old), ConfigKeyIndex::of(new));
    let mut changed: Vec<ChangedKey> = Vec::new();
    for key in new {
        changed.extend(before.difference(key));
    }
    // Keys that are left out now.
    for key in old.iter().filter(|key| !after.by_path.contains_key(key.path.as_str())) {
        changed.extend(after.difference(key));
    }
    let mut seen = HashSet::new();
    changed.retain(|key| seen.insert(key.path.clone()));
    changed
}

/// The keys that apply now, after `new` was read: those of `new`, but what `changed` has stays as
/// it was.
pub fn keys_with_old(
    old: &[ConfigKey],
    new: Vec<ConfigKey>,
    changed: &[&ChangedKey],
) -> Vec<ConfigKey> {
    let stays: HashSet<&str> = changed.iter().map(|key| key.path.as_str()).collect();
    let has_stayed = |key: &ConfigKey| stays.contains(key.path.as_str());
    let mut keys: Vec<ConfigKey> = new.into_iter().filter(|key| !has_stayed(key)).collect();
    keys.extend(old.iter().filter(|key| has_stayed(key)).cloned());
    keys
}

/// Keys to look up.
struct ConfigKeyIndex<'a> {
    by_path: HashMap<&'a str, &'a ConfigKey>,
    elements: HashSet<&'a str>,
}

impl<'a> ConfigKeyIndex<'a> {
    fn of(keys: &'a [ConfigKey]) -> Self {
        Self {
            by_path: keys.iter().map(|key| (key.path.as_str(), key)).collect(),
            elements: keys.iter().filter_map(ConfigKey::element).collect(),
        }
    }

    /// How a key of the other configuration differs from these.
    fn difference(&self, key: &ConfigKey) -> Option<ChangedKey> {
        // What has keys of its own has no other value.
        key.form.as_deref().filter(|form| *form != MAPPINGS)?;
        if let Some(element) = key.element().filter(|element| !self.elements.contains(element)) {
            let (effect, _) = effect_of(element);
            return Some(ChangedKey { path: element.to_owned(), effect });
        }
        let inherited = key.inherited();
        let same = self.by_path.get(key.path.as_str());
        let same = same.or_else(|| self.by_path.get(inherited.as_deref()?));
        let is_equal = same.is_some_and(|other| other.value == key.value);
        (!is_equal).then(|| ChangedKey { path: key.path.clone(), effect: key.effect() })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::section::Context;
    use crate::config::{Mode, Overrides, keys, read_with_keys};

    fn of(text: &str) -> Vec<ConfigKey> {
        let context = Context::listing(Path::new("/etc"));
        let (_, problems, keys) = read_with_keys(context, text, Mode::Run, &Overrides::default());
        assert!(problems.is_empty(), "{problems:?} of {text}");
        keys
    }

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let changed = changed_keys(&of(old), &of(new));
        let paths: Vec<&str> = changed.iter().map(|key| key.path.as_str()).collect();
        assert_eq!(paths, expected, "{old} -> {new}");
    }

    #[test]
    fn what_two_configurations_have_differently_is_named_by_its_keys() {
        check("", "# a comment\nservice: {scan_interval: 10ms}", &[]);
        check(
            "",
            "service: {scan_interval: 5ms, cores: '1'}",
            &["service.scan_interval", "service.cores"],
        );
        check("default: {sbom: [/a]}", "default: {sbom: [a]}", &["default.sbom"]);
        check(
            "default: {events: {process_created: false}}",
            "",
            &["default.events.process_created.enabled"],
        );
        // The short form is the same as the long one.
        let short = "default: {events: {process_created: false}}";
        check(short, "default: {events: {process_created: {enabled: false}}}", &[]);
        let severities = "default: {events: {file_descriptor_file_content_change: \
                          {severity: {'/etc/*': HIGH}}}}";
        check("", severities, &["default.events.file_descriptor_file_content_change.severity"]);
        check(
            "default: {containers: {images: {a: b}}}",
            "default: {containers: {images: {a: c}}}",
            &["default.containers.images"],
        );
    }

    #[test]
    fn a_system_has_changed_where_it_has_a_key_of_its_own() {
        let with = |keys: &str| format!("systems: {{web: {{system: /a{keys}}}}}");
        let plain = with("");
        check(&plain, &with(", limits: {processes: 5}"), &["systems.web.limits.processes"]);
        check(&with(", limits: {processes: 5}"), &plain, &["systems.web.limits.processes"]);
        // It says only what it had from `default`.
        check(&plain, &with(", limits: {processes: 4096}"), &[]);
        let of_all = "default: {limits: {processes: 5}}\n";
        check(&plain, &format!("{of_all}{plain}"), &["default.limits.processes"]);
    }

    #[test]
    fn systems_and_elements_of_lists_that_come_or_go_have_one_key() {
        check("", "systems: {web: {system: /a, sbom: [/b]}}", &["systems.web"]);
        check(
            "systems: {web: {system: /a}}",
            "systems: {db: {system: /a}}",
            &["systems.db", "systems.web"],
        );
        let one = "{activity: process_hidden, user_id: 5, reason: known}";
        let other = "{activity: process_hidden, user_id: 6, reason: known}";
        check("", &format!("exceptions: [{one}]"), &["exceptions[0]"]);
        check(
            &format!("exceptions: [{one}]"),
            &format!("exceptions: [{other}]"),
            &["exceptions[0].user_id"],
        );
        let two = format!("exceptions: [{one}, {other}]");
        check(&format!("exceptions: [{one}]"), &two, &["exceptions[1]"]);
    }

    #[test]
    fn what_does_not_apply_stays_until_it_does() {
        let old = of("systems: {web: {system: /a}}");
        let text = "service: {cores: '1', scan_interval: 5ms}\n\
                    systems: {db: {system: /b, sbom: [/c]}}";
        let new = of(text);
        let changed = changed_keys(&old, &new);
        let stays: Vec<&ChangedKey> =
            changed.iter().filter(|key| key.effect == Effect::Restart).collect();
        let now = keys_with_old(&old, new.clone(), &stays);
        let left = changed_keys(&now, &new);
        let paths: Vec<&str> = left.iter().map(|key| key.path.as_str()).collect();
        assert_eq!(paths, ["service.cores"]);
        assert_eq!(changed_keys(&now, &old)[0].path, "service.scan_interval");
    }

    #[test]
    fn every_key_has_an_effect_of_its_own_or_of_its_section() {
        for key in keys() {
            let (_, length) = effect_of(&key.path);
            assert!(length > 0, "{}", key.path);
        }
        for (beginning, _) in EFFECTS {
            let is_key = |key: &ConfigKey| key.path == beginning;
            assert!(keys().iter().any(is_key), "{beginning}");
        }
        let of_system = of("systems: {web: {system: /a, sbom: [/b], os_symbol_path: /c}}");
        let effects: Vec<_> = of_system
            .iter()
            .filter(|key| key.element().is_some())
            .map(|key| (key.path.as_str(), key.effect()))
            .collect();
        assert_eq!(
            effects,
            [
                ("systems.web.system", Effect::Now),
                ("systems.web.os_symbol_path", Effect::Now),
                ("systems.web.sbom", Effect::Sboms),
            ]
        );
    }
}
