//! The content of an SBOM, independent of its format.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::digest::{DIGEST_PAGE_BYTES, PageDigest};
use crate::error::{SbomError, shown};

/// Maximum length of a path from the kernel (`PATH_MAX`, include/uapi/linux/limits.h).
pub const PATH_BYTES_MAX: usize = 4096;

/// A software bill of materials.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Sbom {
    /// What it describes.
    pub subject: SbomSubject,
    /// The files, in the order of their paths.
    pub files: Vec<SbomFile>,
}

/// What an SBOM describes.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SbomSubject {
    /// A container image: what may run in its containers.
    Image(SbomImage),
    /// A machine's root directory: what may run outside of containers.
    Root {
        /// A name for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// A package, installed on a machine.
    Package {
        /// A name for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        architecture: Option<String>,
    },
    /// Approved content, wherever it runs.
    Hashes {
        /// A name for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
}

/// A container image.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SbomImage {
    /// Its reference, such as `docker.io/library/nginx:1.27`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The digest of its manifest (of a `docker save` archive: its configuration), `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Operating system and architecture: `linux/amd64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The program that a container starts, before `cmd`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Its arguments, or the program itself if there is no entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// The environment: `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Globs of ids or names of containers with this image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct SbomFile {
    /// Absolute inside the subject's root, without symbolic links; `None` if only the content
    /// counts.
    pub path: Option<Vec<u8>>,
    /// In bytes.
    pub size: Option<u64>,
    /// Permission bits (`S_IALLUGO`).
    pub mode: Option<u16>,
    pub sha256: Option<[u8; 32]>,
    pub sha1: Option<[u8; 20]>,
    pub md5: Option<[u8; 16]>,
    /// Digest of each 4 KiB page, the last one up to the file's end; empty if not computed.
    pub pages: Vec<PageDigest>,
    /// The argument lists with which it may be started; any if empty.
    pub arguments: Vec<Vec<Vec<u8>>>,
}

impl SbomSubject {
    /// The word for its kind in Panoptes' format.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "image",
            Self::Root { .. } => "root",
            Self::Package { .. } => "package",
            Self::Hashes { .. } => "hashes",
        }
    }

    /// The name for people.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Image(SbomImage { name, .. })
            | Self::Root { name }
            | Self::Package { name, .. }
            | Self::Hashes { name } => name.as_deref(),
        }
    }

    /// Whether its files are identified by path, not by content alone.
    const fn has_paths(&self) -> bool {
        !matches!(self, Self::Hashes { .. })
    }
}

impl SbomFile {
    /// An error if the file itself is inconsistent.
    pub fn check(&self) -> Result<(), String> {
        if let Some(path) = &self.path {
            check_path(path)?;
        }
        if !self.has_hash() {
            return Err(format!("{} has no hash", self.shown()));
        }
        if !self.pages.is_empty() {
            let Some(size) = self.size else {
                return Err(format!("{} has `pages` and no `size`", self.shown()));
            };
            let pages = size.div_ceil(DIGEST_PAGE_BYTES as u64);
            if pages != self.pages.len() as u64 {
                return Err(format!(
                    "{} has {} digests in `pages`; its size of {size} bytes is {pages} pages",
                    self.shown(),
                    self.pages.len()
                ));
            }
        }
        Ok(())
    }

    /// Whether it has a hash of its whole content.
    pub const fn has_hash(&self) -> bool {
        self.sha256.is_some() || self.sha1.is_some() || self.md5.is_some()
    }

    /// Its name for a message.
    pub fn shown(&self) -> String {
        match &self.path {
            Some(path) => shown(path),
            None => "a file without a path".to_owned(),
        }
    }
}

impl Sbom {
    /// Sorts the files and removes duplicates; two contents at one path are an error.
    pub fn settle(&mut self) -> Result<(), SbomError> {
        if self.subject.has_paths()
            && let Some(index) = self.files.iter().position(|file| file.path.is_none())
        {
            return Err(SbomError::content(format!(
                "file {} has no `path`, which a subject of kind `{}` needs",
                index + 1,
                self.subject.kind()
            )));
        }
        self.files.sort_by(order);
        self.files.dedup();
        for pair in self.files.windows(2) {
            if let [one, other] = pair
                && one.path.is_some()
                && one.path == other.path
            {
                return Err(SbomError::content(format!(
                    "{} stands there twice with different content; keep one of them",
                    one.shown()
                )));
            }
        }
        Ok(())
    }
}

/// Compares files by path, then by hashes and size.
fn order(left: &SbomFile, right: &SbomFile) -> Ordering {
    let key = |file: &SbomFile| (file.sha256, file.sha1, file.md5, file.size);
    left.path.cmp(&right.path).then_with(|| key(left).cmp(&key(right)))
}

/// An error unless the path is absolute and canonical.
pub fn check_path(path: &[u8]) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("the path {:?} {why}", shown(path)));
    let Some(rest) = path.strip_prefix(b"/") else {
        return wrong("is not absolute; begin it with /");
    };
    if path.len() > PATH_BYTES_MAX {
        return wrong("is longer than 4096 bytes");
    }
    if path.contains(&0) {
        return wrong("holds a NUL character");
    }
    for name in rest.split(|byte| *byte == b'/') {
        match name {
            b"" => return wrong("has an empty name in it"),
            b"." | b".." => return wrong("has `.` or `..` in it; write the path without them"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, byte: u8) -> SbomFile {
        SbomFile {
            path: Some(path.as_bytes().to_vec()),
            sha256: Some([byte; 32]),
            ..SbomFile::default()
        }
    }

    fn root(files: Vec<SbomFile>) -> Sbom {
        Sbom { subject: SbomSubject::Root { name: None }, files }
    }

    #[test]
    fn a_path_has_one_spelling() {
        for good in ["/a", "/a/b.c", "/...", "/a b/ü"] {
            assert_eq!(check_path(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in ["", "a", "/", "//a", "/a/", "/a//b", "/./a", "/a/..", "/a\0"] {
            assert!(check_path(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_are_sorted_and_each_there_once() {
        let mut sbom = root(vec![file("/b", 1), file("/a", 2), file("/b", 1)]);
        sbom.settle().unwrap();
        assert_eq!(sbom.files, [file("/a", 2), file("/b", 1)]);
        let mut sbom = root(vec![file("/b", 1), file("/a", 2), file("/b", 3)]);
        assert!(sbom.settle().unwrap_err().message.contains("/b stands there twice"));
    }

    #[test]
    fn who_has_paths_has_them_for_all() {
        let bare = SbomFile { path: None, ..file("", 1) };
        assert!(root(vec![bare.clone()]).settle().is_err());
        let hashes = SbomSubject::Hashes { name: None };
        assert!(Sbom { subject: hashes, files: vec![bare] }.settle().is_ok());
    }

    #[test]
    fn pages_fit_the_size() {
        let mut file = SbomFile { size: Some(4097), pages: vec![[0; 16]; 2], ..file("/a", 1) };
        assert_eq!(file.check(), Ok(()));
        file.size = Some(4096);
        assert!(file.check().unwrap_err().contains("is 1 pages"));
        file.size = None;
        assert!(file.check().is_err());
        assert!(SbomFile::default().check().unwrap_err().contains("no hash"));
    }
}
