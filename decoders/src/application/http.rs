//! The heads of HTTP/1: RFC 9112. Bodies, chunks and HTTP/2 are not decoded.

use super::{line, trimmed};

/// Maximum number of header lines that are looked at.
const HEADERS_MAX: usize = 256;
/// Maximum length in bytes of a method.
pub const METHOD_LENGTH_MAX: usize = 32;
/// Methods that show HTTP in a request whose first line has no end in the data: RFC 9110 §9 and
/// RFC 5789.
pub const METHODS: [&[u8]; 9] =
    [b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"];

/// The head of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request<'a> {
    pub method: &'a [u8],
    /// Request target as the client wrote it. It may be cut if `version` is missing.
    pub target: &'a [u8],
    /// The digit behind the point: 1 for HTTP/1.1. `None` if the first line does not end in the
    /// data.
    pub version: Option<u8>,
    pub headers: Headers<'a>,
}

impl<'a> Request<'a> {
    /// Decodes the data at the start of a request; `None` if it is no HTTP/1.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let start = &data[..data.len().min(METHOD_LENGTH_MAX + 1)];
        let space = start.iter().position(|&byte| byte == b' ')?;
        let (method, rest) = (&data[..space], &data[space + 1..]);
        if !is_token(method) {
            return None;
        }
        let Some((first, after)) = line(rest) else {
            let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
            let (target, headers) = (&rest[..end], Headers::default());
            let is_known = METHODS.contains(&method);
            return is_known.then_some(Self { method, target, version: None, headers });
        };
        let space = first.iter().rposition(|&byte| byte == b' ')?;
        let version = Some(version(&first[space + 1..])?);
        Some(Self { method, target: &first[..space], version, headers: Headers::new(after) })
    }

    /// The name of the server that the client asks.
    pub fn host(&self) -> Option<&'a [u8]> {
        self.headers.find("host")
    }

    /// The program of the client.
    pub fn user_agent(&self) -> Option<&'a [u8]> {
        self.headers.find("user-agent")
    }
}

/// The head of a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response<'a> {
    /// The digit behind the point: 1 for HTTP/1.1.
    pub version: u8,
    /// The code of the result: 200, 404, …
    pub status: u16,
    pub headers: Headers<'a>,
}

impl<'a> Response<'a> {
    /// Decodes the data at the start of a response; `None` if it is no HTTP/1, or ends in the
    /// status.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let (head, rest) = data.split_at_checked(8)?;
        let version = version(head)?;
        let &[b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = rest.first_chunk()? else {
            return None;
        };
        let rest = &rest[4..];
        if rest.first().is_some_and(|byte| !matches!(byte, b' ' | b'\r' | b'\n')) {
            return None;
        }
        let status = [a, b, c].iter().fold(0, |all, digit| all * 10 + u16::from(digit - b'0'));
        let headers = line(rest).map_or(Headers::default(), |(_, after)| Headers::new(after));
        Some(Self { version, status, headers })
    }

    /// The program of the server.
    pub fn server(&self) -> Option<&'a [u8]> {
        self.headers.find("server")
    }

    /// The type of the body.
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.headers.find("content-type")
    }
}

/// The headers in order, each as its name and its value.
///
/// A line without a name, such as one that continues another (RFC 9112 §5.2), is skipped. A line
/// that does not end in the data is not given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    /// The number of lines that may still be read.
    remaining: usize,
}

impl<'a> Headers<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, remaining: HEADERS_MAX }
    }

    /// The value of the first header with a name in lower case.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        let name = name.as_bytes();
        self.clone().find_map(|(other, value)| other.eq_ignore_ascii_case(name).then_some(value))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.remaining > 0 {
            self.remaining -= 1;
            let (text, after) = line(self.bytes).filter(|(text, _)| !text.is_empty())?;
            self.bytes = after;
            let Some(colon) = text.iter().position(|&byte| byte == b':') else { continue };
            let (name, value) = (&text[..colon], &text[colon + 1..]);
            if is_token(name) {
                return Some((name, trimmed(value)));
            }
        }
        None
    }
}

/// The digit behind the point of `HTTP/1.1`.
fn version(text: &[u8]) -> Option<u8> {
    match text.strip_prefix(b"HTTP/1.")? {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

/// Whether bytes are a name.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Whether names, such as those of methods, may have a byte: RFC 9110 §5.6.2.
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
