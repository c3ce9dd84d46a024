//! Bashes that are in no package of Debian: built from source, with glibc or musl, dynamic and
//! static, and with the system's own readline as in Arch, Alpine and openSUSE.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, Scratch};
use crate::command;
use crate::error::{Error, Result};
use crate::packages::Packages;
use crate::setup;

/// The suite whose source is built, and the beginning of its roots' names.
const DEBIANS: (&str, &str) = ("bookworm", "debian-5.2.15");

/// A C library, and how bash is linked with it.
#[derive(Clone, Copy, Debug)]
struct Make {
    compiler: &'static str,
    option: Option<&'static str>,
    /// Appended to the name of the source.
    suffix: &'static str,
}

const STATIC: &str = "--enable-static-link";
const SYSTEMS_READLINE: &str = "--with-installed-readline";
const GLIBC: &[Make] = &[
    Make { compiler: "gcc", option: None, suffix: "" },
    Make { compiler: "gcc", option: Some(STATIC), suffix: "-static" },
    READLINE,
];
const READLINE: Make =
    Make { compiler: "gcc", option: Some(SYSTEMS_READLINE), suffix: "-readline" };
const MUSL: &[Make] = &[
    Make { compiler: MUSL_COMPILER, option: None, suffix: "-musl" },
    Make { compiler: MUSL_COMPILER, option: Some(STATIC), suffix: "-musl-static" },
];
const MUSL_COMPILER: &str = "musl-gcc";
const MUSL_LOADER: &str = "/lib/ld-musl-x86_64.so.1";

/// Creates in `folder` the roots from Debian's own source that Debian has no package of.
pub(super) fn of_debian(folder: &Path) -> Result<()> {
    let (suite, name) = DEBIANS;
    let makes = || MUSL.iter().chain([&READLINE]);
    if makes().all(|make| folder.join(format!("{name}{}", make.suffix)).exists()) {
        return Ok(());
    }
    let scratch = scratch("source")?;
    let packages = Packages::open(crate::Architecture::Amd64)?;
    let source = packages.source("bash", suite, &scratch)?;
    makes().try_for_each(|make| build(&source, name, *make, folder))
}

/// Creates in `folder` the roots of a folder with bash's source, built with each library; their
/// names begin with the folder's.
pub(super) fn from_source(source: &Path, folder: &Path) -> Result<()> {
    if !source.join("configure").is_file() {
        return Err(Error::new(format!("{} has no configure of bash's", source.display())));
    }
    let path = source.canonicalize().map_err(|e| Error::io("find", source, &e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    GLIBC.iter().chain(MUSL).try_for_each(|make| build(&path, &name, *make, folder))
}

fn build(source: &Path, name: &str, make: Make, folder: &Path) -> Result<()> {
    let name = format!("{name}{}", make.suffix);
    let root = folder.join(&name);
    if root.exists() {
        return Ok(());
    }
    setup::ensure_for_building()?;
    eprintln!("rig: building {name} (a minute or two, kept in the cache)");
    let scratch = scratch("build")?;
    let bash = compile(source, make, &scratch)?;
    let made = scratch.join("root");
    cache::copy(&bash, &made.join("bin/bash"))?;
    for library in libraries(&bash, make)? {
        cache::copy(&library, &made.join(library.strip_prefix("/").unwrap_or(&library)))?;
    }
    cache::rename(&made, &root)
}

/// Builds a bash outside its source folder, and returns its path.
fn compile(source: &Path, make: Make, folder: &Path) -> Result<PathBuf> {
    let mut configure = Command::new(source.join("configure"));
    configure.current_dir(folder).env("CC", make.compiler).env("CFLAGS", "-O2 -w");
    // bash has a strtoimax of its own, and so has musl.
    configure.env("LDFLAGS", "-Wl,--allow-multiple-definition");
    configure.args(["--quiet", "--without-bash-malloc", "--disable-nls"]);
    configure.args(make.option);
    command::output(&mut configure)?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut build = Command::new("make");
    command::output(build.current_dir(folder).arg("--silent").arg(format!("--jobs={jobs}")))?;
    Ok(folder.join("bash"))
}

/// The libraries that a bash needs, at the paths where it searches them, as the loader lists them.
fn libraries(bash: &Path, make: Make) -> Result<Vec<PathBuf>> {
    if make.option == Some(STATIC) {
        return Ok(Vec::new());
    }
    if make.compiler == MUSL_COMPILER {
        // Loader and library in one.
        return Ok(vec![MUSL_LOADER.into()]);
    }
    let listed = command::output(Command::new("ldd").arg(bash))?;
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// A folder beside the roots.
pub(super) fn scratch(what: &str) -> Result<Scratch> {
    Scratch::new(cache::folder("shells")?.join(format!(".{what}-{}", std::process::id())))
}
