//! Answers of name servers.

use std::net::IpAddr;

/// What a server of DNS has told a client about a name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NameResolution<'a> {
    pub server: IpAddr,
    pub client: IpAddr,
    /// Whether the server is one of those that are expected, if any are.
    pub is_known_server: Option<bool>,
    /// The name, as in zone files and in lower case, and the record type.
    pub name: &'a [u8],
    pub kind: u16,
    /// The answer as in zone files; empty if there is none, or if its type is not decoded.
    pub answer: &'a [u8],
    pub response_code: u8,
    /// How often it was seen, and the times of the first and the last one in nanoseconds since
    /// 1970.
    pub count: u64,
    pub first_ns: i64,
    pub last_ns: i64,
}
