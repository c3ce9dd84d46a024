//! The targets of builds: this machine, arm64 machines, or any machine of an architecture.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use panoptes_needs::install;
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

/// cargo's variable for what it strips from optimised programs.
pub(crate) const STRIP: &str = "CARGO_PROFILE_RELEASE_STRIP";
const ARM64: &str = "aarch64-unknown-linux-gnu";
/// The C compiler for arm64, which also links: Debian 12's.
const ARM64_LINKER: &str = "aarch64-linux-gnu-gcc";
/// The folder with the C library of that compiler's programs.
const ARM64_LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// rustc's names for programs that need no other file.
pub(crate) const STATIC: [(Architecture, &str); 2] = [
    (Architecture::Amd64, "x86_64-unknown-linux-musl"),
    (Architecture::Arm64, "aarch64-unknown-linux-musl"),
];
/// That compiler knows only the headers of glibc. musl lacks the checked functions that they may
/// call, and what libgcc has for atomic operations.
const ARM64_STATIC_OPTIONS: &str = "-U_FORTIFY_SOURCE -mno-outline-atomics";

impl Platform {
    /// arm64 machines. What it needs is installed first: rustc's target, a C compiler, an emulator.
    pub(crate) fn arm64() -> Result<Self, String> {
        setup::ensure_for(Architecture::Arm64)?;
        add_target(ARM64)?;
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

    /// Programs of one of [`STATIC`]: they are linked with the musl that rustc brings, and need no
    /// other file.
    pub(crate) fn alone(architecture: Architecture, triple: &'static str) -> Result<Self, String> {
        setup::ensure_for(architecture)?;
        add_target(triple)?;
        let (variables, emulator) = match architecture {
            Architecture::Amd64 => {
                install::ensure_named(&["musl-gcc"])?;
                (vec![("CC_x86_64_unknown_linux_musl", "musl-gcc")], None)
            }
            Architecture::Arm64 => {
                let variables = vec![
                    ("CC_aarch64_unknown_linux_musl", ARM64_LINKER),
                    ("AR_aarch64_unknown_linux_musl", "aarch64-linux-gnu-ar"),
                    ("CFLAGS_aarch64_unknown_linux_musl", ARM64_STATIC_OPTIONS),
                    ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", ARM64_LINKER),
                ];
                (variables, Some(arm64_programs()?.into_os_string()))
            }
        };
        let environment = variables.into_iter().map(|(name, value)| (name, OsString::from(value)));
        Ok(Self { triple: Some(triple), environment: environment.collect(), emulator })
    }

    /// The same with more variables, for builds and for programs.
    pub(crate) fn with(
        mut self,
        variables: impl IntoIterator<Item = (&'static str, OsString)>,
    ) -> Self {
        self.environment.extend(variables);
        self
    }

    /// rustc's name for it, unless it is this machine.
    pub(crate) const fn triple(&self) -> Option<&'static str> {
        self.triple
    }

    /// Whether cargo itself strips programs for it.
    pub(crate) fn has_stripped_programs(&self) -> bool {
        self.environment.iter().any(|(name, _)| *name == STRIP)
    }

    /// Gives a command the variables of the platform.
    pub(crate) fn equip(&self, command: &mut Command) {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    /// A cargo command (`build`, `test` …) for it.
    pub(crate) fn cargo(&self, command: &str) -> Command {
        let mut cargo = cargo::command();
        cargo.arg(command);
        cargo.args(self.triple.iter().flat_map(|triple| ["--target", triple]));
        self.equip(&mut cargo);
        cargo
    }

    /// The variant of the Debian package for it (`engine/panoptes/Cargo.toml`).
    pub(crate) fn variant(&self) -> Option<&'static str> {
        self.triple.filter(|triple| *triple == ARM64).map(|_| Architecture::Arm64.debian())
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
        self.equip(&mut command);
        command
    }
}

/// Installs rustc's libraries for a target. Changes nothing if they are already there.
fn add_target(triple: &str) -> Result<(), String> {
    let mut add = Command::new("rustup");
    add.args(["--quiet", "target", "add", triple]);
    cargo::must(&mut add, &format!("rustup's installation of {triple}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_strips_programs_by_a_variable() {
        assert!(!Platform::default().has_stripped_programs());
        assert!(Platform::default().with([(STRIP, "symbols".into())]).has_stripped_programs());
    }
}
