//! `cargo xtask bindings`: Rust declarations of DOCA's C interface.
//!
//! bindgen makes them from `engine/sources/doca`. They are committed, so no build needs bindgen or
//! libclang.

use std::process::Command;

use panoptes_bounded as bounded;

use crate::folders::ROOT;

/// The lines before the declarations.
const HEAD: &[&str] = &[
    "//! DOCA's C interface, made by bindgen from `engine/sources/doca`: `cargo xtask bindings`. \
     Not to be edited.",
    "#![allow(unsafe_code, reason = \"function pointers of a C library\")]",
    "#![allow(missing_docs, non_camel_case_types, unreachable_pub, dead_code, \
     reason = \"C names\")]",
    "#![allow(clippy::all, clippy::pedantic, reason = \"generated\")]",
];

/// Types and constants that no function's type mentions.
const TYPES: &str = "doca_(symbols|error|access_flag|devinfo_rep_filter|ctx_states|pci_func_type)";

pub(crate) fn run() -> Result<(), String> {
    let mut bindgen = Command::new("bindgen");
    bindgen.current_dir(ROOT).arg("engine/sources/doca/symbols.h");
    bindgen.args(["-o", "engine/sources/src/doca/bindings.rs"]);
    bindgen.args(["--allowlist-type", TYPES, "--allowlist-var", "DOCA_.*"]);
    // A library may return enum values that are not listed, so they are numbers, never Rust enums.
    bindgen.args(["--default-enum-style", "consts", "--no-prepend-enum-name"]);
    bindgen.args(["--use-core", "--rust-edition", "2024", "--rust-target", "1.85"]);
    bindgen.arg("--disable-header-comment");
    for line in HEAD {
        bindgen.args(["--raw-line", line]);
    }
    let status = bounded::status_within(&mut bindgen, bounded::LONG).map_err(|error| {
        format!("bindgen: {error}; install it with `cargo install bindgen-cli` and libclang")
    })?;
    if status.success() { Ok(()) } else { Err("bindgen failed".to_owned()) }
}
