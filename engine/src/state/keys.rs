//! What identifies processes and containers.

use panoptes_decoders::kernel::task_struct::Task;
use panoptes_tables::{HashKey, Key};

/// Identifies a process: its process id and its start time.
///
/// The address of its `task_struct` is not part of the key. If a thread other than the leader calls
/// exec, it takes over both from the leader (`de_thread`, fs/exec.c), and the process continues.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProcessKey {
    /// The tgid.
    pub process_id: u32,
    /// Nanoseconds from boot to its creation.
    pub start_boottime: u64,
}

impl ProcessKey {
    pub(crate) fn of(task: &Task) -> Self {
        Self { process_id: task.tgid, start_boottime: task.start_boottime }
    }
}

impl Key for ProcessKey {
    fn hash(&self, key: HashKey) -> u64 {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.start_boottime.to_le_bytes());
        bytes[8..].copy_from_slice(&self.process_id.to_le_bytes());
        key.hash(&bytes)
    }
}

/// Identifies a container: a hash of its control group's path with this run's secret key, and
/// whether an unprivileged user made it, in the lowest bit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ContainerKey(pub(super) u64);

impl ContainerKey {
    pub(super) const fn new(hash: u64, by_user: bool) -> Self {
        Self(hash & !1 | by_user as u64)
    }

    /// Whether an unprivileged user made it, perhaps without a runtime, and chose all its names.
    pub const fn is_by_user(self) -> bool {
        self.0 & 1 != 0
    }
}

impl Key for ContainerKey {
    fn hash(&self, key: HashKey) -> u64 {
        key.hash(&self.0.to_le_bytes())
    }
}
