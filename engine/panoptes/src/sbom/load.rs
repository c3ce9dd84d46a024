//! Loads the references of the configuration's `sbom` into the engine's index, for each system.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use panoptes_engine::detect::binary_attestation::{
    ShippedBuilder, ShippedFile, ShippedFiles, ShippedSubject as Target,
};
use panoptes_engine::page_cache::PAGE_BYTES;
use panoptes_engine::shipped::TooMuch;
use panoptes_records::activities::Activity;
use panoptes_sbom::digest::{DIGEST_PAGE_BYTES, from_hex};
use panoptes_sbom::load;
use panoptes_sbom::model::{Sbom, SbomSubject};

use crate::config::{Configuration, Reference};

const _: () = assert!(DIGEST_PAGE_BYTES as u64 == PAGE_BYTES, "hashes are of equal pages");

/// A reference of the configuration that can't be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SbomFault {
    /// The file or folder.
    pub path: PathBuf,
    pub is_folder: bool,
    /// The fault and its place, in one line.
    pub reason: String,
}

impl SbomFault {
    /// The activity that reports the fault.
    pub fn activity(&self) -> Activity {
        if self.is_folder {
            Activity::InvalidSbomConfigurationFolder
        } else {
            Activity::InvalidSbomConfigurationFile
        }
    }
}

impl fmt::Display for SbomFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sbom: {}", self.reason)
    }
}

/// The index of what should run, for each list of references in the configuration.
#[derive(Debug, Default)]
pub struct Sboms {
    known: Vec<SbomIndex>,
}

/// One list of references.
#[derive(Debug)]
struct SbomIndex {
    list: Vec<Reference>,
    shipped: Arc<ShippedFiles>,
    /// A hash of the contents.
    fingerprint: u64,
}

impl Sboms {
    /// Reads all references of a configuration, or returns all faults.
    pub fn load(configuration: &Configuration) -> Result<Self, Vec<SbomFault>> {
        let systems = configuration.systems.iter().map(|system| &system.settings);
        let mut reader = SbomFileReader::default();
        let mut known: Vec<SbomIndex> = Vec::new();
        for settings in std::iter::once(&configuration.default).chain(systems) {
            let list = &settings.sbom;
            if !list.is_empty() && !known.iter().any(|one| one.list == *list) {
                let (shipped, fingerprint) = reader.shipped(list);
                known.push(SbomIndex {
                    list: list.clone(),
                    shipped: Arc::new(shipped),
                    fingerprint,
                });
            }
        }
        if reader.faults.is_empty() { Ok(Self { known }) } else { Err(reader.faults) }
    }

    /// The index of `list`; the index of an empty or unknown list is empty.
    pub fn of(&self, list: &[Reference]) -> Arc<ShippedFiles> {
        self.find(list).map(|known| Arc::clone(&known.shipped)).unwrap_or_default()
    }

    /// Whether `list` names something that was not read.
    pub fn lacks(&self, list: &[Reference]) -> bool {
        !list.is_empty() && self.find(list).is_none()
    }

    /// Approximate size of all of them in bytes.
    pub fn bytes(&self) -> u64 {
        self.known.iter().map(|known| known.shipped.bytes()).sum()
    }

    /// A hash of the contents of `list`; equal for lists with equal contents.
    pub fn fingerprint(&self, list: &[Reference]) -> u64 {
        self.find(list).map_or(0, |known| known.fingerprint)
    }

    fn find(&self, list: &[Reference]) -> Option<&SbomIndex> {
        self.known.iter().find(|known| known.list == list)
    }
}

/// Reads each file once, even if several lists name it.
#[derive(Default)]
struct SbomFileReader {
    read: HashMap<PathBuf, Option<Sbom>>,
    faults: Vec<SbomFault>,
}

impl SbomFileReader {
    /// The index of one list, and its fingerprint. References that can't be used are added to
    /// `faults`.
    fn shipped(&mut self, list: &[Reference]) -> (ShippedFiles, u64) {
        let mut builder = ShippedBuilder::new();
        let mut hasher = DefaultHasher::new();
        for reference in list {
            match reference {
                Reference::Hash(text) => {
                    text.hash(&mut hasher);
                    if let Err(too_much) = add_hash(&mut builder, text) {
                        self.fault(Path::new(text), false, too_much.to_string());
                    }
                }
                Reference::File(path) if path.is_dir() => match load::folder(path) {
                    Ok(files) => {
                        for file in &files {
                            self.add_file(&mut builder, file, &mut hasher);
                        }
                    }
                    Err(error) => self.fault(path, true, error.message),
                },
                Reference::File(path) => self.add_file(&mut builder, path, &mut hasher),
            }
        }
        (builder.build(), hasher.finish())
    }

    fn add_file(&mut self, builder: &mut ShippedBuilder, path: &Path, hasher: &mut DefaultHasher) {
        if !self.read.contains_key(path) {
            let sbom = match load::file(path) {
                Ok(sbom) => Some(sbom),
                Err(error) => {
                    self.fault(path, false, error.message + &hash_advice(path));
                    None
                }
            };
            self.read.insert(path.to_owned(), sbom);
        }
        let Some(Some(sbom)) = self.read.get(path) else { return };
        sbom.hash(hasher);
        if let Err(too_much) = add(builder, sbom) {
            self.fault(path, false, format!("{}: {too_much}", path.display()));
        }
    }

    fn fault(&mut self, path: &Path, is_folder: bool, reason: String) {
        let fault = SbomFault { path: path.to_owned(), is_folder, reason };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }
}

fn add(builder: &mut ShippedBuilder, sbom: &Sbom) -> Result<(), TooMuch> {
    let mut entrypoint = Vec::new();
    let target = match &sbom.subject {
        SbomSubject::Hashes { .. } => Target::Everywhere,
        SbomSubject::Root { .. } | SbomSubject::Package { .. } => Target::System,
        SbomSubject::Image(image) => {
            let words = image.entrypoint.iter().chain(&image.cmd);
            entrypoint.extend(words.map(|word| word.clone().into_bytes()));
            Target::Image {
                name: image.name.as_deref(),
                digest: image.digest.as_deref(),
                containers: &image.containers,
                entrypoint: &entrypoint,
            }
        }
    };
    let subject = builder.subject(&target)?;
    for file in &sbom.files {
        let shipped = ShippedFile {
            path: file.path.as_deref(),
            size: file.size,
            sha256: file.sha256,
            sha1: file.sha1,
            md5: file.md5,
            pages: &file.pages,
            arguments: &file.arguments,
        };
        builder.add(subject, &shipped)?;
    }
    Ok(())
}

/// The end of the message about a missing file whose name is probably a hash with too few or too
/// many digits; empty for others.
fn hash_advice(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let is_hash = name.len() >= HASH_DIGITS_MIN && name.iter().all(u8::is_ascii_hexdigit);
    if !is_hash || matches!(name.len(), 64 | 40 | 32) || path.exists() {
        return String::new();
    }
    format!("; a hash has 64, 40 or 32 digits, and this name has {}", name.len())
}

/// A name of so many hexadecimal digits is hardly a word.
const HASH_DIGITS_MIN: usize = 16;

/// Adds a hash of the configuration: 64, 40 or 32 hexadecimal digits.
fn add_hash(builder: &mut ShippedBuilder, text: &str) -> Result<(), TooMuch> {
    let text = text.as_bytes();
    let file = ShippedFile {
        sha256: from_hex(text),
        sha1: from_hex(text),
        md5: from_hex(text),
        ..ShippedFile::default()
    };
    let subject = builder.subject(&Target::Everywhere)?;
    builder.add(subject, &file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mode;

    fn configured(list: &[&str]) -> Configuration {
        let mut configuration = Configuration::defaults(Mode::Watch);
        let reference = |text: &&str| {
            if text.starts_with('/') {
                Reference::File(PathBuf::from(text))
            } else {
                Reference::Hash((*text).to_owned())
            }
        };
        configuration.default.sbom = list.iter().map(reference).collect();
        configuration
    }

    #[test]
    fn files_folders_and_hashes_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let list = folder.path().join("list");
        std::fs::write(&list, format!("{}  a\n", "1".repeat(64))).unwrap();
        std::fs::write(
            inner.join("ours"),
            r#"{"format":"panoptes-sbom","version":1,"subject":{"kind":"image","name":"web:1"},
               "files":[{"path":"/bin/a","md5":"00000000000000000000000000000001"}]}"#,
        )
        .unwrap();
        let hash = "2".repeat(40);
        let configuration = configured(&[&list.to_string_lossy(), &inner.to_string_lossy(), &hash]);
        let sboms = Sboms::load(&configuration).unwrap();
        let shipped = sboms.of(&configuration.default.sbom);
        assert!(!shipped.is_empty());
        assert!(sboms.of(&[]).is_empty());
        // The fingerprint depends on the contents.
        let list = &configuration.default.sbom;
        let again = Sboms::load(&configuration).unwrap();
        assert_eq!(sboms.fingerprint(list), again.fingerprint(list));
        std::fs::write(folder.path().join("list"), format!("{}  a\n", "3".repeat(64))).unwrap();
        let other = Sboms::load(&configuration).unwrap();
        assert_ne!(sboms.fingerprint(list), other.fingerprint(list));
    }

    #[test]
    fn a_hash_of_a_wrong_length_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let fault = |name: &str| {
            let path = folder.path().join(name).display().to_string();
            let faults = Sboms::load(&configured(&[&path])).unwrap_err();
            faults[0].reason.clone()
        };
        let digits = "a".repeat(41);
        let reason = fault(&digits);
        let end = "; a hash has 64, 40 or 32 digits, and this name has 41";
        assert!(reason.contains("No such file") && reason.ends_with(end), "{reason}");
        std::fs::write(folder.path().join(&digits), "{").unwrap();
        for other in [&*digits, "abc", &"x".repeat(41), &"a".repeat(40)] {
            let reason = fault(other);
            assert!(!reason.contains("digits, and"), "{reason}");
        }
    }

    #[test]
    fn all_faults_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, bad) = (folder.path().join("empty"), folder.path().join("bad"));
        std::fs::create_dir(&empty).unwrap();
        std::fs::write(&bad, "{").unwrap();
        let missing = folder.path().join("missing");
        let paths = [&empty, &bad, &missing, &bad].map(|path| path.to_string_lossy().into_owned());
        let list: Vec<&str> = paths.iter().map(String::as_str).collect();
        let faults = Sboms::load(&configured(&list)).unwrap_err();
        let found: Vec<_> = faults.iter().map(|fault| (&fault.path, fault.activity())).collect();
        assert_eq!(
            found,
            [
                (&empty, Activity::InvalidSbomConfigurationFolder),
                (&bad, Activity::InvalidSbomConfigurationFile),
                (&missing, Activity::InvalidSbomConfigurationFile),
            ]
        );
        assert!(faults[1].reason.starts_with(&format!("{}:1:1: ", bad.display())), "{faults:?}");
    }
}
