//! The interfaces of `-i` and of `ARGUS_INTERFACE`.
//!
//! - `en0`, `en0/ID`: one interface, and the id of its records;
//! - `ind:en0/ID,en1/ID`: each has flows of its own; so do several `-i`;
//! - `dup:en0,en1/ID`: both directions of one link; `bond:en0,en1/ID`, `en0 en1`: parts of one
//!   link. Their packets are in the same flows;
//! - `xdp:en0` stands for a name in all of these: XDP takes the packets away from the kernel;
//! - `all`: all interfaces that are up, each with flows of its own; `any`: those of the kernel's
//!   pseudo-device.

use panoptes_sinks::flow::argus::SourceId;

use super::values::{mistake, source_id};
use crate::exit::Failure;

/// An interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Named {
    pub(super) name: String,
    /// Its packets are taken by XDP.
    pub(super) by_xdp: bool,
}

impl Named {
    /// An interface whose packets are copies of those that the kernel has.
    pub(super) fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), by_xdp: false }
    }
}

/// Interfaces whose packets are in the same flows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Stream {
    pub(super) interfaces: Vec<Named>,
    /// The id of its records, if it has one of its own.
    pub(super) source_id: Option<SourceId>,
}

/// All interfaces that are up.
pub(super) const ALL: &str = "all";
/// The kernel's pseudo-device.
const ANY: &str = "any";

/// Reads the words of one `-i`.
pub(super) fn parse(what: &str, text: &str) -> Result<Vec<Stream>, Failure> {
    let text = text.trim();
    let wrong = || mistake(format!("{what}: `{text}` is no interface; see -h"));
    let (kind, list) = match text.split_once(':') {
        Some((kind @ ("ind" | "dup" | "bond"), list)) => (kind, list),
        _ => ("", text),
    };
    let streams = match kind {
        "dup" | "bond" => vec![joined(what, list)?],
        "ind" => list.split(',').map(|word| joined(what, word)).collect::<Result<_, _>>()?,
        _ => {
            let words = text.split([' ', ',', '\t']).filter(|word| !word.is_empty());
            let streams: Vec<_> = words.map(|word| joined(what, word)).collect::<Result<_, _>>()?;
            let id = streams.iter().find_map(|stream| stream.source_id);
            let interfaces = streams.into_iter().flat_map(|stream| stream.interfaces);
            vec![Stream { interfaces: interfaces.collect(), source_id: id }]
        }
    };
    let is_wrong = |stream: &Stream| stream.interfaces.is_empty();
    if streams.is_empty() || streams.iter().any(is_wrong) { Err(wrong()) } else { Ok(streams) }
}

/// Interfaces of one stream: `NAME[,…][/ID]`; groups in brackets are parts of it.
fn joined(what: &str, text: &str) -> Result<Stream, Failure> {
    let (names, id) = match text.split_once('/') {
        Some((names, id)) => (names, Some(id.trim()).filter(|id| !id.is_empty())),
        None => (text, None),
    };
    let mut interfaces = Vec::new();
    for word in names.split(',') {
        let word = word.trim().trim_matches(['[', ']']);
        let name = word.strip_prefix("bond:").or_else(|| word.strip_prefix("dup:")).unwrap_or(word);
        let (name, by_xdp) = match name.strip_prefix("xdp:") {
            Some(name) => (name, true),
            None => (name, false),
        };
        if by_xdp && [ALL, ANY].contains(&name) {
            return Err(mistake(format!("{what}: xdp: needs the name of one interface")));
        }
        // The kernel's rule for names (`dev_valid_name`, net/core/dev.c), and a link type behind
        // one, which is not supported.
        let is_name = (1..16).contains(&name.len())
            && !name.contains(|letter: char| letter.is_whitespace() || "/:()[]\"".contains(letter));
        if !is_name {
            return Err(mistake(format!("{what}: `{word}` is no name of an interface")));
        }
        interfaces.push(Named { name: name.to_owned(), by_xdp });
    }
    let source_id = id.map(|id| source_id(what, id)).transpose()?;
    Ok(Stream { interfaces, source_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(Vec<Named>, Option<SourceId>)> {
        let streams = parse("-i", text).unwrap_or_else(|failure| panic!("{failure}"));
        streams.into_iter().map(|stream| (stream.interfaces, stream.source_id)).collect()
    }

    fn names(all: &[&str]) -> Vec<Named> {
        all.iter().map(|name| Named::plain(name)).collect()
    }

    #[test]
    fn the_forms_of_the_manual_are_understood() {
        let number = |id| Some(SourceId::Number(id));
        assert_eq!(parsed("en0"), [(names(&["en0"]), None)]);
        assert_eq!(parsed("en0/7"), [(names(&["en0"]), number(7))]);
        assert_eq!(parsed("all/3"), [(names(&["all"]), number(3))]);
        let text = Some(SourceId::Text(*b"ap01"));
        assert_eq!(parsed("dup:en0,en1/\"ap01\""), [(names(&["en0", "en1"]), text)]);
        assert_eq!(parsed("bond:en0,en1/"), [(names(&["en0", "en1"]), None)]);
        assert_eq!(parsed("en0 en1"), [(names(&["en0", "en1"]), None)]);
        let three = names(&["en0", "en1", "en2"]);
        assert_eq!(parsed("dup:[bond:en0,en1],en2/3"), [(three, number(3))]);
        let both = [(names(&["en0"]), number(1)), (names(&["en1"]), number(2))];
        assert_eq!(parsed("ind:en0/1,en1/2"), both);
    }

    #[test]
    fn xdp_may_be_before_each_name() {
        let by_xdp = |name: &str| Named { name: name.to_owned(), by_xdp: true };
        let number = |id| Some(SourceId::Number(id));
        assert_eq!(parsed("xdp:en0"), [(vec![by_xdp("en0")], None)]);
        assert_eq!(parsed("xdp:en0/7"), [(vec![by_xdp("en0")], number(7))]);
        let both = vec![by_xdp("en0"), Named::plain("en1")];
        assert_eq!(parsed("xdp:en0 en1"), [(both.clone(), None)]);
        assert_eq!(parsed("bond:xdp:en0,en1/3"), [(both, number(3))]);
        let three = vec![by_xdp("en0"), by_xdp("en1"), Named::plain("en2")];
        assert_eq!(parsed("dup:[bond:xdp:en0,xdp:en1],en2"), [(three, None)]);
        let apart = [(vec![by_xdp("en0")], number(1)), (vec![by_xdp("en1")], number(2))];
        assert_eq!(parsed("ind:xdp:en0/1,xdp:en1/2"), apart);
    }

    #[test]
    fn what_is_no_interface_is_refused() {
        for text in ["xdp:", "xdp:all", "xdp:any", "xdp:xdp:en0", "xdp:dup:en0", "xdp:ind:en0,en1"]
        {
            assert!(parse("-i", text).is_err(), "{text}");
        }
        for text in ["", "ind:", "en0(EN10MB)", "a-name-that-is-too-long", "dup:en0,,en1", "x:y"] {
            assert!(parse("-i", text).is_err(), "{text}");
        }
    }
}
