//! Prepares a Debian host to run guests, by the table of needs (`tests/xtask/needs`).
//!
//! As root it installs missing packages and names them; otherwise it prints the command to install
//! them. `emulator` fetches the emulator.

use panoptes_needs::{User, install};

use crate::boxes;
use crate::disk::Format;
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::gate;

/// Installs missing packages for guests of the host's architecture. The first guest of another
/// architecture installs its own.
pub fn ensure() -> Result<()> {
    ensure_for_users(&[User::Build, User::Guests])
}

/// Installs missing packages for guests of an architecture, and for programs that run there.
pub fn ensure_for(architecture: Architecture) -> Result<()> {
    match architecture {
        Architecture::Amd64 => Ok(()),
        Architecture::Arm64 => ensure_for_users(&[User::Arm64]),
    }
}

/// Installs the packages that build shells from source, with glibc and with musl.
pub(crate) fn ensure_for_building() -> Result<()> {
    ensure_for_users(&[User::Shells])
}

/// Installs the program that makes a root of Debian, maintainer scripts included.
pub fn ensure_for_roots() -> Result<()> {
    ensure_for_users(&[User::Roots])
}

/// Installs what tests use beside guests. Fetches programs whose packages are not installed:
/// argus, with which records of flows are compared, and programs whose traffic is audited.
pub fn ensure_for_tests() -> Result<()> {
    ensure_for_users(&[User::Build, User::Guests, User::Test, User::Fuzz])?;
    for programs in boxes::FOR_TESTS {
        programs.obtain()?;
    }
    if gate::is_long_asked() {
        boxes::MARIADB.obtain()?;
    }
    Ok(())
}

/// Installs the packages that compile libFuzzer.
pub fn ensure_for_fuzzing() -> Result<()> {
    ensure_for_users(&[User::Fuzz])
}

/// Installs the programs that make the Debian package.
pub fn ensure_for_package() -> Result<()> {
    install::ensure_named(&["date", "gzip", "dpkg-shlibdeps"]).map_err(Error::new)
}

/// Installs the program that creates images of a filesystem.
pub(crate) fn ensure_for_format(format: Format) -> Result<()> {
    install::ensure_named(&[format.maker()]).map_err(Error::new)
}

fn ensure_for_users(users: &[User]) -> Result<()> {
    install::ensure(users).map_err(Error::new)
}
