//! A watcher's input before scenarios begin: its configuration, and the lists of what should run in
//! the guest.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Stage, image, upgrade};
use crate::cache;
use crate::command;
use crate::error::Result;
use crate::flavor::Architecture;
use crate::strangers;
use crate::userland;

/// Files that guests have besides their root: their paths in the guest and on the host.
pub(super) fn files() -> Result<Vec<(String, PathBuf)>> {
    let mut files = strangers::build()?;
    files.extend(upgrade::packages(&userland::packages(Architecture::Amd64)?)?);
    Ok(files)
}

/// Thresholds that a scenario reaches in seconds.
const LOW_THRESHOLDS: &str = "  events:
    tcp_connection_excessive_data: { bytes_in: 1MiB, bytes_out: 1MiB }
    tcp_long_lasting_connection: { duration: 15s }
    process_zombie: { after: 1s }
";

/// A program that the user declares as a login server, which gives shells to its peers.
const LOGIN_SERVERS: &str = "  events:
    reverse_shell_detected: { login_servers: ['/opt/sessions/*/agent'] }
";

impl Stage {
    /// Finds a stage by the name that a scenario's file has for it.
    pub(super) fn from_name(name: &str) -> std::result::Result<Self, String> {
        Ok(match name {
            "shipped" => Self::Shipped,
            "upgraded" => Self::Upgraded,
            "behaviour" => Self::Behaviour,
            "thresholds" => Self::Thresholds,
            "equipped" => Self::Equipped,
            "administered" => Self::Administered,
            _ => return Err(format!("there is no stage {name:?}")),
        })
    }

    /// Describes for people what the watcher sees before the first scenario.
    pub(super) const fn at_rest(self) -> &'static str {
        match self {
            Self::Shipped => "processes that exist when the watcher starts",
            Self::Upgraded => "the same, with newer packages known",
            Self::Behaviour => "the same, without a list of what should run",
            Self::Thresholds => "the same, with low thresholds",
            Self::Equipped => "the same, with many more programs",
            Self::Administered => "the same, where each change of a file counts",
        }
    }
}

/// Writes the configuration of a stage into `folder` and returns its path.
pub(super) fn configuration(stage: Stage, program: &Path, folder: &Path) -> Result<PathBuf> {
    let mut text = String::from("default:\n");
    if stage.has_lists() {
        text.push_str("  sbom:\n");
        for list in lists(stage, program, folder)? {
            let _ = writeln!(text, "    - {}", list.display());
        }
        let images = format!("{{ \"{}\": \"{}\" }}", image::KNOWN, image::NAME);
        let _ = writeln!(text, "  containers:\n    images: {images}");
    }
    if stage == Stage::Thresholds {
        text.push_str(LOW_THRESHOLDS);
    }
    if stage == Stage::Equipped {
        text.push_str(LOGIN_SERVERS);
    }
    let path = folder.join(format!("{stage:?}.yaml").to_lowercase());
    cache::write(&path, text.as_bytes())?;
    Ok(path)
}

/// Writes the configuration for twins into `folder` and returns its path: with lists of what should
/// run, made from these sources.
pub(super) fn of_twins(sources: &[PathBuf], program: &Path, folder: &Path) -> Result<PathBuf> {
    let mut text = String::from("output: { preset: everything, header: compact }\n");
    let mut named = sources.iter().enumerate().peekable();
    if named.peek().is_some() {
        text.push_str("default:\n  sbom:\n");
    }
    for (i, source) in named {
        let list = list(program, source, &folder.join(format!("{i}.json")))?;
        let _ = writeln!(text, "    - {}", list.display());
    }
    let path = folder.join("twins.yaml");
    cache::write(&path, text.as_bytes())?;
    Ok(path)
}

/// The lists of what should run, made by the `panoptes` program itself.
fn lists(stage: Stage, program: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let root = userland::debian(Architecture::Amd64)?;
    let image = folder.join("image");
    if !image.exists() {
        let strangers = strangers::build()?;
        let serve = strangers.iter().find(|(name, _)| name == "opt/stranger");
        let serve = serve.map(|(_, path)| path.clone()).unwrap_or_default();
        image::layout(&root.join("bin/busybox"), &serve, &image)?;
    }
    let mut sources = vec![root, image.join("shop")];
    if stage == Stage::Upgraded {
        sources.extend(upgrade::newer(&userland::packages(Architecture::Amd64)?)?);
    }
    let named = sources.iter().enumerate();
    named.map(|(i, source)| list(program, source, &folder.join(format!("{i}.json")))).collect()
}

/// The list of what should run, from a folder, a package or an image.
fn list(program: &Path, source: &Path, list: &Path) -> Result<PathBuf> {
    if !list.exists() {
        let mut build = Command::new(program);
        build.args(["sbom", "build"]).arg(source).arg("-o").arg(list);
        command::output(&mut build)?;
    }
    Ok(list.to_owned())
}
