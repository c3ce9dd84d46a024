//! What the data of a flow say about its application: TLS, QUIC, DNS, HTTP, SSH.
//!
//! [`applications!`](crate::applications) is the only list of the protocols.
//!
//! Everything comes from strangers. Texts are bytes as they were sent, and those that are too long
//! are cut.

use std::fmt;

/// The most answers of a DNS message that are kept.
pub const ANSWERS_MAX: usize = 12;
/// Bytes that the texts of a message's answers may have together.
const ANSWER_BYTES_MAX: usize = 384;

/// The beginning of some bytes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct BytePrefix<const MAX: usize> {
    bytes: [u8; MAX],
    length: u16,
    is_cut: bool,
}

impl<const MAX: usize> Default for BytePrefix<MAX> {
    fn default() -> Self {
        const { assert!(MAX <= u16::MAX as usize) };
        Self { bytes: [0; MAX], length: 0, is_cut: false }
    }
}

impl<const MAX: usize> From<&[u8]> for BytePrefix<MAX> {
    fn from(bytes: &[u8]) -> Self {
        let mut kept = Self::default();
        let length = bytes.len().min(MAX);
        kept.bytes[..length].copy_from_slice(&bytes[..length]);
        (kept.length, kept.is_cut) = (length as u16, length < bytes.len());
        kept
    }
}

impl<const MAX: usize> BytePrefix<MAX> {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Whether there were more bytes.
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }
}

impl<const MAX: usize> fmt::Debug for BytePrefix<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())
    }
}

/// Lists the application protocols, in alphabetical order: `name: Protocol(Facts)`.
///
/// - `name` is the word of `--application` and of `flows.application`, and the key of the
///   protocol's JSON object.
/// - `Protocol` is the variant of [`Application`](crate::flow::application::Application) and of
///   [`ApplicationProtocol`](crate::flow::application::ApplicationProtocol).
/// - `Facts` is the type of what a flow's data tell.
///
/// The lines go to the macro `$make`, which makes something of each. These follow the table:
///
/// - both types (here);
/// - the words of options, of their help and of the configuration (`panoptes`);
/// - the JSON objects, whose members a function called `name` writes (`panoptes-sinks`);
/// - the fuzz target `application`, which calls a function called `name`.
///
/// A protocol without such a function, or without a reader in `panoptes-flow`, does not compile.
///
/// ```
/// macro_rules! keys {
///     ($($name:ident: $protocol:ident($facts:ty),)+) => { [$(stringify!($name)),+] };
/// }
/// assert!(panoptes_records::applications!(keys).contains(&"ssh"));
/// ```
#[macro_export]
macro_rules! applications {
    ($make:ident) => {
        $make! {
            dns: Dns(Dns),
            http: Http(Http),
            quic: Quic(Quic),
            ssh: Ssh(Ssh),
            tls: Tls(TlsHellos),
        }
    };
}

macro_rules! protocols {
    ($($name:ident: $protocol:ident($facts:ty),)+) => {
        /// The application of a flow, as far as it is known.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        #[expect(
            clippy::large_enum_variant,
            reason = "a pool has them, and each has room for the largest"
        )]
        pub enum Application {
            #[default]
            Unknown,
            $($protocol($facts),)+
        }

        /// A protocol whose data are read.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum ApplicationProtocol {
            $($protocol,)+
        }

        impl ApplicationProtocol {
            /// Each protocol, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$protocol,)+];

            /// Its word in options, which is also the key of its JSON object.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$protocol => stringify!($name),)+
                }
            }
        }
    };
}

applications!(protocols);

impl ApplicationProtocol {
    /// The protocol with this [`ApplicationProtocol::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|protocol| protocol.name() == name)
    }
}

/// The hello of a TLS client (RFC 8446 §4.1.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hello {
    /// The highest version that it offers.
    pub version: u16,
    /// The name of the server that it asks for; empty if there is none.
    pub server_name: BytePrefix<255>,
    /// The protocols that it offers, each behind its length in a byte.
    pub protocols: BytePrefix<64>,
    /// The fingerprint, if the hello is complete.
    pub ja4: Option<[u8; 36]>,
}

/// The hello of a TLS server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ServerHello {
    /// The version and the cipher suite that it has chosen.
    pub version: u16,
    pub cipher: u16,
    /// The protocol that it has chosen; empty if it is encrypted.
    pub protocol: BytePrefix<32>,
}

/// Both hellos of TLS over TCP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TlsHellos {
    pub client: Option<Hello>,
    pub server: Option<ServerHello>,
}

/// A connection of QUIC.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Quic {
    pub version: u32,
    pub client: Option<Hello>,
}

/// The first request of HTTP/1 and the status of its response.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Http {
    /// Empty if no request was seen.
    pub method: BytePrefix<32>,
    pub host: Option<BytePrefix<255>>,
    pub target: BytePrefix<128>,
    pub user_agent: Option<BytePrefix<128>>,
    /// 0 if no response was seen.
    pub status: u16,
}

/// The banners of SSH; empty if they were not seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ssh {
    pub client: BytePrefix<255>,
    pub server: BytePrefix<255>,
}

/// The last question of a flow and its answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Dns {
    /// The name that is asked for, as in zone files; empty if none was seen.
    pub name: BytePrefix<255>,
    /// The record type that is asked for.
    pub kind: u16,
    /// The result; `None` before a response.
    pub response_code: Option<u8>,
    pub is_authoritative: bool,
    /// The answer was too long for a datagram.
    pub is_truncated: bool,
    /// Queries and responses that were read.
    pub queries: u32,
    pub responses: u32,
    /// Whether the server that has answered is one of those that are expected, if any are.
    pub is_known_server: Option<bool>,
    pub answers: DnsAnswerList,
}

/// The answers of a message, as far as there is room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DnsAnswerList {
    texts: [u8; ANSWER_BYTES_MAX],
    used: u16,
    rows: [DnsAnswerEntry; ANSWERS_MAX],
    count: u8,
    /// Answers for which there was no room.
    pub left_out: u16,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct DnsAnswerEntry {
    kind: u16,
    ttl_s: u32,
    begin: u16,
    end: u16,
}

/// An answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DnsAnswer<'a> {
    /// The record type.
    pub kind: u16,
    pub ttl_s: u32,
    /// As in zone files; empty for types that are not decoded.
    pub data: &'a [u8],
}

impl Default for DnsAnswerList {
    fn default() -> Self {
        let rows = [DnsAnswerEntry::default(); ANSWERS_MAX];
        Self { texts: [0; ANSWER_BYTES_MAX], used: 0, rows, count: 0, left_out: 0 }
    }
}

impl DnsAnswerList {
    /// Adds an answer, or counts it if there is no room.
    pub fn push(&mut self, answer: DnsAnswer<'_>) {
        let begin = usize::from(self.used);
        let end = begin + answer.data.len();
        let row = self.rows.get_mut(usize::from(self.count));
        let (Some(row), Some(room)) = (row, self.texts.get_mut(begin..end)) else {
            self.left_out = self.left_out.saturating_add(1);
            return;
        };
        room.copy_from_slice(answer.data);
        *row = DnsAnswerEntry {
            kind: answer.kind,
            ttl_s: answer.ttl_s,
            begin: self.used,
            end: end as u16,
        };
        (self.used, self.count) = (end as u16, self.count + 1);
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = DnsAnswer<'_>> {
        self.rows[..usize::from(self.count)].iter().map(|row| DnsAnswer {
            kind: row.kind,
            ttl_s: row.ttl_s,
            data: &self.texts[usize::from(row.begin)..usize::from(row.end)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_applications_are_words_in_order() {
        let names: Vec<&str> = ApplicationProtocol::ALL.iter().map(|one| one.name()).collect();
        // Users read the list. `all` stands for each of them.
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        for (name, protocol) in names.iter().zip(ApplicationProtocol::ALL) {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
            assert_ne!(*name, "all");
            assert_eq!(ApplicationProtocol::from_name(name), Some(*protocol));
        }
        assert_eq!(ApplicationProtocol::from_name("SSH"), None);
    }
}
