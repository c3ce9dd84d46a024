//! Package managers: which one a root has, and an SBOM from its database alone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::installed::{InstalledFiles, Links};
use super::{BuildResult, dpkg, rpm};
use crate::error::SbomError;
use crate::model::{Sbom, SbomSubject};

/// A package manager.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum PackageManagerKind {
    Dpkg,
    Rpm,
}

impl PackageManagerKind {
    pub(super) const ALL: [Self; 2] = [Self::Dpkg, Self::Rpm];

    /// Its name, which is also the end of its option.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Dpkg => "dpkg",
            Self::Rpm => "rpm",
        }
    }

    /// Whether a root has its database.
    pub(super) fn is_in(self, root: &Path) -> bool {
        match self {
            Self::Dpkg => root.join(dpkg::INFO).is_dir(),
            Self::Rpm => rpm::find(root).is_some(),
        }
    }

    /// Reads its database below `root`.
    pub(super) fn read(self, root: &Path, links: &Links<'_>) -> Result<InstalledFiles, SbomError> {
        match self {
            Self::Dpkg => dpkg::read(root, links),
            Self::Rpm => rpm::read(root, links),
        }
    }

    /// An SBOM from its database alone; no other file is read.
    pub(super) fn trusted(self, root: &Path) -> Result<BuildResult, SbomError> {
        let links = |path: &[u8]| {
            let relative = path.strip_prefix(b"/").unwrap_or(path);
            let target = fs::read_link(root.join(OsStr::from_bytes(relative))).ok()?;
            Some(target.as_os_str().as_bytes().to_vec())
        };
        let (files, remarks) = self.read(root, &links)?.into_files();
        Ok(BuildResult {
            sbom: Sbom { subject: SbomSubject::Root { name: None }, files },
            source: match self {
                Self::Dpkg => "dpkg's database",
                Self::Rpm => "rpm's database",
            },
            problems: Vec::new(),
            remarks,
            bytes: 0,
            special: 0,
        })
    }
}
