//! Checks the scripts of scenarios by shellcheck.

use std::path::{Path, PathBuf};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios");

/// Whether shellcheck has nothing to say about any script.
pub(crate) fn check() -> Result<bool, String> {
    let mut files = Vec::new();
    for folder in ["", "lib", "twins"] {
        scripts(&Path::new(FOLDER).join(folder), &mut files)?;
    }
    files.sort();
    let mut command = panoptes_rig::shellcheck().map_err(|e| e.to_string())?;
    command.args(["--shell=bash", "--severity=warning"]);
    let status = command.args(&files).status().map_err(|e| format!("shellcheck: {e}"))?;
    println!("{} scripts were checked", files.len());
    Ok(status.success())
}

/// The scripts in a folder.
fn scripts(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("cannot list {}: {e}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            files.push(path);
        }
    }
    Ok(())
}
