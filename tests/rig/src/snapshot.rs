//! Guests resumed from a saved state instead of booted: a third of a second instead of ten.
//!
//! One run of `cargo xtask test` boots each kind of guest once, saves it as soon as its agent
//! answers, and starts all guests of this kind from there. Saved states are deleted at the end of
//! the run, so that each run has other addresses (KASLR). Without a folder for them ([`folder`],
//! [`VARIABLE`]) every guest boots.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use crate::cache::{self, Scratch};
use crate::command;
use crate::error::Result;
use crate::guest::GuestSpec;
use crate::turn;
use crate::userland::Userland;

/// The variable that names the folder of saved guests; `cargo xtask test` sets it for tests.
pub const VARIABLE: &str = "PANOPTES_SNAPSHOTS";

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A folder for the guests that this process saves.
pub fn folder() -> Result<Scratch> {
    Scratch::of_process("snapshots")
}

/// Lets the guests of this process use the folder, too.
pub fn use_here(folder: &Path) {
    // A process has one such folder.
    let _ = FOLDER.set(folder.to_owned());
}

/// A guest that is saved, or will be.
#[derive(Debug)]
pub(crate) struct Snapshot {
    folder: PathBuf,
    /// Held while the guest is saved, and while it is copied.
    _lock: File,
}

impl Snapshot {
    /// The saved guest of this kind; `None` if it has to boot.
    pub(crate) fn of(spec: &GuestSpec, initramfs: &Path) -> Result<Option<Self>> {
        let folder = FOLDER.get().cloned().or_else(|| std::env::var_os(VARIABLE).map(Into::into));
        let Some(folder) = folder.filter(|_| is_plain(spec)) else { return Ok(None) };
        let folder = folder.join(key(spec, initramfs)?);
        cache::create(&folder)?;
        let lock = turn::lock(&folder.join("lock"))?;
        Ok(Some(Self { folder, _lock: lock }))
    }

    /// Whether it is already saved.
    pub(crate) fn is_there(&self) -> bool {
        self.state().exists()
    }

    /// The state of its devices.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Stores the memory and the state of a paused guest.
    pub(crate) fn keep(&self, ram: &Path, state: &Path) -> Result<()> {
        copy(ram, &self.folder.join("ram"))?;
        cache::rename(state, &self.state())
    }

    /// Deletes the saved state, so that the next guest of this kind boots.
    pub(crate) fn forget(&self) {
        let _ = std::fs::remove_file(self.state());
    }

    /// Writes a guest's memory file.
    pub(crate) fn copy_ram(&self, to: &Path) -> Result<()> {
        copy(&self.folder.join("ram"), to)
    }
}

/// Copies memory, holes included: pages that the guest has not touched take no room.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    command::output(cp.args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}

/// Whether the guest's whole state is in its memory file and in the state of its devices.
fn is_plain(spec: &GuestSpec) -> bool {
    !spec.private_memory
        && spec.memory_object.is_none()
        && spec.disks.is_empty()
        && spec.userland != Userland::Equipped
        && !spec.network
        && spec.qemu_arguments.is_empty()
}

/// A key that is equal for guests that are the same.
fn key(spec: &GuestSpec, initramfs: &Path) -> Result<String> {
    // Every field is named, so that a new one cannot be forgotten.
    let GuestSpec {
        kernel,
        memory_mib,
        cpus,
        numa_nodes,
        five_level,
        page_table_isolation,
        cpu,
        machine,
        userland,
        // These are in the initramfs.
        files: _,
        modules: _,
        kernel_arguments,
        // A plain guest has none of these.
        disks: _,
        private_memory: _,
        memory_object: _,
        network: _,
        qemu_arguments: _,
        // These differ between guests.
        ram_file: _,
        beside_others: _,
    } = spec;
    let kind = format!(
        "{} {memory_mib} {cpus} {numa_nodes} {five_level} {page_table_isolation} {cpu:?} \
         {machine:?} {userland:?} {kernel_arguments:?}",
        kernel.release()
    );
    let mut hash = Sha256::new();
    hash.update(kind);
    hash.update(cache::read(initramfs)?);
    let hash: [u8; 32] = hash.finalize().into();
    Ok(format!("{:016x}", u64::from_be_bytes(std::array::from_fn(|at| hash[at]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Disk, Flavor, Kernel};

    #[test]
    fn guests_that_differ_have_keys_that_differ() {
        let initramfs = tempfile::NamedTempFile::new().unwrap();
        let spec = || GuestSpec::new(Kernel::unfetched(Flavor::V6_1));
        let key = |spec: &GuestSpec| key(spec, initramfs.path()).unwrap();
        let plain = key(&spec());
        assert_eq!(key(&GuestSpec { ram_file: Some("/x".into()), ..spec() }), plain);
        for other in [
            GuestSpec { memory_mib: 1024, ..spec() },
            GuestSpec { five_level: true, ..spec() },
            GuestSpec { numa_nodes: 2, ..spec() },
            GuestSpec { kernel_arguments: vec!["nokaslr".into()], ..spec() },
            GuestSpec::new(Kernel::unfetched(Flavor::V6_12)),
        ] {
            assert!(is_plain(&other));
            assert_ne!(key(&other), plain, "{other:?}");
        }
        std::fs::write(initramfs.path(), "more").unwrap();
        assert_ne!(key(&spec()), plain);
    }

    #[test]
    fn a_guest_with_more_than_memory_has_to_boot() {
        let spec = || GuestSpec::new(Kernel::unfetched(Flavor::V6_1));
        for other in [
            GuestSpec { private_memory: true, ..spec() },
            GuestSpec { memory_object: Some("memory-backend-memfd".into()), ..spec() },
            GuestSpec { userland: Userland::Equipped, ..spec() },
            GuestSpec { network: true, ..spec() },
            GuestSpec { qemu_arguments: vec!["-S".into()], ..spec() },
            GuestSpec { disks: vec![Disk { image: "/d".into(), read_only: true }], ..spec() },
        ] {
            assert!(!is_plain(&other));
        }
    }
}
