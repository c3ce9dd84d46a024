//! The words of an expression: the rules of `common/scanner.l` of argus's clients 3.0.8.2.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::FilterError;
use super::fields::Comparison;
use super::keywords::{Keyword, keyword};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Keyword(Keyword),
    Number(i64),
    Real(f64),
    Ipv4(Ipv4Addr),
    Ipv6(Ipv6Addr),
    Hardware([u8; 6]),
    Name(&'a str),
    /// Between quotation marks.
    Quoted(&'a str),
    Symbol(char),
}

#[derive(Clone, Debug)]
pub(super) struct FilterWord<'a> {
    pub token: Token<'a>,
    /// The word as it is written.
    pub text: &'a str,
    pub at: usize,
}

/// All words of an expression.
pub(super) fn words(text: &str) -> Result<Vec<FilterWord<'_>>, FilterError> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with([' ', '\t', '\r', '\n']) {
            at += 1;
            continue;
        }
        let (token, length) = first(rest).ok_or_else(|| {
            let shown = rest.chars().next().unwrap_or_default().escape_default();
            FilterError::new(at, format!("'{shown}' begins no word of a filter"))
        })?;
        let length = length.max(1);
        words.push(FilterWord { token, text: rest.get(..length).unwrap_or_default(), at });
        at += length;
    }
    Ok(words)
}

/// The first word, and its length.
fn first(text: &str) -> Option<(Token<'_>, usize)> {
    address(text)
        .or_else(|| number(text))
        .or_else(|| name(text))
        .or_else(|| quoted(text))
        .or_else(|| symbol(text))
}

/// The length of what consists of such characters.
fn length_of(text: &str, is_part: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|byte| !is_part(byte)).unwrap_or(text.len())
}

/// An address with colons: of hardware, or of IPv6.
fn address(text: &str) -> Option<(Token<'_>, usize)> {
    let length = length_of(text, |byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
    let word = &text[..length];
    if !word.contains(':') {
        return None;
    }
    let token = hardware(word).map(Token::Hardware);
    let token = token.or_else(|| word.parse().ok().map(Token::Ipv6));
    token.map(|token| (token, length))
}

/// Six groups of one or two digits.
pub(super) fn hardware(word: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut groups = word.split(':');
    for byte in &mut bytes {
        let group = groups.next().filter(|group| matches!(group.len(), 1 | 2))?;
        *byte = u8::from_str_radix(group, 16).ok()?;
    }
    groups.next().is_none().then_some(bytes)
}

/// A number that is no beginning of a name: decimal, octal after 0, hexadecimal after 0x.
fn number(text: &str) -> Option<(Token<'_>, usize)> {
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = &text[sign..];
    let mut length = length_of(digits, |byte| byte.is_ascii_alphanumeric() || byte == b'.');
    // A sentence may end with a full stop, a name may have one.
    if length == 0 || digits[length..].starts_with(['-', '_']) && sign == 0 {
        return None;
    }
    if sign == 1 && !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let word = &digits[..length];
    let token = match word.matches('.').count() {
        0 => Token::Number(integer(word)?),
        1 => Token::Real(real(word)?),
        3 if sign == 0 => Token::Ipv4(word.parse().ok()?),
        _ => return None,
    };
    length += sign;
    Some(match token {
        Token::Number(number) if text.starts_with('-') => (Token::Number(-number), length),
        Token::Real(number) if text.starts_with('-') => (Token::Real(-number), length),
        token => (token, length),
    })
}

fn integer(word: &str) -> Option<i64> {
    if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return i64::from_str_radix(digits, 16).ok();
    }
    if !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match word.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => i64::from_str_radix(digits, 8).ok(),
        _ => word.parse().ok(),
    }
}

/// Digits, a point and digits.
fn real(word: &str) -> Option<f64> {
    let is_valid = word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (is_valid && !word.ends_with('.')).then(|| word.parse().ok()).flatten()
}

/// A name or a keyword. After a backslash, it is a name.
fn name(text: &str) -> Option<(Token<'_>, usize)> {
    if let Some(rest) = text.strip_prefix('\\') {
        let length =
            length_of(rest, |byte| byte.is_ascii_graphic() && !matches!(byte, b'!' | b'(' | b')'));
        return (length > 0).then(|| (Token::Name(&rest[..length]), length + 1));
    }
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let length =
        length_of(text, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let word = text[..length].trim_end_matches(['-', '_']);
    Some((keyword(word).map_or(Token::Name(word), Token::Keyword), word.len()))
}

fn quoted(text: &str) -> Option<(Token<'_>, usize)> {
    let inner = text.strip_prefix('"')?;
    let length = inner.find('"')?;
    Some((Token::Quoted(&inner[..length]), length + 2))
}

fn symbol(text: &str) -> Option<(Token<'_>, usize)> {
    let pairs = [
        ("&&", Token::Keyword(Keyword::And)),
        ("||", Token::Keyword(Keyword::Or)),
        (">=", Token::Keyword(Keyword::Compare(Comparison::GreaterOrEqual))),
        ("<=", Token::Keyword(Keyword::Compare(Comparison::LessOrEqual))),
        ("==", Token::Keyword(Keyword::Compare(Comparison::Equal))),
        ("!=", Token::Keyword(Keyword::Compare(Comparison::NotEqual))),
    ];
    for (pair, token) in pairs {
        if text.starts_with(pair) {
            return Some((token, 2));
        }
    }
    let token = match text.chars().next()? {
        '!' => Token::Keyword(Keyword::Not),
        '>' => Token::Keyword(Keyword::Compare(Comparison::Greater)),
        '<' => Token::Keyword(Keyword::Compare(Comparison::Less)),
        '=' => Token::Keyword(Keyword::Compare(Comparison::Equal)),
        symbol @ ('(' | ')' | '/') => Token::Symbol(symbol),
        _ => return None,
    };
    Some((token, 1))
}
