//! A package in two versions, which the twin `apt` installs: a program and a library that no other
//! package has.
//!
//! It is made here and not in the guest, so that an SBOM can list its files.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Scratch};
use crate::command;
use crate::error::Result;
use crate::userland;

const VERSIONS: [&str; 2] = ["1.0", "2.0"];
/// Its files, and those of the root that they are copies of, with the version at the end.
const FILES: [(&str, &str); 2] = [
    ("usr/bin/twin", "usr/bin/sleep"),
    ("usr/lib/libtwin.so", "usr/lib/x86_64-linux-gnu/libz.so.1"),
];
/// Run by dpkg after the files are there.
const SCRIPT: &str = "#!/bin/sh\nset -e\n/sbin/ldconfig\n";

/// The packages: their paths in guests and on the host.
pub(super) fn build(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let root = userland::equipped()?;
    VERSIONS.iter().map(|version| one(&root, version, folder)).collect()
}

fn one(root: &Path, version: &str, folder: &Path) -> Result<(String, PathBuf)> {
    let name = format!("twin-{version}.deb");
    let (scratch, target) = (Scratch::new(folder.join("twin"))?, folder.join(&name));
    for (file, source) in FILES {
        let mut bytes = cache::read(&root.join(source))?;
        bytes.extend_from_slice(version.as_bytes());
        write(&scratch.join(file), &bytes)?;
    }
    let control = format!(
        "Package: twin\nVersion: {version}\nArchitecture: amd64\n\
         Maintainer: nobody <nobody@example.org>\nDescription: a twin\n"
    );
    write(&scratch.join("DEBIAN/control"), control.as_bytes())?;
    write(&scratch.join("DEBIAN/postinst"), SCRIPT.as_bytes())?;
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Znone", "--build"]).arg(&*scratch).arg(&target);
    command::output(&mut build)?;
    Ok((format!("opt/{name}"), target))
}

/// Writes a file that can be run.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    cache::create(path.parent().unwrap_or(path))?;
    cache::write(path, bytes)?;
    userland::set_mode(path, 0o755)
}
