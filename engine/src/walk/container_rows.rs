//! Rows of containers. The module [`super::containers`] finds them.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::container::{Maker, Runtime};
use panoptes_tables::{Index, Span};

use super::snapshot::ProcessRow;

/// Bytes of a host name with its NUL (`__NEW_UTS_LEN`, include/uapi/linux/utsname.h).
pub(super) const HOST_NAME_BYTES: usize = 65;

pub type HostName = ArrayVec<u8, HOST_NAME_BYTES>;

/// One container, identified by the control group that its runtime made for it.
#[derive(Clone, Debug, Default)]
pub struct ContainerRow {
    /// `struct kernfs_node *` of its control group.
    pub node: KernelVa,
    /// Path of its control group, in [`super::Snapshot::bytes`]; empty where it is too long.
    pub path: Span<u8>,
    /// Its identifier or name, in [`super::Snapshot::bytes`].
    pub id: Span<u8>,
    /// Whether `id` is a name that a user chose.
    pub is_name: bool,
    /// The runtime that made it, if known.
    pub runtime: Option<Runtime>,
    pub maker: Maker,
    /// The enclosing container.
    pub parent: Option<Index<Self>>,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// The uid of its Kubernetes pod, in [`super::Snapshot::bytes`]; empty outside of pods.
    pub pod_uid: Span<u8>,
    /// The oldest living process in it or in containers inside it, preferring one that is
    /// certainly inside; `None` if all have ended.
    pub first: Option<Index<ProcessRow>>,
    /// Whether `first` is certainly inside: its pid and mount namespaces are not the machine's.
    pub first_is_inside: bool,
    /// Start of the oldest living process, in nanoseconds since boot.
    pub oldest_start: u64,
    /// Start of the newest living process, in nanoseconds since boot.
    pub newest_start: u64,
    /// Node name of the UTS namespace of `first`; empty where that is the machine's.
    pub host_name: HostName,
}

impl ContainerRow {
    /// Whether it has a living process.
    pub const fn is_alive(&self) -> bool {
        self.first.is_some()
    }

    /// Adds a living process; callers add older processes first.
    pub fn update_from(&mut self, process: Index<ProcessRow>, start: u64, is_inside: bool) {
        if !self.is_alive() {
            self.oldest_start = start;
        }
        if !self.is_alive() || (is_inside && !self.first_is_inside) {
            (self.first, self.first_is_inside) = (Some(process), is_inside);
        }
        self.newest_start = self.newest_start.max(start);
    }
}
