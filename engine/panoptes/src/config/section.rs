//! Reads one mapping of a configuration, key by key, into values that already have the defaults.
//!
//! Each key is named once, where it is read. Keys that remain at the end are unknown and refused
//! with the nearest known key. Reading continues after a mistake.
//!
//! Not for: the meaning of any key (the files beside this one).

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::Path;

use super::problem::{Place, Problem, printable};
use super::tree::{Entry, Node, Value};
use super::value::{Setting, listed};

/// The data that all sections of one configuration share.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The folder of the file, from which its relative paths start.
    pub(crate) folder: &'a Path,
    /// All mistakes found so far.
    pub(crate) problems: RefCell<Vec<Problem>>,
    /// Every key that was looked up, if they are to be listed.
    pub(crate) keys: Option<RefCell<Vec<Key>>>,
}

/// A key of the configuration as the reader knows it, for the documentation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Key {
    /// The key with its path: `service.log_level`.
    pub path: String,
    /// What it can hold; `None` for a section.
    pub form: Option<String>,
    /// The value without the key, as a user would write it; empty for a section.
    pub default: String,
    /// The least and the greatest value, if the reader checks a range.
    pub range: Option<(String, String)>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        Self { folder, problems: RefCell::default(), keys: None }
    }

    /// A context that lists the keys.
    pub(crate) fn listing(folder: &'a Path) -> Self {
        Self { keys: Some(RefCell::default()), ..Self::new(folder) }
    }

    pub(crate) fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Paths in the file are relative to its folder, those of the command line to the current one.
    fn base(&self, place: &Place) -> &'a Path {
        match place {
            Place::File { .. } => self.folder,
            Place::Option(_) => Path::new(""),
        }
    }
}

/// One mapping, which may be absent.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    context: &'a Context<'a>,
    /// The key with dots, empty for the whole file.
    path: String,
    place: Option<Place>,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn root(context: &'a Context<'a>, node: &'a Node) -> Self {
        // A problem of the whole file has no place in it.
        Self { place: None, ..Self::of(context, String::new(), node) }
    }

    fn of(context: &'a Context<'a>, path: String, node: &'a Node) -> Self {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Scalar(_) | Value::List(_) => {
                let name = if path.is_empty() {
                    "a configuration".to_owned()
                } else {
                    format!("`{path}`")
                };
                let message =
                    format!("{name} must be a mapping of keys to values, not {}", node.kind());
                context.push(Problem::error(Some(node.place.clone()), message));
                &[]
            }
        };
        Self { context, path, place: Some(node.place.clone()), entries, known: Vec::new() }
    }

    fn absent(context: &'a Context<'a>, path: String) -> Self {
        Self { context, path, place: None, entries: &[], known: Vec::new() }
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
                let message = format!(
                    "unknown key `{}`{path}; {}",
                    printable(&entry.key),
                    advice(&entry.key, &self.known)
                );
                self.context.push(Problem::error(Some(entry.place.clone()), message));
            }
        }
    }

    pub(crate) fn place(&self) -> Option<Place> {
        self.place.clone()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether the value of `key` has any content; empty lists and mappings have none.
    pub(crate) fn has_content(&self, key: &str) -> bool {
        self.find(key).is_some_and(|node| !has_no_content(node))
    }

    pub(crate) fn place_of(&self, key: &str) -> Option<Place> {
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
    pub(crate) fn refuse_at(&self, place: &Place, message: impl Into<String>) {
        self.context.push(Problem::error(Some(place.clone()), message));
    }

    pub(crate) fn warn(&self, key: &str, message: impl Into<String>) {
        let place = self.place_of(key).or_else(|| self.place());
        self.context.push(Problem::warning(place, message));
    }

    /// Refuses `key` if it has content, because this version does not have the feature. Mistakes in
    /// the content are reported, too.
    pub(crate) fn not_built(&self, key: &str) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        if let Some(entry) = entry.filter(|entry| !has_no_content(&entry.value)) {
            let message = format!("`{}` is not built yet; leave it out", self.full(key));
            self.refuse_at(&entry.place, message);
        }
    }

    /// Reads a single value. If the key is absent, `into` is unchanged.
    pub(crate) fn value<T: Setting>(&mut self, key: &'static str, into: &mut T) {
        self.know(key, |known| (known.form, known.default) = (Some(T::form()), into.show()));
        if let Some(value) = self.read(key) {
            *into = value;
        }
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
        let Some(value) = self.read::<T>(key) else { return };
        if range.contains(&value) {
            *into = value;
        } else {
            let message = format!(
                "`{}` is {}; it must be from {} to {}",
                self.full(key),
                value.show(),
                range.start().show(),
                range.end().show()
            );
            self.refuse(key, message);
        }
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
            let values: Vec<String> = into.iter().map(T::show).collect();
            known.form = Some(format!("list: {}", T::form()));
            known.default = format!("[{}]", values.join(", "));
        });
        if let Some(nodes) = self.list(key) {
            let path = self.full(key);
            *into = nodes.iter().filter_map(|node| self.checked(&path, node, &check)).collect();
        }
    }

    /// Reads a mapping under `key`.
    pub(crate) fn section(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'a>)) {
        self.know(key, |_| {});
        let path = self.full(key);
        let mut section = match self.find(key) {
            Some(node) => Section::of(self.context, path, node),
            None => Section::absent(self.context, path),
        };
        read(&mut section);
        section.finish();
    }

    /// Reads a list of mappings under `key`.
    pub(crate) fn sections(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'a>)) {
        self.know(key, |known| {
            (known.form, known.default) = (Some("list of mappings".to_owned()), "[]".to_owned());
        });
        for (index, node) in self.list(key).unwrap_or_default().iter().enumerate() {
            let path = format!("{}[{index}]", self.full(key));
            let mut section = Section::of(self.context, path, node);
            read(&mut section);
            section.finish();
        }
    }

    /// Reads a section whose keys are names that the user chose.
    pub(crate) fn named(&mut self, mut read: impl FnMut(&'a str, &Place, &mut Section<'a>)) {
        for entry in self.entries {
            let path = format!("{}.{}", self.path, printable(&entry.key));
            let mut section = Section::of(self.context, path, &entry.value);
            read(&entry.key, &entry.place, &mut section);
            section.finish();
        }
        // All names are allowed, so nothing is left for `finish` to refuse.
        self.entries = &[];
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
    }

    /// Reads `key` either as one value or, if it is a mapping, as one value for each of the user's
    /// patterns, which replaces the previous mapping.
    pub(crate) fn value_or_patterns<K: Setting, T: Setting>(
        &mut self,
        key: &'static str,
        into: &mut T,
        patterns: &mut Vec<(K, T)>,
    ) {
        match self.find(key).filter(|node| matches!(node.value, Value::Map(_))) {
            Some(node) => {
                self.know(key, |_| {});
                *patterns = self.pairs(key, node);
            }
            None => self.value(key, into),
        }
    }

    /// The entries of a mapping whose keys the user chose.
    fn pairs<K: Setting, T: Setting>(&self, key: &str, node: &'a Node) -> Vec<(K, T)> {
        let path = self.full(key);
        let section = Section::of(self.context, path.clone(), node);
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

    /// Reads `key` either as one value or, if it is a mapping, as a section.
    pub(crate) fn value_or_section<T: Setting>(
        &mut self,
        key: &'static str,
        into: &mut T,
        read: impl FnOnce(&mut T, &mut Section<'a>),
    ) {
        match self.find(key).map(|node| &node.value) {
            Some(Value::Scalar(_)) => self.value(key, into),
            _ => self.section(key, |section| read(into, section)),
        }
    }

    fn read<T: Setting>(&self, key: &str) -> Option<T> {
        let node = self.find(key)?;
        self.scalar(&self.full(key), node)
    }

    fn scalar<T: Setting>(&self, path: &str, node: &Node) -> Option<T> {
        self.checked(path, node, |_| Ok(()))
    }

    fn checked<T: Setting>(
        &self,
        path: &str,
        node: &Node,
        check: impl Fn(&T) -> Result<(), String>,
    ) -> Option<T> {
        let read = |text| {
            let value = T::read(text, self.context.base(&node.place))?;
            check(&value).map(|()| value)
        };
        let problem = match &node.value {
            Value::Scalar(text) => match read(text) {
                Ok(value) => return Some(value),
                Err(why) => format!("`{path}`: `{}` {why}", printable(text)),
            },
            _ => format!("`{path}` must be a single value, not {}", node.kind()),
        };
        self.context.push(Problem::error(Some(node.place.clone()), problem));
        None
    }

    fn list(&self, key: &str) -> Option<&'a [Node]> {
        let node = self.find(key)?;
        if let Value::List(nodes) = &node.value {
            return Some(nodes);
        }
        let message = format!("`{}` must be a list, not {}", self.full(key), node.kind());
        self.refuse(key, message);
        None
    }

    /// The node under `key`, unless it is null, which is the same as leaving it out.
    fn find(&self, key: &str) -> Option<&'a Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (!matches!(entry.value.value, Value::Null)).then_some(&entry.value)
    }

    /// Makes `key` known. `describe` completes what is known of it, if the keys are to be listed.
    fn know(&mut self, key: &'static str, describe: impl FnOnce(&mut Key)) {
        if self.known.contains(&key) {
            return;
        }
        self.known.push(key);
        if let Some(keys) = &self.context.keys {
            let mut known = Key { path: self.full(key), ..Key::default() };
            describe(&mut known);
            keys.borrow_mut().push(known);
        }
    }

    /// The key with its path.
    pub(crate) fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Whether a node has no content: null, or only empty lists and mappings.
fn has_no_content(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::List(nodes) => nodes.is_empty(),
        Value::Map(entries) => entries.iter().all(|entry| has_no_content(&entry.value)),
        Value::Scalar(_) => false,
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
        .filter(|(likeness, _)| *likeness > LIKENESS_MIN)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, word)| word)
}

/// Accepts typing mistakes and other word orders (`max_file`, `logfolder`, `process_create`), but
/// not words that only share a prefix.
const LIKENESS_MIN: f64 = 0.85;

/// More keys than this are too many for one line; only the activities are more.
const LISTED_MAX: usize = 16;
