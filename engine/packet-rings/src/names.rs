//! Words that name an interface, or a port to which packets are mirrored.

use std::net::{IpAddr, SocketAddr};

use panoptes_decoders::packet::mirror::Mirror;

/// The kind that leaves it to the port how packets are mirrored.
const ANY_KIND: &str = "udp";

/// A word of a port without an address and a port of this machine.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "has no address and port of this machine, as in `{kind}:0.0.0.0:4789` or `{kind}:[::]:4789`"
)]
pub struct NoAddress {
    kind: String,
}

/// Whether the kernel gives an interface such a name (`dev_valid_name`, net/core/dev.c), without
/// signs that have a meaning in lists of interfaces.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_sign = |letter: char| letter.is_whitespace() || "/:()[]\",".contains(letter);
    (1..16).contains(&text.len()) && !matches!(text, "." | "..") && !text.contains(is_sign)
}

/// Where mirrored packets come, and how, if a word names such a place: `udp:ADDRESS:PORT`, or
/// `KIND:ADDRESS[:PORT]`. `None` for other words.
pub fn mirror_of(word: &str) -> Result<Option<(Mirror, SocketAddr)>, NoAddress> {
    let Some((kind, place)) = word.split_once(':') else { return Ok(None) };
    let named = Mirror::ALL.into_iter().find(|mirror| mirror.name() == kind);
    if named.is_none() && kind != ANY_KIND {
        return Ok(None);
    }
    let without_port = || {
        let text = place.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let address: IpAddr = text.unwrap_or(place).parse().ok()?;
        Some(SocketAddr::new(address, named?.port()))
    };
    let address = place.parse().ok().or_else(without_port);
    let address: SocketAddr = address
        .filter(|address: &SocketAddr| address.port() > 0)
        .ok_or_else(|| NoAddress { kind: kind.to_owned() })?;
    Ok(Some((named.unwrap_or_else(|| Mirror::of_port(address.port())), address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_kernel() {
        for name in ["lo", "en0", "a-name-of-15-by", "en0.7", "ü"] {
            assert!(is_name(name), "{name}");
        }
        for text in ["", ".", "..", "en 0", "en0/1", "a:b", "[a", "a,b", "a-name-of-16-byt"] {
            assert!(!is_name(text), "{text}");
        }
    }

    #[test]
    fn places_have_an_address_and_a_port() {
        let place = |word| mirror_of(word).map(|place| place.map(|(_, address)| address));
        let address = |text: &str| Ok(Some(text.parse().expect("an address")));
        assert_eq!(place("udp:10.0.0.1:5000"), address("10.0.0.1:5000"));
        assert_eq!(place("vxlan:[::]"), address("[::]:4789"));
        for word in ["en0", "dup:en0", "xdp:en0", "udp", "tcp:10.0.0.1:1"] {
            assert_eq!(place(word), Ok(None), "{word}");
        }
        for word in ["udp:10.0.0.1", "udp:host:4789", "udp:0.0.0.0:0", "geneve:"] {
            assert!(place(word).is_err(), "{word}");
        }
    }
}
