//! Values of records as the values of another schema.

use std::io::Write;

use panoptes_records::json::read::{EscapedString, JsonReader, Token};
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::ATTACK_VERSION;

/// How a value is written. It stays among the rest, too, where less than all of it is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::output::form) enum ValueForm {
    /// As it is.
    Same,
    /// A number, which some dialects write as a text.
    Number,
    /// A text, which the record may have as a number.
    Text,
    /// A text in small letters.
    Lower,
    /// A time as milliseconds since 1970.
    Milliseconds,
    /// The last name of a path.
    LastName,
    /// A path, if it is an absolute one.
    Path,
    /// A UUID, if it is one.
    Uuid,
    /// One of these words as a number; another one as the last number.
    Words(&'static [(&'static str, u32)], u32),
    /// A hash as an object of OCSF, by the number of its algorithm.
    Hash(u32),
    /// The commands of a list of them, a line each.
    Commands,
    /// Ids of records as objects of OCSF.
    RelatedEvents,
    /// Techniques of ATT&CK as objects of OCSF.
    Attacks,
    /// Techniques of ATT&CK without those below them.
    Techniques,
    /// Those below techniques.
    Subtechniques,
    /// This JSON text.
    Constant(&'static str),
}

impl ValueForm {
    /// Whether the value is written as a whole.
    pub(super) const fn is_whole(self) -> bool {
        matches!(
            self,
            Self::Same
                | Self::Number
                | Self::Text
                | Self::Lower
                | Self::Hash(_)
                | Self::RelatedEvents
        )
    }

    /// Writes a value, which is JSON, if it is of this form. If not, `out` may have a part of it.
    pub(super) fn write(self, json: &str, out: &mut Vec<u8>) -> bool {
        let text = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match self {
            Self::Same | Self::Constant(_) => raw(json, out),
            Self::Number => number(text.unwrap_or(json), out),
            Self::Text if text.is_some() => raw(json, out),
            Self::Text => is_number(json) && quoted(json, out),
            Self::Lower => text.is_some_and(|text| {
                let start = out.len();
                quoted(text, out);
                out[start..].make_ascii_lowercase();
                true
            }),
            Self::Milliseconds => text.is_some_and(|text| milliseconds(text, out)),
            Self::LastName => text.is_some_and(|text| {
                let last = text.rsplit('/').next().filter(|last| !last.is_empty());
                quoted(last.unwrap_or(text), out)
            }),
            Self::Path => text.is_some_and(|text| text.starts_with('/') && raw(json, out)),
            Self::Uuid => text.is_some_and(is_uuid) && raw(json, out),
            Self::Words(words, other) => {
                let known = words.iter().find(|(word, _)| text == Some(*word));
                let _ = write!(out, "{}", known.map_or(other, |(_, number)| *number));
                true
            }
            Self::Hash(algorithm) => {
                let _ = write!(out, "{{\"algorithm_id\":{algorithm},\"value\":{json}}}");
                true
            }
            Self::Commands => commands(json, out),
            Self::RelatedEvents => list(json, out, |id, out| {
                let _ = write!(out, "{{\"uid\":\"{id}\"}}");
            }),
            Self::Attacks => list(json, out, attack),
            Self::Techniques => list(json, out, |id, out| {
                let technique = id.split('.').next().unwrap_or(id);
                let _ = write!(out, "\"{technique}\"");
            }),
            Self::Subtechniques => list(json, out, |id, out| {
                if id.contains('.') {
                    quoted(id, out);
                }
            }),
        }
    }
}

fn raw(json: &str, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(json.as_bytes());
    true
}

/// The inside of a string, as one.
fn quoted(text: &str, out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
    true
}

/// Whether a text is a number that every reader of JSON takes.
fn is_number(text: &str) -> bool {
    text.parse::<i64>()
        .is_ok_and(|number| number >= 0 && (text == "0" || !text.starts_with(['0', '+', '-'])))
}

fn number(text: &str, out: &mut Vec<u8>) -> bool {
    is_number(text) && raw(text, out)
}

fn milliseconds(text: &str, out: &mut Vec<u8>) -> bool {
    let time = text.as_bytes().try_into().ok().and_then(Timestamp::parse);
    time.is_some_and(|time| {
        let (seconds, nanoseconds) = time.parts();
        let _ = write!(out, "{}", seconds * 1000 + i64::from(nanoseconds / 1_000_000));
        true
    })
}

fn is_uuid(text: &str) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let mut bytes = text.bytes().enumerate();
    text.len() == 36
        && bytes.all(
            |(index, byte)| {
                if DASHES.contains(&index) { byte == b'-' } else { byte.is_ascii_hexdigit() }
            },
        )
}

/// A list of texts as another one; false if nothing is in it.
fn list(json: &str, out: &mut Vec<u8>, write: impl Fn(&str, &mut Vec<u8>)) -> bool {
    let Ok(mut reader) = JsonReader::new(json.as_bytes()) else { return false };
    if reader.read() != Ok(Token::List) {
        return false;
    }
    out.push(b'[');
    let start = out.len();
    // The text before, if it is the same.
    let mut previous = start..start;
    while let Ok(Token::Text(text)) = reader.read() {
        let end = out.len();
        if end > start {
            out.push(b',');
        }
        let begin = out.len();
        write(text.as_written(), out);
        if out.len() == begin || out[begin..] == out[previous.clone()] {
            out.truncate(end);
        } else {
            previous = begin..out.len();
        }
    }
    let is_any = out.len() > start;
    out.push(b']');
    is_any
}

fn attack(id: &str, out: &mut Vec<u8>) {
    let technique = id.split('.').next().unwrap_or(id);
    let _ = write!(out, "{{\"technique\":{{\"uid\":\"{technique}\"}}");
    if technique != id {
        let _ = write!(out, ",\"sub_technique\":{{\"uid\":\"{id}\"}}");
    }
    let _ = write!(out, ",\"version\":\"{ATTACK_VERSION}\"}}");
}

fn commands(json: &str, out: &mut Vec<u8>) -> bool {
    let Ok(mut reader) = JsonReader::new(json.as_bytes()) else { return false };
    out.push(b'"');
    let start = out.len();
    while let Ok(token) = reader.read() {
        match token {
            Token::Key("command_line") => {
                if let Ok(Token::Text(text)) = reader.read() {
                    line(text, out.len() > start, out);
                }
            }
            Token::End => break,
            _ => {}
        }
    }
    let is_any = out.len() > start;
    out.push(b'"');
    is_any
}

fn line(text: EscapedString<'_>, is_next: bool, out: &mut Vec<u8>) {
    if is_next {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(text.as_written().as_bytes());
}
