//! Text to a tree of values, each with its place.
//!
//! The events of a parser of YAML 1.2 (so of JSON too) become [`ConfigNode`]s, because a mistake
//! found later must still have its line and column. Features that a configuration does not need are
//! refused here: tags, keys that are not plain text, several documents, the same key twice. Scalars
//! stay text; `value` converts them.
//!
//! Not for: knowing any key (`section`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::problem::{ConfigLocation, Problem, printable};

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct ConfigNode {
    pub(crate) place: ConfigLocation,
    pub(crate) value: ConfigValue,
}

/// The value of a node.
#[derive(Clone, Debug)]
pub(crate) enum ConfigValue {
    /// Nothing, `~` or `null`: the same as a missing key.
    Null,
    /// Text, quoted or not.
    Scalar(String),
    List(Vec<ConfigNode>),
    /// Keys and values, in the order of the file.
    Map(Vec<ConfigEntry>),
}

/// One key with its value.
#[derive(Clone, Debug)]
pub(crate) struct ConfigEntry {
    pub(crate) key: String,
    pub(crate) place: ConfigLocation,
    pub(crate) value: ConfigNode,
}

/// The source of the text, from which places are made.
#[derive(Clone, Debug)]
pub(crate) enum ConfigOrigin {
    File,
    Option(Arc<str>),
}

impl ConfigOrigin {
    fn place(&self, marker: &Marker) -> ConfigLocation {
        match self {
            Self::File => ConfigLocation::File { line: marker.line(), column: marker.col() + 1 },
            Self::Option(option) => ConfigLocation::Option(Arc::clone(option)),
        }
    }

    fn start(&self) -> ConfigLocation {
        self.place(&Marker::new(0, 1, 0))
    }
}

impl ConfigNode {
    pub(crate) fn null(place: ConfigLocation) -> Self {
        Self { place, value: ConfigValue::Null }
    }

    /// The kind of the node, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            ConfigValue::Null => "empty",
            ConfigValue::Scalar(_) => "a single value",
            ConfigValue::List(_) => "a list",
            ConfigValue::Map(_) => "a mapping of keys to values",
        }
    }
}

/// Reads `text`. It always returns a tree. If the text is not YAML, or is too deep or too large,
/// the tree is empty and the problem has the place where reading stopped.
pub(crate) fn parse(text: &str, origin: &ConfigOrigin) -> (ConfigNode, Vec<Problem>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::new(origin);
    for event in Parser::new_from_str(text) {
        let taken = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => Err(not_yaml(&error, origin)),
        };
        if let Err(problem) = taken {
            builder.problems.push(problem);
            return (ConfigNode::null(origin.start()), builder.problems);
        }
    }
    let root = builder.root.take().unwrap_or_else(|| ConfigNode::null(origin.start()));
    (root, builder.problems)
}

fn not_yaml(error: &ScanError, origin: &ConfigOrigin) -> Problem {
    let message = format!("this is not valid YAML: {}", printable(error.info()));
    Problem::error(Some(origin.place(error.marker())), message)
}

/// A list or mapping that is not closed yet.
struct Frame {
    place: ConfigLocation,
    anchor: usize,
    content: YamlCollection,
}

enum YamlCollection {
    List(Vec<ConfigNode>),
    Map(YamlMapping),
}

#[derive(Default)]
struct YamlMapping {
    entries: Vec<ConfigEntry>,
    /// The key whose value is next.
    pending: Option<(String, ConfigLocation)>,
    /// The keys so far, to detect one that is given twice.
    seen: HashMap<String, ConfigLocation>,
}

struct Builder<'a> {
    origin: &'a ConfigOrigin,
    stack: Vec<Frame>,
    /// The nodes of anchors, each with its number of nodes.
    anchors: BTreeMap<usize, (ConfigNode, usize)>,
    /// Nodes made so far, including the copies that aliases make.
    node_count: usize,
    document_count: usize,
    root: Option<ConfigNode>,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn new(origin: &'a ConfigOrigin) -> Self {
        Self {
            origin,
            stack: Vec::new(),
            anchors: BTreeMap::new(),
            node_count: 0,
            document_count: 0,
            root: None,
            problems: Vec::new(),
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let place = self.origin.place(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.document_count += 1;
                if self.document_count > 1 {
                    let message = "a second document starts here; a configuration is one document";
                    return Err(Problem::error(Some(place), message));
                }
                Ok(())
            }
            Event::Alias(anchor) => {
                let Some((node, count)) = self.anchors.get(&anchor) else {
                    let message = "this alias is inside the value that it refers to";
                    return Err(Problem::error(Some(place), message));
                };
                let (mut node, count) = (node.clone(), *count);
                node.place = place;
                self.count(count, &node.place)?;
                self.complete(node, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.as_deref(), &place)?;
                self.count(1, &place)?;
                let null = style == ScalarStyle::Plain && tag.is_none() && is_null(&text);
                let value = if null && !self.expects_key() {
                    ConfigValue::Null
                } else {
                    ConfigValue::Scalar(text.into_owned())
                };
                self.complete(ConfigNode { place, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), &place)?;
                self.open(Frame { place, anchor, content: YamlCollection::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), &place)?;
                self.open(Frame {
                    place,
                    anchor,
                    content: YamlCollection::Map(YamlMapping::default()),
                })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let frame = self.stack.pop().expect("the parser closes only what it opened");
                let value = match frame.content {
                    YamlCollection::List(nodes) => ConfigValue::List(nodes),
                    YamlCollection::Map(map) => ConfigValue::Map(map.entries),
                };
                self.complete(ConfigNode { place: frame.place, value }, frame.anchor)
            }
        }
    }

    fn open(&mut self, frame: Frame) -> Result<(), Problem> {
        self.count(1, &frame.place)?;
        if self.expects_key() {
            return Err(Problem::error(Some(frame.place), KEY_IS_TEXT));
        }
        if self.stack.len() >= YAML_DEPTH_MAX {
            let message = format!("this is nested deeper than {YAML_DEPTH_MAX} levels");
            return Err(Problem::error(Some(frame.place), message));
        }
        self.stack.push(frame);
        Ok(())
    }

    /// Adds a finished node to its parent.
    fn complete(&mut self, node: ConfigNode, anchor: usize) -> Result<(), Problem> {
        if anchor != 0 {
            let count = count_nodes(&node);
            // The copy for aliases needs memory too.
            self.count(count, &node.place)?;
            self.anchors.insert(anchor, (node.clone(), count));
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.content {
            YamlCollection::List(nodes) => nodes.push(node),
            YamlCollection::Map(map) => match map.pending.take() {
                Some((key, place)) => {
                    if let Some(first) = map.seen.get(&key) {
                        let problem = given_twice(&key, place, first);
                        self.problems.push(problem);
                    } else {
                        map.seen.insert(key.clone(), place.clone());
                        map.entries.push(ConfigEntry { key, place, value: node });
                    }
                }
                None => match node.value {
                    ConfigValue::Scalar(key) => map.pending = Some((key, node.place)),
                    _ => return Err(Problem::error(Some(node.place), KEY_IS_TEXT)),
                },
            },
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        match self.stack.last() {
            Some(Frame { content: YamlCollection::Map(map), .. }) => map.pending.is_none(),
            _ => false,
        }
    }

    fn count(&mut self, more: usize, place: &ConfigLocation) -> Result<(), Problem> {
        self.node_count += more;
        if self.node_count > NODES_MAX {
            let message = format!("this has more than {NODES_MAX} values");
            return Err(Problem::error(Some(place.clone()), message));
        }
        Ok(())
    }
}

/// Refuses tags, except those of YAML's own types: they change nothing, since every key has one
/// type. Any other tag would be ignored without a message.
fn refuse_tag(tag: Option<&Tag>, place: &ConfigLocation) -> Result<(), Problem> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            let message = format!("the tag `{}` is not supported", printable(&tag.to_string()));
            Err(Problem::error(Some(place.clone()), message))
        }
        _ => Ok(()),
    }
}

fn given_twice(key: &str, place: ConfigLocation, first: &ConfigLocation) -> Problem {
    let first = match first {
        ConfigLocation::File { line, .. } => format!(" (first on line {line})"),
        ConfigLocation::Option(_) => String::new(),
    };
    let message = format!("`{}` is given twice{first}; keep one of them", printable(key));
    Problem::error(Some(place), message)
}

fn count_nodes(node: &ConfigNode) -> usize {
    match &node.value {
        ConfigValue::Null | ConfigValue::Scalar(_) => 1,
        ConfigValue::List(nodes) => 1 + nodes.iter().map(count_nodes).sum::<usize>(),
        ConfigValue::Map(entries) => {
            1 + entries.iter().map(|entry| count_nodes(&entry.value)).sum::<usize>()
        }
    }
}

/// Whether a plain scalar is null in YAML's core schema.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

const KEY_IS_TEXT: &str = "a key must be plain text; write `key: value`";

/// The deepest key of the configuration is five levels down.
const YAML_DEPTH_MAX: usize = 32;

/// Far more than a configuration of a thousand systems has; bounds the expansion of aliases.
const NODES_MAX: usize = 200_000;

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// The tree in one line, and the problems with their places.
    fn check(text: &str, tree: &str, problems: &[&str]) {
        let (root, found) = parse(text, &ConfigOrigin::File);
        let found: Vec<String> = found
            .into_iter()
            .map(|problem| match problem.place {
                Some(ConfigLocation::File { line, column }) => {
                    format!("{line}:{column}: {}", problem.message)
                }
                place => format!("{place:?}: {}", problem.message),
            })
            .collect();
        assert_eq!(
            (show(&root).as_str(), found),
            (tree, problems.iter().map(|p| (*p).to_owned()).collect())
        );
    }

    fn show(node: &ConfigNode) -> String {
        let at = match &node.place {
            ConfigLocation::File { line, column } => format!("{line}:{column}"),
            ConfigLocation::Option(option) => option.to_string(),
        };
        match &node.value {
            ConfigValue::Null => format!("null@{at}"),
            ConfigValue::Scalar(text) => format!("{text:?}@{at}"),
            ConfigValue::List(nodes) => {
                format!("[{}]", nodes.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            ConfigValue::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{}={}", entry.key, show(&entry.value)))
                    .collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    #[test]
    fn every_value_has_its_line_and_column() {
        check(
            "a: 1\nb:\n  - x\n  - 'y'\nc: {d: ~, e: \"~\"}\n",
            "{a=\"1\"@1:4 b=[\"x\"@3:5 \"y\"@4:5] c={d=null@5:8 e=\"~\"@5:14}}",
            &[],
        );
    }

    #[test]
    fn json_is_read_as_well() {
        check(
            "{\"a\": [1, true],\n\t\"b\": null}",
            "{a=[\"1\"@1:8 \"true\"@1:11] b=null@2:7}",
            &[],
        );
    }

    #[test]
    fn nothing_is_a_valid_file() {
        check("", "null@1:1", &[]);
        check("# only a comment\n", "null@1:1", &[]);
        check("\u{feff}a: 1", "{a=\"1\"@1:4}", &[]);
    }

    #[test]
    fn the_same_key_twice_is_refused_and_reading_goes_on() {
        check(
            "a: 1\nb: 2\na: 3\n",
            "{a=\"1\"@1:4 b=\"2\"@2:4}",
            &["3:1: `a` is given twice (first on line 1); keep one of them"],
        );
    }

    #[test]
    fn aliases_are_followed_and_bounded() {
        check("a: &x {b: 1}\nc: *x\n", "{a={b=\"1\"@1:11} c={b=\"1\"@1:11}}", &[]);
        let mut text = String::from("a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
        for level in 1..10 {
            let inner = format!("*a{},", level - 1).repeat(10);
            writeln!(text, "a{level}: &a{level} [{inner}]").unwrap();
        }
        let (_, problems) = parse(&text, &ConfigOrigin::File);
        assert!(problems[0].message.contains("more than 200000 values"), "{problems:?}");
        let (_, problems) = parse("a: &x [*x]", &ConfigOrigin::File);
        assert!(problems[0].message.contains("alias"), "{problems:?}");
    }

    #[test]
    fn features_that_a_configuration_does_not_need_are_refused() {
        check(
            "a: 1\n---\nb: 2\n",
            "null@1:1",
            &["2:1: a second document starts here; a configuration is one document"],
        );
        check("[a]: 1\n", "null@1:1", &["1:1: a key must be plain text; write `key: value`"]);
        check("a: !secret 1\n", "null@1:1", &["1:4: the tag `!secret` is not supported"]);
        check("a: !!int 1\n", "{a=\"1\"@1:4}", &[]);
        let nested = format!("{}{}", "[".repeat(50), "]".repeat(50));
        check(&nested, "null@1:1", &["1:33: this is nested deeper than 32 levels"]);
        let (_, problems) = parse(&"[".repeat(100_000), &ConfigOrigin::File);
        assert_eq!(problems.len(), 1);
        let (_, problems) = parse(&"- ".repeat(100_000), &ConfigOrigin::File);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn what_is_not_yaml_is_refused_with_its_place() {
        let (_, problems) = parse("a: 1\nb: [1\n", &ConfigOrigin::File);
        assert!(problems[0].message.starts_with("this is not valid YAML"), "{problems:?}");
        assert!(
            matches!(problems[0].place, Some(ConfigLocation::File { line: 2 | 3, .. })),
            "{problems:?}"
        );
    }

    #[test]
    fn an_option_is_its_own_place() {
        let origin = ConfigOrigin::Option("--set a=1".into());
        assert_eq!(show(&parse("1", &origin).0), "\"1\"@--set a=1");
    }
}
