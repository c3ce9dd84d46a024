//! Panoptes' own format: JSON, one file per line, the same bytes for the same content.
//!
//! `{"format":"panoptes-sbom","version":1,"subject":{…},"files":[{…},…]}`; hashes are lower-case
//! hexadecimal, `pages` the digests of all pages one after the other in base64, `mode` four octal
//! digits. A path that is not UTF-8 is in base64 under `path_base64`. [`SCHEMA`] describes
//! everything.

use std::borrow::Cow;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::{PageDigest, from_hex, hex};
use crate::error::SbomError;
use crate::model::{Sbom, SbomFile, SbomSubject};

/// The value of `format`.
pub const NAME: &str = "panoptes-sbom";

/// The version that is written, and the only one that is read.
pub const VERSION: u64 = 1;

/// The JSON Schema of the format.
pub const SCHEMA: &str = include_str!("sbom.schema.json");

/// Writes an SBOM.
pub fn write(sbom: &Sbom, out: &mut dyn Write) -> io::Result<()> {
    let subject = serde_json::to_string(&sbom.subject)?;
    write!(out, "{{\"format\":\"{NAME}\",\"version\":{VERSION},\"subject\":{subject},\"files\":[")?;
    for (index, file) in sbom.files.iter().enumerate() {
        out.write_all(if index == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &WrittenFile::from(file))?;
    }
    out.write_all(b"\n]}\n")
}

/// Reads an SBOM whose [`NAME`] and [`VERSION`] were already checked.
pub fn read(text: &[u8]) -> Result<Sbom, SbomError> {
    let document: SbomDocument<'_> = serde_json::from_slice(text).map_err(|error| at(&error))?;
    let mut files = Vec::with_capacity(document.files.len());
    // The place of the last file, from which lines are counted.
    let (mut offset, mut place) = (0, TextPosition { line: 1, column: 1 });
    for written in document.files {
        let written = written.get();
        // It is a slice of `text`.
        let start = written.as_ptr().addr().saturating_sub(text.as_ptr().addr());
        place = place.after(text.get(offset..start).unwrap_or_default());
        offset = start;
        let read = serde_json::from_str(written).map_err(|error| (place.plus(&error), why(&error)));
        let file = read.and_then(|file: WrittenFile<'_>| {
            SbomFile::try_from(file).map_err(|message| (place, message))
        });
        let place = |(place, message): (TextPosition, String)| {
            SbomError::content(format!("{}:{}: {message}", place.line, place.column))
        };
        files.push(file.map_err(place)?);
    }
    let mut sbom = Sbom { subject: document.subject, files };
    sbom.settle()?;
    Ok(sbom)
}

/// A place in a text; both numbers count from one, columns in bytes.
#[derive(Clone, Copy)]
struct TextPosition {
    line: usize,
    column: usize,
}

impl TextPosition {
    /// The place after some more text.
    fn after(self, text: &[u8]) -> Self {
        match text.iter().rposition(|byte| *byte == b'\n') {
            None => Self { column: self.column + text.len(), ..self },
            Some(last) => Self {
                line: self.line + text.split(|byte| *byte == b'\n').count() - 1,
                column: text.len() - last,
            },
        }
    }

    /// The place of an error in a text that begins here.
    fn plus(self, error: &serde_json::Error) -> Self {
        match error.line() {
            0 => self,
            1 => Self { column: self.column + error.column().saturating_sub(1), ..self },
            line => Self { line: self.line + line - 1, column: error.column() },
        }
    }
}

/// An error preceded by its place: `LINE:COLUMN: message`.
pub(crate) fn at(error: &serde_json::Error) -> SbomError {
    match (error.line(), error.column()) {
        (0, _) => SbomError::content(why(error)),
        (line, column) => SbomError::content(format!("{line}:{column}: {}", why(error))),
    }
}

/// The message of an error, without its place.
fn why(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&place).map_or(message.clone(), str::to_owned)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SbomDocument<'a> {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "version")]
    _version: u64,
    subject: SbomSubject,
    #[serde(borrow)]
    files: Vec<&'a RawValue>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    mode: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sha1: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    md5: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pages: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    arguments: Vec<Vec<String>>,
}

impl<'a> From<&'a SbomFile> for WrittenFile<'a> {
    fn from(file: &'a SbomFile) -> Self {
        let path = file.path.as_deref();
        let text = path.and_then(|path| str::from_utf8(path).ok());
        let raw = if text.is_none() { path } else { None };
        let pages = (!file.pages.is_empty()).then(|| BASE64.encode(file.pages.as_flattened()));
        let words = |list: &Vec<Vec<u8>>| {
            list.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect()
        };
        Self {
            path: text.map(Cow::Borrowed),
            path_base64: raw.map(|path| BASE64.encode(path).into()),
            size: file.size,
            mode: file.mode.map(|mode| format!("{mode:04o}").into()),
            sha256: file.sha256.map(|hash| hex(&hash).into()),
            sha1: file.sha1.map(|hash| hex(&hash).into()),
            md5: file.md5.map(|hash| hex(&hash).into()),
            pages: pages.map(Cow::Owned),
            arguments: file.arguments.iter().map(words).collect(),
        }
    }
}

impl TryFrom<WrittenFile<'_>> for SbomFile {
    type Error = String;

    fn try_from(written: WrittenFile<'_>) -> Result<Self, String> {
        let path = match (written.path, written.path_base64) {
            (Some(_), Some(_)) => {
                return Err("a file has both `path` and `path_base64`; keep one".to_owned());
            }
            (Some(path), None) => Some(path.into_owned().into_bytes()),
            (None, Some(raw)) => Some(
                BASE64.decode(raw.as_bytes()).map_err(|error| format!("`path_base64`: {error}"))?,
            ),
            (None, None) => None,
        };
        let mut file = Self { path, size: written.size, ..Self::default() };
        let name = |file: &Self| file.shown();
        if let Some(mode) = written.mode {
            let digits = mode.len() == 4 && mode.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
            let value = u16::from_str_radix(&mode, 8).ok().filter(|_| digits);
            file.mode = Some(value.ok_or_else(|| {
                format!("{}: `mode` is not four octal digits, such as 0755", name(&file))
            })?);
        }
        file.sha256 = hash("sha256", written.sha256, &file)?;
        file.sha1 = hash("sha1", written.sha1, &file)?;
        file.md5 = hash("md5", written.md5, &file)?;
        if let Some(pages) = written.pages {
            file.pages = page_digests(&pages).map_err(|why| format!("{}: {why}", name(&file)))?;
        }
        let words = |list: Vec<String>| list.into_iter().map(String::into_bytes).collect();
        file.arguments = written.arguments.into_iter().map(words).collect();
        file.check()?;
        Ok(file)
    }
}

fn hash<const N: usize>(
    key: &str,
    text: Option<Cow<'_, str>>,
    file: &SbomFile,
) -> Result<Option<[u8; N]>, String> {
    let Some(text) = text else { return Ok(None) };
    from_hex(text.as_bytes())
        .map(Some)
        .ok_or_else(|| format!("{}: `{key}` is not {} hexadecimal digits", file.shown(), N * 2))
}

fn page_digests(text: &str) -> Result<Vec<PageDigest>, String> {
    let bytes = BASE64.decode(text).map_err(|error| format!("`pages` is not base64: {error}"))?;
    let (digests, rest) = bytes.as_chunks::<16>();
    if rest.is_empty() {
        Ok(digests.to_vec())
    } else {
        Err(format!("`pages` has {} bytes, which is no number of 16-byte digests", bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{PageHashes, digest};
    use crate::model::SbomImage;

    #[test]
    fn what_no_subject_has_is_refused() {
        for (kind, more) in
            [("image", "names"), ("root", "cmd"), ("package", "cmd"), ("hashes", "version")]
        {
            let with = |more: &str| {
                let subject = format!(r#"{{"kind":"{kind}","name":"a"{more}}}"#);
                serde_json::from_str::<SbomSubject>(&subject).map(|_| ()).map_err(|e| e.to_string())
            };
            assert_eq!(with(""), Ok(()));
            let why = with(&format!(r#","{more}":"b""#)).unwrap_err();
            assert!(why.contains("unknown field") && why.contains(more), "{why}");
        }
        assert!(serde_json::from_str::<SbomSubject>(r#"{"kind":"machine"}"#).is_err());
    }

    fn example() -> Sbom {
        let mut block = vec![0; 1 << 16];
        let content =
            digest(&mut &[7; 5000][..], &mut block, PageHashes::All, b"", 0, &mut |_| {}).unwrap();
        let file = SbomFile {
            path: Some(b"/bin/caf\xc3\xa9".to_vec()),
            size: Some(content.size),
            mode: Some(0o4755),
            sha256: Some(content.sha256),
            sha1: Some(content.sha1),
            md5: Some(content.md5),
            pages: content.pages,
            arguments: vec![vec![b"cafe".to_vec(), b"-x".to_vec()]],
        };
        let raw = SbomFile {
            path: Some(b"/bin/\xff".to_vec()),
            md5: Some([1; 16]),
            ..SbomFile::default()
        };
        Sbom {
            subject: SbomSubject::Image(SbomImage {
                name: Some("app:1".to_owned()),
                digest: Some("sha256:00".to_owned()),
                entrypoint: vec!["/bin/café".to_owned()],
                containers: vec!["app-*".to_owned()],
                ..SbomImage::default()
            }),
            files: vec![file, raw],
        }
    }

    fn written(sbom: &Sbom) -> String {
        let mut bytes = Vec::new();
        write(sbom, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let sbom = example();
        let text = written(&sbom);
        assert_eq!(read(text.as_bytes()).unwrap(), sbom);
        // One line per file.
        assert_eq!(text.lines().count(), 1 + sbom.files.len() + 1);
        assert!(text.contains(r#""mode":"4755""#), "{text}");
        for subject in [
            SbomSubject::Root { name: Some("web".to_owned()) },
            SbomSubject::Package { name: None, version: Some("1".to_owned()), architecture: None },
            SbomSubject::Hashes { name: None },
        ] {
            let sbom = Sbom { subject, ..example() };
            assert_eq!(read(written(&sbom).as_bytes()).unwrap(), sbom);
        }
    }

    /// The example with one piece of its text replaced is refused with a message.
    #[track_caller]
    fn refuses(from: &str, to: &str, message: &str) {
        let text = written(&example());
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from} is not in {text}");
        let error = read(changed.as_bytes()).unwrap_err();
        assert!(error.message.contains(message), "{}", error.message);
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        refuses("\"size\":5000", "\"size\":9000", "2:1: /bin/café has 2");
        refuses("\"size\":5000", "\"size\":9000", "is 3 pages");
        refuses("\"size\":5000,", "", "no `size`");
        refuses("\"mode\":\"4755\"", "\"mode\":\"755\"", "four octal digits");
        refuses("\"path\":\"/bin", "\"path\":\"bin", "not absolute");
        refuses("\"path\":\"/bin", "\"path\":\"/../bin", "`..`");
        refuses("\"sha1\":\"", "\"sha1\":\"0", "`sha1` is not 40 hexadecimal digits");
        refuses("\"sha256\":\"", "\"sha512\":\"", "2:55: unknown field `sha512`");
        refuses("\"version\":1", "\"version\":1,\"more\":2", "1:44: unknown field `more`");
        refuses(",\"sha256\":\"", ",\n\n \"sha256\":7,\"path\":\"", "4:11: invalid type: integer");
        refuses("\"pages\":\"", "\"pages\":\"=", "not base64");
        refuses("\"path_base64\":\"", "\"path_base64\":\"!", "`path_base64`");
        refuses("\"kind\":\"image\"", "\"kind\":\"picture\"", "picture");
        refuses("\"files\":[", "\"files\":[7,", "invalid type: integer `7`");
        refuses("01010101\"", "01\"", "3:1: ");
        refuses("\n]}", "\n]", "EOF while parsing");
    }

    #[test]
    fn the_schema_is_json_and_has_the_version() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        assert_eq!(schema["properties"]["format"]["const"], NAME);
        assert_eq!(schema["properties"]["version"]["const"], VERSION);
    }
}
