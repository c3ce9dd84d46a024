//! A machine with a whole Debian 12, whose init is systemd: for tests of what users install.
//!
//! mmdebstrap makes its root from packages, so that all their scripts have run; this needs root.
//! The root is on the first disk, and what the machine writes to it is discarded. The second disk
//! has what a test brings: systemd starts its program `run`, whose output is the machine's
//! [report](Machine::report). The third has an emulator, for a guest inside the machine.
//!
//! Nothing of Panoptes is in it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cache::{self, Scratch};
use crate::command;
use crate::cpio::Archive;
use crate::disk::{self, Format};
use crate::emulation::{self, Emulation};
use crate::emulator::Emulator;
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::initramfs;
use crate::kernel::Kernel;
use crate::packages;
use crate::setup;
use crate::spawn;
use crate::turn::{self, Turn};
use crate::userland::set_mode;

const SUITE: &str = "bookworm";
/// debootstrap's choice for a new machine: packages of the priority `important` and above.
const VARIANT: &str = "important";
/// What tests use besides: a receiver of records, and a reader of JSON.
const MORE: [&str; 2] = ["jq", "socat"];

/// The machine's memory, in MiB.
const MEMORY_MIB: u64 = 1024;
/// Minimum free space on its disk, in MiB.
const DISK_MIB: u64 = 2048;
/// The size of the other disks, in MiB; they are sparse.
const BROUGHT_MIB: u64 = 512;

/// Where the machine finds what a test brings, and the emulator.
const BROUGHT: &str = "/srv/brought";
const EMULATOR: &str = "/opt/emulator";

/// The service that runs what a test brings.
const SERVICE: &str = "[Unit]
Description=The program of a test
RequiresMountsFor=/srv/brought /opt/emulator

[Service]
ExecStart=/srv/brought/run
StandardOutput=file:/dev/ttyS1
StandardError=journal

[Install]
WantedBy=multi-user.target
";
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/brought.service";

/// Files of the root, beside those of packages.
const FILES: [(&str, &str); 3] = [
    ("etc/fstab", "/dev/vdb /srv/brought ext4 ro 0 0\n/dev/vdc /opt/emulator ext4 ro 0 0\n"),
    ("etc/hostname", "debian\n"),
    ("etc/systemd/system/brought.service", SERVICE),
];

/// Loads modules, and begins systemd on the first disk. The kernel makes `/dev/vda` meanwhile.
const INIT: &str = "#!/bin/busybox sh
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod $module; done < /modules/list
while read -r module; do insmod $module; done < /modules/disk
while ! test -b /dev/vda; do sleep 0.1; done
mount -t ext4 /dev/vda /root
umount /proc /dev
exec switch_root /root /sbin/init
";
/// The modules of every guest that the disks need: their bus, and ext4's checksums.
const DISKS_NEED: [&str; 6] = [
    "crc16",
    "virtio_ring",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio",
    "virtio_pci",
];
const APPLETS: [&str; 7] = ["insmod", "mount", "sh", "sleep", "switch_root", "test", "umount"];

/// Init of the guest inside the machine: another process every few seconds.
const INNER_INIT: &str = "#!/bin/busybox sh
mount -t proc proc /proc
hostname inner
cat /proc/sys/kernel/random/boot_id
while :; do sleep 5; done
";
const INNER_APPLETS: [&str; 5] = ["cat", "hostname", "mount", "sh", "sleep"];

/// A machine that runs until this is dropped.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
    emulation: Emulation,
    /// Held while the machine lives.
    #[allow(dead_code, reason = "it is there to be dropped")]
    turn: Turn,
}

impl Machine {
    /// Boots a machine with these files on the second disk, by their names there. All can be
    /// executed, and systemd executes `run`. The disk also has a guest, `vmlinuz` and `initrd`,
    /// whose init prints the boot's id.
    pub fn boot(kernel: &Kernel, files: &[(&str, &Path)]) -> Result<Self> {
        let turn = Turn::wait()?;
        let preparing = turn::to_prepare()?;
        let emulator = Emulator::obtain(Architecture::Amd64)?;
        let (root, emulators) = (root_disk()?, emulator_disk()?);
        let initramfs = machines_initramfs(kernel)?;
        drop(preparing);
        let folder = crate::guest::new_folder()?;
        let disk = brought_disk(kernel, files, &folder)?;
        let log = folder.join(emulation::LOG);
        let file = File::create(&log).map_err(|e| Error::io("create", &log, &e))?;
        let mut command = emulator.command(false);
        command.args(arguments(kernel, &initramfs, &folder, &[&root, &disk, &emulators]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let process = spawn::spawn(command)?;
        let emulation = Emulation::watch(process, kernel.release(), &folder.join("console"));
        Ok(Self { folder, emulation, turn })
    }

    /// What the program `run` has printed so far.
    pub fn report(&self) -> String {
        let bytes = std::fs::read(self.folder.join("report")).unwrap_or_default();
        // It went through a terminal.
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// What the kernel and systemd have printed so far.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.folder.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the machine is off.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.emulation.wait(timeout).is_some()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.emulation.end();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The second disk of a machine, in the machine's folder.
fn brought_disk(kernel: &Kernel, files: &[(&str, &Path)], folder: &Path) -> Result<PathBuf> {
    let tree = folder.join("tree");
    let guest = archive(INNER_INIT, &INNER_APPLETS)?.finish();
    cache::copy(&kernel.image(), &tree.join("vmlinuz"))?;
    cache::write(&tree.join("initrd"), &guest)?;
    for (name, path) in files {
        let copy = tree.join(name);
        cache::copy(path, &copy)?;
        set_mode(&copy, 0o755)?;
    }
    let disk = folder.join("brought");
    disk::make(Format::Ext4, &disk, BROUGHT_MIB, Some(&tree), &[])?;
    Ok(disk)
}

/// An initramfs with busybox and an init.
fn archive(init: &str, applets: &[&str]) -> Result<Archive> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules", "proc", "root"] {
        archive.directory(folder, 0o755);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.character_device("dev/null", 0o666, 1, 3);
    let busybox = initramfs::busybox(Architecture::Amd64)?;
    archive.file("bin/busybox", 0o755, &cache::read(&busybox)?);
    for applet in applets {
        archive.symlink(&format!("bin/{applet}"), "busybox");
    }
    archive.file("init", 0o755, init.as_bytes());
    Ok(archive)
}

fn machines_initramfs(kernel: &Kernel) -> Result<PathBuf> {
    let mut archive = archive(INIT, &APPLETS)?;
    let mut needed = kernel.modules()?;
    needed.retain(|path| {
        path.file_stem().is_some_and(|name| DISKS_NEED.iter().any(|one| name == *one))
    });
    initramfs::add_modules(&mut archive, &needed, "modules/list")?;
    let disk = kernel.modules_on_demand(&["disk", "ext4"].map(str::to_owned))?;
    initramfs::add_modules(&mut archive, &disk, "modules/disk")?;
    let name = format!("{}-systemd.cpio", kernel.release());
    initramfs::keep(archive, cache::folder("initramfs")?.join(name))
}

/// The first disk; the first call makes it, and it is kept.
fn root_disk() -> Result<PathBuf> {
    let folder = cache::folder("systemd")?;
    let (image, stamp) = (folder.join("root"), folder.join("root-made-of"));
    let made_of = format!("{SUITE} {VARIANT} {MORE:?} {FILES:?} {DISK_MIB}");
    if image.exists() && std::fs::read_to_string(&stamp).is_ok_and(|old| old == made_of) {
        return Ok(image);
    }
    if command::output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(Error::new("only root can make a root of Debian with all its users"));
    }
    setup::ensure_for_roots()?;
    eprintln!("rig: making a Debian with systemd (about 90 MB of packages, kept in the cache)");
    let scratch = Scratch::new(folder.join(".making"))?;
    let root = scratch.join("root");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--mode=root", "--format=directory"]);
    make.arg(format!("--variant={VARIANT}")).arg(format!("--include={}", MORE.join(",")));
    command::output(make.arg(SUITE).arg(&root).arg(packages::line_of(SUITE)?))?;
    for (name, content) in FILES {
        let path = root.join(name);
        cache::write(&path, content.as_bytes())?;
        set_mode(&path, 0o644)?;
    }
    for name in [BROUGHT, EMULATOR] {
        cache::create(&root.join(name.trim_start_matches('/')))?;
    }
    cache::symlink("../brought.service", &root.join(ENABLED))?;
    let made = scratch.join("image");
    disk::make(Format::Ext4, &made, DISK_MIB, Some(&root), &[])?;
    cache::rename(&made, &image)?;
    cache::write(&stamp, made_of.as_bytes())?;
    Ok(image)
}

/// The disk with the emulator; made again when the emulator is another one.
fn emulator_disk() -> Result<PathBuf> {
    let folder = Emulator::folder(Architecture::Amd64)?;
    let image = cache::folder("systemd")?.join("emulator");
    let stamp = image.with_extension("made-of");
    let made_of = folder.join("usr/bin").join(Architecture::Amd64.emulator());
    let made_of = made_of.metadata().map_err(|e| Error::io("look at", &made_of, &e))?;
    let made_of = format!("{} {:?}", made_of.len(), made_of.modified());
    if !image.exists() || !std::fs::read_to_string(&stamp).is_ok_and(|old| old == made_of) {
        disk::make(Format::Ext4, &image, BROUGHT_MIB, Some(&folder), &[])?;
        cache::write(&stamp, made_of.as_bytes())?;
    }
    Ok(image)
}

/// QEMU's arguments.
fn arguments(kernel: &Kernel, initramfs: &Path, folder: &Path, disks: &[&Path]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-nodefaults".into(), "-no-user-config".into()];
    let file = folder.display();
    // As in `machine`, and nothing of systemd's on the console. panic=-1: QEMU ends after a panic.
    let line = "console=ttyS0 panic=-1 loglevel=5 no_timer_check systemd.show_status=no";
    for (name, value) in [
        ("-accel", "tcg,thread=multi".to_owned()),
        ("-cpu", "max,la57=off".to_owned()),
        ("-smp", "2".to_owned()),
        ("-m", format!("{MEMORY_MIB}M")),
        ("-machine", "q35".to_owned()),
        ("-kernel", kernel.image().display().to_string()),
        ("-initrd", initramfs.display().to_string()),
        ("-append", line.to_owned()),
        ("-display", "none".to_owned()),
        ("-vga", "none".to_owned()),
        ("-serial", format!("file:{file}/console")),
        ("-serial", format!("file:{file}/report")),
        ("-monitor", "none".to_owned()),
    ] {
        arguments.extend([name.into(), value.into()]);
    }
    arguments.push("-no-reboot".into());
    for (index, disk) in disks.iter().enumerate() {
        let mut drive = format!("if=none,id=d{index},format=raw,cache=unsafe,");
        let _ = write!(drive, "snapshot=on,file={}", disk.display());
        arguments.extend(["-drive".into(), drive.into()]);
        arguments.extend(["-device".into(), format!("virtio-blk-pci,drive=d{index}").into()]);
    }
    arguments
}
