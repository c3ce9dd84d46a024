//! A profile of a kernel's headers: a compiler lays the structures out, and its DWARF has them.
//!
//! For: kernels whose files have no types. The caller compiles [`PROBE`] with [`options`] and
//! passes the program here. Headers have neither a build id nor addresses: discovery chooses such a
//! profile by its release, and reads the symbols from memory unless a `System.map` gives them.
//!
//! Not for: running a compiler, or finding the folders of headers.

use std::io::Read;
use std::path::{Path, PathBuf};

use object::LittleEndian;
use object::read::elf::FileHeader as _;

use super::dwarf::Dwarf;
use super::elf::{KernelElf, dwarf_sections, refused};
use super::{Architecture, ImportError, KernelFacts, live};
use crate::discovery::ask_all;
use crate::profile_file::{ProfileFile, Recorder};
use crate::symbols::Symbols;

/// The C source that names each structure.
pub const PROBE: &str = include_str!("probe.c");

/// The part of a kernel's configuration that decides whether and how its headers are compiled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KernelConfig {
    architecture: Architecture,
}

/// Why a profile cannot be made of a kernel's headers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unfit {
    #[error("its kernel has 32 bits; only amd64 and arm64 are supported")]
    Bits32,
    #[error("its kernel is for another architecture; only amd64 and arm64 are supported")]
    Architecture,
    /// The compiler's plugin orders the members of structures by a secret.
    #[error("its kernel shuffles its structures (CONFIG_RANDSTRUCT); use its vmlinux with DWARF")]
    Shuffled,
}

impl KernelConfig {
    /// Reads `include/generated/autoconf.h`.
    ///
    /// # Errors
    ///
    /// Panoptes does not support the kernel, or its headers do not tell its layouts.
    pub fn parse(autoconf: &str) -> Result<Self, Unfit> {
        let is_set = |name: &str| {
            autoconf.lines().any(|line| {
                let mut words = line.split_ascii_whitespace();
                words.next() == Some("#define") && words.next() == Some(name)
            })
        };
        let architecture = if is_set("CONFIG_X86_64") {
            Architecture::X86_64
        } else if is_set("CONFIG_ARM64") {
            Architecture::Aarch64
        } else if is_set("CONFIG_64BIT") {
            return Err(Unfit::Architecture);
        } else {
            return Err(Unfit::Bits32);
        };
        // The older name is from before v5.19.
        if is_set("CONFIG_RANDSTRUCT") || is_set("CONFIG_GCC_PLUGIN_RANDSTRUCT") {
            return Err(Unfit::Shuffled);
        }
        Ok(Self { architecture })
    }

    /// The name of its folder in `arch`.
    const fn folder(self) -> &'static str {
        match self.architecture {
            Architecture::X86_64 => "x86",
            Architecture::Aarch64 => "arm64",
        }
    }
}

/// The release in `include/generated/utsrelease.h`.
pub fn release(header: &str) -> Option<&str> {
    let line = header.lines().find(|line| line.starts_with("#define UTS_RELEASE "))?;
    line.split('"').nth(1).filter(|release| !release.is_empty())
}

/// The compiler's options, without its own headers, the source and the output.
///
/// `build` is the folder with what the kernel's build made, `source` that with its headers; they
/// may be the same. `exists` tells whether a header is there. The order of folders is that of the
/// kernel's Makefile (`LINUXINCLUDE`).
pub fn options(
    configuration: KernelConfig,
    build: &Path,
    source: &Path,
    exists: impl Fn(&Path) -> bool,
) -> Vec<PathBuf> {
    let arch = Path::new("arch").join(configuration.folder()).join("include");
    let mut options: Vec<PathBuf> = Vec::new();
    let mut add = |folder: PathBuf| options.extend([PathBuf::from("-I"), folder]);
    add(source.join(&arch));
    add(build.join(&arch).join("generated"));
    add(source.join("include"));
    add(build.join("include"));
    add(source.join(&arch).join("uapi"));
    add(build.join(&arch).join("generated/uapi"));
    add(source.join("include/uapi"));
    add(build.join("include/generated/uapi"));
    // Headers of a tree of sources that are not exported.
    add(source.to_owned());
    for header in ["compiler-version.h", "kconfig.h", "compiler_types.h"] {
        let header = source.join("include/linux").join(header);
        // The first one exists since v5.13.
        if exists(&header) {
            options.extend([PathBuf::from("-include"), header]);
        }
    }
    options.extend(OPTIONS.iter().map(PathBuf::from));
    options
}

/// Options that do not depend on the kernel. The definitions are those of the kernel's Makefiles
/// for a module. Without optimisation, unused functions would stay, and with them calls.
const OPTIONS: [&str; 21] = [
    "-D__KERNEL__",
    "-DMODULE",
    "-DCC_USING_FENTRY",
    "-DKBUILD_MODNAME=\"probe\"",
    "-DKBUILD_BASENAME=\"probe\"",
    "-DKBUILD_MODFILE=\"probe\"",
    "-D__KBUILD_MODNAME=kmod_probe",
    "-std=gnu11",
    "-O2",
    "-w",
    "-fshort-wchar",
    "-funsigned-char",
    "-fno-common",
    "-fms-extensions",
    "-fno-strict-aliasing",
    "-fno-PIE",
    "-g",
    "-gdwarf-4",
    "-fno-eliminate-unused-debug-types",
    "-nostdlib",
    "-no-pie",
];

/// Options for the linker. It applies the relocations of DWARF, and nothing of the program runs.
pub const LINK: &str = "-Wl,-e,0,--unresolved-symbols=ignore-all";

/// Reads a `System.map`, or a copy of `/proc/kallsyms`.
///
/// # Errors
///
/// It cannot be read, or it has no addresses of a kernel.
pub fn symbols(map: impl Read) -> Result<Symbols, ImportError> {
    match live::symbols(map) {
        Ok(symbols) if symbols.stext.is_some() => Ok(symbols),
        Ok(_) | Err(ImportError::Hidden(_)) => Err(ImportError::NoAddresses),
        Err(error) => Err(error),
    }
}

/// Makes a profile of the compiled probe, and of the symbols if there are any.
///
/// # Errors
///
/// The program has no DWARF, or a structure or field that the decoders need is missing.
pub fn profile(
    program: &[u8],
    release: String,
    symbols: Option<Symbols>,
) -> Result<ProfileFile, ImportError> {
    let file = KernelElf::parse(program).map_err(refused)?;
    let machine = file.elf_header().e_machine(LittleEndian);
    let architecture = Architecture::of(machine)
        .ok_or_else(|| ImportError::Architecture(format!("{machine:?}")))?;
    let unpacked = dwarf_sections(&file)?;
    let sections = unpacked.iter().map(|(name, data)| (*name, data.as_ref())).collect();
    let members = Dwarf::parse(&sections)?;
    let build_id = String::new();
    if let Some(symbols) = symbols {
        return KernelFacts { build_id, release, symbols, members: &members, architecture }
            .into_file();
    }
    let recorder = Recorder::new(&members);
    ask_all(&recorder).map_err(ImportError::Missing)?;
    let members = recorder.into_members();
    Ok(ProfileFile::new(build_id, release, &Symbols::default(), false, 0..0, members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_shows_the_architecture() {
        let folder = |text: &str| KernelConfig::parse(text).map(KernelConfig::folder);
        let amd64 = "#define CONFIG_64BIT 1\n#define CONFIG_X86_64 1\n";
        assert_eq!(folder(amd64), Ok("x86"));
        assert_eq!(folder("#define CONFIG_64BIT 1\n#define CONFIG_ARM64 1\n"), Ok("arm64"));
        assert_eq!(folder("#define CONFIG_X86_32 1\n#define CONFIG_X86 1\n"), Err(Unfit::Bits32));
        assert_eq!(folder("#define CONFIG_64BIT 1\n#define CONFIG_RISCV 1\n"), {
            Err(Unfit::Architecture)
        });
        assert_eq!(folder("#define CONFIG_X86_64_SMP 1\n"), Err(Unfit::Bits32), "another name");
        for name in ["CONFIG_RANDSTRUCT", "CONFIG_GCC_PLUGIN_RANDSTRUCT"] {
            assert_eq!(folder(&format!("{amd64}#define {name} 1\n")), Err(Unfit::Shuffled));
        }
        assert_eq!(folder(&format!("{amd64}#define CONFIG_RANDSTRUCT_NONE 1\n")), Ok("x86"));
    }

    #[test]
    fn the_release_is_read_from_its_header() {
        assert_eq!(release("#define UTS_RELEASE \"6.1.0-50-amd64\"\n"), Some("6.1.0-50-amd64"));
        assert_eq!(release("#define UTS_RELEASE \"\"\n"), None);
        assert_eq!(release(""), None);
    }

    #[test]
    fn headers_of_the_build_come_after_those_of_the_source() {
        let configuration = KernelConfig { architecture: Architecture::X86_64 };
        let options = options(configuration, Path::new("/build"), Path::new("/source"), |_| true);
        let folders: Vec<_> = options.iter().filter(|option| option.is_absolute()).collect();
        assert_eq!(folders[0], Path::new("/source/arch/x86/include"));
        assert_eq!(folders[1], Path::new("/build/arch/x86/include/generated"));
        assert_eq!(folders[8], Path::new("/source"));
        assert_eq!(folders[9], Path::new("/source/include/linux/compiler-version.h"));
    }

    #[test]
    fn a_list_without_a_kernel_is_refused() {
        let map = "ffffffff81000000 T _stext\nffffffff82000000 D init_task\n";
        assert!(symbols(map.as_bytes()).unwrap().init_task.is_some());
        let elsewhere = "ffffffffffffffff B The real System.map is in another package\n";
        for text in [elsewhere, "root:x:0:0:root:/root:/bin/bash\n", ""] {
            assert!(matches!(symbols(text.as_bytes()), Err(ImportError::NoAddresses)), "{text}");
        }
    }

    #[test]
    fn a_program_without_types_is_refused() {
        assert!(matches!(profile(b"no ELF", "6.1".to_owned(), None), Err(ImportError::Elf(_))));
    }
}
