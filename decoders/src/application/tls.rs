//! The hellos of TLS: RFC 8446 (1.3) and RFC 5246 (1.2), whose records are alike.
//!
//! A client with a post-quantum key share sends a hello longer than one segment. So a hello may end
//! early: its lists and extensions then end with the last one that is whole, and
//! [`ClientHello::missing`] counts the bytes that a caller may wait for.
//!
//! A hello that its sender cut into several records is read up to the end of the first one.

mod ja4;

pub use ja4::{Ja4, Ja4Transport};

use super::WireReader;

/// Numbers of extensions (IANA, "TLS ExtensionType Values").
pub mod extension {
    pub const SERVER_NAME: u16 = 0;
    pub(super) const SUPPORTED_GROUPS: u16 = 10;
    pub(super) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const SUPPORTED_VERSIONS: u16 = 43;
}

/// The type of a record with handshake messages, and the types of the hellos (RFC 8446 §5.1, §4).
pub const HANDSHAKE: u8 = 22;
pub const CLIENT_HELLO: u8 = 1;
pub const SERVER_HELLO: u8 = 2;
/// The longest record: 2^14 bytes of data and, encrypted by TLS 1.2, 2048 more (RFC 5246 §6.2.3).
pub const RECORD_LENGTH_MAX: u16 = (1 << 14) + 2048;
/// The upper byte of the versions of DTLS, and its version in old programs (`DTLS1_BAD_VER` of
/// OpenSSL).
const DTLS: u16 = 0xfe;
const DTLS_OLD: u16 = 0x0100;
/// The random value of a server's hello that asks for another hello (RFC 8446 §4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A client's hello.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientHello<'a> {
    /// The version of the hello itself: TLS 1.3 has that of 1.2 here.
    pub legacy_version: u16,
    pub random: [u8; 32],
    pub session_id: &'a [u8],
    /// The cipher suites in the client's order.
    pub ciphers: Numbers<'a>,
    pub extensions: Extensions<'a>,
    /// Length in bytes of the part of the message that the data did not have.
    pub missing: usize,
}

impl<'a> ClientHello<'a> {
    /// Decodes the first record of a client's data; `None` if that is no client's hello, or ends
    /// before the session id does.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        Self::from_message(record(data)?)
    }

    /// Decodes a handshake message, as QUIC carries it without records (RFC 9001 §4.1.3).
    pub fn from_message(message: &'a [u8]) -> Option<Self> {
        Self::read(message, false)
    }

    /// Decodes a handshake message of DTLS, without what its header has more than that of TLS.
    pub fn from_dtls_message(message: &'a [u8]) -> Option<Self> {
        Self::read(message, true)
    }

    fn read(message: &'a [u8], is_dtls: bool) -> Option<Self> {
        let (mut body, missing) = body(message, CLIENT_HELLO)?;
        let legacy_version = body.u16()?;
        let random = body.array()?;
        let session_id = body.vector8()?;
        if is_dtls {
            // A cookie that the server has asked for (RFC 6347 §4.2.1).
            body.vector8()?;
        }
        let ciphers = Numbers { bytes: vector(&mut body, missing)? };
        // The methods of compression.
        let compression = body.vector8();
        if compression.is_none() && missing == 0 {
            return None;
        }
        let extensions = match compression {
            Some(_) => Extensions::read(&mut body, missing)?,
            None => Extensions::default(),
        };
        Some(Self { legacy_version, random, session_id, ciphers, extensions, missing })
    }

    /// The name of the server that the client asks for (RFC 6066 §3).
    pub fn server_name(&self) -> Option<&'a [u8]> {
        let list = WireReader::new(self.extensions.find(extension::SERVER_NAME)?).vector16()?;
        let mut list = WireReader::new(list);
        // A name takes three bytes at least.
        while let Some(kind) = list.u8() {
            let name = list.vector16()?;
            if kind == 0 {
                return Some(name);
            }
        }
        None
    }

    /// The application protocols that the client offers, in its order (RFC 7301).
    pub fn protocols(&self) -> Protocols<'a> {
        Protocols::of(&self.extensions)
    }

    /// The versions in the extension of TLS 1.3.
    pub fn versions(&self) -> Numbers<'a> {
        let data = self.extensions.find(extension::SUPPORTED_VERSIONS);
        let list = data.and_then(|data| WireReader::new(data).vector8());
        Numbers { bytes: list.unwrap_or_default() }
    }

    /// The highest version that the client offers.
    pub fn version(&self) -> u16 {
        let offered = self.versions().filter(|&version| !is_grease(version));
        // Those of DTLS go down.
        let is_dtls = self.legacy_version >> 8 == DTLS || self.legacy_version == DTLS_OLD;
        let highest = if is_dtls {
            offered.filter(|version| version >> 8 == DTLS).min()
        } else {
            offered.max()
        };
        highest.unwrap_or(self.legacy_version)
    }

    /// The groups for the key exchange.
    pub fn groups(&self) -> Numbers<'a> {
        self.numbers(extension::SUPPORTED_GROUPS)
    }

    pub fn signature_algorithms(&self) -> Numbers<'a> {
        self.numbers(extension::SIGNATURE_ALGORITHMS)
    }

    /// A list of numbers, which is all that an extension contains.
    fn numbers(&self, kind: u16) -> Numbers<'a> {
        let data = self.extensions.find(kind);
        Numbers {
            bytes: data.and_then(|data| WireReader::new(data).vector16()).unwrap_or_default(),
        }
    }
}

/// A server's hello.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerHello<'a> {
    /// The version of the hello itself: TLS 1.3 has that of 1.2 here.
    pub legacy_version: u16,
    pub random: [u8; 32],
    pub session_id: &'a [u8],
    pub cipher: u16,
    pub extensions: Extensions<'a>,
    /// Length in bytes of the part of the message that the data did not have.
    pub missing: usize,
}

impl<'a> ServerHello<'a> {
    /// Decodes the first record of a server's data; `None` if that is no server's hello, or ends
    /// before the cipher does.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        Self::from_message(record(data)?)
    }

    /// Decodes a handshake message, as QUIC carries it without records.
    pub fn from_message(message: &'a [u8]) -> Option<Self> {
        let (mut body, missing) = body(message, SERVER_HELLO)?;
        let legacy_version = body.u16()?;
        let random = body.array()?;
        let session_id = body.vector8()?;
        let cipher = body.u16()?;
        // The method of compression.
        body.u8();
        let extensions = Extensions::read(&mut body, missing)?;
        Some(Self { legacy_version, random, session_id, cipher, extensions, missing })
    }

    /// The version that the server chose.
    pub fn version(&self) -> u16 {
        let chosen = self.extensions.find(extension::SUPPORTED_VERSIONS);
        chosen.and_then(|data| WireReader::new(data).u16()).unwrap_or(self.legacy_version)
    }

    /// The application protocol that the server chose. TLS 1.3 encrypts it.
    pub fn protocol(&self) -> Option<&'a [u8]> {
        Protocols::of(&self.extensions).next()
    }

    /// Whether this asks the client for another hello.
    pub fn is_retry(&self) -> bool {
        self.random == RETRY_RANDOM
    }
}

/// What the first record has of its handshake messages.
fn record(data: &[u8]) -> Option<&[u8]> {
    let mut data = WireReader::new(data);
    let (kind, [major, minor], length) = (data.u8()?, data.array()?, data.u16()?);
    if kind != HANDSHAKE || major != 3 || minor > 4 || length > RECORD_LENGTH_MAX {
        return None;
    }
    Some(data.take_up_to(usize::from(length)))
}

/// What there is of a message's body, and the number of bytes that are missing.
fn body(message: &[u8], expected: u8) -> Option<(WireReader<'_>, usize)> {
    let mut message = WireReader::new(message);
    let [kind, high, middle, low] = message.array()?;
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    let body = message.take_up_to(length);
    (kind == expected).then_some((WireReader::new(body), length - body.len()))
}

/// What there is of a vector behind its length of two bytes; `None` if it leaves a whole message.
fn vector<'a>(body: &mut WireReader<'a>, missing: usize) -> Option<&'a [u8]> {
    if missing == 0 {
        return body.vector16();
    }
    let length = body.u16().unwrap_or_default();
    Some(body.take_up_to(usize::from(length)))
}

/// Consecutive numbers of 16 bits.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Numbers<'a> {
    bytes: &'a [u8],
}

impl Iterator for Numbers<'_> {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        let mut reader = WireReader::new(self.bytes);
        let number = reader.u16()?;
        self.bytes = reader.bytes;
        Some(number)
    }
}

/// Consecutive extensions, each as its number and its data.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Extensions<'a> {
    bytes: &'a [u8],
}

impl<'a> Extensions<'a> {
    fn read(body: &mut WireReader<'a>, missing: usize) -> Option<Self> {
        // SSL 3.0 and simple clients have none, and not even a length.
        if body.bytes.is_empty() {
            return Some(Self::default());
        }
        Some(Self { bytes: vector(body, missing)? })
    }

    /// The data of the first extension with a number.
    pub fn find(&self, number: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(other, data)| (other == number).then_some(data))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = WireReader::new(self.bytes);
        let extension = (reader.u16()?, reader.vector16()?);
        self.bytes = reader.bytes;
        Some(extension)
    }
}

/// Names of application protocols.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Protocols<'a> {
    bytes: &'a [u8],
}

impl<'a> Protocols<'a> {
    fn of(extensions: &Extensions<'a>) -> Self {
        let data = extensions.find(extension::ALPN);
        Self { bytes: data.and_then(|data| WireReader::new(data).vector16()).unwrap_or_default() }
    }
}

impl<'a> Iterator for Protocols<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut reader = WireReader::new(self.bytes);
        let name = reader.vector8()?;
        self.bytes = reader.bytes;
        Some(name)
    }
}

/// Whether a number has no meaning and only keeps servers tolerant (RFC 8701).
pub(crate) const fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}
