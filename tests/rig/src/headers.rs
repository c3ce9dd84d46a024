//! The headers of guests' kernels, as Debian packages them. No guest needs them: tests make
//! profiles of them.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::flavor::{Architecture, Flavor};
use crate::kernel::Kernel;
use crate::packages;

/// The kernels of whose headers tests make profiles.
pub const FLAVORS: [Flavor; 3] = [Flavor::V5_10, Flavor::V6_1, Flavor::V7];

/// The packages with a kernel's headers, from the cache or from the mirror (about 12 MB).
pub fn obtain(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let release = kernel.release();
    let version = release
        .strip_suffix("-amd64")
        .ok_or_else(|| Error::new(format!("{release} is no release of Debian's for amd64")))?;
    let names = [format!("linux-headers-{release}"), format!("linux-headers-{version}-common")];
    names.iter().map(|name| packages::obtain(Architecture::Amd64, name)).collect()
}

/// Unpacks a kernel's headers below `root`, and returns the folder that its build made.
pub fn unpack(kernel: &Kernel, root: &Path) -> Result<PathBuf> {
    for package in obtain(kernel)? {
        packages::unpack(&package, root)?;
    }
    Ok(root.join("usr/src").join(format!("linux-headers-{}", kernel.release())))
}
