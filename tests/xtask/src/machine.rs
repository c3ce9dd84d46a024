//! The machine that tests see: what the table of needs has for them, and no more.
//!
//! Its search path is a folder of links to the programs of the table. Where this process may make a
//! mount namespace, `/etc` has only the table's files, with those of a minimal machine in place of
//! this machine's own, and `/dev` has only the table's devices. Elsewhere tests see this machine's
//! `/etc` and `/dev`.
//!
//! `xtask` itself sees the whole machine: it builds, and installs what is missing.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use panoptes_needs::table::seen_by_tests;
use panoptes_needs::{Kind, Without, check};
use panoptes_rig::{boxes, cache};

use crate::folders::ROOT;
use crate::hidden;

/// The folder of links to programs, and a copy of xtask: a build may replace the one that runs.
const PROGRAMS: &str = "bin";
const STARTER: &str = "xtask";

/// Starts a program in the machine that tests see. For xtask itself.
#[derive(Args, Debug)]
pub(crate) struct Inside {
    /// Only try to make the machine
    #[arg(long)]
    check: bool,
    folder: PathBuf,
    #[arg(last = true)]
    program: Vec<OsString>,
}

/// Starts a program in the machine's namespace, in place of this one.
pub(crate) fn inside(options: &Inside) -> Result<(), String> {
    let is_hidden = hidden::enter(&options.folder);
    if options.check {
        return is_hidden;
    }
    let (program, arguments) = options.program.split_first().ok_or("no program is named")?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("cannot start {}: {error}", program.display()))
}

/// What tests see.
#[derive(Debug)]
pub(crate) struct Machine {
    folder: PathBuf,
}

impl Machine {
    /// Makes the machine's folders anew, and prints what cannot be hidden here.
    pub(crate) fn prepare() -> Result<Self, String> {
        let folder = Path::new(ROOT).join("target/machine");
        cache::remove(&folder)?;
        cache::create(&folder)?;
        let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
        link_programs(&folder.join(PROGRAMS))?;
        hidden::prepare(&folder)?;
        cache::copy(Path::new("/proc/self/exe"), &folder.join(STARTER))?;
        let machine = Self { folder };
        let mut try_out = Command::new(machine.folder.join(STARTER));
        try_out.args(["inside", "--check"]).arg(&machine.folder);
        if let Err(error) = panoptes_rig::output(&mut try_out) {
            println!("tests see all of this machine's /etc and /dev: {error}");
        }
        Ok(machine)
    }

    /// A command that runs a program there.
    pub(crate) fn command(&self, program: &Path) -> Command {
        self.start(Command::new(self.folder.join(STARTER)), program)
    }

    /// The same; the program is killed when the thread that started it ends.
    pub(crate) fn tied(&self, program: &Path) -> Command {
        self.start(panoptes_rig::tied(self.folder.join(STARTER)), program)
    }

    fn start(&self, mut command: Command, program: &Path) -> Command {
        command.arg("inside").arg(&self.folder).arg("--").arg(program);
        command.env("PATH", self.folder.join(PROGRAMS));
        command
    }
}

/// Makes a link to each program that tests see and that this machine, or the cache, has.
fn link_programs(folder: &Path) -> Result<(), String> {
    cache::create(folder)?;
    let mut unpacked = Vec::new();
    for programs in boxes::ON_PATH {
        unpacked.extend(programs.in_cache()?);
    }
    for need in seen_by_tests().filter(|need| need.kind == Kind::Program) {
        let in_cache = || unpacked.iter().map(|bin| bin.join(need.name)).find(|path| path.exists());
        let path = match need.without {
            Without::Unpack(_) => in_cache().or_else(|| check::program(need.name)),
            _ => check::program(need.name),
        };
        if let Some(path) = path {
            let link = folder.join(need.name);
            symlink(&path, &link).map_err(|e| format!("{}: {e}", link.display()))?;
        }
    }
    Ok(())
}
