//! The hellos of TLS and DTLS.

use panoptes_decoders::application::dtls::Fragment;
use panoptes_decoders::application::tls::{
    self, CLIENT_HELLO, HANDSHAKE, Ja4, Ja4Transport, RECORD_LENGTH_MAX, SERVER_HELLO,
};
use panoptes_records::flow::application::{Application, Hello, ServerHello, TlsHellos};

use super::stream::{STREAM_BYTES_MAX, StreamDemand};

/// Length in bytes of the headers of a record and of a message.
const RECORD_HEADER: usize = 5;
pub(super) const MESSAGE_HEADER: usize = 4;
/// [`RECORD_LENGTH_MAX`] as a length.
const RECORD_BYTES_MAX: usize = RECORD_LENGTH_MAX as usize;
/// The most records that one hello is put together from: as many as a stream's beginning has room
/// for.
const RECORDS_MAX: usize = STREAM_BYTES_MAX / (RECORD_HEADER + 1);

/// A hello without the headers of its records.
struct TlsHello {
    bytes: [u8; STREAM_BYTES_MAX],
    length: usize,
}

impl TlsHello {
    fn push(&mut self, data: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let count = room.len().min(data.len());
        room[..count].copy_from_slice(&data[..count]);
        self.length += count;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Its length on the wire, if that is known.
    fn wanted(&self) -> Option<usize> {
        let [_, high, middle, low] = *self.bytes().first_chunk()?;
        Some(MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize)
    }
}

/// Whether a stream begins as records of a handshake do.
pub(super) fn is_record(stream: &[u8]) -> bool {
    let header = [HANDSHAKE, 3];
    let length = stream.len().min(header.len());
    stream[..length] == header[..length]
}

/// Takes the hello at the beginning of a stream.
pub(super) fn read(stream: &[u8], application: &mut Application) -> StreamDemand {
    let mut message = TlsHello { bytes: [0; STREAM_BYTES_MAX], length: 0 };
    let step = collect(stream, &mut message);
    take(message.bytes(), Ja4Transport::Tcp, application, step)
}

/// Whether a fragment of DTLS is part of a hello.
pub(super) const fn is_of_hello(fragment: &Fragment<'_>) -> bool {
    matches!(fragment.kind, CLIENT_HELLO | SERVER_HELLO)
}

/// The header of TLS for the message of a fragment.
pub(super) const fn header_of(fragment: &Fragment<'_>) -> [u8; MESSAGE_HEADER] {
    let [_, high, middle, low] = fragment.length.to_be_bytes();
    [fragment.kind, high, middle, low]
}

/// Takes the hello in a message of DTLS.
pub(super) fn read_datagrams(message: &[u8], application: &mut Application) -> StreamDemand {
    let Some(&[_, high, middle, low]) = message.first_chunk() else {
        return StreamDemand::Wait(MESSAGE_HEADER);
    };
    let wanted = MESSAGE_HEADER + u32::from_be_bytes([0, high, middle, low]) as usize;
    let step = if message.len() < wanted { StreamDemand::Wait(wanted) } else { StreamDemand::Done };
    take(message, Ja4Transport::Dtls, application, step)
}

/// Whether data are the beginning of a hello, as far as they go. The second byte of a record's
/// version has no meaning (RFC 8446 §5.1).
pub(super) fn may_begin_hello(data: &[u8]) -> bool {
    let length = match *data {
        [HANDSHAKE] | [HANDSHAKE, 3] | [HANDSHAKE, 3, _] | [HANDSHAKE, 3, _, _] => return true,
        [HANDSHAKE, 3, _, high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
        _ => return false,
    };
    if !(1..=RECORD_BYTES_MAX).contains(&length) {
        return false;
    }
    // What the first record has of the message: type, length, version.
    let message = &data[RECORD_HEADER..];
    let at = |at: usize| message.get(at).copied().filter(|_| at < length);
    at(0).is_none_or(|kind| matches!(kind, CLIENT_HELLO | SERVER_HELLO))
        && at(1).is_none_or(|high| high == 0)
        && at(4).is_none_or(|major| major == 3)
}

/// Puts the first message together.
fn collect(stream: &[u8], message: &mut TlsHello) -> StreamDemand {
    let mut rest = stream;
    let at = |rest: &[u8]| stream.len() - rest.len();
    for _ in 0..RECORDS_MAX {
        let Some((&[kind, major, _, high, low], body)) = rest.split_first_chunk() else {
            return StreamDemand::Wait(at(rest) + RECORD_HEADER);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || length > RECORD_BYTES_MAX {
            return StreamDemand::Done;
        }
        let before = message.length;
        message.push(&body[..length.min(body.len())]);
        let wanted = message.wanted();
        if wanted.is_some_and(|wanted| wanted <= message.length) {
            return StreamDemand::Done;
        }
        if body.len() < length {
            let end = wanted.map_or(usize::MAX, |wanted| wanted - before).min(length);
            return StreamDemand::Wait(at(rest) + RECORD_HEADER + end.min(STREAM_BYTES_MAX));
        }
        rest = &body[length..];
    }
    StreamDemand::Done
}

/// Takes what there is of a message.
fn take(
    message: &[u8],
    transport: Ja4Transport,
    application: &mut Application,
    step: StreamDemand,
) -> StreamDemand {
    let mut tls = match *application {
        Application::Unknown => TlsHellos::default(),
        Application::Tls(tls) => tls,
        _ => return StreamDemand::Done,
    };
    match message.first() {
        None => return step,
        Some(&CLIENT_HELLO) => match hello(message, transport) {
            // A server may ask for another hello, which has the same name (RFC 8446 §4.1.2).
            Some(hello) if tls.client.is_some_and(|old| is_again(&old, &hello)) => {}
            Some(hello) => tls.client = Some(hello),
            None => return step,
        },
        Some(&SERVER_HELLO) => match tls::ServerHello::from_message(message) {
            Some(hello) => {
                tls.server = Some(ServerHello {
                    version: hello.version(),
                    cipher: hello.cipher,
                    protocol: hello.protocol().unwrap_or_default().into(),
                });
            }
            None => return step,
        },
        Some(_) => return StreamDemand::Done,
    }
    *application = Application::Tls(tls);
    step
}

/// Whether a whole hello comes once more.
fn is_again(old: &Hello, new: &Hello) -> bool {
    old.ja4.is_some() && old.server_name == new.server_name
}

/// What a client's hello says, as far as it is there.
pub(super) fn hello(message: &[u8], transport: Ja4Transport) -> Option<Hello> {
    let hello = match transport {
        Ja4Transport::Dtls => tls::ClientHello::from_dtls_message(message)?,
        Ja4Transport::Quic | Ja4Transport::Tcp => tls::ClientHello::from_message(message)?,
    };
    let mut list = [0; 64];
    let mut length = 0;
    for name in hello.protocols() {
        let Some(room) = list.get_mut(length..=length + name.len()) else { break };
        room[0] = name.len() as u8;
        room[1..].copy_from_slice(name);
        length += room.len();
    }
    let ja4 = Ja4::of(&hello, transport);
    Some(Hello {
        version: hello.version(),
        server_name: hello.server_name().unwrap_or_default().into(),
        protocols: list[..length].into(),
        ja4: ja4.and_then(|ja4| ja4.as_str().as_bytes().try_into().ok()),
    })
}
