//! Programs of Debian's that run from the cache: unpacked with their libraries, never installed.

use std::path::Path;
use std::process::Command;

use crate::cache::{self, Scratch};
use crate::error::Result;
use crate::flavor::Architecture;
use crate::packages::{self, Packages};

/// An unpacked program uses the machine's C library, which goes with the machine's loader.
const MACHINES_OWN: &str = "libc6_";

/// Fetches a suite's package with all that it needs, and unpacks it into the folder `name` of
/// `folder`.
///
/// Programs run on x86-64. One call at a time may do this: the scratch folder has a fixed name, so
/// that the next call removes what a killed one has left.
pub(crate) fn unpack(suite: &str, package: &str, folder: &Path, name: &str) -> Result<()> {
    let packages = Packages::open(Architecture::Amd64)?;
    let (root, scratch) = (folder.join(name), Scratch::new(folder.join(format!(".{name}")))?);
    let unpacked = scratch.join("root");
    for file in packages.closure(suite, &[package], &scratch.join("packages"))? {
        let is_left_out = |name: &str| name.starts_with(MACHINES_OWN);
        if !file.file_name().is_some_and(|name| is_left_out(&name.to_string_lossy())) {
            packages::unpack(&file, &unpacked)?;
        }
    }
    cache::remove(&root)?;
    cache::rename(&unpacked, &root)
}

/// Lets a program below `root` find its libraries.
pub(crate) fn use_libraries(command: &mut Command, root: &Path) {
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|f| root.join(f));
    let libraries = libraries.map(|folder| folder.display().to_string()).join(":");
    command.env("LD_LIBRARY_PATH", libraries);
}
