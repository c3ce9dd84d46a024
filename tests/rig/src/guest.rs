//! A running guest: a real kernel in QEMU whose memory is a file that other programs can read.
//!
//! Emulated, never accelerated: `/dev/kvm` may exist and hang. Booting takes a few seconds.

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

/// The specification of a guest.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent options of a machine, not states")]
pub struct GuestSpec {
    pub kernel: Kernel,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Number of processors.
    pub cpus: u32,
    /// Number of NUMA nodes; with two or more the kernel keeps its big hash tables in vmalloc
    /// memory.
    pub numa_nodes: u32,
    /// Whether the processor offers 5-level page tables (Debian kernels then use them).
    pub five_level: bool,
    /// Whether the kernel separates its own page tables from those of programs (`pti=on`), as it
    /// does on processors with the Meltdown flaw; QEMU's has none.
    pub page_table_isolation: bool,
    /// QEMU's name of the processor (`cortex-a72`); by default the one with every feature.
    pub cpu: Option<String>,
    /// QEMU's name of the machine type (`pc`); by default the usual one.
    pub machine: Option<String>,
    /// The content of its root.
    pub userland: Userland,
    /// Static programs of the host that the guest gets: their paths in the guest and on the host.
    pub files: Vec<(String, PathBuf)>,
    /// The drivers and filesystems whose modules the guest loads at boot, if its kernel does not
    /// have them built in: `disk`, and filesystems (`ext4`, `xfs`, `btrfs`, `squashfs`). The
    /// guest's /proc/filesystems shows whether the kernel supports them at all.
    pub modules: Vec<String>,
    /// Disks, from `/dev/vda` on; from `/dev/vdb` on if the first has the root.
    pub disks: Vec<Disk>,
    /// More kernel arguments.
    pub kernel_arguments: Vec<String>,
    /// The guest's memory file; by default a file in the cache folder, removed with the guest.
    pub ram_file: Option<PathBuf>,
    /// The memory is QEMU's own: no file, only readable through its process.
    pub private_memory: bool,
    /// Another memory object than a file or QEMU's own: `memory-backend-memfd,id=m0,…`.
    pub memory_object: Option<String>,
    /// QEMU has a network namespace of its own, where the guest's second interface is
    /// [`WIRE`](crate::WIRE). Only root can make one.
    pub network: bool,
    /// More arguments of QEMU, after all others, so that they win.
    pub qemu_arguments: Vec<String>,
    /// Boots beside another guest of the same test. Otherwise a guest waits for its
    /// [turn](crate::turn).
    pub beside_others: bool,
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
            network: false,
            qemu_arguments: Vec::new(),
            beside_others: false,
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
    /// The agent says by itself that it is up.
    greets: bool,
    boot_time: Duration,
    /// Held while the guest lives.
    #[allow(dead_code, reason = "it is there to be dropped")]
    turn: Option<Turn>,
}

/// The modules for a root on a disk.
const ROOT_ON_DISK: [&str; 2] = ["disk", "ext4"];
/// Maximum time until the agent answers. A busy host emulates ten times slower, and it takes long
/// until a root is on the disk.
const BOOT_TIMEOUT: Duration = Duration::from_mins(5);
/// Maximum time between two lines of an answer of the agent.
const AGENT_TIMEOUT: Duration = Duration::from_mins(5);
/// Maximum time for QEMU to create its sockets.
const START_TIMEOUT: Duration = Duration::from_mins(1);
const CONSOLE_TAIL_LINES: usize = 25;
/// The memory file in a guest's folder.
const RAM: &str = "ram";

/// The files that a guest is started from, and its folder.
#[derive(Debug)]
pub(crate) struct Place {
    emulator: Emulator,
    pub(crate) initramfs: PathBuf,
    pub(crate) root: Option<PathBuf>,
    folder: PathBuf,
}

/// Why a guest did not start.
#[derive(Debug)]
enum Failed {
    /// It died by itself.
    Died,
    Otherwise(Error),
}

type Started<T> = std::result::Result<T, Failed>;

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Otherwise(error)
    }
}

impl Guest {
    /// Boots a guest and waits until its agent answers. If the guest dies by itself meanwhile,
    /// boots another one.
    ///
    /// A guest that was [saved](crate::snapshot) is resumed from its saved state.
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

    /// Boots one guest, or resumes a saved one.
    fn start(spec: &GuestSpec) -> Started<Self> {
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
            // A broken kernel must not be resumed later.
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
    fn cold(spec: &GuestSpec, place: &Place, folder: &Path) -> Started<Self> {
        let mut guest = Self::launch(spec, place, folder, &[])?;
        guest.wait_for_agent()?;
        Ok(guest)
    }

    /// Resumes a saved guest and sets its clock to the present time.
    fn restored(spec: &GuestSpec, place: &Place, snapshot: &Snapshot) -> Started<Self> {
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
    fn launch(spec: &GuestSpec, place: &Place, folder: &Path, more: &[&str]) -> Started<Self> {
        let ram = spec.ram_file.clone().unwrap_or_else(|| folder.join(RAM));
        let mut command = place.emulator.command(spec.network);
        command.args(machine::arguments(spec, place, folder, &ram)).args(more);
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
                let printed = std::fs::read_to_string(&log).unwrap_or_default();
                let message = format!("{error}; QEMU printed: {}", printed.trim());
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
            greets: spec.kernel.lacks_modules(),
            boot_time: Duration::ZERO,
            turn: None,
        })
    }

    /// Runs `work`; an error counts as [`Failed::Died`] if the guest has died.
    fn or_died<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Started<T> {
        match work(self) {
            Err(_) if self.has_died() => Err(Failed::Died),
            done => Ok(done?),
        }
    }

    /// Saves the state of a guest's devices; its memory stays in its file. The guest is paused
    /// afterwards.
    fn save(&mut self, state: &Path) -> Result<()> {
        self.pause()?;
        self.qmp.leave_shared_memory_out(true)?;
        let to = json!({ "uri": format!("file:{}", state.display()) });
        self.qmp.execute("migrate", Some(&to))?;
        self.qmp.wait_for_migration()
    }

    /// Restores the state saved by [`save`](Self::save) and resumes the guest.
    fn restore(&mut self, state: &Path) -> Result<()> {
        self.qmp.leave_shared_memory_out(true)?;
        let from = json!({ "uri": format!("file:{}", state.display()) });
        self.qmp.execute("migrate-incoming", Some(&from))?;
        self.qmp.wait_for_migration()?;
        // A test may save the whole guest, memory included.
        self.qmp.leave_shared_memory_out(false)?;
        self.resume()
    }

    /// Whether the guest or its emulator died by itself. If so, QEMU no longer runs afterwards.
    pub fn has_died(&mut self) -> bool {
        self.emulation.has_died()
    }

    /// Whether its death was already detected; checks nothing anew.
    pub fn is_dead(&self) -> bool {
        self.emulation.is_dead()
    }

    /// Keeps the guest's death out of the report: the caller makes it die.
    pub fn is_meant_to_die(&self) {
        self.emulation.is_meant_to_die();
    }

    /// Marks the guest's memory as changed by the caller: a later failure in the guest is not
    /// reported as the emulator's.
    pub fn memory_is_patched(&self) {
        self.emulation.memory_is_patched();
    }

    /// Sends the agent a command and returns the lines of its answer.
    pub fn agent(&mut self, command: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        self.agent_lines(command, |line| lines.push(line.to_owned()))?;
        Ok(lines)
    }

    /// Sends the agent a command and passes on each line of its answer as it arrives.
    pub fn agent_lines(&mut self, command: &str, on_line: impl FnMut(&str)) -> Result<()> {
        match self.channel.ask(command, AGENT_TIMEOUT, on_line) {
            Ok(()) => Ok(()),
            Err(Failure::Refused(reason)) => {
                Err(Error::new(format!("the guest's agent could not `{command}`: {reason}")))
            }
            Err(Failure::Silent(reason)) => {
                self.emulation.end_silent();
                let what = format!("the guest's agent did not answer `{command}`: {reason}");
                Err(self.with_console(&what))
            }
        }
    }

    /// Pauses the guest's processors: its memory is then constant.
    pub fn pause(&mut self) -> Result<()> {
        self.qmp.execute("stop", None).map(drop)
    }

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

    /// Ends the guest (as dropping it does) and returns whether that worked.
    pub fn quit(mut self) -> Result<()> {
        self.qmp.execute("quit", None)?;
        if self.emulation.wait(START_TIMEOUT).is_some() {
            return Ok(());
        }
        Err(Error::new("QEMU did not end on request"))
    }

    /// The file with the guest's physical memory without a hole (up to 2 GiB), from address 0 on,
    /// on arm64 from 1 GiB on; there is none if the memory is private.
    pub fn ram_path(&self) -> &Path {
        &self.ram
    }

    /// The size of the guest's memory in bytes.
    pub const fn ram_bytes(&self) -> u64 {
        self.ram_bytes
    }

    /// QEMU's process id.
    pub fn qemu_pid(&self) -> u32 {
        self.emulation.process_id()
    }

    /// A QMP socket for other programs; a socket serves one client at a time, so the rig has its
    /// own.
    pub fn qmp_path(&self) -> PathBuf {
        self.folder.join("qmp-guests")
    }

    /// The file with the output of the guest's kernel and agent.
    pub fn console_path(&self) -> PathBuf {
        self.folder.join("console")
    }

    /// The time from the start until the agent answered.
    pub const fn boot_time(&self) -> Duration {
        self.boot_time
    }

    fn wait_for_agent(&mut self) -> Started<()> {
        let answer = if self.greets {
            self.channel.answer(BOOT_TIMEOUT, |_| ())
        } else {
            // The port holds back what the rig sends until the agent opens it.
            self.channel.ask("hello", BOOT_TIMEOUT, |_| ())
        };
        match answer {
            Ok(()) => Ok(()),
            // Nothing was done in it yet that could stop it.
            Err(Failure::Silent(_)) => {
                self.emulation.end_silent();
                Err(Failed::Died)
            }
            Err(Failure::Refused(_)) if self.has_died() => Err(Failed::Died),
            Err(Failure::Refused(reason)) => {
                Err(self.with_console(&format!("the guest did not boot: {reason}")).into())
            }
        }
    }

    /// An error, followed by the end of the guest's console.
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

/// Creates a folder for one guest; removes folders that killed runs left behind.
pub(crate) fn new_folder() -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let guests = cache::folder("guests")?;
    cache::remove_left_behind(&guests)?;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = guests.join(format!("{}-{number}", std::process::id()));
    cache::remove(&folder)?;
    cache::create(&folder)?;
    Ok(folder)
}
