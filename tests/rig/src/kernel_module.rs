//! Builds kernel modules of tests on the host, with the headers of a guest's kernel.
//!
//! Needs make and gcc. Newer kernels than the host's release expect a newer compiler and a newer C
//! library: scripts stand in for both. Loading a module is the test's own work.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};
use crate::flavor::{Architecture, Flavor, Series};
use crate::headers;
use crate::kernel::Kernel;
use crate::packages::{obtain, unpack};

/// A source of a module: its file's name and its text.
pub type Source<'a> = (&'a str, &'a str);

/// Libraries that the tools of newer kernels' packages need, with the suite that has them.
const LIBRARIES: [&str; 5] =
    ["libc6/trixie", "libelf1t64/trixie", "libssl3t64/trixie", "libzstd1/trixie", "zlib1g/trixie"];
/// The folder of these libraries in their packages.
const LIBRARY_FOLDER: &str = "usr/lib/x86_64-linux-gnu";
/// A compiler that accepts options of newer ones (gcc 14 has `-fmin-function-alignment`).
const COMPILER: &str = r#"#!/bin/bash
options=()
for option in "$@"; do
    case $option in
        -fmin-function-alignment=*) option=-falign-functions=${option#*=} ;;
        -fdiagnostics-show-context*) continue ;;
    esac
    options+=("$option")
done
exec gcc "${options[@]}"
"#;

/// Builds a module of each C file among `sources` in `folder`, and returns the folder with the
/// modules.
pub fn build(flavor: Flavor, folder: &Path, sources: &[Source<'_>]) -> Result<PathBuf> {
    let kernel = Kernel::obtain(flavor)?;
    let root = folder.join("root");
    let headers = headers::unpack(&kernel, &root)?;
    unpack_tools(flavor, kernel.release(), folder, &root)?;
    // The package has absolute paths, as if it were installed.
    let makefile = headers.join("Makefile");
    let text = String::from_utf8_lossy(&cache::read(&makefile)?).into_owned();
    let text = text.replace("/usr/src/", &format!("{}/", root.join("usr/src").display()));
    cache::write(&makefile, text.as_bytes())?;
    let compiler = folder.join("compiler");
    write_script(&compiler, COMPILER)?;
    let place = folder.join("module");
    cache::create(&place)?;
    let mut objects = String::from("obj-m :=");
    for (name, text) in sources {
        cache::write(&place.join(name), text.as_bytes())?;
        if let Some(stem) = name.strip_suffix(".c") {
            let _ = write!(objects, " {stem}.o");
        }
    }
    cache::write(&place.join("Kbuild"), format!("{objects}\n").as_bytes())?;
    let mut make = Command::new("make");
    make.arg("-C").arg(&headers).arg(format!("M={}", place.display()));
    make.arg(format!("CC={}", compiler.display()));
    // Types of modules need the kernel's own, which no package has.
    make.args(["CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"]);
    command::output(&mut make)?;
    Ok(place)
}

/// Unpacks what builds modules: modpost, objtool.
fn unpack_tools(flavor: Flavor, release: &str, folder: &Path, root: &Path) -> Result<()> {
    let version = release.rsplit_once('-').map_or(release, |(version, _)| version);
    let is_old = matches!(flavor.series, Series::V5_10 | Series::V6_1);
    // Packages of newer kernels have the whole version in their names.
    let version = if is_old { flavor.series.name() } else { version };
    unpack(&obtain(Architecture::Amd64, &format!("linux-kbuild-{version}"))?, root)?;
    if is_old {
        return Ok(());
    }
    let libraries = folder.join("libraries");
    for package in LIBRARIES {
        unpack(&obtain(Architecture::Amd64, package)?, &libraries)?;
    }
    let tools = root.join("usr/lib").join(format!("linux-kbuild-{version}"));
    wrap_programs(&tools, &libraries.join(LIBRARY_FOLDER))
}

/// Replaces each program below a folder by a script that runs it with other libraries.
fn wrap_programs(folder: &Path, libraries: &Path) -> Result<()> {
    for path in cache::list(folder)? {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            wrap_programs(&path, libraries)?;
        } else if cache::read(&path)?.starts_with(b"\x7fELF") {
            let program = path.with_added_extension("program");
            cache::rename(&path, &program)?;
            let script = format!(
                "#!/bin/sh\nexec {0}/ld-linux-x86-64.so.2 --library-path {0} --argv0 \"$0\" {1} \
                 \"$@\"\n",
                libraries.display(),
                program.display()
            );
            write_script(&path, &script)?;
        }
    }
    Ok(())
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    cache::write(path, text.as_bytes())?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
        .map_err(|e| Error::io("make a program of", path, &e))
}
