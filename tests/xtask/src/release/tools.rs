//! Programs of crates that make parts of a release, compiled once into the cache.

use std::path::PathBuf;

use panoptes_needs::Need;
use panoptes_rig::cache;

use crate::cargo;

/// A crate whose program has the same name, at one version: another one could make other bytes.
pub(super) struct ReleaseTool {
    name: &'static str,
    version: &'static str,
}

pub(super) const MDBOOK: ReleaseTool = ReleaseTool { name: "mdbook", version: "0.5.4" };
pub(super) const GENERATE_RPM: ReleaseTool =
    ReleaseTool { name: "cargo-generate-rpm", version: "0.21.1" };
pub(super) const CYCLONEDX: ReleaseTool = ReleaseTool { name: "cargo-cyclonedx", version: "0.5.9" };

impl ReleaseTool {
    /// The path of the program. It is compiled unless the cache has it.
    pub(super) fn obtain(&self) -> Result<PathBuf, String> {
        let Self { name, version } = self;
        let name = Need::named(name).name;
        let folder = cache::folder("cargo")?.join(format!("{name}-{version}"));
        let program = folder.join("bin").join(name);
        if program.is_file() {
            return Ok(program);
        }
        println!("{name} {version} is being compiled, once; this takes some minutes …");
        let mut install = cargo::command();
        install.args(["install", name, "--locked", "--version", &format!("={version}"), "--root"]);
        cargo::must(install.arg(&folder), &format!("the build of {name}"))?;
        Ok(program)
    }
}
