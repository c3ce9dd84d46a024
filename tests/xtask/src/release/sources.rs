//! The sources of a release in a folder of their own, and what makes all builds of them equal.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_rig::{cache, output};

use super::archive;
use crate::folders::ROOT;
use crate::platform::{Platform, STRIP};
use crate::{image, package};

/// The folder of all builds, below the root of the repository.
const BUILDS: &str = "target/release-build";
/// The paths of the sources and of cargo's folder in what is built, wherever they are.
pub(super) const SOURCES: &str = "/usr/src/panoptes";
const CARGO: &str = "/usr/src/cargo";
/// The path of crates, whatever registry or mirror has given them.
const REGISTRY: &str = "/usr/src/cargo/registry";

/// The present commit, exported. What is not committed is left out.
pub(super) struct ReleaseSources {
    /// The name of this build, for people.
    pub(super) name: &'static str,
    /// The folder of all that this build makes on the way.
    build: PathBuf,
    /// The exported files.
    pub(super) folder: PathBuf,
    /// The folder of the files that are made of them.
    pub(super) page: PathBuf,
    /// The commit's name.
    pub(super) commit: String,
    /// The time of the commit, in seconds since 1970.
    pub(super) epoch: u64,
    /// Folders of this machine, and the paths that stand for them in what is built.
    paths: Vec<(PathBuf, String)>,
    /// Programs that this build has made, by rustc's names for their platforms.
    programs: RefCell<BTreeMap<Option<&'static str>, PathBuf>>,
}

impl ReleaseSources {
    /// Exports the present commit into the folder `name` of all builds. What an earlier build of it
    /// has compiled stays. `page` is an absolute path.
    pub(super) fn export(name: &'static str, page: &Path) -> Result<Self, String> {
        let commit = git(&["rev-parse", "HEAD"])?;
        let epoch = git(&["log", "-1", "--format=%ct"])?;
        let epoch = epoch.parse::<u64>().map_err(|_| format!("git gives no time, but {epoch}"))?;
        let build = build_folder(name)?;
        let mark = build.join("commit");
        // cargo compares times, and the files of another commit may be older than its build.
        if !fs::read_to_string(&mark).is_ok_and(|known| known == commit) {
            cache::remove(&build)?;
            cache::remove(page)?;
        }
        let folder = build.join("sources");
        cache::remove(&folder)?;
        cache::create(&folder)?;
        cache::create(page)?;
        let tar = build.join("sources.tar");
        let mut export = Command::new("git");
        // Its own default lets groups write files, which the image would keep.
        export.current_dir(ROOT).args(["-c", "tar.umask=0022"]);
        export.args(["archive", "--format=tar", "--output"]).arg(&tar);
        output(export.arg(&commit))?;
        archive::unpack(&tar, &folder)?;
        cache::write(&mark, commit.as_bytes())?;
        println!("{name}: commit {commit:.12} in {}", folder.display());
        if !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() {
            println!("{name}: uncommitted changes are left out");
        }
        let paths = paths(&folder, &build.join("target"))?;
        let (page, programs) = (page.to_owned(), RefCell::default());
        Ok(Self { name, build, folder, page, commit, epoch, paths, programs })
    }

    /// A platform whose builds of these sources do not depend on where they are. `flags` are more
    /// options of rustc.
    pub(super) fn platform(&self, platform: Platform, flags: &[&str]) -> Platform {
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        let flags: Vec<String> = remapped(&self.paths).chain(flags).collect();
        platform.with([
            // The Cargo Book, Environment variables: separated by this character.
            ("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}").into()),
            ("CARGO_INCREMENTAL", "0".into()),
            (STRIP, "symbols".into()),
            ("CARGO_TARGET_DIR", self.build.join("target").into_os_string()),
            // https://reproducible-builds.org/specs/source-date-epoch/
            ("SOURCE_DATE_EPOCH", self.epoch.to_string().into()),
            ("LC_ALL", "C.UTF-8".into()),
            ("TZ", "UTC".into()),
        ])
    }

    /// The path of the program for a platform, which [`Self::platform`] gives. What packages have
    /// is [`package::beside`] it. It is built once, whatever number of steps needs it. One that
    /// names a folder of this machine is refused.
    pub(super) fn program(&self, platform: &Platform) -> Result<PathBuf, String> {
        let known = self.programs.borrow().get(&platform.triple()).cloned();
        if let Some(program) = known {
            return Ok(program);
        }
        let program = package::prepare(&self.folder, platform, &self.date())?;
        self.check_paths(&program)?;
        self.programs.borrow_mut().insert(platform.triple(), program.clone());
        Ok(program)
    }

    /// Options of rustc for a build of these sources in the container image: see [`image`].
    pub(super) fn container_flags(&self) -> String {
        remapped(&container_paths(&self.paths)).collect::<Vec<_>>().join(" ")
    }

    /// Checks that a program names no folder of this machine.
    pub(super) fn check_paths(&self, program: &Path) -> Result<(), String> {
        let bytes = fs::read(program).map_err(|e| format!("{}: {e}", program.display()))?;
        let mut folders = self.paths.iter().map(|(folder, _)| folder);
        match folders.find(|folder| contains(&bytes, folder.as_os_str().as_bytes())) {
            None => Ok(()),
            Some(folder) => Err(format!("{} names {}", program.display(), folder.display())),
        }
    }

    /// The time of the commit, as date(1) reads it.
    fn date(&self) -> String {
        format!("@{}", self.epoch)
    }

    /// An empty folder of this name, for what is made on the way.
    pub(super) fn scratch(&self, name: &str) -> Result<PathBuf, String> {
        emptied(self.build.join("scratch").join(name))
    }

    /// Packs a folder of a scratch folder into a file of the page, which has the folder's name.
    pub(super) fn pack(&self, scratch: &Path, name: &str) -> Result<(), String> {
        let path = self.page.join(format!("{name}.tar.gz"));
        archive::pack_compressed(scratch, &[name], self.epoch, &path)
    }
}

/// The absolute path of a folder of builds, which exists then.
fn build_folder(name: &str) -> Result<PathBuf, String> {
    let folder = Path::new(ROOT).join(BUILDS).join(name);
    cache::create(&folder)?;
    folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))
}

/// An empty folder for a trial.
pub(super) fn trial_folder(name: &str) -> Result<PathBuf, String> {
    emptied(build_folder("trial")?.join(name))
}

/// The folder, which exists then and has no files.
fn emptied(folder: PathBuf) -> Result<PathBuf, String> {
    cache::remove(&folder)?;
    cache::create(&folder)?;
    Ok(folder)
}

fn git(arguments: &[&str]) -> Result<String, String> {
    let printed = output(Command::new("git").current_dir(ROOT).args(arguments))?;
    Ok(printed.trim().to_owned())
}

/// The folders for sources and builds in these folders, and the paths that stand for them. Of
/// several that a path begins with, rustc takes the last.
fn paths(sources: &Path, target: &Path) -> Result<Vec<(PathBuf, String)>, String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let system = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let library = Path::new(system.trim()).join("lib/rustlib/src/rust");
    let cargo = match std::env::var_os("CARGO_HOME").filter(|path| !path.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(&std::env::var_os("HOME").ok_or("HOME is not set")?).join(".cargo"),
    };
    let mut paths = vec![
        (sources.to_owned(), SOURCES.to_owned()),
        (target.to_owned(), format!("{SOURCES}/target")),
        (cargo.clone(), CARGO.to_owned()),
        (library, library_name(&version)?),
    ];
    // Each registry, and each mirror, has a folder with its name.
    let registries = cargo.join("registry/src");
    if registries.is_dir() {
        let folders = cache::list(&registries)?.into_iter();
        paths.extend(folders.map(|folder| (folder, REGISTRY.to_owned())));
    }
    Ok(paths)
}

/// The same in the container image, whose Rust may be that of this machine.
fn container_paths(paths: &[(PathBuf, String)]) -> Vec<(PathBuf, String)> {
    let mut inside = vec![(PathBuf::from(image::SOURCES), SOURCES.to_owned())];
    inside.extend(image::CARGO_HOMES.map(|home| (home.into(), CARGO.to_owned())));
    for (path, name) in paths {
        if let Some(at) = path.ancestors().find(|at| at.ends_with("toolchains")) {
            // `toolchains/NAME/lib/rustlib/src/rust`.
            let rest = path.strip_prefix(at.parent().unwrap_or(at)).unwrap_or(path);
            inside.push((Path::new(image::RUSTUP_HOME).join(rest), name.clone()));
        }
        if let (REGISTRY, Some(registry)) = (name.as_str(), path.file_name()) {
            let homes = image::CARGO_HOMES.map(|home| Path::new(home).join("registry/src"));
            inside.extend(homes.map(|home| (home.join(registry), name.clone())));
        }
    }
    inside
}

/// Options that have rustc write other paths than those of this machine.
fn remapped(paths: &[(PathBuf, String)]) -> impl Iterator<Item = String> {
    paths.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
}

/// Whether bytes have these bytes in them, which are not empty.
fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// The path that rustc's own library has on machines without its sources: it has the commit, which
/// `rustc -vV` prints.
fn library_name(version: &str) -> Result<String, String> {
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    let commit = commit.ok_or_else(|| format!("rustc names no commit: {version}"))?;
    Ok(format!("/rustc/{}", commit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_machine_are_replaced() {
        let paths = [("/a b", "/x"), ("/c", "/y/z")];
        let paths = paths.map(|(from, to)| (PathBuf::from(from), to.to_owned()));
        let options: Vec<String> = remapped(&paths).collect();
        assert_eq!(options, ["--remap-path-prefix=/a b=/x", "--remap-path-prefix=/c=/y/z"]);
    }

    #[test]
    fn paths_of_the_container_are_replaced() {
        let paths = [
            ("/home/a/.cargo", CARGO),
            ("/home/a/.rustup/toolchains/1.95/lib/rustlib/src/rust", "/rustc/abc"),
            ("/home/a/.cargo/registry/src/mirror-1", REGISTRY),
        ];
        let paths = paths.map(|(from, to)| (PathBuf::from(from), to.to_owned()));
        let options: Vec<String> = remapped(&container_paths(&paths)).collect();
        let expected = [
            "/src=/usr/src/panoptes",
            "/usr/local/cargo=/usr/src/cargo",
            "/root/.cargo=/usr/src/cargo",
            "/usr/local/rustup/toolchains/1.95/lib/rustlib/src/rust=/rustc/abc",
            "/usr/local/cargo/registry/src/mirror-1=/usr/src/cargo/registry",
            "/root/.cargo/registry/src/mirror-1=/usr/src/cargo/registry",
        ];
        assert_eq!(options, expected.map(|option| format!("--remap-path-prefix={option}")));
    }

    #[test]
    fn a_program_is_built_once() {
        let nowhere = PathBuf::from("/nowhere");
        let sources = ReleaseSources {
            name: "test",
            build: nowhere.clone(),
            folder: nowhere.clone(),
            page: nowhere.clone(),
            commit: String::new(),
            epoch: 0,
            paths: Vec::new(),
            programs: RefCell::default(),
        };
        let program = nowhere.join("panoptes");
        sources.programs.borrow_mut().insert(None, program.clone());
        // There is no folder to start cargo in.
        assert_eq!(sources.program(&Platform::default()), Ok(program));
    }

    #[test]
    fn a_path_in_a_program_is_found() {
        assert!(contains(b"\0/t/a/b.rs\0", b"/t/a"));
        assert!(!contains(b"\0/t/b\0", b"/t/a"));
        assert!(!contains(b"/t", b"/t/a"));
    }

    #[test]
    fn the_library_has_the_path_of_its_commit() {
        let version =
            "rustc 1.95.0 (abc 2026-01-01)\nbinary: rustc\ncommit-hash: abcdef\nhost: x\n";
        assert_eq!(library_name(version), Ok("/rustc/abcdef".to_owned()));
        assert!(library_name("rustc 1.95.0\n").is_err());
    }
}
