//! Programs and libraries that are in no package, for guests whose packages define what should run.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::command;
use crate::error::Result;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../strangers");

/// A header that some of them share.
const HEADER: &str = "relay.h";
/// Names, sources and compiler options.
const STRANGERS: &[(&str, &str, &[&str])] = &[
    ("stranger", "stranger.c", &["-static"]),
    ("stranger-dynamic", "stranger.c", &[]),
    ("connect-back", "connect_back.c", &["-static"]),
    ("ring-relay", "ring_relay.c", &["-static"]),
    ("queue-relay", "queue_relay.c", &["-static"]),
    ("shared-relay", "shared_relay.c", &["-static"]),
    ("stranger.so", "library.c", &["-shared", "-fPIC", "-nostdlib"]),
    ("memory", "memory.c", &[]),
    ("memory-execstack", "memory.c", &["-Wl,-z,execstack,--no-warn-execstack"]),
    ("relocated.so", "relocated.c", &["-shared", "-fPIC", "-nostdlib", "-Wl,-z,notext"]),
];

/// Compiles them for x86-64, once for each version of their sources. Returns their paths in guests
/// and on the host.
pub fn build() -> Result<Vec<(String, PathBuf)>> {
    let folder = cache::folder("strangers")?;
    let header = cache::read(&Path::new(SOURCES).join(HEADER))?;
    STRANGERS
        .iter()
        .map(|(name, source, options)| {
            let (target, stamp) = (folder.join(name), folder.join(format!("{name}.c")));
            let source = cache::read(&Path::new(SOURCES).join(source))?;
            let stamped = [&header[..], &source[..]].concat();
            if !target.exists() || !cache::read(&stamp).is_ok_and(|old| old == stamped) {
                let scratch = folder.join(format!("build-{}.c", std::process::id()));
                cache::write(&scratch, &source)?;
                let mut gcc = Command::new("gcc");
                gcc.args(["-O2", "-Wall", "-Werror", "-I", SOURCES]).args(*options);
                command::output(gcc.arg("-o").arg(&target).arg(&scratch))?;
                cache::write(&scratch, &stamped)?;
                cache::rename(&scratch, &stamp)?;
            }
            Ok((format!("opt/{name}"), target))
        })
        .collect()
}
