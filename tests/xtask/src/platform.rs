//! What programs are built for: this machine, or arm64 machines.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use panoptes_rig::{Architecture, arm64_programs, setup};

use crate::cargo;

/// A platform: how cargo builds for it, and how its programs run here.
#[derive(Debug, Default)]
pub(crate) struct Platform {
    /// rustc's name for it; `None` for this machine.
    triple: Option<&'static str>,
    environment: Vec<(&'static str, OsString)>,
    /// The emulator of its programs.
    emulator: Option<OsString>,
}

const ARM64: &str = "aarch64-unknown-linux-gnu";
/// The C compiler for arm64, which also links: Debian 12's.
const ARM64_LINKER: &str = "aarch64-linux-gnu-gcc";
/// The folder with the C library of that compiler's programs.
const ARM64_LIBRARIES: &str = "/usr/aarch64-linux-gnu";

impl Platform {
    /// arm64 machines. What it needs is installed first: rustc's target, a C compiler, an emulator.
    pub(crate) fn arm64() -> Result<Self, String> {
        setup::ensure_for(Architecture::Arm64)?;
        // Changes nothing if it is already there.
        let mut add = Command::new("rustup");
        if !cargo::succeeds(add.args(["--quiet", "target", "add", ARM64]))? {
            return Err(format!("rustup could not install {ARM64}; see above"));
        }
        let emulator = arm64_programs()?.into_os_string();
        let environment = [
            ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", ARM64_LINKER.into()),
            ("QEMU_LD_PREFIX", ARM64_LIBRARIES.into()),
            // Tests lie on a guest's disk, and emulators print no line numbers.
            ("CARGO_PROFILE_DEV_DEBUG", "none".into()),
        ];
        let (environment, emulator) = (environment.into(), Some(emulator));
        Ok(Self { triple: Some(ARM64), environment, emulator })
    }

    /// A cargo command (`build`, `test` …) for it.
    pub(crate) fn cargo(&self, command: &str) -> Command {
        let mut cargo = cargo::command();
        cargo.arg(command);
        cargo.args(self.triple.iter().flat_map(|triple| ["--target", triple]));
        cargo.envs(self.environment.iter().map(|(name, value)| (name, value)));
        cargo
    }

    /// The variant of the Debian package for it (`engine/panoptes/Cargo.toml`).
    pub(crate) fn variant(&self) -> Option<&'static str> {
        self.triple.map(|_| Architecture::Arm64.debian())
    }

    /// A command that runs one of its programs here.
    pub(crate) fn run(&self, program: &Path) -> Command {
        let mut command = match &self.emulator {
            None => Command::new(program),
            Some(emulator) => {
                let mut command = Command::new(emulator);
                command.arg(program);
                command
            }
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
