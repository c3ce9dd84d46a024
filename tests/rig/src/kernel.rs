//! Kernels to boot: Debian's own images, unpacked into the cache, newest of each series.
//!
//! Once a kernel lies in the cache no network is needed. Not for building kernels.

use std::path::{Path, PathBuf};

use crate::cache;
use crate::error::{Error, Result};
use crate::modules;
use crate::packages::{self, Packages};

/// A series of kernels that the tests know.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Flavor {
    /// Debian 12's 6.1, generic, amd64.
    Debian6_1,
    /// Debian 13's 6.12, generic, amd64.
    Debian6_12,
}

/// A kernel in the cache, ready to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    flavor: Flavor,
    release: String,
    folder: PathBuf,
}

impl Flavor {
    /// Every series, oldest first.
    pub const ALL: &[Self] = &[Self::Debian6_1, Self::Debian6_12];

    /// The name people type: `6.1`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debian6_1 => "6.1",
            Self::Debian6_12 => "6.12",
        }
    }

    /// The series of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|f| f.name() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|f| f.name()).collect();
            Error::new(format!("no kernel series {name:?}; known are: {}", known.join(", ")))
        })
    }

    /// Whether a kernel release (`uname -r`) belongs to this series.
    fn owns(self, release: &str) -> bool {
        let Some(version) = release.strip_suffix("-amd64") else { return false };
        let series = format!("{}.", self.name());
        let other_build = ["cloud", "rt", "unsigned", "dbg", "bpo"];
        version.starts_with(&series) && !other_build.iter().any(|word| version.contains(word))
    }
}

impl Kernel {
    /// The newest kernel of a series that the cache holds; downloaded first when it holds none.
    pub fn obtain(flavor: Flavor) -> Result<Self> {
        match Self::cached(flavor)? {
            Some(kernel) => Ok(kernel),
            None => Self::download(flavor, &Packages::open()?),
        }
    }

    /// The newest kernel of a series that the cache holds with all modules that guests need now.
    fn cached(flavor: Flavor) -> Result<Option<Self>> {
        let folder = cache::folder("kernels")?;
        let entries =
            std::fs::read_dir(&folder).map_err(|e| Error::io("list the folder", &folder, &e))?;
        let newest = entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .filter(|release| flavor.owns(release))
            .filter(|release| modules::is_current(&folder.join(release)))
            .max_by_key(|release| version_key(release));
        Ok(newest.map(|release| Self { flavor, folder: folder.join(&release), release }))
    }

    /// Downloads and unpacks the newest kernel of a series.
    fn download(flavor: Flavor, packages: &Packages) -> Result<Self> {
        const PREFIX: &str = "linux-image-";
        let series = format!("{PREFIX}{}.", flavor.name());
        let package = packages
            .names(&series)?
            .into_iter()
            .filter(|name| name.strip_prefix(PREFIX).is_some_and(|r| flavor.owns(r)))
            .max_by_key(|name| version_key(name))
            .ok_or_else(|| {
                Error::new(format!(
                    "no package {series}*-amd64 on the Debian mirror this machine uses; \
                     does it carry the suites bookworm and trixie?"
                ))
            })?;
        eprintln!("rig: fetching {package} (50-110 MB, kept in the cache)");
        let release = package.trim_start_matches(PREFIX).to_owned();
        let file = packages.download(&package)?;
        let kernels = cache::folder("kernels")?;
        let scratch = kernels.join(format!(".unpack-{}", std::process::id()));
        let unpacked = scratch.join("package");
        packages::unpack(&file, &unpacked)?;
        let made = scratch.join("kernel");
        cache::create(&made)?;
        copy(&unpacked.join(format!("boot/vmlinuz-{release}")), &made.join("vmlinuz"))?;
        let modules_folder = ["lib/modules", "usr/lib/modules"]
            .iter()
            .map(|parent| unpacked.join(parent).join(&release))
            .find(|path| path.is_dir())
            .ok_or_else(|| Error::new(format!("package {package} holds no modules")))?;
        modules::collect(&modules_folder, &made)?;
        let folder = kernels.join(&release);
        // Another run may have made the same one meanwhile, or an older rig one with fewer modules.
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|e| Error::io("remove", &folder, &e))?;
        }
        std::fs::rename(&made, &folder).map_err(|e| Error::io("rename into place", &folder, &e))?;
        std::fs::remove_dir_all(&scratch).map_err(|e| Error::io("remove", &scratch, &e))?;
        Ok(Self { flavor, release, folder })
    }

    /// The series it belongs to.
    pub const fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Its release, as `uname -r` says it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The bootable image.
    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The modules that a guest loads at boot, in loading order.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        modules::list(&self.folder)
    }
}

/// Copies one file.
fn copy(source: &Path, target: &Path) -> Result<()> {
    std::fs::copy(source, target).map(drop).map_err(|e| Error::io("copy", source, &e))
}

/// The numbers in a release, so that 6.12.107 counts as newer than 6.12.94.
fn version_key(release: &str) -> Vec<u64> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().unwrap_or(u64::MAX))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_generic_builds_belong_to_a_series() {
        assert!(Flavor::Debian6_1.owns("6.1.0-50-amd64"));
        assert!(Flavor::Debian6_12.owns("6.12.107+deb13-amd64"));
        for other in ["6.12.1-amd64", "6.1.0-50-cloud-amd64", "6.1.0-50-rt-amd64"] {
            assert!(!Flavor::Debian6_1.owns(other), "{other}");
        }
        assert!(!Flavor::Debian6_1.owns("6.1.0-50-amd64-unsigned"));
    }

    #[test]
    fn newer_releases_sort_last() {
        assert!(version_key("6.12.107+deb13-amd64") > version_key("6.12.94+deb13-amd64"));
        assert!(version_key("6.1.0-50-amd64") > version_key("6.1.0-9-amd64"));
    }
}
