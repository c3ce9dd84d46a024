//! Checks the scripts of scenarios, of `install` and of the RPM package, by shellcheck.

use std::path::Path;

use panoptes_rig::cache;

use crate::cargo;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");

/// Whether shellcheck has nothing to say about any script.
pub(crate) fn check() -> Result<bool, String> {
    let mut files = Vec::new();
    for folder in ["", "lib", "twins", "../install", "../../packaging/rpm"] {
        files.extend(cache::list(&Path::new(FOLDER).join(folder))?);
    }
    files.retain(|path| cache::has_extension(path, "sh"));
    let mut command = panoptes_rig::shellcheck()?;
    command.args(["--shell=bash", "--severity=warning"]).args(&files);
    let succeeds = cargo::succeeds(&mut command)?;
    println!("{} scripts were checked", files.len());
    Ok(succeeds)
}
