//! Tries what was made, as far as this machine can: sums, static programs in roots with nothing
//! else, and RPM packages in roots of their own.
//!
//! `cargo xtask install` does it for the Debian package, and the image is run when it is built.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use panoptes_needs::install;
use panoptes_rig::{Architecture, output, setup};

use super::sources::trial_folder;
use super::step::{self, ReleaseStep, SUMS};
use super::{archive, signature};
use crate::platform::{Platform, STATIC};
use crate::results::Count;
use crate::stages::Stages;
use crate::test::part;

/// The release of Debian whose root has systemd's programs for the scripts of the package.
const SUITE: &str = "bookworm";
/// Folders that the scripts of the package make.
const FOLDERS: [&str; 3] = ["var/log/panoptes", "var/lib/panoptes", "var/log/panoptes-flow"];
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
    for name in ReleaseStep::Rpm.files() {
        let path = page.join(&name);
        if path.is_file() {
            count.add(part(stages, &format!("trial of {name}"), || try_rpm(&path)));
        }
    }
    if count == Count::default() {
        println!("== FAILED: there is nothing to try");
        return Count::of_one(false);
    }
    count
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

/// Installs a package, checks what is there then, and removes it. That of this machine is installed
/// in a root of Debian, where its scripts and its program run.
fn try_rpm(path: &Path) -> Result<Count, String> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can install it in a root of its own");
        return Ok(Count { skipped: 1, ..Count::default() });
    }
    install::ensure_named(&["rpm"])?;
    let root = trial_folder("rpm")?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_foreign = !name.contains(std::env::consts::ARCH);
    if is_foreign {
        output(
            rpm(&root).args(["--install", "--nodeps", "--noscripts", "--ignorearch"]).arg(path),
        )?;
    } else {
        setup::ensure_for_roots()?;
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--mode=root", "--variant=minbase", "--include=systemd", SUITE]);
        output(make.arg(&root))?;
        output(rpm(&root).args(["--install", "--nodeps"]).arg(path))?;
        let run =
            |arguments: &[&str]| output(inside(&root).arg("/usr/bin/panoptes").args(arguments));
        print!("{}", run(&["--version"])?);
        print!("{}", run(&["check", "/etc/panoptes/panoptes.yaml"])?);
        for folder in FOLDERS {
            is_of_a_user(&root.join(folder))?;
        }
    }
    // Scripts change the mode and the group of the configuration, as with the Debian package.
    let verify = ["--verify", "--nodeps", "--nomode", "--nogroup", "panoptes"];
    print!("{}", output(rpm(&root).args(verify))?);
    let program = root.join("usr/bin/panoptes");
    if !program.is_file() {
        return Err(format!("there is no {}", program.display()));
    }
    let scripts: &[&str] = if is_foreign { &["--noscripts"] } else { &[] };
    output(rpm(&root).args(["--erase", "--nodeps"]).args(scripts).arg("panoptes"))?;
    if program.exists() {
        return Err(format!("{} is there after the removal", program.display()));
    }
    Ok(Count::of_one(true))
}

/// A command of rpm for the packages in a root.
fn rpm(root: &Path) -> Command {
    let mut command = Command::new("rpm");
    // Debian's rpm would search the database elsewhere.
    command.arg("--root").arg(root).args(["--dbpath", "/var/lib/rpm"]);
    command
}

/// Checks that a folder belongs to a user other than root, and that others cannot enter it.
fn is_of_a_user(folder: &Path) -> Result<(), String> {
    let facts = fs::metadata(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mode = facts.permissions().mode() & 0o7777;
    if facts.uid() != 0 && mode == 0o750 {
        return Ok(());
    }
    Err(format!("{}: user {}, mode {mode:o}", folder.display(), facts.uid()))
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
    fn the_packet_of_the_capture_is_whole() {
        let capture = capture();
        assert_eq!(capture[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
        let packet = &capture[24 + 16..];
        assert_eq!(packet.len(), 46);
        // The sum of a header with its checksum has only ones (RFC 1071).
        let words =
            packet[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        let address: Vec<String> = packet[26..30].iter().map(u8::to_string).collect();
        assert_eq!(address.join("."), SOURCE);
    }
}
