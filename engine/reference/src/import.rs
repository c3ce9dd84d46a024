//! SBOMs of other formats: only the hashes of approved content are used.

pub mod cyclonedx;
pub mod hash_list;
pub mod spdx;

use crate::digest::from_hex;
use crate::error::Error;
use crate::model::{File, Sbom, Subject};

/// Collects the hashes of one file.
#[derive(Clone, Debug, Default)]
struct Hashes(File);

impl Hashes {
    /// Adds a hash, if its algorithm is used; `name` is the algorithm's in any spelling.
    fn add(&mut self, name: &str, value: &str, whose: &str) -> Result<(), String> {
        let algorithm: String =
            name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
        let value = value.trim().as_bytes();
        let wrong =
            |digits: usize| format!("the {name} of `{whose}` is not {digits} hexadecimal digits");
        match algorithm.as_str() {
            "sha256" => self.0.sha256 = Some(from_hex(value).ok_or_else(|| wrong(64))?),
            "sha1" => self.0.sha1 = Some(from_hex(value).ok_or_else(|| wrong(40))?),
            "md5" => self.0.md5 = Some(from_hex(value).ok_or_else(|| wrong(32))?),
            _ => {}
        }
        Ok(())
    }

    /// The file, if it has any hash.
    fn file(self) -> Option<File> {
        let Self(file) = self;
        (file.sha256.is_some() || file.sha1.is_some() || file.md5.is_some()).then_some(file)
    }
}

/// The SBOM, if it has any hash.
fn approved(name: Option<String>, files: Vec<File>, advice: &str) -> Result<Sbom, Error> {
    if files.is_empty() {
        return Err(Error::content(format!("holds no SHA-256, SHA-1 or MD5 of a file; {advice}")));
    }
    let mut sbom = Sbom { subject: Subject::Hashes { name }, files };
    sbom.settle()?;
    Ok(sbom)
}
