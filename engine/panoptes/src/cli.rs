//! The command line: its arguments and their help.
//!
//! One definition makes the parser, the help, the shell completions and the manual page. Not for:
//! checking values of the configuration. They stay text here and go through the same checks as
//! those of a file (`config`).

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use panoptes_records::activities::{Activity, Severity};
use panoptes_records::record::scan::ScanKind;

use crate::config::{Overrides, nearest};
use crate::exit::Exit;
use crate::shells::ShellParser;

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
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Take one snapshot of a system as JSON lines, then exit
    #[command(after_help = SCAN_HELP)]
    Scan(Scan),
    /// Watch systems until stopped; records go to standard output
    #[command(after_help = WATCH_HELP)]
    Watch(Watch),
    /// Run as a service: watch every configured system until stopped
    #[command(after_help = RUN_HELP)]
    Run(ConfigOptions),
    /// Audit network flows: packets in, argus(8) records out, with the options of argus(8)
    #[command(override_usage = FLOW_USAGE, after_help = crate::flow::help())]
    #[command(disable_help_flag = true)]
    Flow {
        /// The options of argus(8); -h lists them
        #[arg(value_name = "OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<std::ffi::OsString>,
    },
    /// List what can be watched from here: guests, this host, functions of DMA devices
    #[command(after_help = SYSTEMS_HELP)]
    Systems {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Read this configuration (YAML or JSON), for service.guest_users
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Make, show and check kernel profiles
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Make bills of materials (SBOMs) of what should run
    #[command(subcommand)]
    Sbom(Sbom),
    /// Check a configuration: print every mistake with its line and column
    #[command(after_help = CHECK_HELP)]
    Check {
        /// The configuration (YAML or JSON)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print the result as one JSON object
        #[arg(long)]
        json: bool,
        /// Print every key with its value, and where that was given
        #[arg(long)]
        show_effective: bool,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// List what on this machine stands in the way of watching, each with its fix
    #[command(after_help = DOCTOR_HELP)]
    Doctor {
        /// Check for this configuration (YAML or JSON)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Check for the flow sensor instead, with this argus.conf
        #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "receivers"])]
        flow: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Connect to each receiver of `output.telemetry`, too; no record is sent
        #[arg(long)]
        receivers: bool,
    },
    /// Send one marked record through every configured output and print what became of it
    #[command(after_help = TEST_ALERT_HELP)]
    TestAlert {
        /// Use the outputs of this configuration (YAML or JSON)
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The severity of the record; by default that of `events.test_alert`
        #[arg(long, value_name = "SEVERITY", value_parser = severities(), ignore_case = true)]
        severity: Option<Severity>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of every record
    #[command(after_help = SCHEMA_HELP)]
    Schema {
        /// Print the schema of the lines of `panoptes scan` instead
        #[arg(long, conflicts_with = "sbom")]
        scan: bool,
        /// Print the schema of the output of `panoptes sbom build` instead
        #[arg(long)]
        sbom: bool,
        /// Print the schema of records with `service.compatibility: doca_argus` instead
        #[arg(long, conflicts_with_all = ["scan", "sbom"])]
        doca_argus: bool,
    },
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        #[arg(value_parser = ShellParser)]
        shell: Shell,
    },
    /// Print a manual page (roff)
    #[command(after_help = MAN_HELP)]
    Man {
        /// The command to describe, such as scan or profile build; the whole program by default
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
    },
}

/// `panoptes scan`.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command")]
pub struct Scan {
    /// System to scan: file:PATH, a bare path, qemu:PID, or the name of a guest or of a configured
    /// system
    #[arg(value_name = "SYSTEM")]
    pub system: OsString,
    /// Print only these kinds of objects, comma separated
    #[arg(long, value_name = "KINDS", value_parser = kinds(), value_delimiter = ',')]
    pub only: Vec<ScanKind>,
    /// Print alerts instead of objects, then what was not checked and why
    #[arg(long, group = "contents", conflicts_with = "only")]
    pub alerts: bool,
    /// Print the number of alerts, counts and timings by stage instead of objects
    #[arg(long, group = "contents")]
    pub summary: bool,
    /// Print the summary as one JSON object, or alerts as JSON lines on a terminal, too
    #[arg(long, requires = "contents")]
    pub json: bool,
    /// Print alerts as lines for people into a pipe or a file, too, as on a terminal
    #[arg(long, requires = "alerts", conflicts_with = "json")]
    pub lines: bool,
    /// End with exit code 1 if anything could not be read, as in torn or incomplete dumps
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub settings: ConfigOptions,
}

/// `panoptes watch`.
#[derive(Args, Clone, Debug)]
pub struct Watch {
    /// Systems to watch: file:PATH, a bare path, qemu:PID, or names of guests or of configured
    /// systems; with --config, the default is every configured system
    #[arg(value_name = "SYSTEM", required_unless_present = "config")]
    pub systems: Vec<OsString>,
    /// Print records as JSON lines on a terminal, too
    #[arg(long)]
    pub json: bool,
    /// Print lines for people into a pipe or a file, too, as on a terminal
    #[arg(long, conflicts_with = "json")]
    pub lines: bool,
    /// Report alerts, and what concerns Panoptes itself; short for --set output.preset=alerts
    #[arg(long, conflicts_with = "activities")]
    pub alerts: bool,
    /// Report no activity below this severity
    #[arg(long, value_name = "LEAST", value_parser = severities(), ignore_case = true)]
    pub severity: Option<Severity>,
    /// Report these activities only, comma separated, also those that are off by default
    #[arg(long, value_name = "NAMES", value_parser = ActivityParser, value_delimiter = ',')]
    #[arg(hide_possible_values = true)]
    pub activities: Vec<Activity>,
    #[command(flatten)]
    pub settings: ConfigOptions,
}

/// The options of every command that reads a system. They override the configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigOptions {
    /// Read this configuration (YAML or JSON)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub overrides: Overrides,
}

/// The commands for profiles.
#[derive(Clone, Debug, Subcommand)]
pub enum ProfileCommand {
    /// Make a profile of a kernel: from memory, from a file of the kernel, or from its headers
    #[command(after_help = PROFILE_BUILD_HELP)]
    Build {
        /// The kernel: a SYSTEM that runs it, host: for this machine, or its vmlinuz or vmlinux
        #[arg(value_name = "SOURCE", required_unless_present_any = ["headers", "vmlinux"])]
        source: Option<OsString>,
        /// Read the kernel's ELF file, as a SOURCE of that name
        #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "headers"])]
        vmlinux: Option<OsString>,
        /// Compile a probe against the kernel's headers in this folder instead; needs a C compiler
        #[arg(long, value_name = "DIR", conflicts_with_all = ["source", "dwarf"])]
        headers: Option<PathBuf>,
        /// With --headers: the System.map of the same build; else symbols come from the memory
        #[arg(long, value_name = "FILE", requires = "headers")]
        system_map: Option<PathBuf>,
        /// Read DWARF even if there is BTF
        #[arg(long, hide = true)]
        dwarf: bool,
        /// Write the profile to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show the contents of a profile, or list the built-in profiles
    #[command(after_help = PROFILE_SHOW_HELP)]
    Show {
        /// A profile, or any SOURCE of `profile build`; without it, the built-in profiles are
        /// listed
        #[arg(value_name = "FILE|SOURCE")]
        source: Option<OsString>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a profile against the memory of a system
    #[command(after_help = PROFILE_VERIFY_HELP)]
    Verify {
        /// A profile, or any SOURCE of `profile build`
        #[arg(value_name = "FILE|SOURCE")]
        profile: OsString,
        /// The system whose memory is checked against the profile: file:PATH or a bare path
        #[arg(value_name = "SYSTEM")]
        system: OsString,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// The commands for SBOMs.
#[derive(Clone, Debug, Subcommand)]
pub enum Sbom {
    /// Make an SBOM from a root directory, image, package or other tool's SBOM, or of what runs
    #[command(after_help = SBOM_BUILD_HELP)]
    Build(SbomBuild),
}

/// `panoptes sbom build`.
#[derive(Args, Clone, Debug)]
pub struct SbomBuild {
    /// Root directory, image, store of images, package or SBOM; the type is detected
    #[arg(value_name = "SOURCE", required_unless_present = "running")]
    pub source: Option<PathBuf>,
    /// Instead of a SOURCE: list what runs now in this system, from its memory; see below
    #[arg(long, value_name = "SYSTEM")]
    #[arg(conflicts_with_all = ["source", "image", "platform", "trust_dpkg", "trust_rpm"])]
    pub running: Option<OsString>,
    /// With --running: read this configuration (YAML or JSON)
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    pub config: Option<PathBuf>,
    /// Write the SBOM to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Name of the SBOM, such as the reference of an image
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Apply the SBOM only to containers whose id or name matches this glob; may be repeated
    #[arg(long = "container", value_name = "GLOB")]
    pub containers: Vec<String>,
    /// Image to read if the source holds several: its name, or the digest of its manifest
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,
    /// Platform of the image: linux/amd64, linux/arm64/v8
    #[arg(long, value_name = "OS/ARCHITECTURE")]
    pub platform: Option<String>,
    /// Files to hash page by page too, so that they can be identified from a part in memory
    #[arg(long, value_name = "FILES", value_enum, default_value_t)]
    pub page_hashes: PageHashes,
    /// Leave out this path of a root directory and all paths below it; may be repeated
    #[arg(long = "exclude", value_name = "PATH", value_parser = inside_root)]
    pub excluded: Vec<PathBuf>,
    /// Use dpkg's MD5 sums for the files of a root directory instead of reading the files
    #[arg(long)]
    pub trust_dpkg: bool,
    /// Use rpm's digests for the files of a root directory instead of reading the files
    #[arg(long, conflicts_with = "trust_dpkg")]
    pub trust_rpm: bool,
    /// Print only errors
    #[arg(short, long)]
    pub quiet: bool,
}

/// Checks a path inside a root directory: absolute, and in the one spelling that the walk uses.
fn inside_root(text: &str) -> Result<PathBuf, String> {
    let path = text.trim_end_matches('/');
    panoptes_sbom::model::check_path(path.as_bytes())?;
    Ok(PathBuf::from(path))
}

/// The files that are hashed page by page.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum PageHashes {
    /// ELF files, scripts, libraries, and executable files
    #[default]
    Executables,
    /// All files
    All,
    /// No file
    None,
}

/// Reads the words for severities, least first.
fn severities() -> impl TypedValueParser<Value = Severity> {
    PossibleValuesParser::new(Severity::ALL.iter().map(|severity| severity.word()))
        .try_map(|word| Severity::from_word(&word.to_ascii_uppercase()).ok_or("no severity"))
}

/// Reads the name of an activity. There are too many to list them in a mistake.
fn activity(name: &str) -> Result<Activity, String> {
    let names: Vec<&str> = Activity::ALL.iter().map(|activity| activity.name()).collect();
    Activity::from_name(name).ok_or_else(|| match nearest(name, &names) {
        Some(known) => format!("there is no such activity; did you mean `{known}`?"),
        None => "there is no such activity; docs/records.md and `panoptes schema` list all".into(),
    })
}

/// Knows the names of activities, for completions, and reads one.
#[derive(Clone, Debug)]
struct ActivityParser;

impl TypedValueParser for ActivityParser {
    type Value = Activity;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Activity, clap::Error> {
        TypedValueParser::parse_ref(&(activity as fn(&str) -> _), command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Activity::ALL.iter().map(|activity| PossibleValue::new(activity.name()))))
    }
}

/// Reads the words for kinds.
fn kinds() -> impl TypedValueParser<Value = ScanKind> {
    let kinds = ScanKind::ALL.iter().map(|kind| PossibleValue::new(kind.word()).help(kind.help()));
    PossibleValuesParser::new(kinds)
        .try_map(|word| ScanKind::from_word(&word).ok_or("there is no such kind"))
}

fn help_of_everything() -> String {
    let mut text = String::from(EXAMPLES);
    text.push_str("\n\n");
    text.push_str(SYSTEM_HELP);
    text.push_str("\n\nExit codes:");
    for (exit, meaning) in Exit::MEANINGS {
        let _ = write!(text, "\n  {:<3} {meaning}", exit as u8);
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
  file:PATH  shared memory of a running guest, or a dump; the format is detected
  PATH       the same as file:PATH
  qemu:PID   a guest of this machine, by the process id of QEMU or another monitor that uses KVM
  qemu:NAME, libvirt:NAME, uuid:UUID, NAME
             the same guest by its name, by libvirt's name, by its UUID, or by a bare name that no
             file has (see panoptes systems)
  host:      this machine, through /proc/kcore (as root)
  doca:DEVICE/VUID
             the host of a BlueField, or a virtual machine on it, by DMA (see panoptes systems)";

/// How the flow auditor is called.
const FLOW_USAGE: &str = "panoptes flow [OPTIONS] -r FILE... -w FILE";

const SCAN_HELP: &str = "\
Examples:
  panoptes scan guest.mem
  panoptes scan file:/dev/shm/guest.mem --only processes,files
  panoptes scan guest.mem --summary
  panoptes scan web-1
  panoptes scan web-1 --config panoptes.yaml";

const WATCH_HELP: &str = "\
On a terminal, records are lines for people, and only the activities of output.preset=security are
shown unless another preset is set. --lines does the same for pipes and files.

Examples:
  panoptes watch /dev/shm/guest.mem
  panoptes watch /dev/shm/guest.mem --lines | tee watch.txt | grep bash
  panoptes watch qemu:4711 --alerts --severity HIGH
  panoptes watch guest.mem --activities process_created,shell_command_executed --json
  panoptes watch /dev/shm/a.mem /dev/shm/b.mem --interval 100ms --log-folder /tmp/log
  panoptes watch --config panoptes.yaml --set default.events.thread_created=false
  panoptes watch guest.mem --limits processes=8192,file-descriptors=200000";

const RUN_HELP: &str = "\
Without --config, the service reads /etc/panoptes/panoptes.yaml if that file exists. Unless
auto_scan is off, it watches every guest of this machine, and every machine behind functions of
its DMA devices, and follows those that start or end.
SIGHUP reads the configuration again. SIGUSR1 opens the event logs again, after another program has
moved them. SIGTERM ends the service after the last records.

Examples:
  panoptes run --config panoptes.yaml
  panoptes run --config panoptes.yaml --set service.log_level=debug";

const SYSTEMS_HELP: &str = "\
Examples:
  panoptes systems
  panoptes systems --json
  panoptes scan qemu:4711";

const CHECK_HELP: &str = "\
With --show-effective, each line is a key, its value, and where that was given: a place in the file,
an option, or `default`. A system has the values of `default` where it has none of its own. Values
of `headers`, such as tokens, are not shown.

Examples:
  panoptes check /etc/panoptes/panoptes.yaml
  panoptes check panoptes.yaml --json
  panoptes check panoptes.yaml --show-effective --set service.scan_interval=5ms";

const DOCTOR_HELP: &str = "\
Without --config, the file of `panoptes run` is used. The command checks io_uring, memory and how
much of it may be locked, ptrace_scope, capabilities, guest_users, each guest that runs, huge pages,
/proc/kcore, DOCA, memory files, profiles (os_symbol_path), files of memory regions, SBOMs, the
files that receivers (telemetry) need, with --receivers also whether these can be reached, the
folders that are written to, and the port of metrics.
With --flow, it checks each interface, whether its card merges packets, its ring, capabilities, XDP,
libpcap, the kernel's clock, and the folders of files.
Each check is `ok`, `unused` (the configuration does not need it), `warning` (it works, but not as
well as it could), or `obstacle`. The exit code is 1 if there is an obstacle.

It checks what this user may do. The unit panoptes.service runs the command before the service, so
the journal has what stands in the way of that.

Examples:
  panoptes doctor
  panoptes doctor --config panoptes.yaml --json
  panoptes doctor --receivers
  panoptes doctor --flow /etc/panoptes/argus.conf";

const TEST_ALERT_HELP: &str = "\
The record is an ALERT named `test_alert`, whose reason says that nothing has happened. Every output
gets it, whatever else that output takes. Its `message_id` is printed, so that it can be found at
the receiver. Without --config, the file of `panoptes run` is used.

Each output is `ok`, with what its receiver answered, `failed`, with the reason, or `skipped`: a
folder of logs that a running panoptes writes, that belongs to another user, or that root would have
to make, and standard output. The exit code is 74 if one has failed, and 1 if none was tested. Run
it as the user of the service: another one may read and write other files.

Examples:
  sudo -u panoptes panoptes test-alert
  panoptes test-alert --config panoptes.yaml --severity CRITICAL";

const SBOM_BUILD_HELP: &str = "\
The type of SOURCE is detected:
  a folder   the root directory of a machine or a container; if it contains dpkg's or rpm's
             database, the files are compared with the database too
  a store    of podman or CRI-O (/var/lib/containers/storage), or containerd (/var/lib/containerd)
  an image   OCI layout, as a folder or an archive, or an archive of `docker save`; layers
             uncompressed, gzip or zstd
  a package  Debian's .deb
  initramfs  cpio archives, packed in any way that a kernel unpacks, except bzip2
  a file     SPDX or CycloneDX (JSON), or a list of hashes as sha256sum prints it

With --running, the SBOM has each program and library that a process outside of containers has
mapped (with --container, a process in such a container), if all pages of the file are in the
machine's memory. It approves what runs now: the machine must be trusted. Files that lack pages are
named; `cat FILE >/dev/null` in the machine reads them.

The exit code is 1 if something could not be read and is missing in the SBOM.

Examples:
  panoptes sbom build / --exclude /tmp --exclude /home -o host.sbom.json
  panoptes sbom build web.tar --platform linux/amd64 -o web.sbom.json
  panoptes sbom build /srv/web/rootfs --name web:1.2 --container 'web-*' -o web.sbom.json
  panoptes sbom build --running web-1 -o web-1.sbom.json";

const SCHEMA_HELP: &str = "\
Examples:
  panoptes schema > record.schema.json
  panoptes schema --scan > scan.schema.json
  panoptes schema --sbom > sbom.schema.json
  panoptes schema --doca-argus > doca_argus.schema.json";

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
Prints each check and its result. The exit code is 65 if the profile does not fit.

Examples:
  panoptes profile verify kernel.json guest.mem
  panoptes profile verify /boot/vmlinuz-6.1.0-50-amd64 guest.mem --json";

const PROFILE_BUILD_HELP: &str = "\
The type of SOURCE is detected:
  memory     of a machine that runs the kernel, live or a dump (see SYSTEM in `panoptes --help`)
  host:      the kernel of this machine, from /sys/kernel/btf/vmlinux and /proc/kallsyms
  vmlinuz    a bootable kernel: bzImage, arm64 Image (plain or compressed), EFI zboot
  vmlinux    the kernel's ELF file: types from its BTF, else from its DWARF
  JSON       Volatility 3's ISF, also compressed
  a package  .deb or .rpm that contains a vmlinux (with debug symbols) or a vmlinuz

With --headers, DIR is a package of headers, or a tree of sources after `make modules_prepare`. The
environment variable CC names another compiler than cc.

Examples:
  panoptes profile build guest.mem -o kernel.json
  panoptes profile build /boot/vmlinuz-6.1.0-50-amd64 -o kernel.json
  panoptes profile build --headers /usr/src/linux-headers-6.1.0-50-amd64 -o kernel.json";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace()).map(|arguments| arguments.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_documents_every_exit_code() {
        let help = Arguments::command().render_help().to_string();
        for (exit, meaning) in Exit::MEANINGS {
            let line = format!("  {:<3} {meaning}", exit as u8);
            assert!(help.contains(&line), "{line:?} is not in {help}");
        }
    }

    #[test]
    fn watch_chooses_activities_by_name_and_severity() {
        let line = "panoptes watch x --severity high --activities process_hidden,thread_created";
        let Ok(Command::Watch(watch)) = parse(line) else {
            panic!("this is a good command line");
        };
        assert_eq!(watch.severity, Some(Severity::High));
        assert_eq!(watch.activities, [Activity::ProcessHidden, Activity::ThreadCreated]);
        let error = parse("panoptes watch x --activities reverse_shell").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("did you mean `reverse_shell_detected`?"), "{error}");
        assert!(error.lines().count() < 6, "{error}");
        let error = parse("panoptes watch x --activities zzz").unwrap_err();
        assert!(error.to_string().contains("`panoptes schema` list all"), "{error}");
        assert!(parse("panoptes watch x --severity loud").is_err());
        assert!(parse("panoptes watch x --alerts --activities process_created").is_err());
    }

    #[test]
    fn kinds_are_a_list() {
        let Ok(Command::Scan(scan)) = parse("panoptes scan x --only processes,shell-history")
        else {
            panic!("this is a good command line");
        };
        assert_eq!(scan.only, [ScanKind::Processes, ScanKind::ShellHistory]);
        assert!(parse("panoptes scan x --only processs").is_err());
    }

    #[test]
    fn every_kind_is_shown_and_can_be_asked_for() {
        for value in kinds().possible_values().unwrap() {
            assert!(!value.is_hide_set(), "{value:?}");
        }
        for &kind in ScanKind::ALL {
            let line = format!("panoptes scan x --only {}", kind.word());
            let Ok(Command::Scan(scan)) = parse(&line) else { panic!("{line}") };
            assert_eq!(scan.only, [kind]);
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
