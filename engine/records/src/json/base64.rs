//! Bytes in base64 (RFC 4648 §4, with padding).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Full, JsonWriter};

impl JsonWriter<'_> {
    /// Some bytes in base64, quoted.
    pub fn base64(&mut self, before: &str, bytes: &[u8]) -> Result<(), Full> {
        let length = base64::encoded_len(bytes.len(), true).ok_or(Full)?;
        let room = self.after_slice(before, length + 2)?;
        let [first, room @ .., last] = room else { return Err(Full) };
        (*first, *last) = (b'"', b'"');
        BASE64.encode_slice(bytes, room).map_err(|_| Full).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Limits;

    #[test]
    fn texts_are_those_of_the_rfc() {
        // RFC 4648 §10.
        for (bytes, expected) in [("", "\"\""), ("f", "\"Zg==\""), ("foobar", "\"Zm9vYmFy\"")] {
            let mut out = [0; 16];
            let mut writer = JsonWriter::new(&mut out, Limits::new(16));
            assert_eq!(writer.base64("", bytes.as_bytes()), Ok(()));
            let length = writer.length();
            assert_eq!(std::str::from_utf8(&out[..length]), Ok(expected));
            let mut writer = JsonWriter::new(&mut out[..length - 1], Limits::new(16));
            assert_eq!(writer.base64("", bytes.as_bytes()), Err(Full));
        }
    }
}
