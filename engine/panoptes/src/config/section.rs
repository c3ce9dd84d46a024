//! Reads one mapping of a configuration, key by key, into values that already have the defaults.
//!
//! Each key is named once, where it is read. Keys that remain at the end are unknown and refused
//! with the nearest known key. Reading continues after a mistake. What is read can be listed, with
//! its values and places ([`ConfigKey`]).
//!
//! Not for: the meaning of any key (the files beside this one).

use std::cell::RefCell;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;

use super::key::{ConfigKey, MAPPINGS};
use super::problem::{ConfigLocation, Problem, printable};
use super::tree::{ConfigEntry, ConfigNode, ConfigValue};
use super::value::{ByteSize, Setting, listed};
use super::{argus_keys, examples};

/// The data that all sections of one configuration share.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The folder of the file, from which its relative paths start.
    pub(crate) folder: &'a Path,
    /// All mistakes found so far.
    pub(crate) problems: RefCell<Vec<Problem>>,
    /// The keys that were looked up, if they are to be listed.
    pub(crate) keys: Option<RefCell<Vec<ConfigKey>>>,
    /// Whether keys that a system leaves out are listed, too.
    lists_inherited: bool,
}

impl<'a> Context<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        let problems = RefCell::default();
        Self { folder, problems, keys: None, lists_inherited: false }
    }

    /// A context that lists the keys, and of systems only what is given.
    pub(crate) fn listing(folder: &'a Path) -> Self {
        Self { keys: Some(RefCell::default()), ..Self::new(folder) }
    }

    /// A context that lists all keys of all systems.
    pub(crate) fn listing_all(folder: &'a Path) -> Self {
        Self { lists_inherited: true, ..Self::listing(folder) }
    }

    pub(crate) fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Paths in the file are relative to its folder, those of the command line to the current one.
    fn base(&self, place: &ConfigLocation) -> &'a Path {
        match place {
            ConfigLocation::File { .. } => self.folder,
            ConfigLocation::Option(_) => Path::new(""),
        }
    }
}

/// One mapping, which may be absent.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    context: &'a Context<'a>,
    /// The key with dots, empty for the whole file.
    path: String,
    /// How much of the path names a system or an element of a list; 0 if nothing does.
    element: usize,
    place: Option<ConfigLocation>,
    entries: &'a [ConfigEntry],
    /// The key whose value stands for the whole section, with that value.
    short: Option<(&'static str, &'a ConfigNode)>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn root(context: &'a Context<'a>, node: &'a ConfigNode) -> Self {
        // A problem of the whole file has no place in it.
        Self { place: None, ..Self::of(context, String::new(), 0, node) }
    }

    fn of(context: &'a Context<'a>, path: String, element: usize, node: &'a ConfigNode) -> Self {
        let entries: &[ConfigEntry] = match &node.value {
            ConfigValue::Map(entries) => entries,
            ConfigValue::Null => &[],
            ConfigValue::Scalar(_) | ConfigValue::List(_) => {
                let name = if path.is_empty() {
                    "a configuration".to_owned()
                } else {
                    format!("`{path}`")
                };
                let (kind, fix) = (node.kind(), examples::of_mapping(&path, node));
                let fix = fix.unwrap_or_default();
                let message =
                    format!("{name} must be a mapping of keys to values, not {kind}{fix}");
                context.push(Problem::error(Some(node.place.clone()), message));
                &[]
            }
        };
        let place = Some(node.place.clone());
        Self { place, entries, ..Self::absent(context, path, element) }
    }

    fn absent(context: &'a Context<'a>, path: String, element: usize) -> Self {
        Self { context, path, element, place: None, entries: &[], short: None, known: Vec::new() }
    }

    /// Refuses every key that was not looked up.
    pub(crate) fn finish(self) {
        for entry in self.entries {
            if !self.known.contains(&entry.key.as_str()) {
                let path = if self.path.is_empty() {
                    String::new()
                } else {
                    format!(" in `{}`", self.path)
                };
                let key = printable(&entry.key);
                let message = match argus_keys::advice(&entry.key) {
                    Some(advice) => format!("`{key}`{path} is a key of DOCA Argus; {advice}"),
                    None => {
                        format!("unknown key `{key}`{path}; {}", advice(&entry.key, &self.known))
                    }
                };
                self.context.push(Problem::error(Some(entry.place.clone()), message));
                argus_keys::refuse_within(entry, &|problem| self.context.push(problem));
            }
        }
    }

    pub(crate) fn place(&self) -> Option<ConfigLocation> {
        self.place.clone()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether it has no keys, known or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.short.is_none()
    }

    /// Whether the value of `key` has any content; empty lists and mappings have none.
    pub(crate) fn has_content(&self, key: &str) -> bool {
        self.find(key).is_some_and(|node| !has_no_content(node))
    }

    /// A single value as it is written.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        match &self.find(key)?.value {
            ConfigValue::Scalar(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn place_of(&self, key: &str) -> Option<ConfigLocation> {
        self.find(key).map(|node| node.place.clone())
    }

    /// Reports a mistake about `key` at its place, or at the section's place if it is absent.
    pub(crate) fn refuse(&self, key: &str, message: impl Into<String>) {
        let place = self.place_of(key).or_else(|| self.place());
        self.context.push(Problem::error(place, message));
    }

    /// The same for a key that is not known here, so that it is refused only once.
    pub(crate) fn refuse_known(&mut self, key: &'static str, message: impl Into<String>) {
        self.refuse(key, message);
        self.known.push(key);
    }

    /// Reports a mistake at a given place.
    pub(crate) fn refuse_at(&self, place: &ConfigLocation, message: impl Into<String>) {
        self.context.push(Problem::error(Some(place.clone()), message));
    }

    pub(crate) fn warn(&self, key: &str, message: impl Into<String>) {
        let place = self.place_of(key).or_else(|| self.place());
        self.context.push(Problem::warning(place, message));
    }

    /// Reads a single value. If the key is absent, `into` is unchanged.
    pub(crate) fn value<T: Setting>(&mut self, key: &'static str, into: &mut T) {
        self.know(key, |known| (known.form, known.default) = (Some(T::form()), into.show()));
        if let Some(value) = self.read(key) {
            *into = value;
        }
        self.note(key, || into.show());
    }

    /// Reads a single value that must be in a range.
    pub(crate) fn value_in<T: Setting + PartialOrd>(
        &mut self,
        key: &'static str,
        into: &mut T,
        range: RangeInclusive<T>,
    ) {
        self.know(key, |known| {
            (known.form, known.default) = (Some(T::form()), into.show());
            known.range = Some((range.start().show(), range.end().show()));
        });
        match self.read::<T>(key) {
            Some(value) if range.contains(&value) => *into = value,
            Some(value) => {
                let (least, greatest) = (range.start().show(), range.end().show());
                let bounds = if greatest == ByteSize::UNBOUNDED.show() {
                    format!("at least {least}")
                } else {
                    format!("from {least} to {greatest}")
                };
                let (key_path, value) = (self.full(key), value.show());
                self.refuse(key, format!("`{key_path}` is {value}; it must be {bounds}"));
            }
            None => {}
        }
        self.note(key, || into.show());
    }

    /// Reads a list of single values, which replaces the previous list.
    pub(crate) fn values<T: Setting>(&mut self, key: &'static str, into: &mut Vec<T>) {
        self.checked_values(key, into, |_| Ok(()));
    }

    /// The same, where a value can be wrong beside other keys. The error of `check` completes
    /// "`value` …".
    pub(crate) fn checked_values<T: Setting>(
        &mut self,
        key: &'static str,
        into: &mut Vec<T>,
        check: impl Fn(&T) -> Result<(), String>,
    ) {
        self.know(key, |known| {
            known.form = Some(format!("list: {}", T::form()));
            known.default = show_list(into);
        });
        if let Some(nodes) = self.list(key) {
            let path = self.full(key);
            *into = nodes.iter().filter_map(|node| self.checked(&path, node, &check)).collect();
        }
        self.note(key, || show_list(into));
    }

    /// Reads a mapping under `key`.
    pub(crate) fn section(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>)) {
        self.know(key, |_| {});
        let path = self.full(key);
        let mut section = match self.find(key) {
            Some(node) => Section::of(self.context, path, self.element, node),
            None => Section::absent(self.context, path, self.element),
        };
        read(&mut section);
        section.finish();
    }

    /// The entries of a list of mappings under `key`.
    fn mappings(&mut self, key: &'static str) -> &'a [ConfigNode] {
        self.know(key, |known| {
            (known.form, known.default) = (Some(MAPPINGS.to_owned()), "[]".to_owned());
        });
        let nodes = self.list(key).unwrap_or_default();
        let shown = if nodes.is_empty() { "[]" } else { "[…]" };
        self.note(key, || shown.to_owned());
        nodes
    }

    /// Reads a list of mappings under `key`.
    pub(crate) fn sections(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'a>)) {
        for (index, node) in self.mappings(key).iter().enumerate() {
            let path = format!("{}[{index}]", self.full(key));
            let element = path.len();
            let mut section = Section::of(self.context, path, element, node);
            // Other values than mappings have been refused.
            if matches!(node.value, ConfigValue::Map(_) | ConfigValue::Null) {
                read(&mut section);
                section.finish();
            }
        }
    }

    /// Reads a list of mappings under `key`. A single value in it is short for a mapping that has
    /// only `short`.
    pub(crate) fn sections_or_values(
        &mut self,
        key: &'static str,
        short: &'static str,
        mut read: impl FnMut(&mut Section<'a>),
    ) {
        for (index, node) in self.mappings(key).iter().enumerate() {
            let path = format!("{}[{index}]", self.full(key));
            let element = path.len();
            let mut section = if matches!(node.value, ConfigValue::Scalar(_)) {
                let place = Some(node.place.clone());
                let short = Some((short, node));
                Section { place, short, ..Section::absent(self.context, path, element) }
            } else {
                Section::of(self.context, path, element, node)
            };
            read(&mut section);
            section.finish();
        }
    }

    /// Reads `key` either as one value or as a mapping, which leaves that value as it is. `form`
    /// names both.
    pub(crate) fn value_or_section<T: Setting>(
        &mut self,
        key: &'static str,
        into: &mut T,
        form: &str,
        read: impl FnOnce(&mut Section<'a>),
    ) {
        let path = self.full(key);
        self.know(key, |known| {
            (known.form, known.default) = (Some(form.to_owned()), into.show());
        });
        let map = self.find(key).filter(|node| matches!(node.value, ConfigValue::Map(_)));
        let mut section = match map {
            Some(node) => Section::of(self.context, path, self.element, node),
            None => Section::absent(self.context, path, self.element),
        };
        if map.is_some() {
            self.note(key, || into.show());
        } else {
            self.value(key, into);
        }
        read(&mut section);
        section.finish();
    }

    /// Reads a section whose keys are names that the user chose.
    pub(crate) fn named(
        &mut self,
        mut read: impl FnMut(&'a str, &ConfigLocation, &mut Section<'a>),
    ) {
        for entry in self.entries {
            let path = format!("{}.{}", self.path, printable(&entry.key));
            let element = path.len();
            if matches!(entry.value.value, ConfigValue::Scalar(_) | ConfigValue::List(_)) {
                self.refuse_element(&path, entry);
                continue;
            }
            let mut section = Section::of(self.context, path, element, &entry.value);
            let first = self.context.keys.as_ref().map_or(0, |keys| keys.borrow().len());
            read(&entry.key, &entry.place, &mut section);
            section.finish();
            if let Some(keys) = self.context.keys.as_ref().filter(|_| !self.context.lists_inherited)
            {
                let mut keys = keys.borrow_mut();
                let own = keys.split_off(first).into_iter().filter(|key| key.place.is_some());
                keys.extend(own);
            }
        }
        // All names are allowed, so nothing is left for `finish` to refuse.
        self.entries = &[];
    }

    /// Refuses a system that is no mapping; a single value is probably where its memory is.
    fn refuse_element(&self, path: &str, entry: &ConfigEntry) {
        let kind = entry.value.kind();
        let mut message = format!("`{path}` must be a mapping of keys to values, not {kind}");
        if let ConfigValue::Scalar(text) = &entry.value.value {
            let (name, text) = (printable(&entry.key), examples::of_system(text));
            let _ = write!(message, "; write `{name}: {{system: {text}}}`");
        }
        self.context.push(Problem::error(Some(entry.value.place.clone()), message));
    }

    /// Reads a mapping of the user's patterns or names to single values, which replaces the
    /// previous mapping. `form` says what they are.
    pub(crate) fn texts<K: Setting, T: Setting>(
        &mut self,
        key: &'static str,
        form: &str,
        into: &mut Vec<(K, T)>,
    ) {
        self.know(key, |known| {
            (known.form, known.default) = (Some(form.to_owned()), "{}".to_owned());
        });
        if let Some(node) = self.find(key) {
            *into = self.pairs(key, node);
        }
        self.note(key, || show_pairs(into));
    }

    /// Reads `key` either as one value or, if it is a mapping, as one value for each of the user's
    /// patterns, which replaces the previous mapping.
    pub(crate) fn value_or_patterns<K: Setting, T: Setting>(
        &mut self,
        key: &'static str,
        into: &mut T,
        patterns: &mut Vec<(K, T)>,
    ) {
        match self.find(key).filter(|node| matches!(node.value, ConfigValue::Map(_))) {
            Some(node) => {
                self.know(key, |known| {
                    (known.form, known.default) = (Some(T::form()), into.show());
                });
                *patterns = self.pairs(key, node);
            }
            None => self.value(key, into),
        }
        self.note(key, || match patterns.as_slice() {
            [] => into.show(),
            _ => format!("{} for others than {}", into.show(), show_pairs(patterns)),
        });
    }

    /// The entries of a mapping whose keys the user chose.
    fn pairs<K: Setting, T: Setting>(&self, key: &str, node: &'a ConfigNode) -> Vec<(K, T)> {
        let path = self.full(key);
        let section = Section::of(self.context, path.clone(), self.element, node);
        let mut pairs = Vec::new();
        for entry in section.entries {
            let own = format!("{path}.{}", printable(&entry.key));
            let value = self.scalar::<T>(&own, &entry.value);
            match K::read(&entry.key, Path::new("")) {
                Ok(key) => pairs.extend(value.map(|value| (key, value))),
                Err(why) => {
                    let message = format!("the key `{}` of `{path}` {why}", printable(&entry.key));
                    self.refuse_at(&entry.place, message);
                }
            }
        }
        pairs
    }

    /// Reads `key` as a section. A single value is short for a section that has only `short`.
    pub(crate) fn section_or_value(
        &mut self,
        key: &'static str,
        short: &'static str,
        read: impl FnOnce(&mut Section<'a>),
    ) {
        let is_value = |node: &&ConfigNode| matches!(node.value, ConfigValue::Scalar(_));
        let Some(node) = self.find(key).filter(is_value) else { return self.section(key, read) };
        self.know(key, |_| {});
        let mut section = Section::absent(self.context, self.full(key), self.element);
        (section.place, section.short) = (Some(node.place.clone()), Some((short, node)));
        read(&mut section);
        section.finish();
    }

    fn read<T: Setting>(&self, key: &str) -> Option<T> {
        let node = self.find(key)?;
        self.scalar(&self.full(key), node)
    }

    fn scalar<T: Setting>(&self, path: &str, node: &ConfigNode) -> Option<T> {
        self.checked(path, node, |_| Ok(()))
    }

    fn checked<T: Setting>(
        &self,
        path: &str,
        node: &ConfigNode,
        check: impl Fn(&T) -> Result<(), String>,
    ) -> Option<T> {
        let read = |text| {
            let value = T::read(text, self.context.base(&node.place))?;
            check(&value).map(|()| value)
        };
        let problem = match &node.value {
            ConfigValue::Scalar(text) => match read(text) {
                Ok(value) => return Some(value),
                Err(why) => examples::of_value(path, node)
                    .unwrap_or_else(|| format!("`{path}`: `{}` {why}", printable(text))),
            },
            _ => examples::of_value(path, node)
                .unwrap_or_else(|| format!("`{path}` must be a single value, not {}", node.kind())),
        };
        self.context.push(Problem::error(Some(node.place.clone()), problem));
        None
    }

    fn list(&self, key: &str) -> Option<&'a [ConfigNode]> {
        let node = self.find(key)?;
        if let ConfigValue::List(nodes) = &node.value {
            return Some(nodes);
        }
        let fix = match &node.value {
            ConfigValue::Map(entries) => entries.first().map(|first| {
                let first = printable(&first.key);
                format!("; write a dash before the first key of each element: `- {first}: …`")
            }),
            ConfigValue::Scalar(text) => Some(examples::of_list(&self.full(key), text)),
            ConfigValue::List(_) | ConfigValue::Null => None,
        };
        let (fix, kind) = (fix.unwrap_or_default(), node.kind());
        self.refuse(key, format!("`{}` must be a list, not {kind}{fix}", self.full(key)));
        None
    }

    /// The node under `key`, unless it is null, which is the same as leaving it out.
    fn find(&self, key: &str) -> Option<&'a ConfigNode> {
        if let Some((_, node)) = self.short.filter(|(short, _)| *short == key) {
            return Some(node);
        }
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!matches!(entry.value.value, ConfigValue::Null)).then_some(&entry.value)
    }

    /// Makes `key` known. `describe` completes what is known of it, if the keys are to be listed.
    fn know(&mut self, key: &'static str, describe: impl FnOnce(&mut ConfigKey)) {
        if self.known.contains(&key) {
            return;
        }
        self.known.push(key);
        if let Some(keys) = &self.context.keys {
            let (path, element) = (self.joined(key), self.element);
            let mut known = ConfigKey { path, element, ..ConfigKey::default() };
            describe(&mut known);
            keys.borrow_mut().push(known);
        }
    }

    /// Lists the value that `key` has now, if the keys are to be listed.
    fn note(&self, key: &str, show: impl FnOnce() -> String) {
        self.note_at(key, show, self.place_of(key));
    }

    /// The same for a value that an option of the command line has set.
    pub(crate) fn note_option(&self, key: &str, value: String, option: String) {
        self.note_at(key, || value, Some(ConfigLocation::Option(option.into())));
    }

    fn note_at(&self, key: &str, show: impl FnOnce() -> String, place: Option<ConfigLocation>) {
        let Some(keys) = &self.context.keys else { return };
        let path = self.joined(key);
        // It was listed a moment ago.
        let mut keys = keys.borrow_mut();
        if let Some(known) = keys.iter_mut().rev().find(|known| known.path == path) {
            (known.value, known.place) = (show(), place);
        }
    }

    /// The key with its path, as the user wrote it.
    pub(crate) fn full(&self, key: &str) -> String {
        match self.short {
            Some((short, _)) if short == key => self.path.clone(),
            _ => self.joined(key),
        }
    }

    fn joined(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

fn show_list<T: Setting>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(T::show).collect();
    format!("[{}]", values.join(", "))
}

fn show_pairs<K: Setting, T: Setting>(pairs: &[(K, T)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{}: {}", key.show(), value.show())).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// Whether a node has no content: null, or only empty lists and mappings.
fn has_no_content(node: &ConfigNode) -> bool {
    match &node.value {
        ConfigValue::Null => true,
        ConfigValue::List(nodes) => nodes.is_empty(),
        ConfigValue::Map(entries) => entries.iter().all(|entry| has_no_content(&entry.value)),
        ConfigValue::Scalar(_) => false,
    }
}

/// "did you mean …?", or the list of known keys.
pub(crate) fn advice(given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(key) => format!("did you mean `{key}`?"),
        None if known.is_empty() => "there are no keys here".to_owned(),
        None if known.len() > LISTED_MAX => "`panoptes schema` lists all names".to_owned(),
        None => {
            let mut known = known.to_vec();
            known.sort_unstable();
            format!("known here: {}", listed(known.into_iter()))
        }
    }
}

/// The known word that is most similar to the given one, if any is similar enough.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer than any key: no typing mistake. The cost of comparing is the product of the lengths.
    if given.len() > 128 {
        return None;
    }
    let given = given.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|word| (strsim::jaro_winkler(&given, &word.to_lowercase()), *word))
        .filter(|(likeness, _)| *likeness > KEY_LIKENESS_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, word)| word)
}

/// Accepts typing mistakes and other word orders (`max_file`, `logfolder`, `process_create`), but
/// not words that only share a prefix.
const KEY_LIKENESS_MIN: f64 = 0.85;

/// More keys than this are too many for one line; only the activities are more.
const LISTED_MAX: usize = 16;
