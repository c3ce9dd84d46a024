//! Whether a peer found the facts that Panoptes found: lines compared attribute by attribute.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::{Map, Value};

/// The kinds of lines that are compared, and the attributes that tell two lines of a kind apart.
const KINDS: [(&str, &[&str]); 5] = [
    ("process", &["process_id"]),
    ("thread", &["process_id", "thread_id"]),
    ("file_descriptor", &["process_id", "file_descriptor_index"]),
    ("memory", &["process_id", "virtual_memory_area_start_address"]),
    (
        "connection",
        &[
            "source_ip_address",
            "source_port",
            "destination_ip_address",
            "destination_port",
            "network_namespace",
        ],
    ),
];

/// Lines by kind and identity, as they were written.
type Lines = BTreeMap<&'static str, HashMap<String, String>>;

/// What a comparison of one kind found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Compared {
    pub(super) ours: usize,
    pub(super) theirs: usize,
    missing: usize,
    extra: usize,
    /// Number of compared attributes.
    values: usize,
    /// Differences of each attribute: how many values differ, and the first pair that does.
    different: BTreeMap<String, (usize, String)>,
}

impl Compared {
    pub(super) fn agrees(&self) -> bool {
        self.missing == 0 && self.extra == 0 && self.different.is_empty()
    }

    pub(super) fn line(&self, kind: &str) -> String {
        let Self { ours, theirs, missing, extra, values, .. } = self;
        let mut line = format!(
            "{kind}: {ours} by Panoptes, {theirs} by the peer; {missing} missing, {extra} extra; \
             {values} attributes compared"
        );
        for (name, (count, example)) in &self.different {
            let _ = write!(line, "\n    {name} differs {count} times, first: {example}");
        }
        line
    }
}

/// Reads the lines of `panoptes scan`.
pub(super) fn read(path: &Path) -> Result<Lines, String> {
    let mut lines = Lines::new();
    each(path, |text, line| {
        if let Some((kind, identity)) = identity(line) {
            lines.entry(kind).or_default().insert(identity, text.to_owned());
        }
    })?;
    Ok(lines)
}

/// Compares a peer's lines with ours. A peer's line may have fewer attributes.
pub(super) fn compare(
    ours: &Lines,
    theirs: &Path,
) -> Result<BTreeMap<&'static str, Compared>, String> {
    let mut all: BTreeMap<&'static str, Compared> = BTreeMap::new();
    for (kind, lines) in ours {
        all.insert(kind, Compared { ours: lines.len(), ..Compared::default() });
    }
    each(theirs, |_, line| {
        let Some((kind, identity)) = identity(line) else { return };
        let compared = all.entry(kind).or_default();
        compared.theirs += 1;
        match ours.get(kind).and_then(|lines| lines.get(&identity)) {
            None => compared.extra += 1,
            Some(text) => compare_line(compared, text, line),
        }
    })?;
    for compared in all.values_mut() {
        compared.missing = compared.ours.saturating_sub(compared.theirs - compared.extra);
    }
    Ok(all)
}

fn compare_line(compared: &mut Compared, ours: &str, theirs: &Map<String, Value>) {
    let ours: Value = serde_json::from_str(ours).unwrap_or_default();
    for (name, value) in theirs {
        compared.values += 1;
        if ours[name] != *value {
            let example = || format!("{} and {value}", ours[name]);
            let entry = compared.different.entry(name.clone()).or_insert_with(|| (0, example()));
            entry.0 += 1;
        }
    }
}

/// The kind of a line, and what tells it apart within its kind.
fn identity(line: &Map<String, Value>) -> Option<(&'static str, String)> {
    let kind = line.get("kind")?.as_str()?;
    let (kind, names) = KINDS.into_iter().find(|(name, _)| *name == kind)?;
    let values = names.iter().map(|name| line.get(*name).map(Value::to_string));
    Some((kind, values.collect::<Option<Vec<_>>>()?.join(" ")))
}

fn each(path: &Path, mut on_line: impl FnMut(&str, &Map<String, Value>)) -> Result<(), String> {
    let failed = |e| format!("cannot read {}: {e}", path.display());
    let file = File::open(path).map_err(failed)?;
    for text in BufReader::new(file).lines() {
        let text = text.map_err(failed)?;
        let line: Map<String, Value> =
            serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        on_line(&text, &line);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_by_attribute() {
        let folder = std::env::temp_dir().join(format!("panoptes-facts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("a file can be written");
            path
        };
        let ours = write(
            "ours",
            "{\"kind\":\"process\",\"process_id\":1,\"process_name\":\"init\",\"more\":1}\n\
             {\"kind\":\"process\",\"process_id\":2,\"process_name\":\"sh\"}\n\
             {\"kind\":\"interface\"}\n",
        );
        let theirs = write(
            "theirs",
            "{\"kind\":\"process\",\"process_id\":1,\"process_name\":\"init\"}\n\
             {\"kind\":\"process\",\"process_id\":3,\"process_name\":\"sh\"}\n",
        );
        let lines = read(&ours).expect("the lines can be read");
        let same = compare(&lines, &ours).expect("the files can be compared");
        assert!(same["process"].agrees());
        let found = &compare(&lines, &theirs).expect("the files can be compared")["process"];
        assert_eq!((found.missing, found.extra, found.values), (1, 1, 3));
        let other =
            write("other", "{\"kind\":\"process\",\"process_id\":2,\"process_name\":\"x\"}");
        let found = &compare(&lines, &other).expect("the files can be compared")["process"];
        assert_eq!(found.different["process_name"], (1, "\"sh\" and \"x\"".to_owned()));
        std::fs::remove_dir_all(&folder).expect("the folder can be removed");
    }
}
