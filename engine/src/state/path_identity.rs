//! Whether a path is still the one that a text was made from.

use panoptes_decoders::address::KernelVa;

use crate::walk::{PathRef, Snapshot};

/// The objects that a path was made from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct PathIdentity {
    mount: KernelVa,
    dentry: KernelVa,
    unlinked: bool,
}

impl PathIdentity {
    pub(super) fn of(snapshot: &Snapshot, path: PathRef) -> Option<Self> {
        let dentry = snapshot.dentries.at(path.dentry)?;
        let mount = snapshot.mounts.at(path.mount)?;
        Some(Self {
            mount: mount.address,
            dentry: dentry.name.address,
            unlinked: dentry.name.unlinked,
        })
    }
}
