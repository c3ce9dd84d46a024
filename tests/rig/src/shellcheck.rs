//! shellcheck, which checks the scripts of scenarios.

use std::path::PathBuf;
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::Result;
use crate::unpacked;

/// The suite that it is taken from where the machine has none.
const SUITE: &str = "bookworm";

/// A command that runs shellcheck: the machine's own, else Debian's, unpacked into the cache.
pub fn shellcheck() -> Result<Command> {
    let own = Command::new("shellcheck");
    if runs(Command::new("shellcheck")) {
        return Ok(own);
    }
    if !runs(in_cache()?) {
        eprintln!("rig: fetching shellcheck from {SUITE} (7 MB, kept in the cache, not installed)");
        unpacked::unpack(SUITE, "shellcheck", &cache::folder("programs")?, "shellcheck")?;
    }
    in_cache()
}

fn root() -> Result<PathBuf> {
    Ok(cache::folder("programs")?.join("shellcheck"))
}

fn in_cache() -> Result<Command> {
    let root = root()?;
    let mut command = Command::new(root.join("usr/bin/shellcheck"));
    unpacked::use_libraries(&mut command, &root);
    Ok(command)
}

fn runs(mut command: Command) -> bool {
    command::output(command.arg("--version")).is_ok()
}
