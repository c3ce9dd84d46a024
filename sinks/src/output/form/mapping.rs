//! Records in the objects of a schema that others have published.
//!
//! A schema has a list of [`ObjectMapping`]s: which keys of an object of records go where. What no
//! pair takes goes under one key of its own, in the objects that it was in. Nothing is allocated,
//! and nothing is lost: a value leaves the rest only if it was written elsewhere as a whole.

use panoptes_records::json::read::{JsonReader, MalformedRecord, Token};

use value::ValueForm;

pub(super) mod value;

/// An object of records, and where its values go.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectMapping {
    /// The object's key; empty for the record itself.
    pub(super) object: &'static str,
    /// Where the paths of the pairs begin.
    pub(super) at: &'static str,
    /// Pairs for the same object follow each other.
    pub(super) pairs: &'static [Pair],
}

/// A value, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// The key in records; empty for a constant.
    pub(super) from: &'static str,
    /// Keys, joined by dots; a number stands for an element of a list.
    pub(super) to: &'static str,
    pub(super) form: ValueForm,
    pub(super) when: PairCondition,
}

/// When a pair is written, if it has a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PairCondition {
    Always,
    /// If its object has a value already: the outermost one in the pair's path, or that of the
    /// part.
    Beside,
    /// Skips the pair if the target object already has a value, or if the value is an object in the
    /// record.
    Otherwise,
}

/// Maximum number of pairs in a part, and of parts in a schema.
pub(super) const PAIRS_MAX: usize = 16;
pub(super) const PARTS_MAX: usize = 16;
/// Maximum number of keys in a path.
const PATH_MAX: usize = 8;

/// The objects of a record whose values are looked at, and whose rest stays together.
const OPENED: [(&str, &str); 4] = [
    ("", "workload_information"),
    ("workload_information", "container_context"),
    ("", ACTIVITY),
    ("", "detection"),
];
const ACTIVITY: &str = "activity_data";

impl Pair {
    pub(super) const fn new(from: &'static str, to: &'static str, form: ValueForm) -> Self {
        Self { from, to, form, when: PairCondition::Always }
    }

    /// A text that the event always has.
    pub(super) const fn constant(to: &'static str, json: &'static str) -> Self {
        Self::new("", to, ValueForm::Constant(json))
    }

    /// The text that is written for a value that the record lacks.
    const fn unknown(&self) -> Option<&'static str> {
        match self.form {
            ValueForm::Constant(json) => Some(json),
            // An existing object has a number for its kind.
            ValueForm::Words(..) if matches!(self.when, PairCondition::Beside) => {
                Some("\"UNKNOWN\"")
            }
            _ => None,
        }
    }

    pub(super) const fn beside(self) -> Self {
        Self { when: PairCondition::Beside, ..self }
    }

    pub(super) const fn otherwise(self) -> Self {
        Self { when: PairCondition::Otherwise, ..self }
    }
}

/// A value of the record.
#[derive(Clone, Copy, Debug, Default)]
struct MappedValue<'r> {
    /// As the record has it.
    json: Option<&'r str>,
    is_written_whole: bool,
}

/// The values of a record for each pair.
#[derive(Debug)]
pub(super) struct MappedValues<'r> {
    record: &'r [u8],
    parts: &'static [ObjectMapping],
    slots: [[MappedValue<'r>; PAIRS_MAX]; PARTS_MAX],
    /// Whether the record has the part's object.
    has_object: [bool; PARTS_MAX],
}

impl<'r> MappedValues<'r> {
    /// Reads a record.
    pub(super) fn read(
        record: &'r [u8],
        parts: &'static [ObjectMapping],
    ) -> Result<Self, MalformedRecord> {
        let slots = [[MappedValue::default(); PAIRS_MAX]; PARTS_MAX];
        let mut values = Self { record, parts, slots, has_object: [false; PARTS_MAX] };
        let mut reader = JsonReader::new(record)?;
        if reader.read()? != Token::Object {
            return Err(MalformedRecord);
        }
        values.read_object("", &mut reader)?;
        if reader.read()? != Token::End {
            return Err(MalformedRecord);
        }
        Ok(values)
    }

    /// Reads the rest of an object, in which values are looked at.
    fn read_object(
        &mut self,
        object: &str,
        reader: &mut JsonReader<'r>,
    ) -> Result<(), MalformedRecord> {
        let parts = self.parts;
        let mut takes = [false; PARTS_MAX];
        for (index, part) in parts.iter().enumerate() {
            takes[index] = part.object == object && !self.has_object[index];
            self.has_object[index] |= takes[index];
        }
        while let Token::Key(key) = reader.read()? {
            if let Some(inside) = opened(object, key, reader)? {
                *reader = inside;
                self.read_object(key, reader)?;
                continue;
            }
            let json = reader.value()?;
            for (index, part) in parts.iter().enumerate().filter(|(index, _)| takes[*index]) {
                for (slot, pair) in self.slots[index].iter_mut().zip(part.pairs) {
                    if pair.from == key {
                        slot.json = Some(json);
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks for objects that the record does not have in its lists, too: the first of each.
    pub(super) fn read_lists(&mut self, object: &str) -> Result<(), MalformedRecord> {
        let mut reader = JsonReader::new(self.record)?;
        for wanted in [ACTIVITY, object] {
            if reader.read()? != Token::Object || !find(wanted, &mut reader)? {
                return Ok(());
            }
        }
        let mut depth = 0_u32;
        loop {
            match reader.read()? {
                Token::Object | Token::List => depth += 1,
                Token::ObjectEnd | Token::ListEnd => depth = depth.saturating_sub(1),
                Token::Key(key) if self.lacks(key) => {
                    // The objects in it are looked for behind its own values.
                    let mut inside = reader;
                    if inside.read()? == Token::Object {
                        self.read_object(key, &mut inside)?;
                    }
                }
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn lacks(&self, object: &str) -> bool {
        self.parts.iter().zip(&self.has_object).any(|(part, has)| part.object == object && !has)
    }

    /// Writes all pairs, and the rest under `key`. In `out`, which has the beginning of an event,
    /// this object may be open.
    pub(super) fn write(
        &mut self,
        open: Option<&'static str>,
        key: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), MalformedRecord> {
        let mut tree = OpenObjects::new(open);
        let parts = self.parts;
        let slots = self.slots.iter_mut().zip(&self.has_object);
        for (part, (slots, _)) in parts.iter().zip(slots).filter(|(_, (_, has))| **has) {
            for (pair, slot) in part.pairs.iter().zip(slots) {
                let json = slot.json.or_else(|| pair.unknown());
                let is_written = json.is_some_and(|json| tree.write(part.at, pair, json, out));
                slot.is_written_whole = is_written && pair.form.is_whole();
            }
        }
        tree.close(0, out);
        let start = out.len();
        name(key, out);
        out.push(b'{');
        let mut reader = JsonReader::new(self.record)?;
        reader.read()?;
        self.write_rest("", &mut reader, out)?;
        if out.ends_with(b"{") {
            out.truncate(start);
        } else {
            out.push(b'}');
        }
        Ok(())
    }

    /// Writes what is left of an object.
    fn write_rest(
        &self,
        object: &str,
        reader: &mut JsonReader<'r>,
        out: &mut Vec<u8>,
    ) -> Result<(), MalformedRecord> {
        while let Token::Key(key) = reader.read()? {
            let start = out.len();
            if let Some(inside) = opened(object, key, reader)? {
                *reader = inside;
                name(key, out);
                out.push(b'{');
                self.write_rest(key, reader, out)?;
                if out.ends_with(b"{") {
                    out.truncate(start);
                } else {
                    out.push(b'}');
                }
                continue;
            }
            let json = reader.value()?;
            if !self.is_written(object, key, json) {
                name(key, out);
                out.extend_from_slice(json.as_bytes());
            }
        }
        Ok(())
    }

    /// Whether this very value is written elsewhere as a whole.
    fn is_written(&self, object: &str, key: &str, json: &str) -> bool {
        let mut parts = self.parts.iter().zip(&self.slots);
        parts.any(|(part, slots)| {
            part.object == object
                && part.pairs.iter().zip(slots).any(|(pair, slot)| {
                    pair.from == key
                        && slot.is_written_whole
                        && slot.json.is_some_and(|written| std::ptr::eq(written, json))
                })
        })
    }
}

/// The position in the object that comes next, if its values are looked at.
fn opened<'r>(
    object: &str,
    key: &str,
    reader: &JsonReader<'r>,
) -> Result<Option<JsonReader<'r>>, MalformedRecord> {
    let is_details = object == ACTIVITY && key.ends_with("_details");
    if !is_details && !OPENED.contains(&(object, key)) {
        return Ok(None);
    }
    let mut inside = *reader;
    Ok((inside.read()? == Token::Object).then_some(inside))
}

/// The value of a key of a record, as the record has it.
pub(super) fn top_value<'r>(
    record: &'r [u8],
    key: &str,
) -> Result<Option<&'r str>, MalformedRecord> {
    let mut reader = JsonReader::new(record)?;
    if reader.read()? != Token::Object || !find(key, &mut reader)? {
        return Ok(None);
    }
    reader.value().map(Some)
}

/// Goes to the value of a key of the object that was just opened. Returns whether it is there.
fn find(wanted: &str, reader: &mut JsonReader<'_>) -> Result<bool, MalformedRecord> {
    while let Token::Key(key) = reader.read()? {
        if key == wanted {
            return Ok(true);
        }
        reader.value()?;
    }
    Ok(false)
}

/// Appends a comma, if there is a value before, and a key.
fn name(key: &str, out: &mut Vec<u8>) {
    comma(out);
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn comma(out: &mut Vec<u8>) {
    if !out.ends_with(b"{") && !out.ends_with(b"[") {
        out.push(b',');
    }
}

/// The objects and lists that are open.
#[derive(Clone, Copy, Debug)]
struct OpenObjects {
    open: [&'static str; PATH_MAX],
    are_lists: [bool; PATH_MAX],
    depth: usize,
}

impl OpenObjects {
    fn new(open: Option<&'static str>) -> Self {
        let mut tree = Self { open: [""; PATH_MAX], are_lists: [false; PATH_MAX], depth: 0 };
        if let Some(key) = open {
            (tree.open[0], tree.depth) = (key, 1);
        }
        tree
    }

    /// Writes the value of a pair at its place; returns whether it did.
    fn write(&mut self, at: &'static str, pair: &Pair, json: &str, out: &mut Vec<u8>) -> bool {
        let mut path = [""; PATH_MAX];
        let mut length = 0;
        for key in at.split('.').chain(pair.to.split('.')).filter(|key| !key.is_empty()) {
            path[length] = key;
            length += 1;
        }
        let objects = length - 1;
        let is_inside = pair.to.contains('.') || pair.when == PairCondition::Otherwise;
        let outer = at.split('.').filter(|key| !key.is_empty()).count() + usize::from(is_inside);
        let is_open = self.open[..self.depth].starts_with(&path[..outer]);
        match pair.when {
            PairCondition::Beside if !is_open => return false,
            PairCondition::Otherwise if is_open => return false,
            _ => {}
        }
        let before = *self;
        let start = out.len();
        let open = self.open[..self.depth].iter().zip(&path[..objects]);
        self.close(open.take_while(|(open, key)| open == key).count(), out);
        for index in self.depth..objects {
            key(path[index], out);
            let is_list = is_element(path[index + 1]);
            out.push(if is_list { b'[' } else { b'{' });
            (self.open[index], self.are_lists[index]) = (path[index], is_list);
        }
        self.depth = objects;
        key(path[objects], out);
        let is_written = pair.form.write(json, out);
        if !is_written {
            out.truncate(start);
            *self = before;
        }
        is_written
    }

    /// Closes all but the outermost ones.
    fn close(&mut self, depth: usize, out: &mut Vec<u8>) {
        while self.depth > depth {
            self.depth -= 1;
            out.push(if self.are_lists[self.depth] { b']' } else { b'}' });
        }
    }
}

/// Whether a key of a path is a number, that of a list's element.
fn is_element(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_digit())
}

/// Begins a value of an object or a list.
fn key(key: &str, out: &mut Vec<u8>) {
    if is_element(key) { comma(out) } else { name(key, out) }
}
