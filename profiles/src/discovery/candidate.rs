//! A kernel that VMCOREINFO claims, and the proof that its page tables are at the claimed address.
//!
//! Here are the parts for all architectures and for x86-64; [`super::arm64`] has those for arm64.

use std::ops::Range;

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::layout::c_string;
use panoptes_decoders::paging::{PageTableLevels, x86_64};
use panoptes_decoders::source::MemorySource;

use crate::discovery::arm64;
use crate::memory::{KernelMemory, START_KERNEL_MAP, is_page_of_zeros};
use crate::report::{CandidateRefusal, DiscoveryAttempt, KernelEvidence};
use crate::symbols::Symbols;
use crate::unsupported::UnsupportedKernel;
use crate::vmcoreinfo::Vmcoreinfo;

/// `KERNEL_IMAGE_SIZE` (arch/x86/include/asm/page_64_types.h): the image ends after at most 1 GiB,
/// where the modules begin.
pub(crate) const KERNEL_IMAGE_BYTES: u64 = 1 << 30;

/// Size of the image's pages, and alignment of its start (`PMD_SIZE`).
pub(crate) const LARGE_PAGE_BYTES: u64 = 2 << 20;

/// Longest hole in the image's mapping that is accepted. With page-table isolation, the kernel
/// unmaps its start-up parts (`free_kernel_image_pages`, arch/x86/mm/init.c).
const HOLE_BYTES_MAX: u64 = 32 << 20;

/// Offset of the release in `struct new_utsname` (include/uapi/linux/utsname.h): the third of six
/// texts of 65 bytes.
pub(crate) const UTS_RELEASE_OFFSET: u64 = 2 * 65;

/// Size of the `struct kref` at the start of older `struct uts_namespace`.
const UTS_KREF_BYTES: u64 = 4;

/// A kernel in memory, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) struct KernelCandidate {
    pub(crate) trace: KernelEvidence,
    pub(crate) at: PhysicalAddress,
    pub(crate) release: String,
    pub(crate) build_id: Option<String>,
    pub(crate) kernel_offset: u64,
    pub(crate) root: PhysicalAddress,
    pub(crate) levels: PageTableLevels,
    /// Distance by which the source was moved for it (see [`MemorySource::move_by`]).
    pub(crate) moved: u64,
    /// The image's addresses; until [`Self::refine_image`], the end is the highest possible.
    pub(crate) image: Range<u64>,
    pub(crate) image_physical: PhysicalAddress,
    pub(crate) vmcoreinfo: Option<Vmcoreinfo>,
    pub(crate) symbols: Symbols,
    /// Whether the memory lacks page tables that would prove the claim. Such a candidate is tried
    /// if there is no other.
    pub(crate) is_assumed: bool,
    /// Whether the symbols come from the kernel's complete table.
    pub(crate) all_symbols: bool,
}

/// The addresses that a VMCOREINFO text claims for its kernel, on any architecture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VmcoreinfoClaim {
    pub(crate) swapper: u64,
    pub(crate) stext: u64,
    /// Possible addresses of `init_uts_ns.name`.
    pub(crate) uts_names: [u64; 2],
    /// Distance of an address in the image from its physical address (wrapping).
    pub(crate) image_distance: u64,
    pub(crate) levels: PageTableLevels,
    /// Start of the image; `image_limit` is its highest possible end.
    pub(crate) image_start: u64,
    pub(crate) image_limit: u64,
}

impl VmcoreinfoClaim {
    /// Extracts the claim from a text.
    pub(crate) fn of(info: &Vmcoreinfo) -> Result<Self, CandidateRefusal> {
        if let Some(kind) = UnsupportedKernel::of(info) {
            return Err(CandidateRefusal::Unsupported(kind));
        }
        let needed = |name: &str, what| info.symbol(name).ok_or(CandidateRefusal::Lacks(what));
        let swapper = needed("swapper_pg_dir", "SYMBOL(swapper_pg_dir) in VMCOREINFO")?;
        let stext = needed("_stext", "SYMBOL(_stext) in VMCOREINFO")?;
        let uts = needed("init_uts_ns", "SYMBOL(init_uts_ns) in VMCOREINFO")?;
        // Without the offset in VMCOREINFO, the names follow the structure's first field, a
        // reference count of four bytes, or since v5.11 are the first field.
        let offset = info.offset("uts_namespace.name");
        let uts_names = offset
            .map_or([0, UTS_KREF_BYTES], |offset| [offset; 2])
            .map(|offset| uts.wrapping_add(offset));
        if let Some(distance) = info.number("kimage_voffset") {
            return Ok(Self {
                swapper,
                stext,
                uts_names,
                image_distance: distance as u64,
                levels: arm64::levels(info)?,
                image_start: arm64::image_start(stext),
                image_limit: stext.saturating_add(arm64::IMAGE_BYTES_MAX),
            });
        }
        let phys_base = info.number("phys_base").ok_or(CandidateRefusal::Lacks(
            "phys_base (x86-64) or kimage_voffset (arm64) in VMCOREINFO",
        ))?;
        if info.number("sme_mask").is_some_and(|mask| mask != 0) {
            return Err(CandidateRefusal::Encrypted);
        }
        let levels = match info.number("pgtable_l5_enabled") {
            Some(0) | None => x86_64::X86Levels::Four,
            Some(_) => x86_64::X86Levels::Five,
        };
        Ok(Self {
            swapper,
            stext,
            uts_names,
            image_distance: START_KERNEL_MAP.wrapping_sub(phys_base as u64),
            levels: PageTableLevels::X86_64(levels),
            image_start: stext & !(LARGE_PAGE_BYTES - 1),
            image_limit: START_KERNEL_MAP + KERNEL_IMAGE_BYTES,
        })
    }

    /// The physical address of an address in the image.
    pub(crate) const fn physical(&self, address: u64) -> PhysicalAddress {
        PhysicalAddress(address.wrapping_sub(self.image_distance))
    }
}

/// Verifies a claim by the claimed page tables: they must map themselves and the image to the
/// claimed addresses, and the kernel that they map must have the same release. Where the memory
/// lacks such a table, the release must be at its claimed place ([`KernelCandidate::is_assumed`]).
pub(crate) fn prove(
    source: &mut dyn MemorySource,
    at: PhysicalAddress,
    info: &Vmcoreinfo,
    claim: &VmcoreinfoClaim,
) -> Result<KernelCandidate, CandidateRefusal> {
    let root = claim.physical(claim.swapper);
    let mut memory = KernelMemory::new(source, root, claim.levels);
    let mut is_assumed = false;
    if let Err(refusal) = is_mapped(&mut memory, claim) {
        if !refusal.is_missing() {
            return Err(refusal);
        }
        is_assumed = true;
        memory.assume(claim.image_start..claim.image_limit, claim.physical(claim.image_start));
        is_mapped(&mut memory, claim)?;
        if !has_release(&mut memory, info, claim)? {
            return Err(refusal);
        }
    }
    has_release(&mut memory, info, claim)?;
    let symbols = Symbols {
        stext: Some(KernelVa(claim.stext)),
        init_uts_ns: info.symbol("init_uts_ns").map(KernelVa),
        init_top_pgt: Some(KernelVa(claim.swapper)),
        ..Symbols::default()
    };
    Ok(KernelCandidate {
        trace: KernelEvidence::Vmcoreinfo,
        at,
        release: info.release().to_owned(),
        build_id: info.build_id().map(str::to_owned),
        kernel_offset: info.kernel_offset().unwrap_or_else(|| kernel_offset(claim.image_start)),
        root,
        levels: claim.levels,
        moved: 0,
        image: claim.image_start..claim.image_limit,
        image_physical: claim.physical(claim.image_start),
        vmcoreinfo: Some(info.clone()),
        symbols,
        is_assumed,
        all_symbols: false,
    })
}

/// Distance by which an image at `start` was moved, if it was linked at 16 MiB as nearly all are
/// (`CONFIG_PHYSICAL_START`).
pub(crate) const fn kernel_offset(start: u64) -> u64 {
    start.wrapping_sub(START_KERNEL_MAP + (16 << 20))
}

/// Whether the kernel's own release is that of the text; `false` if the memory lacks it, which
/// proves nothing.
///
/// # Errors
///
/// The release is another, or its address is wrong.
fn has_release(
    memory: &mut KernelMemory<'_>,
    info: &Vmcoreinfo,
    claim: &VmcoreinfoClaim,
) -> Result<bool, CandidateRefusal> {
    let mut found = Vec::new();
    for names in claim.uts_names {
        let at = KernelVa(names.wrapping_add(UTS_RELEASE_OFFSET));
        let mut release = [0; 65];
        match memory.read(at, &mut release) {
            Ok(()) => found = c_string(&release).to_vec(),
            Err(fault) if fault.is_missing() => return Ok(false),
            Err(fault) => {
                return Err(CandidateRefusal::PageTables {
                    what: "init_uts_ns",
                    fault: Some(fault),
                });
            }
        }
        if found == info.release().as_bytes() {
            return Ok(true);
        }
        if is_page_of_zeros(memory, at) {
            return Ok(false);
        }
    }
    Err(CandidateRefusal::Release { found: found.escape_ascii().to_string() })
}

/// Whether the page tables map themselves and the image as claimed.
fn is_mapped(
    memory: &mut KernelMemory<'_>,
    claim: &VmcoreinfoClaim,
) -> Result<(), CandidateRefusal> {
    leads(memory, "swapper_pg_dir", claim.swapper, claim.physical(claim.swapper).0)?;
    leads(memory, "_stext", claim.stext, claim.physical(claim.stext).0)
}

fn leads(
    memory: &mut KernelMemory<'_>,
    what: &'static str,
    address: u64,
    expected: u64,
) -> Result<(), CandidateRefusal> {
    match memory.translate(KernelVa(address)) {
        Ok(found) if found.physical.0 == expected => Ok(()),
        Ok(_) => Err(CandidateRefusal::PageTables { what, fault: None }),
        Err(fault) => Err(CandidateRefusal::PageTables { what, fault: Some(fault) }),
    }
}

impl KernelCandidate {
    /// The record of an attempt that ended with a refusal.
    pub(crate) fn attempt(&self, refusal: CandidateRefusal) -> DiscoveryAttempt {
        DiscoveryAttempt {
            trace: self.trace,
            at: self.at,
            release: self.release.clone(),
            build_id: self.build_id.clone(),
            refusal,
        }
    }

    /// Sets the end of the image: `_end` if that symbol is known and in range, else the end of what
    /// the page tables map at the image's distance.
    pub(crate) fn refine_image(&mut self, memory: &mut KernelMemory<'_>) {
        let step = match self.levels {
            PageTableLevels::X86_64(_) => LARGE_PAGE_BYTES,
            PageTableLevels::Aarch64(_) => arm64::SEGMENT_BYTES,
        };
        let mut end = self.image.start;
        let mut at = self.image.start;
        let limit = self.image.end;
        while at < limit && at - end <= HOLE_BYTES_MAX {
            match memory.translate(KernelVa(at)) {
                Ok(found) if found.physical == self.physical(KernelVa(at)) => {
                    end = (at & !(step - 1)) + step;
                }
                // Mapped elsewhere: not the image any more.
                Ok(_) => break,
                Err(_) => {}
            }
            at += step;
        }
        if let Some(known) = self.symbols.end
            && known.0 > self.image.start
            && known.0 <= limit
        {
            end = known.0;
        }
        self.image.end = end;
    }

    /// The physical address of an address in the image.
    pub(crate) const fn physical(&self, address: KernelVa) -> PhysicalAddress {
        self.image_physical.plus(address.0.wrapping_sub(self.image.start))
    }
}
