//! The first line of SSH: RFC 4253 §4.2.

use super::line;

/// Maximum length in bytes of the banner, with its end.
pub const BANNER_LENGTH_MAX: usize = 255;
/// A server may send lines before its banner. This is the maximum number that is skipped.
const LINES_MAX: usize = 32;

/// The banner of a client or a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Banner<'a> {
    /// The whole line without its end.
    pub text: &'a [u8],
    /// The version of the protocol: `2.0`, or `1.99` of a server that also speaks version 1.
    pub protocol: &'a [u8],
    /// The program and its version.
    pub software: &'a [u8],
    /// What follows a space, often the operating system.
    pub comments: Option<&'a [u8]>,
}

impl<'a> Banner<'a> {
    /// Decodes the banner in the first data of a connection; `None` if there is none that ends in
    /// it.
    pub fn decode(data: &'a [u8]) -> Option<Self> {
        let mut rest = data;
        for _ in 0..LINES_MAX {
            let (text, after) = line(rest)?;
            if let Some(versions) = text.strip_prefix(b"SSH-") {
                let length = rest.len() - after.len();
                return (length <= BANNER_LENGTH_MAX).then(|| Self::read(text, versions))?;
            }
            rest = after;
        }
        None
    }

    fn read(text: &'a [u8], versions: &'a [u8]) -> Option<Self> {
        // Software with a hyphen in its version exists, although the RFC forbids that.
        let hyphen = versions.iter().position(|&byte| byte == b'-')?;
        let (protocol, software) = (&versions[..hyphen], &versions[hyphen + 1..]);
        let space = software.iter().position(|&byte| byte == b' ');
        let comments = space.map(|space| &software[space + 1..]);
        Some(Self {
            text,
            protocol,
            software: &software[..space.unwrap_or(software.len())],
            comments,
        })
    }
}
