//! Tries what was made, as far as this machine can: sums, static programs in roots with nothing
//! else, RPM packages in roots of their own, and the image, as its archive has it.
//!
//! `cargo xtask install` does it for the Debian package.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use panoptes_needs::{check, install};
use panoptes_rig::{Architecture, output, packages, setup};

use super::sources::trial_folder;
use super::step::{self, ReleaseStep, SUMS};
use super::{archive, elf, signature};
use crate::image::{self, SUITE};
use crate::platform::{Platform, STATIC};
use crate::results::Count;
use crate::skips;
use crate::stages::Stages;
use crate::test::part;

/// Libraries that every package of glibc has, beside the loader.
const GLIBC_LIBRARIES: [&str; 5] =
    ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"];
/// Folders that the scripts of the package make.
const FOLDERS: [&str; 3] = ["var/log/panoptes", "var/lib/panoptes", "var/log/panoptes-flow"];
/// The configuration, which only root and the group of the service may read.
const CONFIGURATION: &str = "etc/panoptes/panoptes.yaml";
/// The address that has sent the packet in [`capture`].
const SOURCE: &str = "192.0.2.1";

/// Tries each file of the page that can be tried.
pub(super) fn run(page: &Path, stages: &mut Stages) -> Count {
    let mut count = Count::default();
    if page.join(SUMS).is_file() {
        let check = || signature::check(page).map(|()| Count::of_one(true));
        count.add(part(stages, "trial of the sums", check));
    }
    for (architecture, triple) in STATIC {
        let path = page.join(step::compressed(triple));
        if path.is_file() {
            let work = || try_static(architecture, triple, &path);
            count.add(part(stages, &format!("trial of {triple}"), work));
        }
    }
    for (architecture, name) in step::rpms() {
        let path = page.join(&name);
        if path.is_file() {
            let work = || try_rpm(architecture, &name, &path);
            count.add(part(stages, &format!("trial of {name}"), work));
        }
    }
    for name in ReleaseStep::Image.files() {
        let path = page.join(&name);
        if path.is_file() {
            let work = || try_image(&name, &path);
            count.add(part(stages, &format!("trial of {name}"), work));
        }
    }
    if count == Count::default() {
        println!("== FAILED: there is nothing to try");
        return Count::of_one(false);
    }
    count
}

/// Notes that a trial is skipped, as it needs something and what that is for.
fn skipped(name: &str, need: &str) -> Count {
    skips::note(&format!("trial of {name} needs {need}"));
    Count { skipped: 1, ..Count::default() }
}

/// Runs the image that an archive has.
fn try_image(name: &str, path: &Path) -> Result<Count, String> {
    if check::program("podman").is_none() {
        return Ok(skipped(name, "podman (it loads and runs the image)"));
    }
    if !nix::unistd::geteuid().is_root() {
        return Ok(skipped(name, "root (podman runs the image)"));
    }
    image::try_archive(path)?;
    Ok(Count::of_one(true))
}

/// Runs a static program in the folder of its archive alone, or in an emulator without libraries.
fn try_static(
    architecture: Architecture,
    triple: &'static str,
    path: &Path,
) -> Result<Count, String> {
    let scratch = trial_folder("static")?;
    archive::unpack(path, &scratch)?;
    let root = archive::inner(&scratch, path);
    match architecture {
        Architecture::Amd64 => use_in_root(&root)?,
        Architecture::Arm64 => {
            let platform = Platform::alone(architecture, triple)?;
            let run = || platform.run(&root.join("panoptes"));
            print!("{}", output(run().arg("--version"))?);
            print!("{}", output(run().arg("check").arg(root.join("panoptes.yaml")))?);
        }
    }
    Ok(Count::of_one(true))
}

/// Runs the program of a folder, which is all that it sees.
fn use_in_root(root: &Path) -> Result<(), String> {
    let path = root.join("one.pcap");
    fs::write(&path, capture()).map_err(|e| format!("{}: {e}", path.display()))?;
    let run = |arguments: &[&str]| {
        let printed = output(inside(root).arg("/panoptes").args(arguments))?;
        print!("{printed}");
        Ok::<_, String>(())
    };
    run(&["--version"])?;
    run(&["check", "/panoptes.yaml"])?;
    // Its threads have filters of system calls, which differ between C libraries.
    run(&["flow", "-r", "/one.pcap", "-w", "json:/flows.json"])?;
    let path = root.join("flows.json");
    let flows = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if flows.contains(SOURCE) { Ok(()) } else { Err(format!("no flow of {SOURCE}: {flows}")) }
}

/// A command that runs a program with this folder as its root.
fn inside(root: &Path) -> Command {
    if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("chroot");
        command.arg(root);
        return command;
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--root"]).arg(root);
    command
}

/// Installs a package, checks what it has made, and removes it. That of this machine is installed
/// in a root of Debian, where its scripts and its program run. No repository of RPM packages is
/// asked, so what it requires is compared with what its program needs.
fn try_rpm(architecture: Architecture, name: &str, path: &Path) -> Result<Count, String> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(skipped(name, "root (it is installed in a root of its own)"));
    }
    install::ensure_named(&["rpm"])?;
    let root = trial_folder("rpm")?;
    let is_own = cfg!(target_arch = "x86_64") == (architecture == Architecture::Amd64);
    let scripts: &[&str] = if is_own {
        make_debian(&root)?;
        output(with_proc(&root).args(["--install", "--nodeps"]).arg(path))?;
        use_installed(&root)?;
        &[]
    } else {
        let install = ["--install", "--nodeps", "--noscripts", "--ignorearch"];
        output(rpm(Command::new("rpm"), &root).args(install).arg(path))?;
        &["--noscripts"]
    };
    // Scripts change the mode and the group of the configuration, as with the Debian package.
    let verify = ["--verify", "--nodeps", "--nomode", "--nogroup", "panoptes"];
    print!("{}", output(rpm(Command::new("rpm"), &root).args(verify))?);
    let program = root.join("usr/bin/panoptes");
    if !program.is_file() {
        return Err(format!("there is no {}", program.display()));
    }
    let query = ["--query", "--package", "--requires"];
    let required = output(Command::new("rpm").args(query).arg(path))?;
    check_required(&required, &elf::libraries(&program, architecture)?)?;
    let mut erase =
        if scripts.is_empty() { with_proc(&root) } else { rpm(Command::new("rpm"), &root) };
    output(erase.args(["--erase", "--nodeps"]).args(scripts).arg("panoptes"))?;
    if program.exists() {
        return Err(format!("{} exists after the removal", program.display()));
    }
    Ok(Count::of_one(true))
}

/// Compares the libraries among what a package requires, one a line as rpm prints them:
/// `libc.so.6(GLIBC_2.34)(64bit)`, with those that its program needs.
fn check_required(required: &str, libraries: &[String]) -> Result<(), String> {
    let names = required.lines().filter_map(|line| Some(line.split_once('(')?.0));
    let required: BTreeSet<&str> = names.filter(|name| name.contains(".so.")).collect();
    let needed: BTreeSet<&str> = libraries.iter().map(|name| provider(name)).collect();
    if required == needed {
        println!("the package requires what its program needs: {needed:?}");
        return Ok(());
    }
    Err(format!("the package requires {required:?}, and its program needs {needed:?}"))
}

/// The library that stands for this one in what packages require.
fn provider(library: &str) -> &str {
    let is_of_glibc = GLIBC_LIBRARIES.contains(&library) || library.starts_with("ld-linux");
    if is_of_glibc { GLIBC_LIBRARIES[0] } else { library }
}

/// Makes a root of Debian with the programs of systemd that the scripts call.
fn make_debian(root: &Path) -> Result<(), String> {
    setup::ensure_for_roots()?;
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--mode=root", "--format=directory", "--variant=minbase"]);
    make.args(["--include=systemd", SUITE]).arg(root).arg(packages::line_of(SUITE)?);
    output(&mut make)?;
    Ok(())
}

/// Runs the installed program, and checks what the scripts have made.
fn use_installed(root: &Path) -> Result<(), String> {
    let run = |arguments: &[&str]| output(inside(root).arg("/usr/bin/panoptes").args(arguments));
    print!("{}", run(&["--version"])?);
    print!("{}", run(&["check", &format!("/{CONFIGURATION}")])?);
    for folder in FOLDERS {
        check_access(&root.join(folder), false, 0o750)?;
    }
    check_access(&root.join(CONFIGURATION), true, 0o640)
}

/// A command of rpm for the packages in a root. `command` is rpm, or what starts it.
fn rpm(mut command: Command, root: &Path) -> Command {
    // Debian's rpm would search the database elsewhere.
    command.arg("--root").arg(root).args(["--dbpath", "/var/lib/rpm"]);
    command
}

/// The same with /proc in the root, by which systemd's programs change modes.
fn with_proc(root: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork"]);
    command.arg(format!("--mount-proc={}", root.join("proc").display())).arg("rpm");
    rpm(command, root)
}

/// Checks that a file or folder has this mode, that its user is root or another one, and that its
/// group is another one than root's.
fn check_access(path: &Path, is_roots: bool, mode: u32) -> Result<(), String> {
    let facts = fs::metadata(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (user, group, found) = (facts.uid(), facts.gid(), facts.mode() & 0o7777);
    if (user == 0) == is_roots && group != 0 && found == mode {
        return Ok(());
    }
    Err(format!("{}: user {user}, group {group}, mode {found:o}", path.display()))
}

/// A capture (pcap) with one packet: UDP from 192.0.2.1 port 4000 to 192.0.2.2 port 4001.
fn capture() -> Vec<u8> {
    const PACKET: [u8; 46] = [
        // Ethernet.
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, //
        // IPv4.
        0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0xf6, 0xc8, 192, 0, 2, 1, 192, 0, 2, 2, //
        // UDP without a checksum, and four bytes.
        0x0f, 0xa0, 0x0f, 0xa1, 0, 12, 0, 0, b't', b'e', b's', b't',
    ];
    let length = PACKET.len() as u32;
    // Magic number, version 2.4 in one word, zone, accuracy, longest packet, Ethernet.
    let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, u32::from(u16::MAX), 1];
    // Seconds, microseconds, captured and whole length.
    let record = [1_700_000_000, 0, length, length];
    let words = header.into_iter().chain(record).flat_map(u32::to_le_bytes);
    words.chain(PACKET).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_must_require_the_libraries_of_its_program() {
        let required = "/bin/sh\n/usr/bin/kill\nconfig(panoptes) = 0.1.0\n\
                        libc.so.6(GLIBC_2.34)(64bit)\nlibgcc_s.so.1()(64bit)\n\
                        rpmlib(CompressedFileNames) <= 3.0.4-1\nsystemd\n";
        let check = |libraries: &[&str]| {
            let libraries: Vec<String> = libraries.iter().map(|it| (*it).to_owned()).collect();
            check_required(required, &libraries)
        };
        let glibc = ["libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2"];
        assert_eq!(check(&[&glibc[..], &["libgcc_s.so.1"]].concat()), Ok(()));
        assert!(check(&glibc).is_err());
        assert!(check(&["libc.so.6", "libgcc_s.so.1", "libssl.so.3"]).is_err());
    }

    #[test]
    fn the_packet_of_the_capture_is_whole() {
        let capture = capture();
        assert_eq!(capture[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        let packet = &capture[24 + 16..];
        assert_eq!(packet.len(), 46);
        // The sum of a header with its checksum has only ones (RFC 1071).
        let (words, _) = packet[14..34].as_chunks::<2>();
        let sum: u32 = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        let address: Vec<String> = packet[26..30].iter().map(u8::to_string).collect();
        assert_eq!(address.join("."), SOURCE);
    }
}
