//! A running guest: a real kernel in QEMU whose memory is a file that others can read.
//!
//! Emulated, never accelerated: `/dev/kvm` may be there and hang. Booting takes a few seconds.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cache;
use crate::channel::{Channel, Failure};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::flavor::Architecture;
use crate::initramfs;
use crate::kernel::Kernel;
use crate::qmp::Qmp;
use crate::setup;
use crate::spawn;
use crate::turn::{self, Turn};
use crate::userland::{self, Userland};

/// What to boot.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent options of a machine, not states")]
pub struct GuestSpec {
    /// The kernel.
    pub kernel: Kernel,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Processors.
    pub cpus: u32,
    /// NUMA nodes; from two on the kernel keeps its big hash tables in vmalloc memory.
    pub numa_nodes: u32,
    /// Whether the processor offers 5-level page tables (Debian kernels then use them).
    pub five_level: bool,
    /// Whether the kernel keeps its own page tables apart from those of programs (`pti=on`), as it does on
    /// processors that Meltdown strikes; QEMU's is not one.
    pub page_table_isolation: bool,
    /// The processor, as QEMU calls it (`cortex-a72`), where it is not to be the one with everything.
    pub cpu: Option<String>,
    /// The machine, as QEMU calls it (`pc`), where it is not to be the usual one.
    pub machine: Option<String>,
    /// What its root is made of.
    pub userland: Userland,
    /// Programs of this machine that the guest is to have, static: by their paths there and here.
    pub files: Vec<(String, PathBuf)>,
    /// What the guest shall load modules for at boot, where its kernel does not have it built in: `disk`, and
    /// filesystems (`ext4`, `xfs`, `btrfs`, `squashfs`). Whether the kernel has them at all, its
    /// /proc/filesystems tells.
    pub modules: Vec<String>,
    /// Disks, from `/dev/vda` on; from `/dev/vdb` on where the first has the root.
    pub disks: Vec<Disk>,
    /// More kernel arguments.
    pub kernel_arguments: Vec<String>,
    /// Where the guest's memory lies; by default a file in the cache folder, gone with the guest.
    pub ram_file: Option<PathBuf>,
    /// Memory that is QEMU's own: no file, to be read out of its process.
    pub private_memory: bool,
    /// Another object for the memory than a file or QEMU's own: `memory-backend-memfd,id=m0,…`.
    pub memory_object: Option<String>,
    /// More arguments of QEMU, behind all others, so that they win.
    pub qemu_arguments: Vec<String>,
    /// Boots beside another guest of the same test. Without this a guest waits for its [turn](crate::turn).
    pub beside_others: bool,
    /// How long it may take until the agent answers.
    pub boot_timeout: Duration,
}

impl GuestSpec {
    /// A guest of 512 MiB with two processors and 4-level page tables.
    pub fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            memory_mib: 512,
            cpus: 2,
            numa_nodes: 1,
            five_level: false,
            page_table_isolation: false,
            cpu: None,
            machine: None,
            userland: Userland::Busybox,
            files: Vec::new(),
            modules: Vec::new(),
            disks: Vec::new(),
            kernel_arguments: Vec::new(),
            ram_file: None,
            private_memory: false,
            memory_object: None,
            qemu_arguments: Vec::new(),
            beside_others: false,
            boot_timeout: Duration::from_secs(90),
        }
    }
}

/// A guest that runs until this is dropped.
#[derive(Debug)]
pub struct Guest {
    folder: PathBuf,
    ram: PathBuf,
    ram_bytes: u64,
    process: Child,
    qmp: Qmp,
    channel: Channel,
    boot_timeout: Duration,
    boot_time: Duration,
    /// Held while the guest lives.
    _turn: Option<Turn>,
}

/// What a kernel takes to have its root on a disk.
const ROOT_ON_DISK: [&str; 2] = ["disk", "ext4"];
/// How long the agent may be silent within one answer.
const AGENT_TIMEOUT: Duration = Duration::from_mins(5);
/// How long QEMU may take to make its sockets.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const CONSOLE_TAIL_LINES: usize = 25;
/// So often QEMU may crash while one guest boots.
const CRASHES_MAX: usize = 2;

impl Guest {
    /// Boots a guest and waits until its agent answers.
    ///
    /// QEMU 7.2 itself crashes now and then while it emulates the start of several processors (seen twice in some hundred
    /// boots): that is said, and it is started anew.
    pub fn boot(spec: &GuestSpec) -> Result<Self> {
        for _ in 0..CRASHES_MAX {
            match Self::boot_once(spec)? {
                Ok(guest) => return Ok(guest),
                Err(signal) => {
                    eprintln!("rig: QEMU crashed (signal {signal}) while a guest booted; again");
                }
            }
        }
        Self::boot_once(spec)?.map_err(|signal| {
            Error::new(format!("QEMU crashes (signal {signal}) whenever the guest boots"))
        })
    }

    /// The same, or the signal that ended QEMU before the guest had booted.
    fn boot_once(spec: &GuestSpec) -> Result<std::result::Result<Self, i32>> {
        let turn = if spec.beside_others { None } else { Some(Turn::wait()?) };
        let started = Instant::now();
        let preparing = turn::to_prepare()?;
        let architecture = spec.kernel.flavor().architecture;
        setup::ensure_for(architecture)?;
        let (initramfs, root) = match spec.userland {
            Userland::Busybox => (initramfs::build(&spec.kernel)?, None),
            Userland::Debian => (userland::build(&spec.kernel)?, None),
            Userland::Equipped => {
                let modules = spec.kernel.modules_on_demand(&ROOT_ON_DISK.map(str::to_owned))?;
                let (initramfs, root) = userland::build_equipped(&spec.kernel, &modules)?;
                (initramfs, Some(root))
            }
        };
        let folder = new_folder()?;
        let ram = spec.ram_file.clone().unwrap_or_else(|| folder.join("ram"));
        let modules = spec.kernel.modules_on_demand(&spec.modules)?;
        let initramfs = initramfs::with_more(initramfs, &spec.files, &modules, &folder)?;
        drop(preparing);
        let arguments = qemu_arguments(spec, &initramfs, root.as_deref(), &folder, &ram);
        let mut command = Command::new("setpriv");
        // Ends with us even where we are killed, so no guest is left behind.
        command.args(["--pdeathsig", "KILL", architecture.emulator()]).args(arguments);
        let log = folder.join("qemu.log");
        let file = File::create(&log).map_err(|e| Error::io("create", &log, &e))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let mut process = spawn::spawn(command)?;
        let (qmp, channel) = match connect(&mut process, &folder) {
            Ok(both) => both,
            Err(error) => {
                end(&mut process);
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::new(format!("{error}; QEMU said: {}", said.trim())));
            }
        };
        let mut guest = Self {
            folder,
            ram,
            ram_bytes: spec.memory_mib << 20,
            process,
            qmp,
            channel,
            boot_timeout: spec.boot_timeout,
            boot_time: Duration::ZERO,
            _turn: turn,
        };
        if let Err(error) = guest.wait_for_agent() {
            return guest.crashed().map_or(Err(error), |signal| Ok(Err(signal)));
        }
        guest.boot_time = started.elapsed();
        Ok(Ok(guest))
    }

    /// The signal that has ended QEMU, if one has; its connections are gone a moment before it is.
    fn crashed(&mut self) -> Option<i32> {
        for _ in 0..50 {
            match self.process.try_wait() {
                Ok(Some(status)) => return status.signal(),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        None
    }

    /// Sends the agent a command and gives the lines of its answer.
    pub fn agent(&mut self, command: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        self.agent_lines(command, |line| lines.push(line.to_owned()))?;
        Ok(lines)
    }

    /// Sends the agent a command and hands on each line of its answer as it comes.
    pub fn agent_lines(&mut self, command: &str, on_line: impl FnMut(&str)) -> Result<()> {
        match self.channel.ask(command, AGENT_TIMEOUT, on_line) {
            Ok(()) => Ok(()),
            Err(Failure::Refused(reason)) => {
                Err(Error::new(format!("the guest's agent could not `{command}`: {reason}")))
            }
            Err(Failure::Silent(reason)) => Err(self
                .with_console(&format!("the guest's agent did not answer `{command}`: {reason}"))),
        }
    }

    /// Stops the guest's processors: its memory is then constant.
    pub fn pause(&mut self) -> Result<()> {
        self.qmp.execute("stop", None).map(drop)
    }

    /// Lets the guest go on.
    pub fn resume(&mut self) -> Result<()> {
        self.qmp.execute("cont", None).map(drop)
    }

    /// Resets the machine, as its button would, and waits until the agent answers again.
    pub fn system_reset(&mut self) -> Result<()> {
        self.qmp.execute("system_reset", None)?;
        self.wait_for_agent()
    }

    /// Runs any command of QEMU's monitor.
    pub fn qmp(&mut self, command: &str, arguments: Option<&Value>) -> Result<Value> {
        self.qmp.execute(command, arguments)
    }

    /// Ends the guest (as dropping it does) and says whether that worked.
    pub fn quit(mut self) -> Result<()> {
        self.qmp.execute("quit", None)?;
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.process.try_wait() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Error::new("QEMU did not end when told to"))
    }

    /// The file that is the guest's physical memory without a hole (up to 2 GiB), from address 0 on, on
    /// arm64 from 1 GiB on; there is none where the memory is private.
    pub fn ram_path(&self) -> &Path {
        &self.ram
    }

    /// How much memory the guest has.
    pub const fn ram_bytes(&self) -> u64 {
        self.ram_bytes
    }

    /// QEMU's process id.
    pub fn qemu_pid(&self) -> u32 {
        self.process.id()
    }

    /// A QMP socket for others; a socket serves one client at a time, so the rig has its own.
    pub fn qmp_path(&self) -> PathBuf {
        self.folder.join("qmp-guests")
    }

    /// The file that collects what the guest's kernel and agent print.
    pub fn console_path(&self) -> PathBuf {
        self.folder.join("console")
    }

    /// How long it took from the start until the agent answered.
    pub const fn boot_time(&self) -> Duration {
        self.boot_time
    }

    fn wait_for_agent(&mut self) -> Result<()> {
        // The port holds back what we send until the agent opens it.
        match self.channel.ask("hello", self.boot_timeout, |_| ()) {
            Ok(()) => Ok(()),
            Err(Failure::Refused(reason) | Failure::Silent(reason)) => {
                Err(self.with_console(&format!("the guest did not boot: {reason}")))
            }
        }
    }

    /// An error with the end of the guest's console under it.
    fn with_console(&self, what: &str) -> Error {
        let bytes = std::fs::read(self.console_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        let mut message = format!("{what}; the end of its console:");
        for line in &lines[lines.len().saturating_sub(CONSOLE_TAIL_LINES)..] {
            let _ = write!(message, "\n    {}", line.trim_end());
        }
        Error::new(message)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        end(&mut self.process);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}

/// Waits for QEMU's sockets and connects to both.
fn connect(process: &mut Child, folder: &Path) -> Result<(Qmp, Channel)> {
    let (monitor, agent) = (folder.join("qmp"), folder.join("agent"));
    let deadline = Instant::now() + START_TIMEOUT;
    while !(monitor.exists() && agent.exists()) {
        if let Ok(Some(status)) = process.try_wait() {
            return Err(Error::new(format!("QEMU ended at once ({status})")));
        }
        if Instant::now() > deadline {
            return Err(Error::new("QEMU did not make its sockets in time"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((Qmp::connect(&monitor)?, Channel::connect(&agent)?))
}

fn qemu_arguments(
    spec: &GuestSpec,
    initramfs: &Path,
    root: Option<&Path>,
    folder: &Path,
    ram: &Path,
) -> Vec<std::ffi::OsString> {
    let (machine, cpu, console) = match spec.kernel.flavor().architecture {
        Architecture::Amd64 if spec.five_level => ("q35", "max", "ttyS0"),
        Architecture::Amd64 => ("q35", "max,la57=off", "ttyS0"),
        Architecture::Arm64 => ("virt", "max", "ttyAMA0"),
    };
    let cpu = spec.cpu.as_deref().unwrap_or(cpu);
    let machine = spec.machine.as_deref().unwrap_or(machine);
    // panic=0: a guest that panics stands still, with its console kept. no_timer_check: on a busy host an
    // emulated timer is late, and the kernel would take it for broken.
    let mut append = format!("console={console} panic=0 loglevel=5 no_timer_check");
    if spec.numa_nodes > 1 {
        let _ = write!(append, " numa=fake={}", spec.numa_nodes);
    }
    if spec.page_table_isolation {
        append.push_str(" pti=on");
    }
    for argument in &spec.kernel_arguments {
        let _ = write!(append, " {argument}");
    }
    let file = folder.display();
    let memory = if let Some(object) = &spec.memory_object {
        object.clone()
    } else if spec.private_memory {
        format!("memory-backend-ram,id=m0,size={}M", spec.memory_mib)
    } else {
        let (size, path) = (spec.memory_mib, ram.display());
        format!("memory-backend-file,id=m0,size={size}M,mem-path={path},share=on")
    };
    let pairs = [
        ("-accel", "tcg,thread=multi".to_owned()),
        ("-cpu", cpu.to_owned()),
        ("-smp", spec.cpus.to_string()),
        ("-m", format!("{}M", spec.memory_mib)),
        ("-machine", format!("{machine},memory-backend=m0")),
        ("-object", memory),
        ("-kernel", spec.kernel.image().display().to_string()),
        ("-initrd", initramfs.display().to_string()),
        ("-append", append),
        ("-display", "none".to_owned()),
        ("-vga", "none".to_owned()),
        ("-serial", format!("file:{file}/console")),
        ("-monitor", "none".to_owned()),
        ("-qmp", format!("unix:{file}/qmp,server=on,wait=off")),
        ("-qmp", format!("unix:{file}/qmp-guests,server=on,wait=off")),
        ("-netdev", "user,id=n0,restrict=on".to_owned()),
        ("-device", "virtio-net-pci,netdev=n0,romfile=".to_owned()),
        ("-device", "virtio-serial-pci".to_owned()),
        ("-chardev", format!("socket,id=agent,path={file}/agent,server=on,wait=off")),
        ("-device", "virtserialport,chardev=agent,name=panoptes.agent".to_owned()),
    ];
    let mut arguments = vec!["-nodefaults".into(), "-no-user-config".into()];
    for (name, value) in pairs {
        arguments.push(name.into());
        arguments.push(value.into());
    }
    if let Some(root) = root {
        // What guests write goes into a file that ends with QEMU, so that they can share the image.
        let drive =
            format!("if=none,id=root,format=raw,cache=unsafe,snapshot=on,file={}", root.display());
        arguments.extend(["-drive".into(), drive.into()]);
        arguments.extend(["-device".into(), "virtio-blk-pci,drive=root".into()]);
    }
    for (index, disk) in spec.disks.iter().enumerate() {
        let (image, lock) = (disk.image.display(), if disk.read_only { "on" } else { "off" });
        // cache=unsafe: what a guest wrote need not outlive a crash of this machine.
        let drive =
            format!("if=none,id=d{index},format=raw,cache=unsafe,readonly={lock},file={image}");
        arguments.extend(["-drive".into(), drive.into()]);
        arguments.extend(["-device".into(), format!("virtio-blk-pci,drive=d{index}").into()]);
    }
    arguments.extend(spec.qemu_arguments.iter().map(Into::into));
    arguments
}

/// A folder for one guest; those that killed runs left behind are removed.
fn new_folder() -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let guests = cache::folder("guests")?;
    let entries =
        std::fs::read_dir(&guests).map_err(|e| Error::io("list the folder", &guests, &e))?;
    for entry in entries.filter_map(std::result::Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().unwrap_or_default();
        if !name.starts_with('.') && !Path::new("/proc").join(owner).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = guests.join(format!("{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    cache::create(&folder)?;
    Ok(folder)
}
