//! Rows of eBPF: programs, maps and links. The module [`super::bpf`] finds them.

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::bpf_attach::is_attachment;
use panoptes_tables::{Index, Rows};

use super::snapshot::ProcessRow;

/// Maximum number of programs. systemd loads about 30, a machine with Cilium 300.
pub const BPF_PROGRAMS_MAX: usize = 1024;
/// Maximum number of maps.
pub const BPF_MAPS_MAX: usize = 1024;
/// Maximum number of links.
pub const BPF_LINKS_MAX: usize = 1024;
/// Maximum number of files of bpffs.
pub(super) const BPF_PINS_MAX: usize = 1024;
/// Bytes of the path of a file of bpffs. A longer one is cut.
pub(super) const BPF_PIN_PATH_BYTES: usize = 128;
pub(super) use panoptes_decoders::kernel::bpf::BPF_NAME_BYTES;
/// Bytes of the name of a tracepoint that are read.
pub(super) const TRACEPOINT_NAME_BYTES: usize = 64;

/// The views that show a program, a map or a link, as bits.
pub mod bpf_view {
    /// The IDR of the kind: what `BPF_PROG_GET_NEXT_ID` and its like list.
    pub const PROGRAM_IDR: u16 = 1;
    /// The list `bpf_kallsyms` of the images of programs.
    pub const SYMBOLS: u16 = 1 << 1;
    /// A link leads to it.
    pub const REFERENCE: u16 = 1 << 2;
    /// The IDR of maps; only in [`super::BpfScan::complete`].
    pub const MAP_IDR: u16 = 1 << 3;
    /// The IDR of links; only in [`super::BpfScan::complete`].
    pub const LINK_IDR: u16 = 1 << 4;
    /// A place has it without a link; in [`super::BpfScan::complete`], all such places were read.
    pub const ATTACHMENT: u16 = 1 << 5;
    /// A file of a bpffs leads to it.
    pub const PIN: u16 = 1 << 6;
}

/// The helpers that a program calls, as bits; only those that can change what others see or do.
/// And whether it denies what others do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfHelpers(pub u8);

impl BpfHelpers {
    /// `bpf_probe_write_user`: it writes to the memory of processes.
    pub const PROBE_WRITE_USER: Self = Self(1);
    /// `bpf_override_return`: it lets a function of the kernel return what it wants.
    pub const OVERRIDE_RETURN: Self = Self(1 << 1);
    /// `bpf_send_signal` or `bpf_send_signal_thread`.
    pub const SEND_SIGNAL: Self = Self(1 << 2);
    /// No helper: it is a program of LSM, and returns an error.
    pub const DENIES: Self = Self(1 << 3);

    /// Whether the program calls none of them, or none that is known.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it calls one of these.
    pub const fn has(self, helpers: Self) -> bool {
        self.0 & helpers.0 != 0
    }

    /// Those of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One program.
#[derive(Clone, Copy, Debug, Default)]
pub struct BpfProgramRow {
    /// `struct bpf_prog *`
    pub address: KernelVa,
    /// Its number in the IDR; zero if it has none any more.
    pub id: u32,
    /// `enum bpf_prog_type`
    pub kind: u32,
    /// `enum bpf_attach_type` that it was loaded for.
    pub attach_kind: u32,
    /// Empty if it has none.
    pub name: ArrayString<BPF_NAME_BYTES>,
    /// The first bytes of the SHA-1 of its instructions.
    pub tag: [u8; 8],
    /// Number of its instructions.
    pub instructions: u32,
    /// Its JIT image; null if it has none.
    pub image: KernelVa,
    pub image_bytes: u32,
    /// Nanoseconds since boot.
    pub loaded_ns: u64,
    /// The user who loaded it.
    pub user_id: Option<u32>,
    /// `None` if the kernel does not show which helpers it calls.
    pub helpers: Option<BpfHelpers>,
    /// Bits of [`bpf_view`].
    pub views: u16,
    /// A process with a descriptor of it, or of a link to it, where the scan shows one.
    pub holder: Option<Index<ProcessRow>>,
    /// Number of maps that it uses.
    pub maps: u32,
    /// Number of references to it. The kernel frees a program without any.
    pub references: u64,
    /// The function of the kernel that it was loaded for (`attach_func_name`); empty if there is
    /// none.
    pub function: ArrayString<TRACEPOINT_NAME_BYTES>,
}

/// One map.
#[derive(Clone, Copy, Debug, Default)]
pub struct BpfMapRow {
    /// `struct bpf_map *`
    pub address: KernelVa,
    pub id: u32,
    /// `enum bpf_map_type`
    pub kind: u32,
    /// Empty if it has none.
    pub name: ArrayString<BPF_NAME_BYTES>,
    pub key_bytes: u32,
    pub value_bytes: u32,
    pub entries_max: u32,
    /// `BPF_F_*` of its creation.
    pub flags: u32,
    /// Bits of [`bpf_view`].
    pub views: u16,
    pub holder: Option<Index<ProcessRow>>,
}

/// Where a link attaches its program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BpfTarget {
    #[default]
    Unknown,
    /// The address of a function of the kernel, of a module or of another program.
    Function(KernelVa),
    /// Several of them, by the address of the first one.
    Functions { first: KernelVa, count: u32 },
    /// A raw tracepoint.
    Tracepoint(ArrayString<TRACEPOINT_NAME_BYTES>),
    /// The number of a network interface.
    Device(u32),
    /// The number of a control group.
    Cgroup(u64),
    /// The inode number of a network namespace.
    NetNamespace(u32),
}

/// One link, or an attachment without one.
#[derive(Clone, Copy, Debug, Default)]
pub struct BpfLinkRow {
    /// `struct bpf_link *`. Of an attachment, a number that stands for its place and its program.
    pub address: KernelVa,
    /// Zero of an attachment.
    pub id: u32,
    /// `enum bpf_link_type`, or one of
    /// [`panoptes_decoders::kernel::bpf_attach::attachment_kind`].
    pub kind: u32,
    /// The structure where an attachment is; null of a link.
    pub place: KernelVa,
    /// `enum bpf_attach_type`, where the link or its program has one.
    pub attach_kind: Option<u32>,
    /// `struct bpf_prog *`; null if it has none.
    pub program_address: KernelVa,
    pub program: Option<Index<BpfProgramRow>>,
    pub target: BpfTarget,
    /// Bits of [`bpf_view`].
    pub views: u16,
    pub holder: Option<Index<ProcessRow>>,
}

impl BpfLinkRow {
    /// Whether it is an attachment without a link.
    pub const fn is_attachment(&self) -> bool {
        is_attachment(self.kind)
    }
}

/// A file of a bpffs.
#[derive(Clone, Copy, Debug, Default)]
pub struct BpfPinRow {
    /// The program, the map or the link that it holds.
    pub object: KernelVa,
    /// From the root of its filesystem on.
    pub path: ArrayString<BPF_PIN_PATH_BYTES>,
}

/// What an open file leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BpfFileKind {
    Program,
    Map,
    Link,
    /// A performance event, which may have a program.
    Event,
}

/// An open file that leads to eBPF.
#[derive(Clone, Copy, Debug)]
pub(super) struct BpfFile {
    pub(super) kind: BpfFileKind,
    pub(super) object: KernelVa,
    pub(super) process: Option<Index<ProcessRow>>,
}

/// What a scan has read of eBPF.
#[derive(Debug)]
pub struct BpfScan {
    /// Only a scan that [`Self::is_fresh`] has any rows.
    pub programs: Rows<BpfProgramRow>,
    pub maps: Rows<BpfMapRow>,
    pub links: Rows<BpfLinkRow>,
    pub pins: Rows<BpfPinRow>,
    /// The views that were followed to their ends, as bits of [`bpf_view`].
    pub complete: u16,
    /// The views that were not, although the kernel has them.
    pub stopped: u16,
    /// Whether the scan has read them.
    pub is_fresh: bool,
    /// Whether nothing was loaded meanwhile, as far as the numbers of the IDRs and the list show.
    pub quiet: bool,
}

impl Default for BpfScan {
    fn default() -> Self {
        Self {
            programs: Rows::with_capacity(BPF_PROGRAMS_MAX),
            maps: Rows::with_capacity(BPF_MAPS_MAX),
            links: Rows::with_capacity(BPF_LINKS_MAX),
            pins: Rows::with_capacity(BPF_PINS_MAX),
            complete: 0,
            stopped: 0,
            is_fresh: false,
            quiet: false,
        }
    }
}

impl BpfScan {
    /// The path of the first file that holds an object.
    pub fn pinned_path(&self, object: KernelVa) -> Option<&str> {
        let pin = self.pins.iter().find(|pin| pin.object == object)?;
        Some(pin.path.as_str())
    }

    pub(super) fn clear(&mut self) {
        self.programs.clear();
        self.maps.clear();
        self.links.clear();
        self.pins.clear();
        (self.complete, self.stopped) = (0, 0);
        (self.is_fresh, self.quiet) = (false, false);
    }
}
