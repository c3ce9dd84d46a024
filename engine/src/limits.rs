//! Every capacity, in one place.
//!
//! All capacities are fixed at start. Entries that do not fit are counted and reported; no table
//! ever grows.

/// Capacities for one watched system (guide §7.3, "Limits").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    pub processes: u32,
    pub threads: u32,
    /// Maximum number of tracked descriptors.
    pub file_descriptors: u32,
    /// Maximum number of tracked memory areas.
    pub vmas: u32,
    pub connections: u32,
    pub containers: u32,
    /// Maximum length of a string in a record, in bytes.
    pub string_length: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 4096,
            threads: 32_768,
            file_descriptors: 131_072,
            vmas: 262_144,
            connections: 65_536,
            containers: 1024,
            string_length: 1024,
        }
    }
}

impl Limits {
    /// Number of threads that one scan can read: more than are tracked, so that a scan finds all
    /// tracked threads, however many others exist. The kernel's maximum is 4 Mi (`PID_MAX_LIMIT`,
    /// include/linux/threads.h).
    pub fn threads_seen_max(&self) -> usize {
        (self.threads as usize * 2).clamp(65_536, 1 << 22)
    }

    /// Number of processes that one scan can read.
    pub fn processes_seen_max(&self) -> usize {
        (self.processes as usize * 2).clamp(32_768, 1 << 22)
    }

    /// Number of descriptors that one scan can read.
    pub fn file_descriptors_seen_max(&self) -> usize {
        (self.file_descriptors as usize).saturating_mul(5) / 4 + 1024
    }

    /// Number of memory areas that one scan can read.
    pub fn vmas_seen_max(&self) -> usize {
        (self.vmas as usize).saturating_mul(5) / 4 + 1024
    }

    /// Number of connections that one scan can read.
    pub fn connections_seen_max(&self) -> usize {
        (self.connections as usize).saturating_mul(5) / 4 + 1024
    }

    /// Number of containers that one scan can read: more than are tracked, so that processes in the
    /// other containers still name theirs.
    pub fn containers_seen_max(&self) -> usize {
        (self.containers as usize).saturating_mul(2).max(4096)
    }

    /// Number of distinct open files, inodes and names that one scan can read. Every descriptor can
    /// have one of each; most mapped files are shared.
    pub fn files_seen_max(&self) -> usize {
        self.file_descriptors_seen_max() + self.vmas_seen_max() / 4
    }

    /// Number of files whose contents are remembered: executables and libraries, most of which are
    /// shared.
    pub fn contents_max(&self) -> usize {
        (self.processes as usize * 2).clamp(256, 1 << 16)
    }
}
