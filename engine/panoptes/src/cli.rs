//! The command line: what may be typed, and what the help says about it.
//!
//! One definition makes the parser, the help, the shell completions and the manual page. It knows
//! nothing of what the words mean: values of the configuration stay text here and go through the
//! same checks as those of a file (`config`).

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::exit::Exit;

/// The whole command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "panoptes",
    version,
    about = "Watches Linux machines from the outside",
    long_about = "Watches Linux machines from the outside: reads their physical memory, decodes \
                  the kernel's own structures, and reports what happens there as JSON, one record \
                  a line. Nothing runs inside the watched machine.",
    after_help = help_of_everything(),
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Take one snapshot of a system as JSON lines, then exit
    #[command(after_help = SCAN_HELP)]
    Scan(Scan),
    /// Watch systems until stopped, records on standard output
    #[command(after_help = WATCH_HELP)]
    Watch(Watch),
    /// Run as a service: watch every configured system until stopped
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// List what can be watched from here: QEMU/KVM guests, this host, functions of DMA devices
    #[command(after_help = SYSTEMS_HELP)]
    Systems(Systems),
    /// Make, show and check kernel profiles
    Profile(Profile),
    /// Make bills of materials (SBOMs) of what should run
    Sbom(Sbom),
    /// Check a configuration: every mistake with its line and column
    #[command(after_help = CHECK_HELP)]
    Check(Check),
    /// Print the JSON Schema of every record
    #[command(after_help = SCHEMA_HELP)]
    Schema(Schema),
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(Completions),
    /// Print a manual page (roff)
    #[command(after_help = MAN_HELP)]
    Man(Man),
}

/// `panoptes scan`.
#[derive(Args, Clone, Debug)]
pub struct Scan {
    /// What to scan: file:PATH, a bare path, qemu:PID, or the name of a configured system
    #[arg(value_name = "SYSTEM")]
    pub system: OsString,
    /// Only these kinds of object, comma separated
    #[arg(long, value_name = "KINDS", value_enum, value_delimiter = ',')]
    pub only: Vec<Kind>,
    /// Print counts and timings by stage instead of objects
    #[arg(long)]
    pub summary: bool,
    /// Print the summary as JSON
    #[arg(long, requires = "summary")]
    pub json: bool,
    /// What overrides the configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// `panoptes watch`.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// What to watch: file:PATH, a bare path, qemu:PID, or names of configured systems; with --config and
    /// without any, every configured system
    #[arg(value_name = "SYSTEM", required_unless_present = "config")]
    pub systems: Vec<OsString>,
    /// What overrides the configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// `panoptes run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// What overrides the configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// What every watching command takes.
#[derive(Args, Clone, Debug, Default)]
pub struct Settings {
    /// Read this configuration (YAML or JSON)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one key of the configuration, such as service.scan_interval=5ms; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// How many of each are tracked, for every system: processes, threads, file-descriptors, vmas,
    /// connections, containers, string-length
    #[arg(long, value_name = "NAME=NUMBER,…")]
    pub limits: Vec<String>,
    /// When watching, from the start of one scan to the start of the next: 10ms, 2s, 1m
    #[arg(long, value_name = "DURATION")]
    pub interval: Option<String>,
    /// The cores to scan on, one pinned thread each: numbers and ranges such as 0-3,8
    #[arg(long, value_name = "CORES")]
    pub cores: Option<String>,
    /// Write the event log into this folder
    #[arg(long, value_name = "DIR")]
    pub log_folder: Option<PathBuf>,
}

/// `panoptes systems`.
#[derive(Args, Clone, Debug)]
pub struct Systems {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Read this configuration (YAML or JSON), for service.guest_users
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `panoptes profile`.
#[derive(Args, Clone, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Profile {
    /// What to do with profiles.
    #[command(subcommand)]
    pub command: ProfileCommand,
}

/// What to do with profiles.
#[derive(Clone, Debug, Subcommand)]
pub enum ProfileCommand {
    /// Make a profile of a kernel: from memory, or from a file of the kernel
    #[command(after_help = PROFILE_BUILD_HELP)]
    Build(ProfileBuild),
    /// Show what a profile says, or list those that are built in
    #[command(after_help = PROFILE_SHOW_HELP)]
    Show(ProfileShow),
    /// Check a profile against the memory of a system
    #[command(after_help = PROFILE_VERIFY_HELP)]
    Verify(ProfileVerify),
}

/// `panoptes profile show`.
#[derive(Args, Clone, Debug)]
pub struct ProfileShow {
    /// A profile, or anything that `profile build` takes; without it, the profiles that are built in
    #[arg(value_name = "FILE|SOURCE")]
    pub source: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `panoptes profile verify`.
#[derive(Args, Clone, Debug)]
pub struct ProfileVerify {
    /// A profile, or anything that `profile build` takes
    #[arg(value_name = "FILE|SOURCE")]
    pub profile: OsString,
    /// The system whose memory it is tried on: file:PATH or a bare path
    #[arg(value_name = "SYSTEM")]
    pub system: OsString,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `panoptes profile build`.
#[derive(Args, Clone, Debug)]
pub struct ProfileBuild {
    /// Where the kernel is: a SYSTEM that runs it, host: for this machine, or its vmlinuz or vmlinux
    #[arg(value_name = "SOURCE")]
    pub source: OsString,
    /// Read DWARF even where there is BTF
    #[arg(long, hide = true)]
    pub dwarf: bool,
    /// Write the profile here rather than to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `panoptes sbom`.
#[derive(Args, Clone, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Sbom {
    /// What to do with SBOMs.
    #[command(subcommand)]
    pub command: SbomCommand,
}

/// What to do with SBOMs.
#[derive(Clone, Debug, Subcommand)]
pub enum SbomCommand {
    /// Make an SBOM of what is shipped: a root directory, an image, a package, or another tool's SBOM
    #[command(after_help = SBOM_BUILD_HELP)]
    Build(SbomBuild),
}

/// `panoptes sbom build`.
#[derive(Args, Clone, Debug)]
pub struct SbomBuild {
    /// What is shipped; what it is is found by looking
    #[arg(value_name = "SOURCE")]
    pub source: PathBuf,
    /// Write the SBOM here rather than to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What it is called, such as the reference of an image
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Containers whose id or name fits this glob are of it, and only they; may be repeated
    #[arg(long = "container", value_name = "GLOB")]
    pub containers: Vec<String>,
    /// Which image of a source that holds several: its name, or the digest of its manifest
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
    /// Which platform of an image: linux/amd64, linux/arm64/v8
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub platform: Option<String>,
    /// Which files are hashed page by page too, so that they can be told when only a part is in memory
    #[arg(long, value_name = "FILES", value_enum, default_value_t)]
    pub page_hashes: PageHashes,
    /// Leave out this path inside a root directory, with all below it; may be repeated
    #[arg(long = "exclude", value_name = "PATH", value_parser = inside_root)]
    pub excluded: Vec<PathBuf>,
    /// Take dpkg's MD5 sums for the files of a root directory and read none of them
    #[arg(long)]
    pub trust_dpkg: bool,
    /// Say nothing but what is wrong
    #[arg(short, long)]
    pub quiet: bool,
}

/// A path as a root directory is walked: absolute, in one spelling.
fn inside_root(text: &str) -> Result<PathBuf, String> {
    let path = text.trim_end_matches('/');
    panoptes_reference::model::check_path(path.as_bytes())?;
    Ok(PathBuf::from(path))
}

/// Of which files pages are hashed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum PageHashes {
    /// ELF files, scripts, libraries, and what may be executed
    #[default]
    Executables,
    /// All files
    All,
    /// No file
    None,
}

/// `panoptes check`.
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `panoptes schema`.
#[derive(Args, Clone, Debug)]
pub struct Schema {
    /// Print the schema of the lines of `panoptes scan` instead
    #[arg(long, conflicts_with = "sbom")]
    pub scan: bool,
    /// Print the schema of what `panoptes sbom build` writes instead
    #[arg(long)]
    pub sbom: bool,
}

/// `panoptes completions`.
#[derive(Args, Clone, Debug)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// `panoptes man`.
#[derive(Args, Clone, Debug)]
pub struct Man {
    /// The command that the page is about, such as scan or profile build; the program if none
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// A kind of object that a scan prints, in the order in which it prints them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
pub enum Kind {
    /// Processes
    Processes,
    /// Threads
    Threads,
    /// Open files, sockets, pipes and the like
    Files,
    /// Memory areas
    Memory,
    /// Network connections
    Connections,
    /// Kernel modules
    #[value(hide = true)]
    Modules,
    /// Network interfaces
    Interfaces,
    /// Containers
    Containers,
    /// Commands that shells remember
    ShellHistory,
}

impl Kind {
    /// Every kind that this version can print.
    pub fn built() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(|kind| kind.is_built())
    }

    /// Whether this version can print it; those that it can't are hidden from the help.
    pub const fn is_built(self) -> bool {
        match self {
            Self::Processes
            | Self::Threads
            | Self::Files
            | Self::Memory
            | Self::Connections
            | Self::Interfaces
            | Self::Containers
            | Self::ShellHistory => true,
            Self::Modules => false,
        }
    }

    /// As it is typed.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What the contract names and this version does not have: commands, under which command.
pub(crate) const NOT_BUILT: [(&str, &str); 1] = [("panoptes", "flow")];

fn help_of_everything() -> String {
    let mut text = String::from(EXAMPLES);
    text.push_str("\n\n");
    text.push_str(SYSTEM_HELP);
    text.push_str("\n\nExit codes:");
    for exit in Exit::ALL {
        let _ = write!(text, "\n  {:<3} {}", exit.code(), exit.meaning());
    }
    text
}

const EXAMPLES: &str = "\
Examples:
  panoptes scan guest.mem --only processes,connections
  panoptes watch file:/dev/shm/guest.mem --interval 10ms
  panoptes run --config /etc/panoptes/panoptes.yaml";

const SYSTEM_HELP: &str = "\
SYSTEM is one of:
  file:PATH  memory that a running guest shares, or a dump; the format is found by looking
  PATH       the same
  qemu:PID   a QEMU/KVM guest of this machine, by its process id (see panoptes systems)
  host:      this machine, through /proc/kcore (as root)
  doca:DEVICE/VUID
             the host of a BlueField, or a virtual machine on it, read by DMA (see panoptes systems)";

const SCAN_HELP: &str = "\
Examples:
  panoptes scan guest.mem
  panoptes scan file:/dev/shm/guest.mem --only processes,files
  panoptes scan guest.mem --summary
  panoptes scan web-1 --config panoptes.yaml";

const WATCH_HELP: &str = "\
Examples:
  panoptes watch /dev/shm/guest.mem
  panoptes watch /dev/shm/a.mem /dev/shm/b.mem --interval 100ms --log-folder /tmp/log
  panoptes watch --config panoptes.yaml --set default.events.thread_created=false
  panoptes watch guest.mem --limits processes=8192,file-descriptors=200000";

const RUN_HELP: &str = "\
Without --config it reads /etc/panoptes/panoptes.yaml, if there is one. Unless auto_scan is off,
every QEMU guest of this machine is watched, as it comes and goes.
SIGHUP reads the configuration again, SIGTERM ends it after the last records.

Examples:
  panoptes run --config panoptes.yaml
  panoptes run --config panoptes.yaml --set service.log_level=debug";

const SYSTEMS_HELP: &str = "\
Examples:
  panoptes systems
  panoptes systems --json
  panoptes scan qemu:4711";

const CHECK_HELP: &str = "\
Examples:
  panoptes check /etc/panoptes/panoptes.yaml
  panoptes check panoptes.yaml --json";

const SBOM_BUILD_HELP: &str = "\
SOURCE is what it is found to be:
  a folder   the root directory of a machine or a container; with dpkg's database in it, the files are
             compared with that, too
  an image   OCI's layout, in a folder or as an archive, or an archive of `docker save`; layers as they
             are, packed by gzip or zstd
  a package  Debian's .deb
  a file     SPDX or CycloneDX (JSON), or a list of hashes as sha256sum prints it

It ends with 1 when something could not be read and is missing in the SBOM.

Examples:
  panoptes sbom build / --exclude /tmp --exclude /home -o host.sbom.json
  panoptes sbom build web.tar --platform linux/amd64 -o web.sbom.json
  panoptes sbom build /srv/web/rootfs --name web:1.2 --container 'web-*' -o web.sbom.json";

const SCHEMA_HELP: &str = "\
Examples:
  panoptes schema > record.schema.json
  panoptes schema --scan > scan.schema.json
  panoptes schema --sbom > sbom.schema.json";

const COMPLETIONS_HELP: &str = "\
Examples:
  panoptes completions bash > /etc/bash_completion.d/panoptes";

const MAN_HELP: &str = "\
Examples:
  panoptes man | man -l -
  panoptes man profile build > panoptes-profile-build.1";

const PROFILE_SHOW_HELP: &str = "\
Examples:
  panoptes profile show
  panoptes profile show kernel.json
  panoptes profile show /boot/vmlinuz-6.1.0-50-amd64 --json";

const PROFILE_VERIFY_HELP: &str = "\
Prints each check and what came out of it; ends with 65 when the profile does not fit.

Examples:
  panoptes profile verify kernel.json guest.mem
  panoptes profile verify /boot/vmlinuz-6.1.0-50-amd64 guest.mem --json";

const PROFILE_BUILD_HELP: &str = "\
SOURCE is what it is found to be:
  memory     of a machine that runs the kernel, live or a dump (see SYSTEM in `panoptes --help`)
  host:      the kernel of this machine, by /sys/kernel/btf/vmlinux and /proc/kallsyms
  vmlinuz    a bootable kernel: bzImage, arm64's Image, plain or compressed, EFI's zboot
  vmlinux    the kernel's ELF file: types from its BTF, else from its DWARF
  JSON       Volatility 3's ISF, also compressed
  a package  .deb or .rpm, with a vmlinux (of debug symbols) or a vmlinuz in it

Examples:
  panoptes profile build guest.mem -o kernel.json
  panoptes profile build /boot/vmlinuz-6.1.0-50-amd64 -o kernel.json";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_documents_every_exit_code() {
        let help = Arguments::command().render_help().to_string();
        for exit in Exit::ALL {
            let line = format!("  {:<3} {}", exit.code(), exit.meaning());
            assert!(help.contains(&line), "{line:?} is not in {help}");
        }
    }

    #[test]
    fn kinds_are_a_list() {
        let Ok(Command::Scan(scan)) = parse("panoptes scan x --only processes,shell-history")
        else {
            panic!("this is a good command line");
        };
        assert_eq!(scan.only, [Kind::Processes, Kind::ShellHistory]);
        assert!(parse("panoptes scan x --only processs").is_err());
    }

    #[test]
    fn kinds_that_are_hidden_are_those_that_are_not_built() {
        for kind in Kind::value_variants() {
            let value = kind.to_possible_value().unwrap();
            assert_eq!(value.is_hide_set(), !kind.is_built(), "{kind:?}");
        }
    }

    #[test]
    fn watching_needs_something_to_watch() {
        assert!(parse("panoptes watch").is_err());
        assert!(parse("panoptes watch x").is_ok());
        assert!(parse("panoptes watch --config x").is_ok());
        assert!(parse("panoptes scan --config x").is_err());
    }

    #[test]
    fn what_is_not_built_is_not_offered() {
        for (parent, name) in NOT_BUILT {
            let mut command = Arguments::command();
            for step in parent.split(' ').skip(1) {
                command = command.find_subcommand(step).unwrap().clone();
            }
            assert!(command.find_subcommand(name).is_none(), "{parent} {name}");
        }
    }

    #[test]
    fn every_command_has_a_line_of_help() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}", argument.get_id());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Arguments::command());
    }
}
