//! One kernel: the offsets of its structures and the addresses of its symbols, from a profile.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Members, PackedField};
use panoptes_profiles::ProfileFile;

/// Address of the image without KASLR (`__START_KERNEL_map` + `CONFIG_PHYSICAL_START`).
const IMAGE: u64 = 0xffff_ffff_8100_0000;

/// Bytes at the image's end for objects whose symbols no profile has.
const SPARE_BYTES: u64 = 256 << 10;

/// Reads a built-in profile of x86-64, such as `6.1.0-50-amd64`.
///
/// Panics if there is none: `profiles/tables` lists them.
pub fn profile(release: &str) -> ProfileFile {
    let tables = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../profiles/tables"));
    let path = tables.join(format!("{release}.json"));
    let bytes = std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    ProfileFile::parse(&bytes).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The kernel of one machine.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) profile: ProfileFile,
    pub(crate) layouts: Arc<Layouts>,
    /// Virtual addresses of the image.
    pub(crate) image: Range<u64>,
    /// Distance by which KASLR moved the image.
    pub(crate) offset: u64,
    /// Next byte for an object without a symbol in the profile.
    spare: u64,
}

impl Kernel {
    /// Binds a profile; `offset` is the distance of KASLR, in multiples of 2 MiB.
    pub(crate) fn new(profile: &ProfileFile, offset: u64) -> Self {
        assert!(offset.is_multiple_of(2 << 20) && offset < 960 << 20, "KASLR moves by 2 MiB");
        let layouts = Layouts::bind(profile.members()).expect("a profile has every field");
        let start = IMAGE + offset;
        let symbol = |name| profile.symbols().find(|(found, _)| *found == name)?.1;
        let end = symbol("_end").expect("a profile has the image's end");
        Self {
            profile: profile.clone(),
            layouts: Arc::new(layouts),
            image: start..start + end,
            offset,
            // The image's last bytes are `.brk`: nothing of the profile is there.
            spare: start + end - SPARE_BYTES,
        }
    }

    /// Address of a symbol, if the kernel has it.
    pub(crate) fn find(&self, name: &str) -> Option<KernelVa> {
        let distance = self.profile.symbols().find(|(found, _)| *found == name)?.1?;
        Some(KernelVa(self.image.start + distance))
    }

    /// Address of a symbol that every kernel has.
    pub(crate) fn symbol(&self, name: &str) -> KernelVa {
        self.find(name).unwrap_or_else(|| panic!("the profile has no {name}"))
    }

    /// Address of an object in the image that no profile names.
    pub(crate) fn spare(&mut self, bytes: u64) -> KernelVa {
        let at = self.spare.next_multiple_of(64);
        self.spare = at + bytes;
        assert!(self.spare <= self.image.end, "the image is full");
        KernelVa(at)
    }

    /// An address in the kernel's code, for pointers to operations that nothing reads.
    pub(crate) fn code(&self, index: u64) -> KernelVa {
        KernelVa(self.image.start + 0x20_0000 + index * 0x400)
    }

    /// A field that the decoders do not declare, but that the profile has.
    pub(crate) fn field(&self, structure: &str, path: &str) -> Option<PackedField> {
        let member = self.profile.members().member(structure, path)?;
        Some(PackedField { offset: member.offset, size: member.size, packed: 0 })
    }

    /// Address of the `struct timekeeper`: behind a sequence counter (kernel/time/timekeeping.c).
    pub(crate) fn timekeeper(&self) -> KernelVa {
        let holder = self.find("tk_core").or_else(|| self.find("timekeeper_data"));
        let holder = holder.expect("the profile has the clock");
        let counter = || {
            let bytes = self.profile.members().size_of("seqcount_raw_spinlock")?;
            Some(bytes.next_multiple_of(8))
        };
        let offset = self.field("tk_data", "timekeeper").map(|field| field.offset);
        holder.plus(offset.or_else(counter).unwrap_or(8).into())
    }
}
