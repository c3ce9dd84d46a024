//! Programs of Debian's that checks use: the machine's own, else unpacked into the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_needs::Need;

use crate::cache::{self, Scratch};
use crate::command;
use crate::error::Result;
use crate::unpacked;

/// The suite that they are taken from.
const SUITE: &str = "bookworm";
const ARM64: &str = "qemu-aarch64";
/// Its emulator of programs is as new as that of guests, and needs no libraries.
const ARM64_SUITE: &str = "bookworm-backports";

/// A command that runs shellcheck, which checks the scripts of scenarios.
pub fn shellcheck() -> Result<Command> {
    tool("shellcheck", 7, |root| Command::new(root.join("usr/bin/shellcheck")))
}

/// A command that runs valgrind, which counts instructions.
pub fn valgrind() -> Result<Command> {
    tool("valgrind", 16, |root| {
        // `usr/bin/valgrind` is a script that adds the machine's debug symbols.
        let mut command = Command::new(root.join("usr/bin/valgrind.bin"));
        command.env("VALGRIND_LIB", root.join("usr/libexec/valgrind"));
        command
    })
}

/// The emulator of arm64 programs on this machine's kernel. It is fetched unless the cache has it.
pub fn arm64_programs() -> Result<PathBuf> {
    let folder = cache::folder("programs")?;
    let path = folder.join(ARM64);
    if !runs(&mut Command::new(&path)) {
        eprintln!("rig: fetching {ARM64} from {ARM64_SUITE} (63 MB, of which 14 are kept)");
        let scratch = Scratch::new(folder.join(format!(".{ARM64}")))?;
        unpacked::unpack(ARM64_SUITE, "qemu-user", &scratch, "root")?;
        cache::rename(&scratch.join("root/usr/bin").join(ARM64), &path)?;
    }
    Ok(path)
}

/// The folder of an unpacked package, which has this program. It is fetched unless the cache has
/// it.
pub fn package(name: &str, program: &str) -> Result<PathBuf> {
    let folder = cache::folder("programs")?;
    let root = folder.join(name);
    if !root.join(program).is_file() {
        eprintln!("rig: fetching {name} from {SUITE} (kept in the cache, not installed)");
        unpacked::unpack(SUITE, name, &folder, name)?;
    }
    Ok(root)
}

/// A command that runs `package`; `in_root` makes it from the folder of the unpacked package,
/// which is of `megabytes` when fetched.
fn tool(package: &str, megabytes: u32, in_root: impl Fn(&Path) -> Command) -> Result<Command> {
    let name = Need::named(package).name;
    if runs(&mut Command::new(name)) {
        return Ok(Command::new(name));
    }
    let folder = cache::folder("programs")?;
    let in_cache = || {
        let root = folder.join(package);
        let mut command = in_root(&root);
        unpacked::use_libraries(&mut command, &root);
        command
    };
    if !runs(&mut in_cache()) {
        eprintln!(
            "rig: fetching {package} from {SUITE} ({megabytes} MB, kept in the cache, not \
             installed)"
        );
        unpacked::unpack(SUITE, package, &folder, package)?;
    }
    Ok(in_cache())
}

fn runs(command: &mut Command) -> bool {
    command::output(command.arg("--version")).is_ok()
}
