//! Profiles from files: bootable kernels, ELF files of kernels, and the formats of other tools.
//!
//! For: generating a [`ProfileFile`] without the memory of a machine that runs the kernel. Not for:
//! memory ([`discover`](crate::discover)). This code runs only on request, and its dependencies
//! serve nothing else.
//!
//! Every file is hostile: sizes are bounded before anything is allocated, and invalid data is an
//! [`ImportError`]. Start reading at [`from_kernel`].

mod dwarf;
mod elf;
pub mod headers;
mod image;
mod isf;
mod kallsyms_search;
mod kernel_image;
pub mod live;
pub mod package;

use std::io::{self, Read, Seek, SeekFrom};

use panoptes_decoders::layout::{Members, MissingMember};
use panoptes_decoders::text::Hex;
use panoptes_unpack::Compression;

use crate::btf;
use crate::discovery::{LARGE_PAGE_BYTES, ask_all, image_start};
use crate::profile_file::{ProfileFile, Recorder};
use crate::symbols::Symbols;

/// Number of bytes that identify a file's kind.
const BEGINNING_BYTES: usize = 4096;

/// Why no profile can be generated from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Not a kind of file that profiles are generated from.
    #[error("it is no kernel")]
    Unknown,
    #[error("the compressed data is damaged: {0}")]
    Compressed(String),
    #[error("{what} is larger than {bytes_max} bytes")]
    TooLarge { what: &'static str, bytes_max: u64 },
    #[error("it is no bootable kernel: {0}")]
    Image(&'static str),
    #[error("it is no ELF file of a kernel: {0}")]
    Elf(String),
    #[error("it is for {0}; x86-64 and arm64 (little-endian) are known")]
    Architecture(String),
    /// The banner is missing, or is not one of Linux.
    #[error("it has no release of Linux: the text `Linux version …` is missing or damaged")]
    NoRelease,
    #[error("it has neither a table of symbols nor kallsyms")]
    NoSymbols,
    /// A list of symbols without those of a kernel.
    #[error("it has no addresses of a kernel; is it the System.map of the same build?")]
    NoAddresses,
    #[error(
        "it has no types: neither BTF (CONFIG_DEBUG_INFO_BTF) nor DWARF; \
         the package with the kernel's debug symbols has them"
    )]
    NoTypes,
    #[error(transparent)]
    Btf(btf::BtfError),
    #[error("DWARF: {0}")]
    Dwarf(String),
    #[error("it is no ISF (Volatility 3's JSON of symbols): {0}")]
    Isf(String),
    #[error(transparent)]
    Profile(crate::profile_file::ProfileFileError),
    #[error("the package: {0}")]
    Package(&'static str),
    /// A structure or field that the decoders need is missing.
    #[error(transparent)]
    Missing(MissingMember),
    /// The running kernel hides required information.
    #[error("{0}")]
    Hidden(&'static str),
}

/// The kind of a file, by its beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum KernelFileKind {
    /// A kernel for a boot loader, or a compressed file.
    Bootable,
    /// An ELF file other than a memory dump.
    Elf,
    /// A package of a distribution: [`package::unpack`] extracts the kernel.
    Package,
    Json,
}

impl KernelFileKind {
    /// The kind of a file with this beginning; `None` if it may be memory.
    pub fn of(beginning: &[u8]) -> Option<Self> {
        if package::is_package(beginning) {
            return Some(Self::Package);
        }
        if beginning.trim_ascii_start().starts_with(b"{") {
            return Some(Self::Json);
        }
        if kernel_image::is_bootable(beginning) || Compression::of(beginning).is_some() {
            return Some(Self::Bootable);
        }
        // `ET_CORE` is a memory dump (elf.h).
        let core = beginning.get(16..18) == Some(&[4, 0]);
        (beginning.starts_with(b"\x7fELF") && !core).then_some(Self::Elf)
    }
}

/// Which types to use.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TypePreference {
    /// DWARF even if there is BTF.
    pub dwarf: bool,
}

/// Reads the beginning of a file and returns its kind; `None` if it may be memory.
pub fn kind<R: Read + Seek>(file: &mut R) -> Result<Option<KernelFileKind>, ImportError> {
    let mut beginning = Vec::with_capacity(BEGINNING_BYTES);
    file.seek(SeekFrom::Start(0))?;
    file.take(BEGINNING_BYTES as u64).read_to_end(&mut beginning)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(KernelFileKind::of(&beginning))
}

/// Generates a profile from a kernel's file (`vmlinuz`, `vmlinux`, or arm64's `Image`, also
/// compressed), or reads one from JSON (a profile, or an ISF, also compressed).
pub fn from_kernel<R: Read + Seek>(
    file: &mut R,
    wanted: TypePreference,
) -> Result<ProfileFile, ImportError> {
    match kind(file)?.ok_or(ImportError::Unknown)? {
        KernelFileKind::Package => Err(ImportError::Unknown),
        KernelFileKind::Json => {
            let mut bytes = Vec::new();
            file.take(isf::FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            from_json(bytes)
        }
        KernelFileKind::Elf => elf::profile(&object::ReadCache::new(file), wanted),
        KernelFileKind::Bootable => {
            let mut bytes = Vec::new();
            let bytes_max = kernel_image::IMAGE_BYTES_MAX;
            if file.take(bytes_max + 1).read_to_end(&mut bytes)? as u64 > bytes_max {
                return Err(ImportError::TooLarge { what: "the file", bytes_max });
            }
            match kernel_image::open(bytes)? {
                kernel_image::Kernel::Elf(bytes) => elf::profile(bytes.as_slice(), wanted),
                kernel_image::Kernel::Image(bytes) => image::profile(&bytes),
                kernel_image::Kernel::Json(bytes) => from_json(bytes),
            }
        }
    }
}

/// Reads JSON: a profile, or an ISF.
fn from_json(mut bytes: Vec<u8>) -> Result<ProfileFile, ImportError> {
    if bytes.len() as u64 > isf::FILE_BYTES_MAX {
        return Err(ImportError::TooLarge { what: "the JSON", bytes_max: isf::FILE_BYTES_MAX });
    }
    if memchr::memmem::find(&bytes, b"\"user_types\"").is_some() {
        return isf::profile(&mut bytes);
    }
    ProfileFile::parse(&bytes).map_err(ImportError::Profile)
}

/// The required information from a file.
struct KernelFacts<'m> {
    /// Empty if the file has none: then the release identifies the kernel.
    build_id: String,
    release: String,
    symbols: Symbols,
    members: &'m dyn Members,
    architecture: Architecture,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// The architecture of an ELF file.
    fn of(machine: object::elf::Machine) -> Option<Self> {
        match machine {
            object::elf::EM_X86_64 => Some(Self::X86_64),
            object::elf::EM_AARCH64 => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Start of an image whose code begins at `stext`, as in discovery.
    const fn image_start(self, stext: u64) -> u64 {
        match self {
            Self::X86_64 => stext & !(LARGE_PAGE_BYTES - 1),
            Self::Aarch64 => image_start(stext),
        }
    }

    /// The architecture that Panoptes itself runs on.
    const fn own() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }
}

impl KernelFacts<'_> {
    fn into_file(self) -> Result<ProfileFile, ImportError> {
        let recorder = Recorder::new(self.members);
        ask_all(&recorder).map_err(ImportError::Missing)?;
        let stext = self.symbols.stext.ok_or(ImportError::NoSymbols)?.0;
        let start = self.architecture.image_start(stext);
        let end = self.symbols.end.map_or(u64::MAX, |end| end.0);
        let members = recorder.into_members();
        Ok(ProfileFile::new(self.build_id, self.release, &self.symbols, true, start..end, members))
    }
}

fn hex(bytes: &[u8]) -> String {
    Hex(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognized_by_their_beginning() {
        let elf = |kind: u8| {
            let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
            bytes.resize(16, 0);
            bytes.extend([kind, 0]);
            bytes
        };
        assert_eq!(KernelFileKind::of(&elf(2)), Some(KernelFileKind::Elf));
        assert_eq!(KernelFileKind::of(&elf(3)), Some(KernelFileKind::Elf));
        assert_eq!(KernelFileKind::of(&elf(4)), None, "a dump");
        assert_eq!(KernelFileKind::of(b"MZ"), Some(KernelFileKind::Bootable));
        assert_eq!(KernelFileKind::of(&[0x1f, 0x8b, 8, 0]), Some(KernelFileKind::Bootable));
        assert_eq!(KernelFileKind::of(&[0; 4096]), None, "memory");
        assert_eq!(KernelFileKind::of(b""), None);
    }
}
