//! A kernel module of the tests, built on the host with the headers of a guest's kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_bounded as bounded;
use panoptes_rig::packages::{obtain, unpack};
use panoptes_rig::{Flavor, Kernel};

/// A module that hides a process.
pub(crate) const HIDE: (&str, &str) = ("hide", include_str!("hide.c"));
/// One that answers at a port, without a socket.
pub(crate) const ANSWER: (&str, &str) = ("answer", include_str!("answer.c"));
/// One that hides itself.
pub(crate) const VANISH: (&str, &str) = ("vanish", include_str!("vanish.c"));

/// One that hooks the kernel in one of many ways.
pub(crate) const HOOK: (&str, &str) = ("hook", include_str!("hook.c"));

/// Builds a module in `folder`, from its name and source. Needs make and a gcc of about the
/// kernel's age.
pub(crate) fn make(flavor: Flavor, folder: &Path, (name, source): (&str, &str)) -> PathBuf {
    let release = Kernel::obtain(flavor).unwrap().release().to_owned();
    let (version, architecture) = release.rsplit_once('-').unwrap();
    let series: Vec<&str> = version.split('.').take(2).collect();
    let root = folder.join("root");
    for package in [
        format!("linux-headers-{version}-{architecture}"),
        format!("linux-headers-{version}-common"),
        format!("linux-kbuild-{}", series.join(".")),
    ] {
        unpack(&obtain(flavor.architecture, &package).unwrap(), &root).unwrap();
    }
    // The package has absolute paths, as if it were installed.
    let headers = root.join("usr/src").join(format!("linux-headers-{release}"));
    let makefile = headers.join("Makefile");
    let sources = format!("{}/", root.join("usr/src").display());
    let text = std::fs::read_to_string(&makefile).unwrap().replace("/usr/src/", &sources);
    std::fs::write(&makefile, text).unwrap();
    let place = folder.join("module");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join(format!("{name}.c")), source).unwrap();
    std::fs::write(place.join("Kbuild"), format!("obj-m := {name}.o\n")).unwrap();
    let made = bounded::output_within(
        Command::new("make")
            .arg("-C")
            .arg(&headers)
            .arg(format!("M={}", place.display()))
            .args(["CC=gcc", "modules"]),
        bounded::LONG,
    )
    .expect("make is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    place.join(format!("{name}.ko"))
}
