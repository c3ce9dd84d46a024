//! Programs of crates, compiled once into the cache.

use std::path::PathBuf;

use panoptes_rig::cache;

use crate::cargo;

/// A crate whose program has the same name, at one version: another one could make other bytes.
pub(crate) struct CompiledTool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

/// Makes Debian packages.
pub(crate) const CARGO_DEB: CompiledTool = CompiledTool { name: "cargo-deb", version: "3.8.0" };

impl CompiledTool {
    /// The path of the program. It is compiled unless the cache has it.
    pub(crate) fn obtain(&self) -> Result<PathBuf, String> {
        let Self { name, version } = self;
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
