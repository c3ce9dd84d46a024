//! Whether a machine has what is needed.

use std::path::{Path, PathBuf};

use crate::{Kind, Need};

/// Folders of the programs of packages. Users often do not search those for administrators.
const PACKAGES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Folders of libraries on Debian (ld.so(8)).
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
];

/// The path of a program that this process can call by its name.
pub fn on_path(name: &str) -> Option<PathBuf> {
    find(name, std::env::split_paths(&searched()))
}

/// The path of a program, also of one for administrators. A package's comes first: another one of
/// this name may be a script that needs more than the table has.
pub fn program(name: &str) -> Option<PathBuf> {
    find(name, PACKAGES.into_iter().map(PathBuf::from)).or_else(|| on_path(name))
}

/// The folder of what is fetched: `$XDG_CACHE_HOME/panoptes`, or `~/.cache/panoptes`; `None` if
/// neither variable is set.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))?;
    Some(cache.join("panoptes"))
}

/// The path of a program that was unpacked into a folder of the cache.
pub fn unpacked(folder: &str, name: &str) -> Option<PathBuf> {
    let path = cache_folder()?.join("programs").join(folder).join("bin").join(name);
    path.is_file().then_some(path)
}

fn searched() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

fn find(name: &str, mut folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}

/// Checks that this machine has what something needs.
///
/// # Errors
///
/// The first that is missing, what it is for, and what installs it.
///
/// # Panics
///
/// The table has no such row.
#[track_caller]
pub fn require(names: &[&str]) -> Result<(), String> {
    let needs: Vec<_> = names.iter().map(|name| Need::named(name)).collect();
    match needs.iter().find(|need| !need.is_met()) {
        None => Ok(()),
        Some(Need { name, purpose, .. }) => {
            Err(format!("{name} is missing ({purpose}); as root, run: cargo xtask setup"))
        }
    }
}

impl Need {
    /// Whether this machine has it. A feature is assumed: who uses it finds out.
    pub fn is_met(&self) -> bool {
        match self.kind {
            Kind::Program => program(self.name).is_some(),
            Kind::File | Kind::Device => Path::new(self.name).exists(),
            Kind::Library => LIBRARIES.iter().any(|one| Path::new(one).join(self.name).exists()),
            Kind::Feature => true,
            Kind::Variable => std::env::var_os(self.name).is_some_and(|value| !value.is_empty()),
        }
    }
}
