//! What tests, the demo and other commands use of a machine, in one [table], and what follows where
//! something is missing: it is installed, unpacked into the cache, made in a namespace, or what
//! needs it is skipped.
//!
//! Nothing else may be used: `cargo xtask test` hides from its tests what the table lacks, and what
//! only a release page needs. This crate depends on no other one, so that it builds in a second;
//! its program starts xtask.
//!
//! Start reading at [`table::NEEDS`].
#![forbid(unsafe_code)]

pub mod cargo;
pub mod check;
pub mod install;
pub mod skip;
pub mod table;

/// One thing that something uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Need {
    /// A program's name, a path, the name of a library, or words for what the kernel has.
    pub name: &'static str,
    pub kind: Kind,
    pub user: User,
    pub without: Without,
    /// What it is for.
    pub purpose: &'static str,
}

/// What a need is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A program on the search path, or in a folder for administrators.
    Program,
    /// A file or a folder, by its path.
    File,
    /// A shared library that a program opens by its name.
    Library,
    /// A device, by its path.
    Device,
    /// Something of the kernel, of the machine's hardware, or a permission.
    Feature,
    /// A variable with which somebody asks for a test, or names what it needs.
    Variable,
}

/// The first command that uses a need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum User {
    /// All commands: what cargo and the linker need.
    Build,
    /// Guests, so the demo, and nearly every other command.
    Guests,
    /// `cargo xtask test`.
    Test,
    /// `cargo xtask arm64`, and guests of arm64.
    Arm64,
    /// `cargo xtask shells`.
    Shells,
    /// `cargo xtask install` and `cargo xtask fresh`.
    Roots,
    /// `cargo xtask fuzz`; `cargo xtask test` runs its targets.
    Fuzz,
    /// Disks with XFS, Btrfs and SquashFS: `cargo xtask hashes`.
    Disks,
    /// `cargo xtask bench`.
    Bench,
    /// `cargo xtask delivery`.
    Delivery,
    /// `cargo xtask package`, `image`, `bindings` and `profiles`.
    Release,
    /// `cargo xtask release` alone, which makes a release page.
    ReleasePage,
}

impl User {
    /// Whether tests see what it needs. What they do not see cannot change what they do on a new
    /// machine.
    pub const fn is_seen_by_tests(self) -> bool {
        !matches!(self, Self::ReleasePage)
    }
}

/// What happens without a need.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Without {
    /// root installs this Debian package; others get the command for it.
    Install(&'static str),
    /// This Debian package is unpacked into the cache: its scripts would start a daemon, or the
    /// machine's release has another version.
    Unpack(&'static str),
    /// cargo compiles the crate of this name into the cache; the command that uses it has the
    /// version.
    Compile,
    /// It is made, in a namespace of the tests' own; without the permission for that, what needs it
    /// is skipped.
    Make,
    /// What needs it is skipped, and counted.
    Skip,
    /// The command ends with one line.
    Fail,
}

impl Need {
    /// The need of this name, if the table has it.
    pub fn of(name: &str) -> Option<&'static Self> {
        table::NEEDS.iter().find(|need| need.name == name)
    }

    /// The need of this name.
    ///
    /// # Panics
    ///
    /// The table has no such row: nothing else may be used.
    #[track_caller]
    pub fn named(name: &str) -> &'static Self {
        Self::of(name).unwrap_or_else(|| {
            panic!("{name} is used, but tests/xtask/needs/src/table.rs has no row for it")
        })
    }
}
