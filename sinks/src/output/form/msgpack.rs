//! Records as MessagePack, for receivers that read no JSON.

use panoptes_records::json::read::{JSON_DEPTH_MAX, JsonReader, MalformedRecord, Token};
use rmp::encode::{write_bool, write_f64, write_sint, write_str, write_uint};

/// Bytes of a head whose count is known at the end only: the kind and 32 bits (MessagePack
/// specification, "map 32", "array 32", "str 32").
const HEAD_BYTES: usize = 5;
const STR_32: u8 = 0xdb;
pub(crate) const ARRAY_32: u8 = 0xdd;
const MAP_32: u8 = 0xdf;

/// An object or list whose end is not written.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    /// Where its head is.
    at: usize,
    entries: u32,
    is_object: bool,
}

/// Appends a record, which is JSON, to `out`. After an error, `out` is as it was.
pub fn append(record: &[u8], out: &mut Vec<u8>) -> Result<(), MalformedRecord> {
    let start = out.len();
    let result = try_append(record, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn try_append(record: &[u8], out: &mut Vec<u8>) -> Result<(), MalformedRecord> {
    let mut open = [Open::default(); JSON_DEPTH_MAX as usize];
    let mut depth = 0;
    let mut reader = JsonReader::new(record)?;
    loop {
        let token = reader.read()?;
        let is_entry = match token {
            Token::Key(_) => true,
            Token::ObjectEnd | Token::ListEnd | Token::End => false,
            _ => depth > 0 && !open[depth - 1].is_object,
        };
        if is_entry {
            open[depth - 1].entries += 1;
        }
        match token {
            Token::Object | Token::List => {
                let is_object = token == Token::Object;
                *open.get_mut(depth).ok_or(MalformedRecord)? =
                    Open { at: out.len(), entries: 0, is_object };
                depth += 1;
                begin(if is_object { MAP_32 } else { ARRAY_32 }, out);
            }
            Token::ObjectEnd | Token::ListEnd => {
                depth -= 1;
                let Open { at, entries, .. } = open[depth];
                end(at, entries, out);
            }
            Token::Key(key) => put(write_str(out, key))?,
            Token::Text(text) if !text.as_written().contains('\\') => {
                put(write_str(out, text.as_written()))?;
            }
            Token::Text(text) => {
                let at = out.len();
                begin(STR_32, out);
                for character in text.characters() {
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                end(at, (out.len() - at - HEAD_BYTES) as u32, out);
            }
            Token::Number(number) => put(write_uint(out, number).map(drop))?,
            Token::Negative(number) => put(write_sint(out, number).map(drop))?,
            Token::Decimal(number) => {
                let number: f64 = number.parse().or(Err(MalformedRecord))?;
                put(write_f64(out, number))?;
            }
            Token::Boolean(value) => put(write_bool(out, value))?,
            Token::End => return Ok(()),
        }
    }
}

fn begin(kind: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
}

fn end(at: usize, count: u32, out: &mut [u8]) {
    out[at + 1..at + HEAD_BYTES].copy_from_slice(&count.to_be_bytes());
}

/// Writing to memory does not fail.
fn put<E>(result: Result<(), E>) -> Result<(), MalformedRecord> {
    result.or(Err(MalformedRecord))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_the_specification_has_them() {
        let record = br#"{"a":7,"b":["x","\u00e9\"",{}],"c":true,"d":{"e":300,"f":1.5}}"#;
        let mut out = vec![9];
        append(record, &mut out).unwrap();
        let expected = [
            &[9][..],
            &[MAP_32, 0, 0, 0, 4, 0xa1, b'a', 7, 0xa1, b'b', ARRAY_32, 0, 0, 0, 3, 0xa1, b'x'],
            &[STR_32, 0, 0, 0, 3, 0xc3, 0xa9, b'"', MAP_32, 0, 0, 0, 0],
            &[0xa1, b'c', 0xc3, 0xa1, b'd', MAP_32, 0, 0, 0, 2, 0xa1, b'e', 0xcd, 1, 44],
            // "float 64": IEEE 754, the sign and the exponent first.
            &[0xa1, b'f', 0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn what_is_no_record_adds_nothing() {
        for wrong in [&b""[..], b"{", b"{\"a\":nul}", b"{\"a\":[}"] {
            let mut out = vec![9];
            assert_eq!(append(wrong, &mut out), Err(MalformedRecord));
            assert_eq!(out, [9]);
        }
    }
}
