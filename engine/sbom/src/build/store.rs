//! Where an image's blobs are stored: in a folder, or in an archive of one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use crate::digest::{from_hex, hex};
use crate::error::{SbomError, shown};
use crate::load::{open_regular, read_bounded};

/// Maximum number of an archive's members read.
const MEMBERS_MAX: usize = 1 << 20;
/// Maximum number of links followed from one member.
const LINKS_MAX: u32 = 8;
/// Maximum size of an image's JSON: containerd accepts 8 MiB.
const JSON_BYTES_MAX: u64 = 16 << 20;

/// The files of an image, by name.
#[derive(Debug)]
pub(super) enum Store {
    Folder(PathBuf),
    Archive { file: File, members: HashMap<String, ArchiveMember> },
}

/// A member of an archive.
#[derive(Debug)]
pub(super) enum ArchiveMember {
    File { at: u64, size: u64 },
    Link(String),
}

impl Store {
    /// Lists the members of an archive, without reading them.
    pub(super) fn archive(file: File) -> Result<Self, SbomError> {
        let mut members = HashMap::new();
        let mut archive = tar::Archive::new(&file);
        // Raw: names that need a member of their own are longer than any that is searched.
        for entry in
            archive.entries_with_seek().map_err(SbomError::unpacking)?.raw(true).take(MEMBERS_MAX)
        {
            let entry = entry.map_err(SbomError::unpacking)?;
            let Ok(name) = String::from_utf8(entry.path_bytes().into_owned()) else { continue };
            let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
            let member = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    ArchiveMember::File { at: entry.raw_file_position(), size: entry.size() }
                }
                EntryType::Symlink | EntryType::Link => {
                    let Some(to) = entry.header().link_name_bytes() else { continue };
                    let to = String::from_utf8_lossy(&to).into_owned();
                    let is_hard = entry.header().entry_type() == EntryType::Link;
                    ArchiveMember::Link(if is_hard { to } else { beside(&name, &to) })
                }
                _ => continue,
            };
            members.insert(name, member);
        }
        Ok(Self::Archive { file, members })
    }

    /// Whether there is a file with this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Archive { members, .. } => members.contains_key(name),
        }
    }

    /// Opens a file and returns its size. The name was made here or checked: it never leads
    /// outside.
    pub(super) fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), SbomError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let failed = SbomError::reading(&path);
                let file = open_regular(&path, OFlags::empty()).map_err(failed)?;
                let size = file.metadata().map_err(failed)?.len();
                Ok((Box::new(file), size))
            }
            Self::Archive { file, members } => {
                let mut name = name.to_owned();
                for _ in 0..LINKS_MAX {
                    match members.get(&name) {
                        Some(ArchiveMember::File { at, size }) => {
                            let end = at.saturating_add(*size);
                            return Ok((Box::new(FileSection { file, at: *at, end }), *size));
                        }
                        Some(ArchiveMember::Link(to)) => name.clone_from(to),
                        None => break,
                    }
                }
                Err(SbomError::content(format!("has no {}", shown(name.as_bytes()))))
            }
        }
    }

    /// Reads a JSON file.
    pub(super) fn json(&self, name: &str) -> Result<Vec<u8>, SbomError> {
        let (input, _) = self.open(name)?;
        let bytes = read_bounded(input, JSON_BYTES_MAX)
            .map_err(|error| SbomError::content(format!("{name}: {error}")))?;
        let too_large =
            || format!("{} has more than {JSON_BYTES_MAX} bytes", shown(name.as_bytes()));
        bytes.ok_or_else(|| SbomError::content(too_large()))
    }

    /// Reads a JSON blob and checks it against its digest.
    pub(super) fn json_blob(&self, digest: &Digest) -> Result<Vec<u8>, SbomError> {
        let bytes = self.json(&digest.blob())?;
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        digest.check(&found, &digest.blob())?;
        Ok(bytes)
    }
}

/// The target of a link at `name`: in archives of older versions of docker, another layer.
fn beside(name: &str, to: &str) -> String {
    let mut names: Vec<&str> = name.split('/').collect();
    names.pop();
    for step in to.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            step => names.push(step),
        }
    }
    names.join("/")
}

/// A section of a file, read without moving the file's own position.
struct FileSection<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for FileSection<'_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = rest.min(target.len());
        let count = self.file.read_at(&mut target[..length], self.at)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// A SHA-256 as images write it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// Reads `sha256:…`.
    pub(super) fn parse(text: &str) -> Result<Self, SbomError> {
        let digits = text.strip_prefix("sha256:");
        digits.and_then(|digits| from_hex(digits.as_bytes())).map(Self).ok_or_else(|| {
            let shown = shown(text.as_bytes());
            SbomError::content(format!("has the digest {shown:?}; only SHA-256 is read"))
        })
    }

    /// The digest of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A SHA-256 that is a file's name, without its algorithm.
    pub(super) fn from_name(name: &Path) -> Option<Self> {
        from_hex(name.file_stem()?.as_encoded_bytes()).map(Self)
    }

    /// The path of its blob in a layout.
    pub(super) fn blob(&self) -> String {
        format!("blobs/sha256/{}", hex(&self.0))
    }

    /// An error if the digest differs.
    pub(super) fn check(&self, found: &[u8; 32], what: &str) -> Result<(), SbomError> {
        if self.0 == *found {
            return Ok(());
        }
        let found = hex(found);
        Err(SbomError::content(format!("{what} is damaged: its SHA-256 is {found}, not {self}")))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "sha256:{}", hex(&self.0))
    }
}

/// Hashes the bytes read through it.
pub(super) struct HashingReader<R> {
    input: R,
    sha256: Sha256,
}

impl<R: Read> HashingReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, sha256: Sha256::new() }
    }

    /// Reads the rest, and returns the SHA-256 of everything.
    pub(super) fn finish(mut self) -> io::Result<[u8; 32]> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.sha256.finalize().into())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(target)?;
        self.sha256.update(&target[..count]);
        Ok(count)
    }
}
