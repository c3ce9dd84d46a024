//! Clients of `-P`: ten hostile ones at a time, and one that behaves.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use panoptes_traffic::Random;

use super::quiet::FILTER;
use super::sensor::CLIENTS;

/// The address of the client that behaves: another source than that of the hostile ones, so that
/// it keeps its place.
const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// Hostile clients at once: as many as may connect.
const HOSTILE: usize = 10;
/// How often hostile clients act.
const STEP: Duration = Duration::from_millis(50);
/// The number of ways to be hostile.
const WAYS: usize = 6;

/// Connects hostile clients again and again, until `stop`. How many have connected.
pub(crate) fn molest(stop: &AtomicBool) -> u64 {
    let mut all: Vec<Option<(TcpStream, usize)>> = (0..HOSTILE).map(|_| None).collect();
    let (mut random, mut count) = (Random::new(3), 0);
    while !stop.load(Ordering::Relaxed) {
        for (at, place) in all.iter_mut().enumerate() {
            let goes_on =
                place.as_mut().is_some_and(|(stream, way)| act(stream, *way, &mut random));
            if !goes_on {
                let way = at % WAYS;
                *place = begin(way, &mut random).map(|stream| (stream, way));
                count += u64::from(place.is_some());
            }
        }
        thread::sleep(STEP);
    }
    count
}

/// Connects, and sends what a way begins with.
fn begin(way: usize, random: &mut Random) -> Option<TcpStream> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENTS));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    stream.set_nonblocking(true).ok()?;
    let costly = |terms: u64| {
        let terms: Vec<_> = (0..terms).map(|term| format!("port {}", 1 + term)).collect();
        format!("FILTER: not ({})\0START: ", terms.join(" or "))
    };
    let text = match way {
        // These stay and read nothing.
        0 | 1 => "START: ".to_owned(),
        // The longest filter that is accepted, and one that is not.
        2 => costly(64),
        3 => costly(800),
        4 => String::new(),
        _ => {
            let bytes: Vec<_> = (0..random.below(4000)).map(|_| random.next() as u8).collect();
            stream.write_all(&bytes).ok()?;
            return Some(stream);
        }
    };
    stream.write_all(text.as_bytes()).ok()?;
    Some(stream)
}

/// Continues; returns whether it is still connected.
fn act(stream: &mut TcpStream, way: usize, random: &mut Random) -> bool {
    let sent = match way {
        // Those that read nothing learn of their end when they send.
        0 | 1 => stream.write(b"START: "),
        4 => stream.write(&b"FILTER: tcp\0START: ".repeat(1 + random.below(100) as usize)),
        _ => Ok(0),
    };
    let is_alive = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
    if sent.is_err_and(|error| !is_alive(&error)) {
        return false;
    }
    if matches!(way, 0 | 1) {
        return true;
    }
    let mut bytes = [0; 8 << 10];
    // A part is enough: these lag behind, too.
    match stream.read(&mut bytes) {
        Ok(count) => count > 0,
        Err(error) => is_alive(&error),
    }
}

/// A client that behaves, once its filter is accepted.
pub(crate) fn well_behaved() -> Result<TcpStream, String> {
    let wrong = |error: nix::Error| format!("a client: {error}");
    let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None);
    let stream = stream.map_err(wrong)?;
    let [a, b, c, d] = OWN.octets();
    bind(stream.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).map_err(wrong)?;
    connect(stream.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, CLIENTS)).map_err(wrong)?;
    let mut stream = TcpStream::from(stream);
    stream
        .write_all(format!("FILTER: {FILTER}\0START: ").as_bytes())
        .map_err(|error| format!("a client: {error}"))?;
    Ok(stream)
}

/// Reads all that a client receives, up to the end of its connection. The number of flow records:
/// each record has its kind in its first byte, and its length in words in its second half word
/// (`include/argus_def.h`).
pub(crate) fn count_records(mut stream: TcpStream) -> Result<u64, String> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map_err(|error| format!("a client: {error}"))?;
    records_of(&bytes).ok_or_else(|| "a client has received what is no record".to_owned())
}

fn records_of(bytes: &[u8]) -> Option<u64> {
    // The answer to the filter is between the first record and the others.
    let mut rest = bytes.get(128..)?.strip_prefix(b"OK")?;
    let mut count = 0;
    while let Some(&[kind, _, high, low]) = rest.first_chunk() {
        let length = 4 * usize::from(u16::from_be_bytes([high, low]));
        let (record, after) = rest.split_at_checked(length)?;
        count += u64::from(!record.is_empty() && kind >> 4 == 1);
        rest = if record.is_empty() { return None } else { after };
    }
    rest.is_empty().then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_records_are_counted() {
        let first = [&[0x83, 0x10, 0, 32][..], &[0; 124]].concat();
        let flow = [0x13, 0x10, 0, 2, 0, 0, 0, 0];
        let state = [0x83, 0x20, 0, 1];
        assert_eq!(records_of(&[&first, &b"OK"[..], &flow, &state, &flow].concat()), Some(2));
        assert_eq!(records_of(&[&first, &b"OK"[..], &flow[..6]].concat()), None);
        assert_eq!(records_of(&[&first, &b"SY"[..]].concat()), None);
        assert_eq!(records_of(&[&first, &b"OK"[..], &[0x13, 0, 0, 0]].concat()), None);
    }
}
