//! A running guest: a real kernel in QEMU whose memory is a file that others can read.
//!
//! Emulated, never accelerated: `/dev/kvm` may be there and hang. Booting takes a few seconds.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::cache;
use crate::channel::{Channel, Failure};
use crate::death;
use crate::disk::Disk;
use crate::emulation::{self, Emulation};
use crate::emulator::Emulator;
use crate::error::{Error, Result};
use crate::initramfs;
use crate::kernel::Kernel;
use crate::machine;
use crate::qmp::Qmp;
use crate::setup;
use crate::snapshot::Snapshot;
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
            // A busy machine emulates ten times slower.
            boot_timeout: Duration::from_mins(5),
        }
    }
}

/// A guest that runs until this is dropped.
#[derive(Debug)]
pub struct Guest {
    folder: PathBuf,
    ram: PathBuf,
    ram_bytes: u64,
    emulation: Emulation,
    qmp: Qmp,
    channel: Channel,
    boot_timeout: Duration,
    boot_time: Duration,
    /// Held while the guest lives.
    #[allow(dead_code, reason = "it is there to be dropped")]
    turn: Option<Turn>,
}

/// What a kernel takes to have its root on a disk.
const ROOT_ON_DISK: [&str; 2] = ["disk", "ext4"];
/// How long the agent may be silent within one answer.
const AGENT_TIMEOUT: Duration = Duration::from_mins(5);
/// How long QEMU may take to make its sockets.
const START_TIMEOUT: Duration = Duration::from_mins(1);
const CONSOLE_TAIL_LINES: usize = 25;
/// The memory file in a guest's folder.
const RAM: &str = "ram";

/// What a guest is started from, and where.
#[derive(Debug)]
struct Place {
    emulator: Emulator,
    initramfs: PathBuf,
    root: Option<PathBuf>,
    folder: PathBuf,
}

/// Why a guest did not start.
#[derive(Debug)]
enum Failed {
    /// It died by itself.
    Died,
    /// Anything else.
    Otherwise(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Otherwise(error)
    }
}

impl Guest {
    /// Boots a guest and waits until its agent answers; where it dies by itself meanwhile, another
    /// one.
    ///
    /// A guest that was [saved](crate::snapshot) goes on from there.
    pub fn boot(spec: &GuestSpec) -> Result<Self> {
        let turn = if spec.beside_others { None } else { Some(Turn::wait()?) };
        let started = Instant::now();
        for attempt in 0..death::ATTEMPTS {
            match Self::start(spec) {
                Ok(mut guest) => {
                    death::overcome(attempt as usize);
                    (guest.boot_time, guest.turn) = (started.elapsed(), turn);
                    return Ok(guest);
                }
                Err(Failed::Died) => {}
                Err(Failed::Otherwise(error)) => return Err(error),
            }
        }
        let release = spec.kernel.release();
        Err(Error::new(format!(
            "{} guests with Linux {release} died while they booted; the lines above have the cause",
            death::ATTEMPTS
        )))
    }

    /// Boots one guest, or lets a saved one go on.
    fn start(spec: &GuestSpec) -> std::result::Result<Self, Failed> {
        let preparing = turn::to_prepare()?;
        let architecture = spec.kernel.flavor().architecture;
        setup::ensure_for(architecture)?;
        let emulator = Emulator::obtain(architecture)?;
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
        let modules = spec.kernel.modules_on_demand(&spec.modules)?;
        let initramfs = initramfs::with_more(initramfs, &spec.files, &modules, &folder)?;
        drop(preparing);
        let place = Place { emulator, initramfs, root, folder };
        let Some(snapshot) = Snapshot::of(spec, &place.initramfs)? else {
            return Self::cold(spec, &place, &place.folder);
        };
        if !snapshot.is_there() {
            let folder = place.folder.join("saved");
            cache::create(&folder)?;
            let spec = GuestSpec { ram_file: None, ..spec.clone() };
            let mut guest = Self::cold(&spec, &place, &folder)?;
            let state = folder.join("state");
            guest.or_died(|guest| guest.save(&state))?;
            // Nobody goes on from a broken kernel.
            if guest.has_died() {
                return Err(Failed::Died);
            }
            snapshot.keep(guest.ram_path(), &state)?;
        }
        let restored = Self::restored(spec, &place, &snapshot);
        if matches!(restored, Err(Failed::Died)) {
            snapshot.forget();
        }
        restored
    }

    /// Boots a guest.
    fn cold(spec: &GuestSpec, place: &Place, folder: &Path) -> std::result::Result<Self, Failed> {
        let mut guest = Self::launch(spec, place, folder, &[])?;
        guest.wait_for_agent()?;
        Ok(guest)
    }

    /// Lets a saved guest go on, with the time of today.
    fn restored(
        spec: &GuestSpec,
        place: &Place,
        snapshot: &Snapshot,
    ) -> std::result::Result<Self, Failed> {
        let ram = spec.ram_file.clone().unwrap_or_else(|| place.folder.join(RAM));
        snapshot.copy_ram(&ram)?;
        let waiting = ["-S", "-incoming", "defer"];
        let mut guest = Self::launch(spec, place, &place.folder, &waiting)?;
        guest.or_died(|guest| guest.restore(&snapshot.state()))?;
        guest.wait_for_agent()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let set_clock = format!("run /bin/busybox date -s @{} >/dev/null", now.as_secs());
        guest.or_died(|guest| guest.agent(&set_clock))?;
        Ok(guest)
    }

    /// Starts QEMU and connects to it.
    fn launch(
        spec: &GuestSpec,
        place: &Place,
        folder: &Path,
        more: &[&str],
    ) -> std::result::Result<Self, Failed> {
        let ram = spec.ram_file.clone().unwrap_or_else(|| folder.join(RAM));
        let mut command = place.emulator.command();
        command.args(machine::arguments(
            spec,
            &place.initramfs,
            place.root.as_deref(),
            folder,
            &ram,
        ));
        command.args(more);
        let log = folder.join(emulation::LOG);
        let file = File::create(&log).map_err(|e| Error::io("create", &log, &e))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let process = spawn::spawn(command)?;
        let console = folder.join("console");
        let mut emulation = Emulation::watch(process, spec.kernel.release(), &console);
        let (qmp, channel) = match connect(&emulation, folder) {
            Ok(both) => both,
            Err(_) if emulation.has_died() => return Err(Failed::Died),
            Err(error) => {
                emulation.end();
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let message = format!("{error}; QEMU printed: {}", said.trim());
                return Err(Error::new(message).into());
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            ram,
            ram_bytes: spec.memory_mib << 20,
            emulation,
            qmp,
            channel,
            boot_timeout: spec.boot_timeout,
            boot_time: Duration::ZERO,
            turn: None,
        })
    }

    /// Does something that only a guest that died can spoil.
    fn or_died<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> std::result::Result<T, Failed> {
        match work(self) {
            Err(_) if self.has_died() => Err(Failed::Died),
            done => Ok(done?),
        }
    }

    /// Saves the state of a guest's devices; its memory stays in its file. The guest stands still
    /// then.
    fn save(&mut self, state: &Path) -> Result<()> {
        self.pause()?;
        self.qmp.leave_shared_memory_out(true)?;
        let to = json!({ "uri": format!("file:{}", state.display()) });
        self.qmp.execute("migrate", Some(&to))?;
        self.qmp.wait_for_migration()
    }

    /// Restores what [`save`](Self::save) saved, and lets the guest go on.
    fn restore(&mut self, state: &Path) -> Result<()> {
        self.qmp.leave_shared_memory_out(true)?;
        let from = json!({ "uri": format!("file:{}", state.display()) });
        self.qmp.execute("migrate-incoming", Some(&from))?;
        self.qmp.wait_for_migration()?;
        // A test may save the guest as a whole.
        self.qmp.leave_shared_memory_out(false)?;
        self.resume()
    }

    /// Whether the guest died by itself, or its emulator did. From then on QEMU does not run any
    /// more.
    pub fn has_died(&mut self) -> bool {
        self.emulation.has_died()
    }

    /// Whether its death was met already; asks nobody.
    pub fn is_dead(&self) -> bool {
        self.emulation.is_dead()
    }

    /// Keeps the guest's death out of the report: the caller makes it die.
    pub fn is_meant_to_die(&self) {
        self.emulation.is_meant_to_die();
    }

    /// Takes what happens in the guest from now on for the caller's doing, who writes to its
    /// memory.
    pub fn memory_is_patched(&self) {
        self.emulation.memory_is_patched();
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
            Err(Failure::Silent(reason)) => {
                let what = format!("the guest's agent did not answer `{command}`: {reason}");
                Err(self.with_console(&what))
            }
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
        self.wait_for_agent().map_err(|failed| match failed {
            Failed::Died => Error::new("the guest died by itself while it booted again"),
            Failed::Otherwise(error) => error,
        })
    }

    /// Runs any command of QEMU's monitor.
    pub fn qmp(&mut self, command: &str, arguments: Option<&Value>) -> Result<Value> {
        self.qmp.execute(command, arguments)
    }

    /// Ends the guest (as dropping it does) and says whether that worked.
    pub fn quit(mut self) -> Result<()> {
        self.qmp.execute("quit", None)?;
        if self.emulation.wait(START_TIMEOUT).is_some() {
            return Ok(());
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
        self.emulation.process_id()
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

    fn wait_for_agent(&mut self) -> std::result::Result<(), Failed> {
        // The port holds back what we send until the agent opens it.
        match self.channel.ask("hello", self.boot_timeout, |_| ()) {
            Ok(()) => Ok(()),
            Err(_) if self.has_died() => Err(Failed::Died),
            Err(Failure::Refused(reason) | Failure::Silent(reason)) => {
                Err(self.with_console(&format!("the guest did not boot: {reason}")).into())
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
        self.emulation.end();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Waits for QEMU's sockets and connects to both.
fn connect(emulation: &Emulation, folder: &Path) -> Result<(Qmp, Channel)> {
    let (monitor, agent) = (folder.join("qmp"), folder.join("agent"));
    let deadline = Instant::now() + START_TIMEOUT;
    while !(monitor.exists() && agent.exists()) {
        if let Some(status) = emulation.wait(Duration::ZERO) {
            return Err(Error::new(format!("QEMU ended at once ({status})")));
        }
        if Instant::now() > deadline {
            return Err(Error::new("QEMU did not make its sockets in time"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok((Qmp::connect(&monitor)?, Channel::connect(&agent)?))
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
