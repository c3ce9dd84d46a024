//! Modules are built with each kernel's headers on this host.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use panoptes_rig::hooks::{MODULES, SOURCES};
use panoptes_rig::{Flavor, Kernel, gate, kernel_module, setup};

#[test]
#[ignore = "boots a guest"]
fn modules_are_built_for_each_kernel() {
    let name = "modules_are_built_for_each_kernel";
    if !gate::is_long_allowed(name, "makes kernel modules, and takes minutes") {
        return;
    }
    setup::ensure().unwrap();
    for &flavor in Flavor::EVERY_DAY {
        let folder = tempfile::tempdir().unwrap();
        let modules = kernel_module::build(flavor, folder.path(), SOURCES).unwrap();
        let release = Kernel::obtain(flavor).unwrap().release().to_owned();
        for module in MODULES {
            let bytes = std::fs::read(modules.join(format!("{module}.ko"))).unwrap();
            let wanted = format!("vermagic={release} ");
            let is_there = bytes.windows(wanted.len()).any(|part| part == wanted.as_bytes());
            assert!(is_there, "{module} of {release}");
        }
    }
}
