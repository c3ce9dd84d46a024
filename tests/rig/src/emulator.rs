//! The emulator that guests run in: a QEMU of version 9 or newer.
//!
//! Debian 12's QEMU 7.2 crashes guests by itself: with a kernel that provokes the fault, it lost 7
//! of 33 boots, and QEMU 10.0.2 none of 33. The host's own QEMU is used if it is new enough.
//! Otherwise the rig unpacks Debian's backport of it, with the libraries that it needs, into the
//! cache. Nothing is installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use panoptes_needs::Need;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::spawn;
use crate::unpacked;

/// The first major version that guests may run in.
const MAJOR_MIN: u32 = 9;
/// The suite with a new enough QEMU, which runs on Debian 12 and all later releases.
const SUITE: &str = "bookworm-backports";
/// A program that emulates machines of one architecture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Emulator {
    program: PathBuf,
    /// The folder with its unpacked packages; `None` for the host's own QEMU.
    root: Option<PathBuf>,
    version: String,
}

impl Emulator {
    /// The emulator for an architecture's machines. The first call fetches it if the host has none.
    pub fn obtain(architecture: Architecture) -> Result<Self> {
        static KNOWN: Mutex<Vec<(Architecture, Emulator)>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, emulator)) = known.iter().find(|(of, _)| *of == architecture) {
            return Ok(emulator.clone());
        }
        let emulator = match Self::of_host(architecture) {
            Some(emulator) => emulator,
            None => Self::unpacked(architecture)?,
        };
        known.push((architecture, emulator.clone()));
        Ok(emulator)
    }

    /// Its version: `10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A command that runs it; the emulator is killed when the thread that started it ends. In a
    /// network namespace of its own if `has_network`.
    pub(crate) fn command(&self, has_network: bool) -> Command {
        let mut command = if has_network {
            let mut command = spawn::tied("unshare");
            command.arg("--net").arg("--").arg(&self.program);
            command
        } else {
            spawn::tied(&self.program)
        };
        if let Some(root) = &self.root {
            set_environment(&mut command, root);
            for folder in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(root.join(folder));
            }
        }
        command
    }

    /// The host's own, if it is new enough.
    fn of_host(architecture: Architecture) -> Option<Self> {
        let program = PathBuf::from(Need::named(architecture.emulator()).name);
        let version = version(&mut Command::new(&program)).ok()?;
        is_new_enough(&version).then_some(Self { program, root: None, version })
    }

    /// The folder of an emulator that was unpacked into the cache, whatever the host has.
    pub(crate) fn folder(architecture: Architecture) -> Result<PathBuf> {
        let emulator = Self::unpacked(architecture)?;
        emulator.root.ok_or_else(|| Error::new("an unpacked emulator has no folder"))
    }

    /// The one in the cache; the first call unpacks it.
    fn unpacked(architecture: Architecture) -> Result<Self> {
        let folder = cache::folder("emulators")?;
        let root = folder.join(architecture.debian());
        if let Ok(emulator) = Self::in_cache(architecture, &root) {
            return Ok(emulator);
        }
        // There is none yet, or one that does not run here any more.
        eprintln!("rig: fetching QEMU from {SUITE} (36 MB, kept in the cache, not installed)");
        let package = architecture.emulator_package();
        unpacked::unpack(SUITE, package, &folder, architecture.debian())?;
        Self::in_cache(architecture, &root)
    }

    /// The one in this folder, if it runs.
    fn in_cache(architecture: Architecture, root: &Path) -> Result<Self> {
        let program = root.join("usr/bin").join(architecture.emulator());
        let mut command = Command::new(&program);
        set_environment(&mut command, root);
        let version = version(&mut command)?;
        if is_new_enough(&version) {
            return Ok(Self { program, root: Some(root.to_owned()), version });
        }
        Err(Error::new(format!(
            "{SUITE} has QEMU {version}, and guests need {MAJOR_MIN} or newer; install one"
        )))
    }
}

/// Lets an unpacked program find its libraries and modules.
fn set_environment(command: &mut Command, root: &Path) {
    unpacked::use_libraries(command, root);
    command.env("QEMU_MODULE_DIR", root.join("usr/lib/x86_64-linux-gnu/qemu"));
}

/// What `--version` prints behind `QEMU emulator version`.
fn version(command: &mut Command) -> Result<String> {
    let text = command::output(command.arg("--version"))?;
    let first = text.lines().next().unwrap_or_default();
    let version = first.strip_prefix("QEMU emulator version ");
    version.map(str::to_owned).ok_or_else(|| {
        let program = command.get_program().display();
        Error::new(format!("{program} is no QEMU: it prints {first:?}"))
    })
}

fn is_new_enough(version: &str) -> bool {
    let major = version.split('.').next().and_then(|major| major.parse().ok());
    major.is_some_and(|major: u32| major >= MAJOR_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qemu_of_debian_12_is_too_old() {
        for (version, is_enough) in [
            ("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", false),
            ("8.2.2", false),
            ("9.0.0", true),
            ("10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)", true),
            ("", false),
            ("unknown", false),
        ] {
            assert_eq!(is_new_enough(version), is_enough, "{version}");
        }
    }

    #[test]
    fn a_program_that_is_no_qemu_has_no_version() {
        assert!(version(&mut Command::new("echo")).is_err());
        let mut qemu = Command::new("printf");
        // printf takes the option that is appended as one more argument.
        qemu.arg("QEMU emulator version 10.0.2 (Debian 1:10)\nCopyright\n");
        assert_eq!(version(&mut qemu).unwrap(), "10.0.2 (Debian 1:10)");
    }
}
