//! Programs that run on any Linux of their architecture: each in an archive, with what belongs to
//! it.

use std::path::Path;
use std::process::Command;

use panoptes_rig::{cache, output};

use super::sources::ReleaseSources;
use super::{elf, step};
use crate::package::{self, COMPLETIONS};
use crate::platform::{Platform, STATIC};

/// Files and folders of the sources that are in the archive, and their names there.
const FILES: [(&str, &str); 9] = [
    ("LICENSE", "LICENSE"),
    ("CHANGELOG.md", "CHANGELOG.md"),
    ("engine/panoptes/panoptes.yaml", "panoptes.yaml"),
    ("packaging/flow/argus.conf", "argus.conf"),
    ("packaging/systemd", "systemd"),
    ("packaging/sysusers.d", "sysusers.d"),
    ("packaging/tmpfiles.d", "tmpfiles.d"),
    ("packaging/deb/panoptes.logrotate", "logrotate.d/panoptes"),
    ("packaging/deb/panoptes-flow.logrotate", "logrotate.d/panoptes-flow"),
];
/// The default of rustc for musl, which may change.
const STATIC_FLAGS: [&str; 2] = ["-C", "target-feature=+crt-static"];

pub(super) fn make(sources: &ReleaseSources) -> Result<(), String> {
    for (architecture, triple) in STATIC {
        let platform = sources.platform(Platform::alone(architecture, triple)?, &STATIC_FLAGS);
        let program = sources.program(&platform)?;
        elf::check_static(&program, architecture)?;
        let scratch = sources.scratch(triple)?;
        let name = step::folder(triple);
        let folder = scratch.join(&name);
        cache::copy(&program, &folder.join("panoptes"))?;
        for (from, to) in FILES {
            copy(&sources.folder.join(from), &folder.join(to))?;
        }
        copy_pages(&package::beside(&program), &folder.join("man"))?;
        copy_completions(&package::beside(&program), &folder.join("completions"))?;
        sources.pack(&scratch, &name)?;
    }
    Ok(())
}

/// Copies the manual pages beside a program into a folder that does not exist.
pub(super) fn copy_pages(beside: &Path, to: &Path) -> Result<(), String> {
    copy(&beside.join("man"), to)
}

/// The same for completions.
pub(super) fn copy_completions(beside: &Path, to: &Path) -> Result<(), String> {
    for (_, name) in COMPLETIONS {
        cache::copy(&beside.join(name), &to.join(name))?;
    }
    Ok(())
}

/// Copies a file, or a folder with all in it. The folder of the copy is created if it is missing.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    cache::create(to.parent().unwrap_or(to))?;
    output(Command::new("cp").arg("--recursive").arg(from).arg(to))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::folders::ROOT;

    #[test]
    fn what_belongs_to_a_program_exists() {
        for (from, _) in FILES {
            assert!(Path::new(ROOT).join(from).exists(), "{from}");
        }
    }

    #[test]
    fn archives_have_what_packages_install() {
        let path = Path::new(ROOT).join("engine/panoptes/Cargo.toml");
        let manifest = fs::read_to_string(path).expect("it exists");
        let lines = manifest.lines().filter_map(|line| line.trim().strip_prefix("[\"../../"));
        let packaged = lines.filter_map(|rest| rest.split('"').next());
        // Debian's own form of LICENSE.
        let packaged = packaged.filter(|path| *path != "packaging/deb/copyright");
        let packaged = packaged.filter(|path| path.starts_with("packaging/"));
        let mut count = 0;
        for path in packaged {
            let is_in = |(from, _): &(&str, &str)| Path::new(path).starts_with(from);
            assert!(FILES.iter().any(is_in), "no archive has {path}");
            count += 1;
        }
        assert!(count > 5, "{count} files");
    }
}
