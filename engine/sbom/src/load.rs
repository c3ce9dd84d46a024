//! Reads an SBOM from a file in any format, and refuses it if any part is wrong.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::SbomError;
use crate::format::{self, at};
use crate::import::{cyclonedx, hash_list, spdx};
use crate::model::Sbom;

/// Maximum size of a file: enough for some millions of files.
pub const BYTES_MAX: u64 = 1 << 30;

/// Maximum number of files read from a folder.
const FOLDER_FILES_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SbomFormat {
    /// Panoptes' own format.
    Panoptes,
    /// SPDX 2.2 or 2.3.
    Spdx2,
    Spdx3,
    CycloneDx,
    HashList,
}

/// The keys by which formats are detected.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    format: Option<String>,
    version: Option<serde_json::Value>,
    spdx_version: Option<String>,
    bom_format: Option<String>,
    #[serde(rename = "@graph")]
    graph: Option<IgnoredAny>,
}

/// Detects the format of a text, and checks that its version is supported.
fn detect(text: &[u8]) -> Result<SbomFormat, SbomError> {
    let beginning = text.trim_ascii_start();
    if !beginning.starts_with(b"{") && !beginning.starts_with(b"[") {
        return Ok(SbomFormat::HashList);
    }
    if beginning.starts_with(b"[") {
        return Err(SbomError::content("is a JSON list; an SBOM is an object"));
    }
    let head: Head = serde_json::from_slice(text).map_err(|error| at(&error))?;
    match head {
        Head { format: Some(name), version, .. } if name == format::NAME => match version {
            Some(version) if version == format::VERSION => Ok(SbomFormat::Panoptes),
            Some(version) => Err(SbomError::content(format!(
                "is of version {version}; this Panoptes reads version {}",
                format::VERSION
            ))),
            None => Err(SbomError::content("has no `version`; the one that is read is 1")),
        },
        Head { spdx_version: Some(version), .. } => match version.as_str() {
            "SPDX-2.2" | "SPDX-2.3" => Ok(SbomFormat::Spdx2),
            _ => Err(SbomError::content(format!(
                "is of version `{}`; SPDX-2.2, SPDX-2.3 and 3.0 are read",
                crate::error::shown(version.as_bytes())
            ))),
        },
        Head { bom_format: Some(name), .. } if name == "CycloneDX" => Ok(SbomFormat::CycloneDx),
        Head { graph: Some(_), .. } => Ok(SbomFormat::Spdx3),
        _ => Err(SbomError::content(
            "is JSON of an unknown format; known are Panoptes (`panoptes sbom build`), \
             SPDX and CycloneDX",
        )),
    }
}

/// Reads an SBOM from a text.
pub fn parse(text: &[u8]) -> Result<Sbom, SbomError> {
    match detect(text)? {
        SbomFormat::Panoptes => format::read(text),
        SbomFormat::Spdx2 => spdx::read_2(text),
        SbomFormat::Spdx3 => spdx::read_3(text),
        SbomFormat::CycloneDx => cyclonedx::read(text),
        SbomFormat::HashList => hash_list::read(text),
    }
}

/// Reads an SBOM from a file.
pub fn file(path: &Path) -> Result<Sbom, SbomError> {
    let named = |error: SbomError| {
        // A place follows the name without a space, as in compilers' messages.
        let is_place = error.message.starts_with(|first: char| first.is_ascii_digit());
        let between = if is_place { ":" } else { ": " };
        SbomError { message: format!("{}{between}{}", path.display(), error.message), ..error }
    };
    let bytes = open_regular(path, OFlags::empty()).and_then(|file| read_bounded(file, BYTES_MAX));
    let bytes = bytes.map_err(SbomError::reading(path))?.ok_or_else(|| {
        let message = format!("is larger than {} MiB; is it an SBOM?", BYTES_MAX >> 20);
        named(SbomError::content(message))
    })?;
    parse(&bytes).map_err(named)
}

/// Reads to the end; `None` if there are more than `bytes_max` bytes.
pub(crate) fn read_bounded(input: impl Read, bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    input.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= bytes_max))
}

/// Opens a regular file; other files, such as a pipe on which opening would block, are refused.
pub(crate) fn open_regular(path: &Path, flags: OFlags) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | flags).bits() as i32)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// Opens a regular file, but no link; `None` if there is none.
pub(crate) fn open_if_there(path: &Path) -> Result<Option<File>, SbomError> {
    match open_regular(path, OFlags::NOFOLLOW) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SbomError::reading(path)(error)),
    }
}

/// What changes if a file is written; `None` if it is missing.
pub(crate) fn state(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

/// The files of a folder that are not hidden, without folders, in the order of their names.
pub fn folder(path: &Path) -> Result<Vec<PathBuf>, SbomError> {
    let failed = SbomError::reading(path);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && !entry.path().is_dir() {
            files.push(entry.path());
        }
        if files.len() > FOLDER_FILES_MAX {
            let message = format!("{} holds more than {FOLDER_FILES_MAX} files", path.display());
            return Err(SbomError::content(message));
        }
    }
    if files.is_empty() {
        let message =
            format!("{} holds no file; put SBOMs into it, or leave it out", path.display());
        return Err(SbomError::content(message));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_detected_by_their_content() {
        for (text, format) in [
            (r#"{"format":"panoptes-sbom","version":1}"#, SbomFormat::Panoptes),
            (r#"{"spdxVersion":"SPDX-2.3","files":[]}"#, SbomFormat::Spdx2),
            (r#" {"@context":"x","@graph":[]}"#, SbomFormat::Spdx3),
            (r#"{"bomFormat":"CycloneDX"}"#, SbomFormat::CycloneDx),
            ("00  a", SbomFormat::HashList),
        ] {
            assert_eq!(detect(text.as_bytes()), Ok(format), "{text}");
        }
    }

    #[test]
    fn what_is_not_read_is_an_error() {
        let refuses = |text: &str, message: &str| {
            let error = parse(text.as_bytes()).unwrap_err().message;
            assert!(error.contains(message), "{text}: {error}");
        };
        refuses(
            r#"{"format":"panoptes-sbom","version":2}"#,
            "version 2; this Panoptes reads version 1",
        );
        refuses(r#"{"format":"panoptes-sbom"}"#, "no `version`");
        refuses(r#"{"spdxVersion":"SPDX-1.2"}"#, "SPDX-1.2");
        refuses("{\"a\":1}", "JSON of an unknown format");
        refuses("[]", "JSON list");
        refuses("{\"a\":\n 1", "2:2: EOF");
    }

    #[test]
    fn a_file_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        std::fs::write(&path, "{\"a\":\n x}").unwrap();
        let message = file(&path).unwrap_err().message;
        assert!(message.starts_with(&format!("{}:2:2: ", path.display())), "{message}");
        assert!(file(folder.path()).unwrap_err().message.contains("not a regular file"));
        assert!(file(&folder.path().join("none")).unwrap_err().message.contains("can't be read"));
    }

    #[test]
    fn a_folder_is_its_files() {
        let dir = tempfile::tempdir().unwrap();
        assert!(folder(dir.path()).unwrap_err().message.contains("holds no file"));
        for name in ["b", "a", ".hidden"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("c")).unwrap();
        let files = folder(dir.path()).unwrap();
        assert_eq!(files, [dir.path().join("a"), dir.path().join("b")]);
    }
}
