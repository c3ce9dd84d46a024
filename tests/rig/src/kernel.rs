//! Kernels to boot: Debian's own images, unpacked into the cache, the newest of each flavor.
//!
//! A kernel in the cache needs no network. Kernels are not built here.

use std::path::{Path, PathBuf};

use crate::cache::{self, Scratch};
use crate::error::{Error, Result};
use crate::flavor::{Flavor, Series};
use crate::modules;
use crate::packages::{self, Packages};

/// A kernel in the cache, ready to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    flavor: Flavor,
    release: String,
    folder: PathBuf,
}

/// The prefixes of the packages that a kernel may be split into; their names end with its release.
/// In the newest suites the first package is empty and depends on the others.
const PACKAGES: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];

impl Kernel {
    /// The newest kernel of a flavor in the cache; downloaded first if there is none.
    pub fn obtain(flavor: Flavor) -> Result<Self> {
        match Self::cached(flavor)? {
            Some(kernel) => Ok(kernel),
            None => Self::download(flavor),
        }
    }

    /// The newest kernel of a flavor in the cache that has all modules that guests need now.
    fn cached(flavor: Flavor) -> Result<Option<Self>> {
        let folder = folder_of(flavor)?;
        let newest = cache::list(&folder)?
            .into_iter()
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .filter(|release| flavor.owns(release))
            .filter(|release| modules::is_current(&folder.join(release)))
            .max_by_key(|release| version_key(release));
        Ok(newest.map(|release| Self { flavor, folder: folder.join(&release), release }))
    }

    /// Downloads and unpacks the newest kernel of a flavor.
    fn download(flavor: Flavor) -> Result<Self> {
        let is_backport = flavor.series.is_backport();
        let (packages, suites) = if is_backport {
            (Packages::open_backports(flavor.architecture)?, packages::BACKPORTS)
        } else {
            (Packages::open(flavor.architecture)?, packages::SUITES)
        };
        let series = format!("{}{}.", PACKAGES[0], flavor.series.name());
        let release = packages
            .names(&series)?
            .iter()
            .filter_map(|name| name.strip_prefix(PACKAGES[0]))
            .filter(|release| flavor.owns(release))
            .max_by_key(|release| version_key(release))
            .ok_or_else(|| {
                Error::new(format!(
                    "no package {series}* for {} on the Debian mirror this machine uses; does it \
                     carry the suites {}?",
                    flavor.name(),
                    suites.join(", ")
                ))
            })?
            .to_owned();
        eprintln!("rig: fetching Linux {release} (20-170 MB, kept in the cache)");
        let scratch = format!(".unpack-{}-{release}", std::process::id());
        let scratch = Scratch::new(folder_of(flavor)?.join(scratch))?;
        let unpacked = scratch.join("package");
        for prefix in PACKAGES {
            let name = format!("{prefix}{release}");
            if packages.names(&name)?.contains(&name) {
                packages::unpack(&packages.download(&name)?, &unpacked)?;
                // Nothing else needs it: the tests of headers and profiles are for releases.
                if is_backport {
                    packages.discard(&name)?;
                }
            }
        }
        Self::collect(flavor, release, &unpacked, &scratch)
    }

    /// The kernel of any distribution that is unpacked in a folder, copied into the cache: its
    /// modules are in `lib/modules/RELEASE`, its image is there or in `boot`.
    pub fn unpacked(folder: &Path) -> Result<Self> {
        let flavor = Flavor::UNPACKED;
        let releases = cache::list(&folder.join("lib/modules"))?;
        let [release] = releases.as_slice() else {
            let what = format!("{} must have one kernel in lib/modules", folder.display());
            return Err(Error::new(what));
        };
        let release = release.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let scratch = format!(".unpack-{}-{release}", std::process::id());
        let scratch = Scratch::new(folder_of(flavor)?.join(scratch))?;
        Self::collect(flavor, release, folder, &scratch)
    }

    /// Copies what guests need of an unpacked kernel into the cache.
    fn collect(flavor: Flavor, release: String, unpacked: &Path, scratch: &Path) -> Result<Self> {
        let made = scratch.join("kernel");
        let modules = ["lib/modules", "usr/lib/modules"].map(|f| unpacked.join(f).join(&release));
        let image = [unpacked.join(format!("boot/vmlinuz-{release}"))]
            .into_iter()
            .chain(modules.iter().map(|folder| folder.join("vmlinuz")))
            .find(|path| path.is_file())
            .ok_or_else(|| Error::new(format!("the packages of {release} hold no vmlinuz")))?;
        cache::copy(&image, &made.join("vmlinuz"))?;
        let modules = modules.iter().find(|path| path.join("kernel").is_dir());
        // Mirrors keep the signed image of an old backport longer than its modules.
        if modules.is_none() && !flavor.series.is_backport() {
            return Err(Error::new(format!("the packages of {release} hold no modules")));
        }
        modules::collect(modules.map(PathBuf::as_path), &made)?;
        let folder = folder_of(flavor)?.join(&release);
        // Another run may have created the same folder meanwhile, or an older rig one with fewer
        // modules.
        cache::remove(&folder)?;
        cache::rename(&made, &folder)?;
        Ok(Self { flavor, release, folder })
    }

    /// A kernel that is in no cache, for tests that boot nothing.
    #[cfg(test)]
    pub(crate) fn unfetched(flavor: Flavor) -> Self {
        Self { flavor, release: flavor.name(), folder: PathBuf::new() }
    }

    pub const fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Its release, as in `uname -r`.
    pub fn release(&self) -> &str {
        &self.release
    }

    pub fn image(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The modules that a guest loads at boot, in loading order.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        modules::list(&self.folder)
    }

    /// Whether its modules could not be had: guests then have only the drivers that are built in.
    pub fn lacks_modules(&self) -> bool {
        modules::list(&self.folder).is_ok_and(|modules| modules.is_empty())
    }

    /// The additional modules for what a guest demands, in loading order.
    pub(crate) fn modules_on_demand(&self, demands: &[String]) -> Result<Vec<PathBuf>> {
        modules::on_demand(&self.folder, demands)
    }
}

/// The folder of the cache for a flavor's kernels. Backports have their own: by its number, one of
/// them may be unstable's newest, too.
fn folder_of(flavor: Flavor) -> Result<PathBuf> {
    cache::folder(match flavor.series {
        Series::Backport(_) => "kernels-backports",
        Series::Unpacked => "kernels-unpacked",
        _ => "kernels",
    })
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
    fn a_kernel_whose_modules_could_not_be_had_is_known() {
        let folder = tempfile::tempdir().unwrap();
        modules::collect(None, folder.path()).unwrap();
        let kernel = Kernel {
            folder: folder.path().to_owned(),
            ..Kernel::unfetched(Flavor::from_name("7.0").unwrap())
        };
        assert!(kernel.lacks_modules());
        assert!(!Kernel::unfetched(Flavor::V6_1).lacks_modules());
    }

    #[test]
    fn a_folder_of_two_kernels_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for release in ["6.18.1-0-virt", "6.18.2-0-virt"] {
            cache::create(&folder.path().join("lib/modules").join(release)).unwrap();
        }
        let error = Kernel::unpacked(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("must have one kernel in lib/modules"), "{error}");
    }

    #[test]
    fn newer_releases_sort_last() {
        assert!(version_key("6.12.107+deb13-amd64") > version_key("6.12.94+deb13-amd64"));
        assert!(version_key("6.1.0-50-amd64") > version_key("6.1.0-9-amd64"));
    }
}
