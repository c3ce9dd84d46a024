//! `cargo xtask arm64`: Panoptes as a program of arm64 machines, such as a BlueField's own cores.
//!
//! Debian 12's cross compiler links it against glibc 2.36, of which it uses nothing that is newer
//! than [`glibc::GLIBC_MAX`]. Tests of what computes run in QEMU's emulator of programs. It lacks
//! io_uring and seccomp, and cannot start programs. The other tests run on a real kernel.

mod kernel;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::{Args, ValueEnum};
use panoptes_rig::{cache, output, packages};

use crate::cargo::{self, Executable};
use crate::platform::Platform;
use crate::results::{self, Count};
use crate::stages::Stages;
use crate::{folders, glibc, package, test};

/// Builds Panoptes for arm64, makes its Debian package, and runs its tests
///
/// The last line is `N passed, N failed`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Run only these parts
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Part {
    /// Build the Debian package
    Package,
    /// Run tests in an emulator of programs
    Programs,
    /// Run the other tests on a real kernel, in an emulator of machines; a machine scans itself
    Kernel,
}

/// The packages whose tests are built.
const PACKAGES: [&str; 14] = [
    "panoptes",
    "panoptes-decoders",
    "panoptes-engine",
    "panoptes-flow",
    "panoptes-packet-files",
    "panoptes-packet-filter",
    "panoptes-packet-rings",
    "panoptes-profiles",
    "panoptes-records",
    "panoptes-sbom",
    "panoptes-sinks",
    "panoptes-sources",
    "panoptes-tables",
    "panoptes-unpack",
];

/// Tests by the folder of their package; all of the package if none is named.
type Tests = [(&'static str, &'static [&'static str])];

/// The tests that an emulator of programs can run.
const EMULATED: &Tests = &[
    ("decoders", &[]),
    ("profiles", &[]),
    ("engine", &[]),
    ("engine/packet-files", &[]),
    ("engine/flow", &[]),
    ("engine/packet-rings", &["panoptes_packet_rings"]),
    ("engine/packet-filter", &[]),
    ("engine/panoptes", &["configuration_page", "flow_options_page"]),
    ("engine/records", &[]),
    ("engine/sbom", &[]),
    ("engine/tables", &[]),
    ("engine/unpack", &[]),
    ("sinks", &["compact", "filters", "properties", "schemas"]),
];

/// One of them that is left out: it compiles a C library, for this machine.
const NOT_EMULATED: &str = "reading_by_a_dma_engine_allocates_nothing";

/// The tests that run in neither emulator, whatever the other lists have: they need a C compiler,
/// tcpdump, argus, Prometheus, guests or network namespaces, or, the last two, too much time.
const ELSEWHERE: &Tests = &[
    ("engine/packet-rings", &["filters", "kinds", "tun", "veth", "xdp"]),
    ("engine/packet-filter", &["comparison"]),
    ("engine/panoptes", &["doca", "flow", "flow_options", "live", "prometheus"]),
    ("engine/sources", &["doca"]),
    ("engine", &["damage"]),
    ("sinks", &["allocations"]),
];

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let begin = Instant::now();
    let platform = Platform::arm64()?;
    let mut stages = Stages::default();
    let mut count = Count::default();
    let is_chosen = |part| options.parts.is_empty() || options.parts.contains(&part);
    if is_chosen(Part::Package) {
        let package = || make_package(&platform).map(|()| Count::of_one(true));
        count.add(test::part(&mut stages, "package", package));
    }
    if is_chosen(Part::Programs) || is_chosen(Part::Kernel) {
        let programs = stages.run("building tests", || build(&platform))?;
        if is_chosen(Part::Programs) {
            let is_elsewhere = |test: &&Executable| is_in(ELSEWHERE, test);
            for test in tests_of(&programs, EMULATED).filter(|test| !is_elsewhere(test)) {
                let run = || emulated(&platform, test);
                count.add(test::part(&mut stages, &title(test), run));
            }
        }
        if is_chosen(Part::Kernel) {
            count.add(kernel::run(&programs, &mut stages));
        }
    }
    println!("== stages\n{}", stages.table().trim_end());
    println!("{:8.1} s  in all", begin.elapsed().as_secs_f64());
    println!("{} passed, {} failed", count.passed, count.failed);
    // The sum stays the last line.
    if count.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// Builds all tests, and the program that some of them start.
fn build(platform: &Platform) -> Result<Vec<Executable>, String> {
    let mut build = platform.cargo("test");
    build.current_dir(folders::ROOT).args(["--no-run", "--all-features"]);
    build.args(PACKAGES.iter().flat_map(|name| ["--package", name]));
    let programs = cargo::build(build)?;
    let lists = [EMULATED, kernel::TESTS, ELSEWHERE];
    let is_nowhere = |test: &&Executable| !lists.iter().any(|list| is_in(list, test));
    match programs.iter().filter(|program| program.is_test).find(is_nowhere) {
        Some(test) => Err(format!("no list of `cargo xtask arm64` has the test {}", title(test))),
        None => Ok(programs),
    }
}

/// The tests of a list among programs.
fn tests_of<'a>(programs: &'a [Executable], list: &Tests) -> impl Iterator<Item = &'a Executable> {
    programs.iter().filter(|program| program.is_test && is_in(list, program))
}

fn is_in(list: &Tests, program: &Executable) -> bool {
    list.iter().any(|(folder, tests)| {
        let is_named = tests.is_empty() || tests.contains(&program.name.as_str());
        is_named && root().join(folder) == program.folder
    })
}

/// A test for people.
fn title(test: &Executable) -> String {
    let folder = test.folder.strip_prefix(root()).unwrap_or(&test.folder);
    format!("{} of {}", test.name, folder.display())
}

/// The root of the repository, as cargo names it.
fn root() -> PathBuf {
    let root = Path::new(folders::ROOT);
    root.canonicalize().unwrap_or_else(|_| root.to_owned())
}

/// Runs a test program in the emulator of programs.
fn emulated(platform: &Platform, test: &Executable) -> Result<Count, String> {
    let mut command = platform.run(&test.path);
    command.current_dir(&test.folder).args(["--skip", NOT_EMULATED]);
    results::tests(command)
}

/// Makes the Debian package, and checks what its program needs of a machine.
fn make_package(platform: &Platform) -> Result<(), String> {
    let made = package::make(platform)?;
    let field = |name: &str| {
        let field = output(Command::new("dpkg-deb").arg("--field").arg(&made).arg(name));
        field.map(|text| text.trim().to_owned())
    };
    let (architecture, depends) = (field("Architecture")?, field("Depends")?);
    println!("{architecture}; depends on {depends}");
    let unpacked = made.with_extension("unpacked");
    cache::remove(&unpacked)?;
    packages::unpack(&made, &unpacked)?;
    let program = unpacked.join("usr/bin/panoptes");
    let symbols = output(Command::new("aarch64-linux-gnu-objdump").arg("-T").arg(&program))?;
    let (major, minor) = glibc::check(&symbols)?;
    let library = format!("libc6 (>= {major}.{minor}),");
    if architecture != "arm64" || !depends.starts_with(&library) {
        return Err(format!("{} does not state this", made.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_needs_the_kernel_runs_there_and_in_no_emulator_of_programs() {
        let of = |folder: &str, name: &str| Executable {
            name: name.to_owned(),
            kind: "test".to_owned(),
            is_test: true,
            folder: root().join(folder),
            path: PathBuf::new(),
        };
        let lists = [EMULATED, kernel::TESTS, ELSEWHERE];
        for (test, expected) in [
            (of("decoders", "any"), [true, false, false]),
            (of("engine/tables", "any"), [true, false, false]),
            (of("sinks", "compact"), [true, false, false]),
            (of("sinks", "outputs"), [false, true, false]),
            (of("engine/sources", "process"), [false, true, false]),
            (of("engine/panoptes", "live"), [false, false, true]),
            (of("sinks", "new"), [false; 3]),
        ] {
            assert_eq!(lists.map(|list| is_in(list, &test)), expected, "{test:?}");
        }
        let program = Executable { is_test: false, ..of("engine", "replay") };
        assert_eq!(tests_of(&[program], EMULATED).count(), 0);
    }
}
