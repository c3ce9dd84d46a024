//! The few kernel modules that guests need, with their dependencies, in loading order.
//!
//! Debian's packages contain no `modules.dep` (it is made at installation), so dependencies are
//! read from the modules themselves: `.modinfo` has `depends=a,b`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use panoptes_needs::Need;

use crate::cache;
use crate::command;
use crate::error::{Error, Result};

/// Modules that guests load at boot; those built into a kernel are not found and not needed.
const WANTED: &[&str] = &[
    "virtio_pci",     // the bus of the next two
    "virtio_console", // the agent's command channel
    "virtio_net",     // an interface besides lo
    "tcp_diag",       // the agent's truth about sockets
    "loop",           // block devices to hold open
    "dummy",          // more interfaces
    "veth",           // interfaces across network namespaces
    "overlay",        // files as containers see them
    "vsock",          // families of sockets
    "af_alg",         // …
    "algif_hash",     // …
    "can_raw",        // …
    "bluetooth",      // …
];

/// Modules that a guest loads only if its specification demands them: by demand. They make a boot
/// slower, and their start (Btrfs benchmarks its checksums) much slower.
const ON_DEMAND: &[(&str, &[&str])] = &[
    ("disk", &["virtio_blk"]),
    // A mount requests checksums by name.
    ("ext4", &["crc32c_generic", "crc32c_cryptoapi", "ext4"]),
    ("xfs", &["crc32c_generic", "crc32c_cryptoapi", "xfs"]),
    ("btrfs", &["crc32c_generic", "crc32c_cryptoapi", "xxhash_generic", "btrfs"]),
    ("squashfs", &["squashfs"]),
];

const LIST: &str = "modules.list";
const WANTED_LIST: &str = "modules.wanted";

/// Whether the folder of a kernel in the cache was made with the present list of modules.
pub(crate) fn is_current(kernel: &Path) -> bool {
    std::fs::read_to_string(kernel.join(WANTED_LIST)).is_ok_and(|text| text == wanted_text())
}

/// The modules of a kernel in the cache, in loading order.
pub(crate) fn list(kernel: &Path) -> Result<Vec<PathBuf>> {
    let text = cache::read(&kernel.join(LIST))?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().map(|name| kernel.join("modules").join(name)).collect())
}

/// The modules of a kernel in the cache for some demands, in loading order, each once; without
/// those that every guest loads. Built-in code needs none.
pub(crate) fn on_demand(kernel: &Path, demands: &[String]) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for demand in demands {
        if !ON_DEMAND.iter().any(|(name, _)| name == demand) {
            let known: Vec<&str> = ON_DEMAND.iter().map(|(name, _)| *name).collect();
            let why = format!("no modules are known for {demand:?}, but for {}", known.join(", "));
            return Err(Error::new(why));
        }
        let text = cache::read(&kernel.join(format!("{LIST}.{demand}")))?;
        for name in String::from_utf8_lossy(&text).lines() {
            let path = kernel.join("modules").join(name);
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    Ok(paths)
}

/// Copies the wanted modules and their dependencies from an unpacked package, if there is one,
/// into the cache.
pub(crate) fn collect(unpacked: Option<&Path>, kernel: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    if let Some(unpacked) = unpacked {
        find_modules(&unpacked.join("kernel"), &mut files)?;
    }
    let target = kernel.join("modules");
    cache::create(&target)?;
    let mut done = BTreeSet::new();
    let mut order = Vec::new();
    for name in WANTED {
        collect_one(name, &files, &target, &mut done, &mut order)?;
    }
    cache::write(&kernel.join(LIST), order.join("\n").as_bytes())?;
    for (demand, names) in ON_DEMAND {
        let (mut done, mut order) = (done.clone(), Vec::new());
        for name in *names {
            collect_one(name, &files, &target, &mut done, &mut order)?;
        }
        cache::write(&kernel.join(format!("{LIST}.{demand}")), order.join("\n").as_bytes())?;
    }
    cache::write(&kernel.join(WANTED_LIST), wanted_text().as_bytes())
}

/// Copies one module after its dependencies. `done` bounds the recursion: a name enters once.
fn collect_one(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    target: &Path,
    done: &mut BTreeSet<String>,
    order: &mut Vec<String>,
) -> Result<()> {
    let name = name.replace('-', "_");
    let Some(path) = files.get(&name) else { return Ok(()) };
    if !done.insert(name.clone()) {
        return Ok(());
    }
    let bytes = read_module(path)?;
    for dependency in dependencies(&bytes) {
        collect_one(&dependency, files, target, done, order)?;
    }
    let file = format!("{name}.ko");
    cache::write(&target.join(&file), &bytes)?;
    order.push(file);
    Ok(())
}

/// Every module file below a folder, by module name.
fn find_modules(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for path in cache::list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
        if path.is_dir() {
            find_modules(&path, files)?;
        } else if let Some((stem, _)) = name.split_once(".ko") {
            files.insert(stem.to_owned(), path);
        }
    }
    Ok(())
}

/// The module's bytes, unpacked if the distribution compressed it.
fn read_module(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => Need::named("xz").name,
        Some("gz") => Need::named("gzip").name,
        Some("zst") => Need::named("zstd").name,
        _ => return cache::read(path),
    };
    command::output_bytes(Command::new(tool).arg("-dc").arg(path))
}

/// The module's dependencies by its `.modinfo`.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value: Vec<u8> =
        module[at + KEY.len()..].iter().copied().take_while(|byte| *byte != 0).collect();
    let text = String::from_utf8_lossy(&value);
    text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn wanted_text() -> String {
    let on_demand = ON_DEMAND.iter().flat_map(|(_, names)| *names);
    WANTED.iter().chain(on_demand).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_from_modinfo() {
        let module = b"\x7fELF..\0license=GPL\0depends=virtio_ring,virtio\0name=x\0";
        assert_eq!(dependencies(module), ["virtio_ring", "virtio"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"nothing").is_empty());
    }
}
