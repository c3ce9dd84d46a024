//! Reading a JSON line that this crate has written.
//!
//! It is no reader of JSON in general: it knows one object, in whose values are texts, numbers,
//! `true` and `false`, lists of texts, and objects of these. It skips deeper ones.

/// A value as it is in the line; of a text, what is between its quotes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct JsonLineValue<'a>(&'a [u8]);

/// The longest name of a value in an object, such as `source_jitter_active_count`.
const COLUMN_NAME_BYTES_MAX: usize = 64;

/// Calls `take` for each key and value. Each text of a list is a value. A value in an object has
/// the names of both, joined by `_`. Lists and objects that are deeper are left out.
pub(super) fn fields(line: &[u8], mut take: impl FnMut(&[u8], JsonLineValue<'_>)) {
    members(line.strip_prefix(b"{").unwrap_or_default(), b"", &mut take);
}

/// The members of an object, up to what is behind it.
fn members<'a>(
    mut rest: &'a [u8],
    outer: &[u8],
    take: &mut dyn FnMut(&[u8], JsonLineValue<'_>),
) -> &'a [u8] {
    while let Some((inner, behind)) = text(rest) {
        rest = behind.strip_prefix(b":").unwrap_or_default();
        let mut joined = [b'_'; COLUMN_NAME_BYTES_MAX];
        let Some(name) = join(outer, inner, &mut joined) else {
            rest = skip(rest);
            rest = rest.strip_prefix(b",").unwrap_or(rest);
            continue;
        };
        rest = match rest.first() {
            Some(b'[') => list(&rest[1..], &mut |value| take(name, value)),
            Some(b'{') if outer.is_empty() => members(&rest[1..], name, take),
            Some(b'{') => skip(rest),
            Some(b'"') => {
                let Some((value, behind)) = text(rest) else { return &[] };
                take(name, JsonLineValue(value));
                behind
            }
            _ => {
                let (value, behind) = word(rest);
                take(name, JsonLineValue(value));
                behind
            }
        };
        rest = rest.strip_prefix(b",").unwrap_or(rest);
    }
    rest.strip_prefix(b"}").unwrap_or(rest)
}

/// The name of a member of an object; `None` if it is too long for a column.
fn join<'a>(
    outer: &[u8],
    inner: &[u8],
    joined: &'a mut [u8; COLUMN_NAME_BYTES_MAX],
) -> Option<&'a [u8]> {
    let begin = if outer.is_empty() { 0 } else { outer.len() + 1 };
    let end = begin + inner.len();
    joined.get_mut(..outer.len())?.copy_from_slice(outer);
    joined.get_mut(begin..end)?.copy_from_slice(inner);
    joined.get(..end)
}

/// The texts of a list, up to what is behind it.
fn list<'a>(mut rest: &'a [u8], take: &mut dyn FnMut(JsonLineValue<'_>)) -> &'a [u8] {
    loop {
        rest = match rest.first() {
            Some(b'"') => {
                let Some((value, behind)) = text(rest) else { return &[] };
                take(JsonLineValue(value));
                behind
            }
            Some(b']') => return &rest[1..],
            Some(b',') => &rest[1..],
            Some(b'}' | b':') => return rest,
            Some(_) => skip(rest),
            None => return &[],
        };
    }
}

/// Skips a value, and returns what follows it.
fn skip(mut rest: &[u8]) -> &[u8] {
    let mut depth = 0_u32;
    loop {
        rest = match rest.first() {
            Some(b'"') => text(rest).map_or(&[][..], |(_, behind)| behind),
            Some(b'{' | b'[') => {
                depth += 1;
                &rest[1..]
            }
            Some(b'}' | b']') if depth > 0 => {
                depth -= 1;
                &rest[1..]
            }
            Some(b',' | b':') if depth > 0 => {
                rest = &rest[1..];
                continue;
            }
            Some(b'}' | b']' | b',' | b':') | None => return rest,
            Some(_) => word(rest).1,
        };
        if depth == 0 {
            return rest;
        }
    }
}

/// A text in quotes, and what is behind it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let bytes = bytes.strip_prefix(b"\"")?;
    let mut is_escaped = false;
    let end = bytes.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    })?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// A number, `true` or `false`, and what is behind it.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']'));
    bytes.split_at(end.unwrap_or(bytes.len()))
}

impl<'a> JsonLineValue<'a> {
    fn as_str(self) -> &'a str {
        std::str::from_utf8(self.0).unwrap_or_default()
    }

    pub(super) fn number(self) -> i64 {
        self.as_str().parse().unwrap_or_default()
    }

    pub(super) fn fraction(self) -> f64 {
        self.as_str().parse().unwrap_or_default()
    }

    pub(super) fn is_true(self) -> bool {
        self.0 == b"true"
    }

    /// Nanoseconds since 1970 of `2023-11-14T22:13:20.000000000+00:00`.
    pub(super) fn time_ns(self) -> i64 {
        let number = |range: std::ops::Range<usize>| {
            let digits = self.0.get(range).unwrap_or_default();
            digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit.wrapping_sub(b'0')))
        };
        // Years begin in March, so that a leap day is the last one of its year.
        let (month, day) = (number(5..7), number(8..10));
        let year = number(0..4) - i64::from(month <= 2);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        // Days from 0000-03-01 to 1970-01-01: 719468.
        let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
        let seconds = days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
        seconds.saturating_mul(1_000_000_000).saturating_add(number(20..29))
    }

    /// Appends a text without its escapes (RFC 8259 §7).
    pub(super) fn text(self, out: &mut Vec<u8>) {
        let mut rest = self.0;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
            out.extend_from_slice(&rest[..at]);
            let escape = rest.get(at + 1).copied().unwrap_or_default();
            rest = rest.get(at + 2..).unwrap_or_default();
            match escape {
                b'b' => out.push(8),
                b'f' => out.push(12),
                b'n' => out.push(b'\n'),
                b'r' => out.push(b'\r'),
                b't' => out.push(b'\t'),
                b'u' => {
                    let digits = std::str::from_utf8(rest.get(..4).unwrap_or_default());
                    let code = digits.ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    // The writer escapes only control characters so.
                    let letter =
                        code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = rest.get(4..).unwrap_or_default();
                }
                other => out.push(other),
            }
        }
        out.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_of_values_are_found() {
        let line = concat!(
            r#"{"kind":"flow","a":-5,"b":2.5,"c":true,"d":["x","y\"z"],"#,
            r#""e":{"count":2,"max_us":4},"f":"\u0001\n\\","g":{"n":"}],\"","l":["1","2"],"#,
            r#""o":[{"x":[1,"]"],"y":{}}],"z":false},"h":[[1,2],[-3,4]],"i":7}"#,
            "\n"
        );
        let mut found = Vec::new();
        fields(line.as_bytes(), |name, value| {
            let mut text = Vec::new();
            value.text(&mut text);
            let [name, text] =
                [name, &text].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            found.push(format!("{name}={text}"));
        });
        let expected = [
            "kind=flow",
            "a=-5",
            "b=2.5",
            "c=true",
            "d=x",
            "d=y\"z",
            "e_count=2",
            "e_max_us=4",
            "f=\u{1}\n\\",
            "g_n=}],\"",
            "g_l=1",
            "g_l=2",
            "g_z=false",
            "i=7",
        ];
        assert_eq!(found, expected);
        for cut in 0..line.len() {
            fields(&line.as_bytes()[..cut], |_, _| {});
        }
    }

    #[test]
    fn times_are_nanoseconds() {
        // Seconds as `date -d … +%s` prints them.
        for (text, expected) in [
            ("1970-01-01T00:00:00.000000001+00:00", 1),
            ("2023-11-14T22:13:20.123456789+00:00", 1_700_000_000_123_456_789),
            ("2024-02-29T12:00:00.000000000+00:00", 1_709_208_000_000_000_000),
            ("2000-12-31T23:59:59.999999999+00:00", 978_307_199_999_999_999),
        ] {
            assert_eq!(JsonLineValue(text.as_bytes()).time_ns(), expected, "{text}");
        }
    }
}
