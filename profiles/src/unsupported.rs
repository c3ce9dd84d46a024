//! Linux kernels that Panoptes does not read, told apart so that a refusal names them.

use core::fmt;

use crate::vmcoreinfo::Vmcoreinfo;

/// The oldest supported kernel, major and minor number.
const OLDEST: (u32, u32) = (5, 10);

/// The lower half of the addresses of a 64-bit machine: the programs' (Intel SDM vol. 1 §3.3.7.1).
const USER_HALF_END: u64 = 1 << 47;

/// Where a user-mode kernel of 32 bits is linked (arch/x86/Makefile.um, `START`), with room for its
/// code: a program's usual address. The kernel of a machine is at 1 GiB or above.
const USER_MODE_32: core::ops::Range<u64> = 0x0800_0000..0x1000_0000;

/// Where the kernels of x86-64 are linked, and with KASLR moved to.
const X86_64_IMAGES: core::ops::Range<u64> = 0xffff_ffff_8000_0000..0xffff_ffff_c000_0000;

/// The kind of a kernel that is not supported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum UnsupportedKernel {
    /// Its pointers have four bytes.
    Bits32,
    /// It is a program of another Linux (arch/um).
    UserMode,
    /// Its architecture is neither x86-64 nor arm64; the name, if its text shows it.
    Architecture(Option<&'static str>),
    /// It is older than 5.10.
    Old,
}

impl fmt::Display for UnsupportedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bits32 => f.write_str("32-bit kernels are not supported, only amd64 and arm64"),
            Self::UserMode => {
                f.write_str("user-mode Linux is not supported, only kernels of whole machines")
            }
            Self::Architecture(Some(name)) => {
                write!(f, "{name} is not supported, only amd64 and arm64")
            }
            Self::Architecture(None) => {
                f.write_str("its architecture is not supported, only amd64 and arm64")
            }
            Self::Old => write!(
                f,
                "kernels before {}.{} are not supported, see docs/kernels.md",
                OLDEST.0, OLDEST.1
            ),
        }
    }
}

impl UnsupportedKernel {
    /// The kind by a VMCOREINFO text; `None` for the kernels that can be supported, and for texts
    /// that do not show it.
    ///
    /// All kernels write the size of `struct list_head`, two pointers, and the address of `_stext`
    /// (`crash_save_vmcoreinfo_init`, kernel/crash_core.c). The other values are those of one
    /// architecture (`arch_crash_save_vmcoreinfo`): `phys_base` of x86-64, `kimage_voffset` of
    /// arm64.
    pub(crate) fn of(info: &Vmcoreinfo) -> Option<Self> {
        if info.number("phys_base").is_some() || info.number("kimage_voffset").is_some() {
            return None;
        }
        let stext = info.symbol("_stext")?;
        match info.size("list_head") {
            Some(8) if USER_MODE_32.contains(&stext) => return Some(Self::UserMode),
            Some(8) => return Some(Self::Bits32),
            _ => {}
        }
        if info.symbol("lowcore_ptr").is_some() {
            return Some(Self::Architecture(Some("s390x")));
        }
        if info.offset("mmu_psize_def.shift").is_some() {
            return Some(Self::Architecture(Some("ppc64")));
        }
        if info.number("phys_ram_base").is_some() {
            return Some(Self::Architecture(Some("riscv64")));
        }
        if stext < USER_HALF_END {
            return Some(Self::UserMode);
        }
        (!X86_64_IMAGES.contains(&stext)).then_some(Self::Architecture(None))
    }

    /// The kind by a release: [`Self::Old`], or `None`.
    pub(crate) fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next()?.parse().ok();
        let version: (u32, u32) = (number()?, number()?);
        (version < OLDEST).then_some(Self::Old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text with the lines that all kernels write, and those of an architecture.
    fn kind(list_head: u64, stext: u64, lines: &str) -> Option<UnsupportedKernel> {
        let text = format!(
            "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(_stext)={stext:x}\n\
             SIZE(list_head)={list_head}\n{lines}"
        );
        UnsupportedKernel::of(&Vmcoreinfo::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn thirty_two_bit_kernels_are_told_by_the_size_of_their_pointers() {
        let pae = "CONFIG_X86_PAE=y\n";
        assert_eq!(kind(8, 0xd2c0_0000, pae), Some(UnsupportedKernel::Bits32), "i386");
        assert_eq!(kind(8, 0xc010_0000, ""), Some(UnsupportedKernel::Bits32), "arm");
        assert_eq!(kind(8, 0x8010_0000, ""), Some(UnsupportedKernel::Bits32), "mips");
    }

    #[test]
    fn user_mode_kernels_are_told_by_an_address_of_programs() {
        assert_eq!(kind(16, 0x6000_1000, ""), Some(UnsupportedKernel::UserMode));
        assert_eq!(kind(8, 0x0804_a000, ""), Some(UnsupportedKernel::UserMode), "of 32 bits");
    }

    #[test]
    fn other_architectures_are_told_by_their_own_lines() {
        for (stext, lines, name) in [
            (0x10_0000, "SYMBOL(lowcore_ptr)=1f00\nLENGTH(lowcore_ptr)=512\n", Some("s390x")),
            (0xc000_0000_0000_0000, "OFFSET(mmu_psize_def.shift)=0\n", Some("ppc64")),
            (0xffff_ffff_8000_2000, "NUMBER(phys_ram_base)=2147483648\n", Some("riscv64")),
            (0x9000_0000_0020_0000, "", None),
        ] {
            assert_eq!(
                kind(16, stext, lines),
                Some(UnsupportedKernel::Architecture(name)),
                "{stext:x}"
            );
        }
    }

    #[test]
    fn supported_architectures_are_not_refused_by_their_text() {
        assert_eq!(kind(16, 0xffff_ffff_8100_0000, "NUMBER(phys_base)=0\n"), None, "x86-64");
        assert_eq!(kind(16, 0xffff_ffff_8100_0000, ""), None, "x86-64 that was cut");
        let arm64 = "NUMBER(kimage_voffset)=0xffff7fffc0000000\n";
        assert_eq!(kind(16, 0xffff_8000_0801_0000, arm64), None, "arm64");
    }

    #[test]
    fn old_kernels_are_told_by_their_release() {
        for release in ["5.9.16", "5.4.0-169-generic", "4.19.0-27-amd64", "2.6.32", "3.10"] {
            assert_eq!(
                UnsupportedKernel::of_release(release),
                Some(UnsupportedKernel::Old),
                "{release}"
            );
        }
        for release in ["5.10.0-32-amd64", "5.15", "6.1.0", "10.0-rc1", "", "5", "next-20261101"] {
            assert_eq!(UnsupportedKernel::of_release(release), None, "{release}");
        }
    }
}
