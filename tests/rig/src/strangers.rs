//! Programs and libraries that are in no package, for guests whose packages define what should run.

use std::path::PathBuf;
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::Result;

const PROGRAM: &str = include_str!("../../strangers/stranger.c");
const CONNECT_BACK: &str = include_str!("../../strangers/connect_back.c");
const LIBRARY: &str = include_str!("../../strangers/library.c");
const MEMORY: &str = include_str!("../../strangers/memory.c");
const RELOCATED: &str = include_str!("../../strangers/relocated.c");

/// Names, sources and compiler options.
const STRANGERS: &[(&str, &str, &[&str])] = &[
    ("stranger", PROGRAM, &["-static"]),
    ("stranger-dynamic", PROGRAM, &[]),
    ("connect-back", CONNECT_BACK, &["-static"]),
    ("stranger.so", LIBRARY, &["-shared", "-fPIC", "-nostdlib"]),
    ("memory", MEMORY, &[]),
    ("memory-execstack", MEMORY, &["-Wl,-z,execstack,--no-warn-execstack"]),
    ("relocated.so", RELOCATED, &["-shared", "-fPIC", "-nostdlib", "-Wl,-z,notext"]),
];

/// Compiles them for x86-64, once for each version of their sources. Returns their paths in guests
/// and on the host.
pub fn build() -> Result<Vec<(String, PathBuf)>> {
    let folder = cache::folder("strangers")?;
    STRANGERS
        .iter()
        .map(|(name, source, options)| {
            let (target, stamp) = (folder.join(name), folder.join(format!("{name}.c")));
            let old = std::fs::read_to_string(&stamp);
            if !target.exists() || !old.is_ok_and(|old| old == *source) {
                let scratch = folder.join(format!("build-{}.c", std::process::id()));
                cache::write(&scratch, source.as_bytes())?;
                let mut gcc = Command::new("gcc");
                gcc.args(["-O2", "-Wall", "-Werror"]).args(*options).arg("-o").arg(&target);
                command::output(gcc.arg(&scratch))?;
                std::fs::rename(&scratch, &stamp)
                    .map_err(|e| crate::Error::io("rename into place", &stamp, &e))?;
            }
            Ok((format!("opt/{name}"), target))
        })
        .collect()
}
