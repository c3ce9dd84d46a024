//! `panoptes scan` of arm64 kernels is as exact as of x86-64 kernels.
//!
//! Emulating another architecture takes long, so these tests run only if `PANOPTES_RIG_ARM64` is 1,
//! too.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that fails")]

use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, gate, product};

fn zoo_is_exact(test: &str, kernel: &str, cpu: &str) {
    if !gate::is_arm64_allowed(test) {
        return;
    }
    let mut spec = GuestSpec::new(Kernel::obtain(Flavor::from_name(kernel).unwrap()).unwrap());
    spec.cpu = Some(cpu.to_owned());
    let mut guest = Guest::boot(&spec).unwrap();
    guest.agent("zoo").unwrap();
    product::check_scan(&mut guest).unwrap();
}

#[test]
#[ignore = "boots a guest"]
fn zoo_of_arm64_6_1_is_scanned_exactly() {
    zoo_is_exact("zoo_of_arm64_6_1_is_scanned_exactly", "6.1-arm64", "max");
}

#[test]
#[ignore = "boots a guest"]
fn zoo_of_arm64_6_1_cloud_is_scanned_exactly() {
    zoo_is_exact("zoo_of_arm64_6_1_cloud_is_scanned_exactly", "6.1-cloud-arm64", "cortex-a72");
}

/// Addresses of 52 bits, in virtual and in physical memory.
#[test]
#[ignore = "boots a guest"]
fn zoo_of_arm64_6_12_is_scanned_exactly() {
    zoo_is_exact("zoo_of_arm64_6_12_is_scanned_exactly", "6.12-arm64", "max");
}

/// The same kernel on a processor that has only 48 bits.
#[test]
#[ignore = "boots a guest"]
fn zoo_of_arm64_6_12_with_48_bits_is_scanned_exactly() {
    zoo_is_exact("zoo_of_arm64_6_12_with_48_bits_is_scanned_exactly", "6.12-arm64", "cortex-a72");
}

#[test]
#[ignore = "boots a guest"]
fn zoo_of_arm64_6_12_with_16_kib_pages_is_scanned_exactly() {
    zoo_is_exact("zoo_of_arm64_6_12_with_16_kib_pages_is_scanned_exactly", "6.12-arm64-16k", "max");
}

/// The processor supports 48 of the 52 bits, of which pages of 16 KiB in three levels resolve 47.
#[test]
#[ignore = "boots a guest"]
fn zoo_of_arm64_6_12_with_16_kib_pages_and_47_bits_is_scanned_exactly() {
    zoo_is_exact(
        "zoo_of_arm64_6_12_with_16_kib_pages_and_47_bits_is_scanned_exactly",
        "6.12-arm64-16k",
        "cortex-a76",
    );
}
