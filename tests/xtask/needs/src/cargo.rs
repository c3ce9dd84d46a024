//! The cargo that runs xtask.

use std::process::Command;

use crate::Need;

/// A command of that cargo, without what cargo tells xtask about xtask's own package: build scripts
/// look at these variables, and each change of them builds half of the workspace anew.
pub fn command() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| Need::named("cargo").name.into());
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}
