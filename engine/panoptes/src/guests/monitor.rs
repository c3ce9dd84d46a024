//! Which program a guest runs in, and what its arguments tell.
//!
//! QEMU is known by the name of its program, because it may emulate the processor and so have
//! nothing of KVM. Every other monitor has a virtual machine of KVM. Its name, the names of its
//! memory and its arguments only tell which one it is.

use std::path::Path;

use panoptes_sources::{Area, AreaLabel, ExpectedMemory, Machine};

use super::arguments::{Arguments, uuid};

/// A program that guests run in.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Monitor {
    #[default]
    Qemu,
    Firecracker,
    CloudHypervisor,
    Crosvm,
    Kvmtool,
    StratoVirt,
    Dragonball,
    /// Another one that uses KVM.
    Other,
}

impl Monitor {
    /// The name that is shown to users.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU",
            Self::Firecracker => "Firecracker",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Crosvm => "crosvm",
            Self::Kvmtool => "kvmtool",
            Self::StratoVirt => "StratoVirt",
            Self::Dragonball => "Dragonball",
            Self::Other => "KVM",
        }
    }

    /// The monitor that a program is, by the name of its file.
    pub(super) fn of_program(program: &Path) -> Option<Self> {
        let name = program.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        // The kernel adds this to the name of a program that was replaced while it ran.
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
        Some(match name {
            _ if is_qemu(name) => Self::Qemu,
            "cloud-hypervisor" => Self::CloudHypervisor,
            "crosvm" => Self::Crosvm,
            "lkvm" | "lkvm-static" => Self::Kvmtool,
            "stratovirt" => Self::StratoVirt,
            // The monitor is a part of the shim (src/runtime-rs).
            "containerd-shim-kata-v2" => Self::Dragonball,
            // Releases are called `firecracker-v1.13.1-x86_64`.
            _ if name == "firecracker" || name.starts_with("firecracker-v") => Self::Firecracker,
            _ => return None,
        })
    }

    /// The monitor that uses KVM and has another name, by its memory and its arguments.
    pub(super) fn of_machine(areas: &[Area], command_line: &[u8]) -> Self {
        let of_label = |label| {
            Some(match label {
                AreaLabel::None => return None,
                AreaLabel::Qemu => Self::Qemu,
                AreaLabel::Firecracker => Self::Firecracker,
                AreaLabel::CloudHypervisor => Self::CloudHypervisor,
                AreaLabel::Crosvm => Self::Crosvm,
                AreaLabel::StratoVirt => Self::StratoVirt,
            })
        };
        let named = areas.iter().find_map(|area| of_label(area.label));
        let as_qemu = has_options_of_qemu(command_line).then_some(Self::Qemu);
        named.or(as_qemu).unwrap_or(Self::Other)
    }

    /// What the arguments tell.
    pub(super) fn read(self, command_line: &[u8]) -> Arguments {
        let machine = match self {
            Self::Qemu => return Arguments::parse(command_line),
            Self::Firecracker => Machine::Firecracker,
            Self::CloudHypervisor => Machine::CloudHypervisor,
            Self::Crosvm => Machine::Crosvm,
            Self::Kvmtool => Machine::Kvmtool,
            Self::StratoVirt => Machine::StratoVirt,
            Self::Dragonball => Machine::Dragonball,
            Self::Other => Machine::Other,
        };
        let memory = ExpectedMemory { machine, ..ExpectedMemory::default() };
        if self == Self::StratoVirt {
            // Its options are QEMU's.
            return Arguments { memory, ..Arguments::parse(command_line) };
        }
        let text = String::from_utf8_lossy(command_line);
        let words: Vec<&str> = text.split('\0').collect();
        let mut arguments = Arguments { memory, ..Arguments::default() };
        let names: &[&str] = match self {
            // All guests without an id have this one (src/firecracker/src/main.rs).
            Self::Firecracker => &["--id"],
            Self::Crosvm => &["--name"],
            Self::Kvmtool => &["--name", "-n"],
            Self::Dragonball => &["-id", "--id"],
            _ => &[],
        };
        let name = value_of(&words, names).filter(|name| *name != "anonymous-instance");
        arguments.name = name.and_then(super::arguments::shown);
        let sockets: &[&str] = match self {
            Self::Firecracker => &["--api-sock"],
            Self::CloudHypervisor => &["--api-socket"],
            Self::Crosvm => &["--socket", "-s"],
            _ => &[],
        };
        if let Some(socket) = value_of(&words, sockets) {
            // `path=` precedes it in newer versions of cloud-hypervisor.
            let path = Path::new(socket.strip_prefix("path=").unwrap_or(socket));
            // Kata calls the folder by the sandbox.
            let of_kata =
                socket.split_once("/run/vc/vm/").and_then(|(_, rest)| rest.split_once('/'));
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let name = of_kata.map(|(sandbox, _)| sandbox.to_owned()).or(stem);
            arguments.add_name(&name.unwrap_or_default());
        }
        if let Some(platform) = value_of(&words, &["--platform"]) {
            let is_uuid = |part: &str| {
                part.strip_prefix("uuid=").or_else(|| part.strip_prefix("system_uuid=")).map(uuid)
            };
            arguments.uuid = platform.split(',').find_map(is_uuid).flatten();
        }
        arguments
    }
}

/// The value of the last of these options: the next word, or what follows `=`.
fn value_of<'a>(words: &[&'a str], options: &[&str]) -> Option<&'a str> {
    let of_option = |(index, word): (usize, &&'a str)| {
        if options.contains(word) {
            return words.get(index + 1).copied();
        }
        let (option, value) = word.split_once('=')?;
        options.contains(&option).then_some(value)
    };
    words.iter().enumerate().filter_map(of_option).next_back().filter(|value| !value.is_empty())
}

/// Whether a program is QEMU that emulates a machine, by the name of its file:
/// `qemu-system-x86_64`, `qemu-kvm`, `qemu-vanilla-system-x86_64`, `kvm`. Its tools, and those that
/// emulate one program (`qemu-aarch64-static`), are not.
fn is_qemu(name: &str) -> bool {
    let is_system = name.contains("qemu-system-")
        || name.contains("qemu-kvm")
        || name.starts_with("qemu-") && name.contains("-system-");
    is_system || matches!(name, "qemu" | "kvm")
}

/// Whether a program is QEMU that emulates the processor of single programs: `qemu-aarch64`,
/// `qemu-arm-static`. Their arguments are those of the emulated program.
pub(super) fn emulates_programs(program: &Path) -> bool {
    const PROCESSORS: [&str; 12] = [
        "aarch64",
        "alpha",
        "arm",
        "hppa",
        "i386",
        "loongarch",
        "m68k",
        "mips",
        "ppc",
        "riscv",
        "s390",
        "x86_64",
    ];
    let name = program.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let processor = name.strip_prefix("qemu-").unwrap_or_default();
    PROCESSORS.iter().any(|begin| processor.starts_with(begin))
}

/// Whether a command line has the options with which every guest of QEMU is started: its memory,
/// and another one.
pub(super) fn has_options_of_qemu(command_line: &[u8]) -> bool {
    const OTHERS: [&str; 12] = [
        "machine",
        "M",
        "accel",
        "smp",
        "cpu",
        "nodefaults",
        "display",
        "nographic",
        "enable-kvm",
        "kernel",
        "drive",
        "readconfig",
    ];
    let text = String::from_utf8_lossy(command_line);
    let options = text
        .split('\0')
        .skip(1)
        .filter_map(|word| word.strip_prefix("--").or_else(|| word.strip_prefix('-')));
    let mut has = [false; 2];
    for option in options {
        has[0] |= matches!(option, "m" | "readconfig");
        has[1] |= OTHERS.contains(&option);
    }
    has == [true; 2]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(text: &str) -> Vec<u8> {
        text.replace(' ', "\0").into_bytes()
    }

    #[test]
    fn monitors_are_known_by_what_is_executed() {
        for (program, monitor) in [
            ("/usr/bin/qemu-system-x86_64", Monitor::Qemu),
            ("/usr/libexec/qemu-kvm", Monitor::Qemu),
            ("/usr/bin/kvm", Monitor::Qemu),
            ("/usr/bin/qemu-system-x86_64 (deleted)", Monitor::Qemu),
            ("/usr/bin/qemu-vanilla-system-x86_64", Monitor::Qemu),
            // The jailer changes the root (docs/jailer.md).
            ("/firecracker", Monitor::Firecracker),
            ("/opt/firecracker-v1.13.1-x86_64", Monitor::Firecracker),
            ("/usr/bin/cloud-hypervisor", Monitor::CloudHypervisor),
            ("/usr/bin/crosvm (deleted)", Monitor::Crosvm),
            ("/usr/bin/lkvm", Monitor::Kvmtool),
            ("/usr/bin/containerd-shim-kata-v2", Monitor::Dragonball),
        ] {
            assert_eq!(Monitor::of_program(Path::new(program)), Some(monitor), "{program}");
        }
        for program in [
            "/usr/bin/sleep",
            "/opt/qemu/bin/sleep",
            "/usr/bin/qemu-img",
            "/usr/bin/qemu-aarch64-static",
            "/usr/bin/qemu-x86_64",
            "/usr/libexec/qemu-bridge-helper",
            "/",
            "",
        ] {
            assert_eq!(Monitor::of_program(Path::new(program)), None, "{program}");
        }
    }

    #[test]
    fn a_monitor_with_another_name_is_known_by_its_memory_and_arguments() {
        use panoptes_sources::AreaBacking;
        let area = |label| Area { range: 0..1 << 30, backing: AreaBacking::Private, label };
        let of = |label, text| Monitor::of_machine(&[area(label)], &line(text));
        assert_eq!(of(AreaLabel::Crosvm, "vmm run"), Monitor::Crosvm);
        assert_eq!(of(AreaLabel::CloudHypervisor, "vmm"), Monitor::CloudHypervisor);
        assert_eq!(of(AreaLabel::None, "vmm -m 512 -machine q35"), Monitor::Qemu);
        assert_eq!(of(AreaLabel::None, "vmm -m 512"), Monitor::Other);
    }

    // From the documents of Firecracker (docs/jailer.md), cloud-hypervisor (docs/api.md) and crosvm
    // (docs/book), and from Kata's code.
    #[test]
    fn names_of_guests_are_where_each_monitor_has_them() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let check = |monitor: Monitor, text: &str, name: Option<&str>, others: &[&str]| {
            let found = monitor.read(&line(text));
            assert_eq!((found.name.as_deref(), found.other_names), (name, names(others)), "{text}");
        };
        check(
            Monitor::Firecracker,
            "/firecracker --id web-1 --start-time-us 7 --api-sock /run/firecracker.socket",
            Some("web-1"),
            &["firecracker"],
        );
        check(Monitor::Firecracker, "firecracker --id=anonymous-instance", None, &[]);
        check(Monitor::Firecracker, "firecracker --no-api --config-file vm.json", None, &[]);
        check(
            Monitor::CloudHypervisor,
            "cloud-hypervisor --api-socket /run/vc/vm/b1/clh-api.sock",
            None,
            &["b1"],
        );
        check(
            Monitor::CloudHypervisor,
            "cloud-hypervisor --api-socket path=/run/web-1.sock --memory size=2G,shared=on",
            None,
            &["web-1"],
        );
        check(Monitor::Crosvm, "crosvm run --name web-1 --mem 512 k", Some("web-1"), &[]);
        check(Monitor::Kvmtool, "lkvm run --name web-1 -m 512", Some("web-1"), &[]);
        check(Monitor::StratoVirt, "stratovirt -name web-1 -m 2G", Some("web-1"), &[]);
        check(Monitor::Other, "vmm --name web-1", None, &[]);
        let platform = "cloud-hypervisor --platform num_pci_segments=2,\
                        uuid=4dea22b3-1d52-d8f3-2516-782e98ab3fa0";
        let found = Monitor::CloudHypervisor.read(&line(platform));
        assert_eq!(found.uuid.as_deref(), Some("4dea22b3-1d52-d8f3-2516-782e98ab3fa0"));
    }

    #[test]
    fn a_hostile_name_of_any_monitor_is_made_harmless() {
        let hostile = format!("firecracker\0--id\0a\x1b[2J{}\0", "ä".repeat(9000));
        let name = Monitor::Firecracker.read(hostile.as_bytes()).name.unwrap();
        assert!(!name.chars().any(char::is_control) && name.len() < 300, "{name:?}");
    }

    proptest! {
        #[test]
        fn no_arguments_of_any_monitor_make_reading_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "--id", "--id=", "--name", "-name", "--api-socket", "path=", "/run/vc/vm/", "/",
                    "--platform", "uuid=", "uuid=,system_uuid=x", "-m", "", ".", "\u{1b}",
                ]),
                0..12,
            )
        ) {
            let line = words.join("\0").into_bytes();
            for monitor in [
                Monitor::Firecracker,
                Monitor::CloudHypervisor,
                Monitor::Crosvm,
                Monitor::Kvmtool,
                Monitor::StratoVirt,
                Monitor::Dragonball,
                Monitor::Other,
            ] {
                let found = monitor.read(&line);
                let names = found.name.iter().chain(&found.other_names);
                prop_assert!(names.flat_map(|name| name.chars()).all(|c| !c.is_control()));
            }
            let _ = has_options_of_qemu(&line);
        }
    }
}
