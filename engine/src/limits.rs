//! Every capacity, in one place. All are fixed at start: what does not fit is counted and said, never
//! made room for.

/// Memory for the unpacked blocks of a compressed dump, in bytes: somewhat more than a scan of 300 processes reads.
pub const DUMP_CACHE_BYTES: usize = 64 << 20;

/// Capacities for one watched system (guide §7.3, "Limits").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Processes tracked.
    pub processes: u32,
    /// Threads tracked.
    pub threads: u32,
    /// Descriptors tracked.
    pub file_descriptors: u32,
    /// Memory areas tracked.
    pub vmas: u32,
    /// Connections tracked.
    pub connections: u32,
    /// Containers tracked.
    pub containers: u32,
    /// Longest string in a record, in bytes.
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
    /// How many threads one scan can see. More than are tracked, so that those that are tracked are
    /// found however many others there are: the kernel's own most is 4 Mi (`PID_MAX_LIMIT`,
    /// include/linux/threads.h).
    pub fn threads_seen_max(&self) -> usize {
        (self.threads as usize * 2).clamp(65_536, 1 << 22)
    }

    /// How many processes one scan can see.
    pub fn processes_seen_max(&self) -> usize {
        (self.processes as usize * 2).clamp(32_768, 1 << 22)
    }

    /// How many descriptors one scan can see.
    pub fn file_descriptors_seen_max(&self) -> usize {
        (self.file_descriptors as usize).saturating_mul(5) / 4 + 1024
    }

    /// How many memory areas one scan can see.
    pub fn vmas_seen_max(&self) -> usize {
        (self.vmas as usize).saturating_mul(5) / 4 + 1024
    }

    /// How many connections one scan can see.
    pub fn connections_seen_max(&self) -> usize {
        (self.connections as usize).saturating_mul(5) / 4 + 1024
    }

    /// How many containers one scan can see: more than are tracked, so that processes in the others still say in
    /// which they are.
    pub fn containers_seen_max(&self) -> usize {
        (self.containers as usize).saturating_mul(2).max(4096)
    }

    /// How many distinct open files, inodes and names one scan can see: a descriptor has one each; mapped
    /// files are shared by far.
    pub fn files_seen_max(&self) -> usize {
        self.file_descriptors_seen_max() + self.vmas_seen_max() / 4
    }

    /// How many files' contents are remembered: executables and libraries of processes, which are shared by far.
    pub fn contents_max(&self) -> usize {
        (self.processes as usize * 2).clamp(256, 1 << 16)
    }
}
