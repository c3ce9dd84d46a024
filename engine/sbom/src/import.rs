//! SBOMs of other formats: only the hashes of approved content are used.

pub mod cyclonedx;
pub mod hash_list;
pub mod spdx;

use crate::digest::from_hex;
use crate::error::SbomError;
use crate::model::{Sbom, SbomFile, SbomSubject};

/// The file with these hashes, by the names of their algorithms in any spelling; `None` if none of
/// the algorithms is used.
fn file_of<'a>(
    whose: &str,
    hashes: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Option<SbomFile>, SbomError> {
    let mut file = SbomFile::default();
    for (name, value) in hashes {
        let algorithm: String =
            name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let value = value.trim().as_bytes();
        let wrong = |digits: usize| {
            SbomError::content(format!(
                "the {name} of `{whose}` is not {digits} hexadecimal digits"
            ))
        };
        match algorithm.as_str() {
            "sha256" => file.sha256 = Some(from_hex(value).ok_or_else(|| wrong(64))?),
            "sha1" => file.sha1 = Some(from_hex(value).ok_or_else(|| wrong(40))?),
            "md5" => file.md5 = Some(from_hex(value).ok_or_else(|| wrong(32))?),
            _ => {}
        }
    }
    Ok(file.has_hash().then_some(file))
}

/// The SBOM, if it has any hash.
fn approved(name: Option<String>, files: Vec<SbomFile>, advice: &str) -> Result<Sbom, SbomError> {
    if files.is_empty() {
        return Err(SbomError::content(format!(
            "holds no SHA-256, SHA-1 or MD5 of a file; {advice}"
        )));
    }
    let mut sbom = Sbom { subject: SbomSubject::Hashes { name }, files };
    sbom.settle()?;
    Ok(sbom)
}
