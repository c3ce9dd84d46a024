//! Machines that start as those of users do: a whole system, from its first instruction to the
//! login prompt, with its own kernel and its own initramfs.
//!
//! Nothing of the rig runs inside. The console shows how far a machine is, and
//! [`Machine::process_id`] lets callers slow the emulator down. The memory is in a file, so that
//! Panoptes finds the machine by its [name](Machine::name).

mod images;

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

pub use self::images::Image;
use crate::cache;
use crate::emulation::{self, Emulation};
use crate::emulator::Emulator;
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::setup;
use crate::spawn;
use crate::turn::{self, Turn};

/// A machine's memory, in MiB.
const MEMORY_MIB: u64 = 512;

/// A system that starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum System {
    /// Debian 12, whose initramfs is made by initramfs-tools.
    Debian12,
    /// Debian 12, whose initramfs is made by dracut.
    Debian12Dracut,
    /// Debian 13, whose initramfs is made by initramfs-tools.
    Debian13,
    /// Debian 13, whose initramfs is made by dracut.
    Debian13Dracut,
    /// Alpine, with OpenRC.
    Alpine,
    /// An initramfs with busybox, which stays the root.
    Busybox,
}

impl System {
    pub const ALL: [Self; 6] = [
        Self::Debian12,
        Self::Debian12Dracut,
        Self::Debian13,
        Self::Debian13Dracut,
        Self::Alpine,
        Self::Busybox,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Debian12 => "debian-12",
            Self::Debian12Dracut => "debian-12-dracut",
            Self::Debian13 => "debian-13",
            Self::Debian13Dracut => "debian-13-dracut",
            Self::Alpine => "alpine",
            Self::Busybox => "busybox",
        }
    }

    /// The system of this name; an error lists all names.
    pub fn from_name(name: &str) -> std::result::Result<Self, String> {
        Self::ALL.into_iter().find(|system| system.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no system {name:?}; there are {names}")
        })
    }

    /// The stages of its start: their names, and what the console shows when they begin. The last
    /// one is its end.
    pub const fn stages(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Debian12 | Self::Debian12Dracut | Self::Debian13 | Self::Debian13Dracut => &[
                ("kernel", "Linux version"),
                ("initramfs", "Run /init as init process"),
                ("systemd", "Detected architecture"),
                ("login", "login:"),
            ],
            Self::Alpine => &[
                ("kernel", "Linux version"),
                ("initramfs", "Run /init as init process"),
                ("openrc", "OpenRC"),
                ("login", "/sbin/getty"),
            ],
            Self::Busybox => &[
                ("kernel", "Linux version"),
                ("initramfs", "Run /init as init process"),
                ("services", "services begin"),
                ("login", "login:"),
            ],
        }
    }
}

/// A machine that runs until this is dropped.
#[derive(Debug)]
pub struct Machine {
    name: String,
    folder: PathBuf,
    emulation: Emulation,
    /// Held while the machine lives.
    #[allow(dead_code, reason = "it is there to be dropped")]
    turn: Turn,
}

impl Machine {
    /// Starts a machine under this name. Its disk is as new each time: what it writes is discarded.
    pub fn start(image: &Image, name: &str) -> Result<Self> {
        let turn = Turn::wait()?;
        let preparing = turn::to_prepare()?;
        setup::ensure()?;
        let emulator = Emulator::obtain(Architecture::Amd64)?;
        drop(preparing);
        let folder = crate::guest::new_folder()?;
        let log = folder.join(emulation::LOG);
        let file = File::create(&log).map_err(|e| Error::io("create", &log, &e))?;
        let mut command = emulator.command(false);
        command.args(arguments(image, name, &folder));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let process = spawn::spawn(command)?;
        let emulation = Emulation::watch(process, name, &folder.join("console"));
        Ok(Self { name: name.to_owned(), folder, emulation, turn })
    }

    /// QEMU's name of it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// QEMU's process.
    pub const fn process_id(&self) -> u32 {
        self.emulation.process_id()
    }

    /// What the machine has printed so far.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.folder.join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the machine is off; whether it is.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.emulation.wait(timeout).is_some()
    }

    /// Keeps a copy of what the machine has printed.
    pub fn keep_console(&self, path: &Path) -> Result<()> {
        cache::copy(&self.folder.join("console"), path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.emulation.end();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// QEMU's arguments.
fn arguments(image: &Image, name: &str, folder: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-nodefaults".into(), "-no-user-config".into()];
    let file = folder.display();
    // As in `machine`: an emulated timer is late on a slow host.
    let line = format!("console=ttyS0 panic=-1 no_timer_check {}", image.kernel_arguments());
    for (option, value) in [
        ("-name", name.to_owned()),
        ("-accel", "tcg,thread=multi".to_owned()),
        ("-cpu", "max,la57=off".to_owned()),
        ("-smp", "2".to_owned()),
        ("-m", format!("{MEMORY_MIB}M")),
        ("-machine", "q35,memory-backend=m0".to_owned()),
        (
            "-object",
            format!("memory-backend-file,id=m0,size={MEMORY_MIB}M,mem-path={file}/ram,share=on"),
        ),
        ("-kernel", image.kernel.display().to_string()),
        ("-initrd", image.initramfs.display().to_string()),
        ("-append", line),
        ("-display", "none".to_owned()),
        ("-vga", "none".to_owned()),
        ("-serial", format!("file:{file}/console")),
        ("-monitor", "none".to_owned()),
        ("-netdev", "user,id=n0,restrict=on".to_owned()),
        ("-device", "virtio-net-pci,netdev=n0,romfile=".to_owned()),
    ] {
        arguments.extend([option.into(), value.into()]);
    }
    arguments.push("-no-reboot".into());
    if let Some((format, disk)) = &image.disk {
        let disk = disk.display();
        let drive = format!("if=none,id=d0,format={format},cache=unsafe,snapshot=on,file={disk}");
        arguments.extend(["-drive".into(), drive.into()]);
        arguments.extend(["-device".into(), "virtio-blk-pci,drive=d0".into()]);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_is_found_by_its_name() {
        for system in System::ALL {
            assert_eq!(System::from_name(system.name()), Ok(system));
        }
        assert!(System::from_name("debian").is_err_and(|text| text.contains("debian-12, ")));
    }
}
