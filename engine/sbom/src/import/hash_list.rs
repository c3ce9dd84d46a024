//! Plain lists of hashes: the output of `sha256sum`, `sha1sum` and `md5sum`, also with `--tag` (as
//! by BSD's tools), or bare hashes, one per line. Empty lines and lines that begin with `#` are
//! skipped.

use super::{approved, file_of};
use crate::error::{SbomError, shown};
use crate::model::{Sbom, SbomFile};

/// Reads a list.
pub fn read(text: &[u8]) -> Result<Sbom, SbomError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut files = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let place =
            |error: SbomError| SbomError::content(format!("{}:1: {}", index + 1, error.message));
        files.push(hash_of(line).map_err(place)?);
    }
    approved(None, files, "write one hash a line, as sha256sum prints them")
}

/// The hash in a line that is not empty.
fn hash_of(line: &[u8]) -> Result<SbomFile, SbomError> {
    // A backslash in front means that the name is escaped; the hash is not.
    let line = line.strip_prefix(b"\\").unwrap_or(line);
    let bare = || {
        let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
        let digits = &line[..end];
        let algorithm: &[u8] = match digits.len() {
            64 => b"SHA256",
            40 => b"SHA1",
            32 => b"MD5",
            _ => return None,
        };
        digits.iter().all(u8::is_ascii_hexdigit).then_some((algorithm, digits))
    };
    let (algorithm, digits) = tagged(line).or_else(bare).ok_or_else(|| unknown(line))?;
    let hash = [algorithm, digits].map(String::from_utf8_lossy);
    file_of("this line", [(&*hash[0], &*hash[1])])?.ok_or_else(|| {
        let algorithm = shown(algorithm);
        SbomError::content(format!("{algorithm} is not used here; list SHA256, SHA1 or MD5"))
    })
}

fn unknown(line: &[u8]) -> SbomError {
    SbomError::content(format!(
        "{:?} is no line of a list of hashes; write 64, 40 or 32 hexadecimal digits (SHA-256, \
         SHA-1, MD5) and a name, as sha256sum prints them",
        shown(line.get(..80).unwrap_or(line))
    ))
}

/// `SHA256 (name) = digits`: the algorithm and the digits.
fn tagged(line: &[u8]) -> Option<(&[u8], &[u8])> {
    const MIDDLE: &[u8] = b") = ";
    let open = line.windows(2).position(|pair| pair == b" (")?;
    let close = line.windows(MIDDLE.len()).rposition(|window| window == MIDDLE)?;
    if close < open {
        return None;
    }
    Some((&line[..open], &line[close + MIDDLE.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_is_read() {
        let (sha256, sha1, md5) = ("1".repeat(64), "2".repeat(40), "A".repeat(32));
        let text = format!(
            "# approved\n\n{sha256}  /bin/a\r\n\\{sha1} */a\\nb\n{md5}\n\
             SHA256 (a) = b (c)) = {sha256}\nMD5 (x) = {}",
            "b".repeat(32)
        );
        let sbom = read(text.as_bytes()).unwrap();
        // The first hash occurs twice.
        assert_eq!(sbom.files.len(), 4);
        assert!(sbom.files.iter().all(|file| file.path.is_none()));
        assert!(sbom.files.iter().any(|file| file.sha256 == Some([0x11; 32])));
        assert!(sbom.files.iter().any(|file| file.sha1 == Some([0x22; 20])));
        assert!(sbom.files.iter().any(|file| file.md5 == Some([0xaa; 16])));
        assert!(sbom.files.iter().any(|file| file.md5 == Some([0xbb; 16])));
    }

    #[test]
    fn a_bad_line_is_named() {
        let refuses = |text: &str, message: &str| {
            let error = read(text.as_bytes()).unwrap_err().message;
            assert!(error.contains(message), "{error}");
        };
        refuses(&format!("{}\nhello world", "1".repeat(64)), "2:1: \"hello world\" is no line");
        refuses(&"1".repeat(63), "1:1: ");
        refuses(&"x".repeat(64), "1:1: ");
        refuses(&format!("SHA512 (a) = {}", "1".repeat(128)), "SHA512 is not used here");
        refuses(&format!("SHA1 (a) = {}", "1".repeat(64)), "is not 40 hexadecimal digits");
        refuses("", "holds no SHA-256");
    }
}
