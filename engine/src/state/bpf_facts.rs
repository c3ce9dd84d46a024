//! Known facts of programs of eBPF, and of the links that attach them.

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::bpf_attach::is_attachment;
use panoptes_decoders::layout::c_string;
use panoptes_decoders::maybe::MaybeU32;

use crate::walk::{BpfHelpers, BpfLinkRow, BpfProgramRow, BpfTarget, bpf_view};

pub use panoptes_decoders::kernel::bpf::BPF_NAME_BYTES;
/// Bytes of the name of a place. A longer one is cut.
pub const BPF_PLACE_BYTES: usize = 36;

/// Known facts of a program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfProgramFacts {
    /// `struct bpf_prog *`
    pub address: KernelVa,
    /// Its JIT image; null if it has none.
    pub image: KernelVa,
    /// Nanoseconds since boot.
    pub loaded_ns: u64,
    /// The first bytes of the SHA-1 of its instructions.
    pub tag: [u8; 8],
    /// Name, NUL-padded.
    pub name: [u8; BPF_NAME_BYTES],
    /// Its number in the IDR; 0 if it has none any more.
    pub id: u32,
    /// Number of its instructions.
    pub instructions: u32,
    /// The user who loaded it.
    pub user_id: MaybeU32,
    /// `enum bpf_prog_type`; `u16::MAX` stands for all larger ones.
    pub kind: u16,
    /// `enum bpf_attach_type` that it was loaded for.
    pub attach_kind: u16,
    /// Those that are known.
    pub helpers: BpfHelpers,
    /// Bits of [`crate::walk::bpf_view`], as far as they are about programs.
    pub views: u8,
}

impl BpfProgramFacts {
    pub fn read(row: &BpfProgramRow) -> Self {
        Self {
            address: row.address,
            image: row.image,
            loaded_ns: row.loaded_ns,
            tag: row.tag,
            name: padded(&row.name),
            id: row.id,
            instructions: row.instructions,
            user_id: MaybeU32::new(row.user_id),
            kind: short(row.kind),
            attach_kind: short(row.attach_kind),
            helpers: row.helpers.unwrap_or_default(),
            views: row.views as u8,
        }
    }

    /// Its name; empty if it has none.
    pub fn name(&self) -> &[u8] {
        c_string(&self.name)
    }

    /// Whether the IDR has it.
    pub fn is_listed(&self) -> bool {
        u16::from(self.views) & bpf_view::PROGRAM_IDR != 0
    }

    /// Whether these are facts of another program that was loaded in the same place. A number that
    /// is 0 was taken away, as the kernel does before it frees a program.
    pub(super) fn is_another(&self, other: &Self) -> bool {
        let has_other_id = self.id != 0 && other.id != 0 && self.id != other.id;
        has_other_id || self.loaded_ns != other.loaded_ns
    }

    /// Keeps what this read does not know and an earlier one did.
    pub(super) fn keep_known(&mut self, before: &Self) {
        self.user_id = self.user_id.or(before.user_id);
        self.helpers = self.helpers.with(before.helpers);
        if self.id == 0 {
            self.id = before.id;
        }
    }
}

/// The place where a link attaches its program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum BpfPlace {
    /// It has none, or none that is known.
    #[default]
    Unknown,
    /// A function of the kernel, and how many there are.
    Function,
    /// A raw tracepoint.
    Tracepoint,
    /// A network interface.
    Device,
    Cgroup,
    NetNamespace,
}

/// Known facts of a link, or of an attachment without one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BpfLinkFacts {
    /// `struct bpf_link *`, or what stands for an attachment ([`BpfLinkRow::address`]).
    pub address: KernelVa,
    /// `struct bpf_prog *`
    pub program: KernelVa,
    /// The address of a function, or the number of what the place is.
    pub number: u64,
    pub id: u32,
    /// The number of its program; 0 if that is unknown.
    pub program_id: u32,
    /// Number of functions.
    pub count: u32,
    /// `enum bpf_link_type`; `u16::MAX` stands for all larger ones.
    pub kind: u16,
    /// `enum bpf_attach_type`; `u16::MAX` if it has none.
    pub attach_kind: u16,
    pub place: BpfPlace,
    /// The name of a function or a tracepoint, NUL-padded; empty if there is none.
    name: [u8; BPF_PLACE_BYTES],
}

impl BpfLinkFacts {
    /// The facts of a link, with its program if the scan shows that.
    pub fn read(row: &BpfLinkRow, program: Option<&BpfProgramRow>) -> Self {
        // A program that is made for one function can only be attached there.
        let function = program.map(|program| program.function).unwrap_or_default();
        let none = ArrayString::new();
        let (place, number, count, name) = match row.target {
            BpfTarget::Unknown => (BpfPlace::Unknown, 0, 0, none),
            BpfTarget::Function(address) => (BpfPlace::Function, address.0, 1, function),
            BpfTarget::Functions { first, count } => (BpfPlace::Function, first.0, count, none),
            BpfTarget::Tracepoint(name) => (BpfPlace::Tracepoint, 0, 0, name),
            BpfTarget::Device(index) => (BpfPlace::Device, index.into(), 0, none),
            BpfTarget::Cgroup(id) => (BpfPlace::Cgroup, id, 0, none),
            BpfTarget::NetNamespace(inode) => (BpfPlace::NetNamespace, inode.into(), 0, none),
        };
        Self {
            address: row.address,
            program: row.program_address,
            number,
            id: row.id,
            program_id: program.map_or(0, |program| program.id),
            count,
            kind: short(row.kind),
            attach_kind: row.attach_kind.map_or(u16::MAX, short),
            place,
            name: padded(&name),
        }
    }

    /// The name of the place; empty if it has none.
    pub fn name(&self) -> &[u8] {
        c_string(&self.name)
    }

    /// Whether it is an attachment without a link.
    pub fn is_attachment(&self) -> bool {
        self.kind != u16::MAX && is_attachment(self.kind.into())
    }

    /// Whether these are facts of another link in the same place in memory, or of this one with
    /// another program (`BPF_LINK_UPDATE`).
    pub(super) fn is_another(&self, other: &Self) -> bool {
        self.id != other.id || self.program != other.program
    }

    /// Keeps what this read does not know and an earlier one did.
    pub(super) fn keep_known(&mut self, before: &Self) {
        if self.program_id == 0 {
            self.program_id = before.program_id;
        }
        if self.place == BpfPlace::Unknown {
            (self.place, self.number, self.count) = (before.place, before.number, before.count);
            self.name = before.name;
        }
    }
}

/// A number that never is large.
fn short(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The bytes of a text, NUL-padded; a longer text is cut.
fn padded<const BYTES: usize>(text: &str) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (to, from) in bytes.iter_mut().zip(text.bytes()).take(BYTES - 1) {
        *to = from;
    }
    bytes
}
