//! The interfaces of `-i` and of `ARGUS_INTERFACE`.
//!
//! - `en0`, `en0/ID`: one interface, and the id of its records;
//! - `ind:en0/ID,en1/ID`: each has flows of its own; so do several `-i`;
//! - `dup:en0,en1/ID`: both directions of one link; `bond:en0,en1/ID`, `en0 en1`: parts of one
//!   link. Their packets are in the same flows;
//! - `xdp:en0` stands for a name in all of these: XDP takes the packets away from the kernel;
//! - `udp:ADDRESS:PORT` does, too: mirrored packets come there in datagrams. `vxlan:`, `geneve:`,
//!   `gre:` and `tzsp:` say how, and `udp:` guesses that from the port;
//! - `all`: all interfaces that are up, each with flows of its own; `any`: those of the kernel's
//!   pseudo-device.

use std::net::SocketAddr;

use panoptes_decoders::packet::mirror::Mirror;
use panoptes_packet_rings::{is_name, mirror_of};
use panoptes_sinks::flow::argus::SourceId;

use super::values::{mistake, source_id};
use crate::exit::Failure;

/// How the packets of an interface come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Means {
    /// The kernel copies them into a ring.
    #[default]
    Ring,
    /// XDP takes them away from the kernel.
    Xdp,
    /// They are mirrored to an address of this machine, in datagrams.
    Datagrams(Mirror, SocketAddr),
}

/// An interface, or a port that stands for one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct NamedInterface {
    pub(super) name: String,
    pub(super) means: Means,
}

impl NamedInterface {
    /// An interface whose packets are copies of those that the kernel has.
    pub(super) fn plain(name: &str) -> Self {
        Self { name: name.to_owned(), means: Means::Ring }
    }
}

/// Interfaces whose packets are in the same flows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct FlowStream {
    pub(super) interfaces: Vec<NamedInterface>,
    /// The id of its records, if it has one of its own.
    pub(super) source_id: Option<SourceId>,
}

/// All interfaces that are up.
pub(super) const ALL: &str = "all";
/// The kernel's pseudo-device.
const ANY_DEVICE: &str = "any";

/// Reads the words of one `-i`.
pub(super) fn parse(what: &str, text: &str) -> Result<Vec<FlowStream>, Failure> {
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
            vec![FlowStream { interfaces: interfaces.collect(), source_id: id }]
        }
    };
    let is_wrong = |stream: &FlowStream| stream.interfaces.is_empty();
    if streams.is_empty() || streams.iter().any(is_wrong) { Err(wrong()) } else { Ok(streams) }
}

/// Interfaces of one stream: `NAME[,…][/ID]`; groups in brackets are parts of it.
fn joined(what: &str, text: &str) -> Result<FlowStream, Failure> {
    let (names, id) = match text.split_once('/') {
        Some((names, id)) => (names, Some(id.trim()).filter(|id| !id.is_empty())),
        None => (text, None),
    };
    let mut interfaces = Vec::new();
    for word in names.split(',') {
        interfaces.push(named(what, without_brackets(word.trim()))?);
    }
    let source_id = id.map(|id| source_id(what, id)).transpose()?;
    Ok(FlowStream { interfaces, source_id })
}

/// A word without the brackets of a group. Those of an IPv6 address stay.
fn without_brackets(word: &str) -> &str {
    let mut word = word.trim_start_matches('[');
    while word.ends_with(']') && word.matches(']').count() > word.matches('[').count() {
        word = &word[..word.len() - 1];
    }
    word
}

/// One interface.
fn named(what: &str, word: &str) -> Result<NamedInterface, Failure> {
    let word = word.strip_prefix("bond:").or_else(|| word.strip_prefix("dup:")).unwrap_or(word);
    let mirror = mirror_of(word).map_err(|error| mistake(format!("{what}: `{word}` {error}")))?;
    if let Some((mirror, address)) = mirror {
        return Ok(NamedInterface {
            name: word.to_owned(),
            means: Means::Datagrams(mirror, address),
        });
    }
    let (name, means) = match word.strip_prefix("xdp:") {
        Some(name) => (name, Means::Xdp),
        None => (word, Means::Ring),
    };
    if means == Means::Xdp && [ALL, ANY_DEVICE].contains(&name) {
        return Err(mistake(format!("{what}: xdp: needs the name of one interface")));
    }
    // The link type behind a name is not supported.
    if !is_name(name) {
        return Err(mistake(format!("{what}: `{word}` is no name of an interface")));
    }
    Ok(NamedInterface { name: name.to_owned(), means })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(Vec<NamedInterface>, Option<SourceId>)> {
        let streams = parse("-i", text).unwrap_or_else(|failure| panic!("{failure}"));
        streams.into_iter().map(|stream| (stream.interfaces, stream.source_id)).collect()
    }

    fn names(all: &[&str]) -> Vec<NamedInterface> {
        all.iter().map(|name| NamedInterface::plain(name)).collect()
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
        let by_xdp = |name: &str| NamedInterface { name: name.to_owned(), means: Means::Xdp };
        let number = |id| Some(SourceId::Number(id));
        assert_eq!(parsed("xdp:en0"), [(vec![by_xdp("en0")], None)]);
        assert_eq!(parsed("xdp:en0/7"), [(vec![by_xdp("en0")], number(7))]);
        let both = vec![by_xdp("en0"), NamedInterface::plain("en1")];
        assert_eq!(parsed("xdp:en0 en1"), [(both.clone(), None)]);
        assert_eq!(parsed("bond:xdp:en0,en1/3"), [(both, number(3))]);
        let three = vec![by_xdp("en0"), by_xdp("en1"), NamedInterface::plain("en2")];
        assert_eq!(parsed("dup:[bond:xdp:en0,xdp:en1],en2"), [(three, None)]);
        let apart = [(vec![by_xdp("en0")], number(1)), (vec![by_xdp("en1")], number(2))];
        assert_eq!(parsed("ind:xdp:en0/1,xdp:en1/2"), apart);
    }

    #[test]
    fn ports_stand_for_interfaces() {
        let port = |word: &str, mirror, address: &str| {
            let means = Means::Datagrams(mirror, address.parse().expect("an address"));
            NamedInterface { name: word.to_owned(), means }
        };
        let vxlan = port("udp:0.0.0.0:4789", Mirror::Vxlan, "0.0.0.0:4789");
        assert_eq!(parsed("udp:0.0.0.0:4789"), [(vec![vxlan.clone()], None)]);
        let id = Some(SourceId::Number(7));
        let geneve = port("udp:[::1]:6081", Mirror::Geneve, "[::1]:6081");
        assert_eq!(parsed("udp:[::1]:6081/7"), [(vec![geneve.clone()], id)]);
        let other = port("udp:10.0.0.1:5000", Mirror::Vxlan, "10.0.0.1:5000");
        assert_eq!(parsed("udp:10.0.0.1:5000"), [(vec![other], None)]);
        for (word, mirror, address) in [
            ("vxlan:[::]", Mirror::Vxlan, "[::]:4789"),
            ("geneve:::1", Mirror::Geneve, "[::1]:6081"),
            ("gre:127.0.0.1", Mirror::Gre, "127.0.0.1:4754"),
            ("tzsp:127.0.0.1:9", Mirror::Tzsp, "127.0.0.1:9"),
        ] {
            assert_eq!(parsed(word), [(vec![port(word, mirror, address)], None)]);
        }
        let three = vec![vxlan.clone(), geneve, NamedInterface::plain("en2")];
        assert_eq!(parsed("dup:[bond:udp:0.0.0.0:4789,udp:[::1]:6081],en2"), [(three, None)]);
        let apart = [(vec![vxlan], id), (vec![NamedInterface::plain("en0")], None)];
        assert_eq!(parsed("ind:udp:0.0.0.0:4789/7,en0"), apart);
    }

    #[test]
    fn what_is_no_interface_is_refused() {
        for text in ["udp:", "udp:0.0.0.0", "udp:host:4789", "udp:0.0.0.0:0", "vxlan:4789"] {
            let message = parse("-i", text).expect_err(text).to_string();
            assert!(message.contains("has no address and port of this machine"), "{message}");
        }
        for text in ["xdp:", "xdp:all", "xdp:any", "xdp:xdp:en0", "xdp:dup:en0", "xdp:ind:en0,en1"]
        {
            assert!(parse("-i", text).is_err(), "{text}");
        }
        for text in ["", "ind:", "en0(EN10MB)", "a-name-that-is-too-long", "dup:en0,,en1", "x:y"] {
            assert!(parse("-i", text).is_err(), "{text}");
        }
    }
}
