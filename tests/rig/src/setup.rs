//! Prepares a Debian host to run guests: a C compiler, an unpacker.
//!
//! As root it installs missing packages and names them; otherwise it prints the command to install
//! them. `emulator` fetches the emulator.

use std::path::Path;
use std::process::Command;

use crate::boxes;
use crate::command;
use crate::disk::Format;
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::gate;

/// A required program or file, and the package that has it.
const NEEDS: &[(Need, &str)] = &[
    (Need::Program("gcc"), "gcc"),
    (Need::File("/usr/lib/x86_64-linux-gnu/libc.a"), "libc6-dev"),
    (Need::File("/usr/include/linux/inet_diag.h"), "linux-libc-dev"),
    (Need::Program("xz"), "xz-utils"),
    (Need::Program("setpriv"), "util-linux"),
    (Need::Program("bash"), "bash"),
];

/// The additional needs of guests of another architecture.
const ARM64_NEEDS: &[(Need, &str)] = &[
    (Need::Program("aarch64-linux-gnu-gcc"), "gcc-aarch64-linux-gnu"),
    (Need::File("/usr/aarch64-linux-gnu/lib/libc.a"), "libc6-dev-arm64-cross"),
    (Need::File("/usr/aarch64-linux-gnu/include/linux/inet_diag.h"), "linux-libc-dev-arm64-cross"),
];

#[derive(Clone, Copy, Debug)]
enum Need {
    Program(&'static str),
    File(&'static str),
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Program(name) => command::exists(name),
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

/// Installs missing packages for guests of the host's architecture. The first guest of another
/// architecture installs its own.
pub fn ensure() -> Result<()> {
    install(NEEDS)
}

/// Installs missing packages for guests of an architecture, and for programs that run there.
pub fn ensure_for(architecture: Architecture) -> Result<()> {
    match architecture {
        Architecture::Amd64 => Ok(()),
        Architecture::Arm64 => install(ARM64_NEEDS),
    }
}

/// Installs the packages that build shells from source, with glibc and with musl.
pub(crate) fn ensure_for_building() -> Result<()> {
    install(&[
        (Need::Program("make"), "make"),
        (Need::Program("musl-gcc"), "musl-tools"),
        (Need::File("/usr/include/readline/readline.h"), "libreadline-dev"),
    ])
}

/// Installs the client that logs into guests.
pub(crate) fn ensure_for_visits() -> Result<()> {
    install(&[(Need::Program("ssh"), "openssh-client")])
}

/// Installs the program that makes a root of Debian, maintainer scripts included.
pub(crate) fn ensure_for_roots() -> Result<()> {
    install(&[(Need::Program("mmdebstrap"), "mmdebstrap")])
}

/// Installs argus and its clients, with which records of flows are compared, and tcpdump, with
/// which filters are. Fetches argus 5, which is for the same, and programs whose traffic is
/// audited.
pub fn ensure_for_flows() -> Result<()> {
    install(&[
        (Need::Program("argus"), "argus-server"),
        (Need::Program("ra"), "argus-client"),
        (Need::Program("tcpdump"), "tcpdump"),
    ])?;
    for programs in boxes::FOR_FLOWS {
        programs.obtain()?;
    }
    if gate::is_long_allowed("rasqlinsert", "needs MariaDB (16 MB)") {
        boxes::MARIADB.obtain()?;
    }
    Ok(())
}

/// Installs the packages that compile libFuzzer.
pub fn ensure_for_fuzzing() -> Result<()> {
    install(&[(Need::Program("g++"), "g++")])
}

/// Installs the program that creates images of a filesystem.
pub fn ensure_for_format(format: Format) -> Result<()> {
    let (program, package) = format.maker();
    install(&[(Need::Program(program), package)])
}

fn install(needs: &[(Need, &str)]) -> Result<()> {
    let missing: Vec<_> =
        needs.iter().filter(|(need, _)| !need.is_met()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install --yes --no-install-recommends {}", missing.join(" "));
    if !command::exists("apt-get") {
        return Err(Error::new(format!(
            "the tests of real kernels need the Debian packages {}; this machine has no apt-get",
            missing.join(", ")
        )));
    }
    if command::output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(Error::new(format!("packages are missing; as root, run: {line}")));
    }
    eprintln!("rig: installing {} ({line})", missing.join(", "));
    if !has_package_lists() {
        apt(&["update"])?;
    }
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    if apt(&install).is_err() {
        // The lists may be older than the mirror: retry with fresh ones.
        apt(&["update"])?;
        apt(&install)?;
    }
    match needs.iter().find(|(need, _)| !need.is_met()) {
        None => Ok(()),
        Some((need, package)) => Err(Error::new(format!(
            "{package} was installed but {need:?} is still not there; is this Debian on amd64?"
        ))),
    }
}

fn has_package_lists() -> bool {
    std::fs::read_dir("/var/lib/apt/lists").is_ok_and(|entries| {
        entries
            .filter_map(std::result::Result::ok)
            .any(|e| e.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("-q").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command::output(&mut command).map(drop)
}
