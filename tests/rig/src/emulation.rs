//! A running QEMU whose guest's console is watched: when the kernel dies, QEMU is ended.
//!
//! So code that waits for the guest fails at once, instead of after minutes.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use panoptes_bounded as bounded;

use crate::death::{self, Sign};

/// How often the console is checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long after its connections QEMU itself may end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Signals of a program that fails by itself: ILL, TRAP, ABRT, FPE, SEGV. Other signals come from
/// people, or from a host without free memory or disk space.
const CRASHES: [i32; 5] = [4, 5, 6, 8, 11];

/// QEMU's process and its guest's health.
#[derive(Debug)]
pub(crate) struct Emulation {
    shared: Arc<Shared>,
    process_id: u32,
    thread: Option<JoinHandle<()>>,
    kernel: String,
}

/// What QEMU prints, in the guest's folder.
pub(crate) const LOG: &str = "qemu.log";

#[derive(Debug)]
struct Shared {
    process: Mutex<Child>,
    console: PathBuf,
    /// A caller writes to the guest's memory and may have caused its death.
    is_patched: AtomicBool,
    /// A test makes the guest die, so its death is not recorded.
    is_meant_to_die: AtomicBool,
    /// The guest's death was detected and recorded.
    is_dead: AtomicBool,
    is_over: AtomicBool,
}

impl Shared {
    /// The sign on the console of a kernel that only the emulator can have broken.
    fn sign<'a>(&self, console: &'a str) -> Option<Sign<'a>> {
        if self.is_patched.load(Ordering::Relaxed) { None } else { death::sign(console) }
    }

    /// The console's complete lines: half a line may look like another one.
    fn console(&self) -> String {
        let bytes = std::fs::read(&self.console).unwrap_or_default();
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// Records that QEMU itself crashed, if it did.
    fn check_status(&self, kernel: &str, status: Option<ExitStatus>) {
        if let Some(signal) = status.and_then(|status| status.signal())
            && CRASHES.contains(&signal)
        {
            let log = std::fs::read(self.console.with_file_name(LOG)).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let said = log.trim().lines().last().map_or(String::new(), |line| format!(": {line}"));
            self.die(kernel, &format!("QEMU ended by signal {signal}{said}"));
        }
    }

    fn die(&self, kernel: &str, cause: &str) {
        let is_known = self.is_dead.swap(true, Ordering::Relaxed);
        if !is_known && !self.is_meant_to_die.load(Ordering::Relaxed) {
            death::record(kernel, cause);
        }
    }

    fn exit_status(&self) -> Option<ExitStatus> {
        self.lock().try_wait().ok().flatten()
    }

    fn kill(&self) {
        let _ = self.lock().kill();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Emulation {
    /// Takes over a QEMU that was just started.
    pub(crate) fn watch(process: Child, kernel: &str, console: &Path) -> Self {
        let process_id = process.id();
        let shared = Arc::new(Shared {
            process: Mutex::new(process),
            console: console.to_owned(),
            is_patched: AtomicBool::new(false),
            is_meant_to_die: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let (seen, kernel_seen) = (Arc::clone(&shared), kernel.to_owned());
        let thread = std::thread::spawn(move || watch_console(&seen, &kernel_seen));
        Self { shared, process_id, thread: Some(thread), kernel: kernel.to_owned() }
    }

    pub(crate) const fn process_id(&self) -> u32 {
        self.process_id
    }

    /// From now on, a caller that writes to the guest's memory may have broken its kernel.
    pub(crate) fn memory_is_patched(&self) {
        self.shared.is_patched.store(true, Ordering::Relaxed);
    }

    /// The caller makes the guest die on purpose.
    pub(crate) fn is_meant_to_die(&self) {
        self.shared.is_meant_to_die.store(true, Ordering::Relaxed);
    }

    /// Whether the guest's kernel or QEMU itself has failed. Called when the guest does not answer.
    pub(crate) fn has_died(&self) -> bool {
        let console = self.shared.console();
        // For a caller that waits for an answer, a processor that stalls for long is as good as
        // dead.
        let sign = self.shared.sign(&console);
        if let Some(Sign::Dead(line) | Sign::Stalled(line)) = sign {
            self.shared.die(&self.kernel, line);
            self.shared.kill();
        } else {
            let status = self.wait(END_TIMEOUT);
            self.shared.check_status(&self.kernel, status);
        }
        self.is_dead()
    }

    /// Ends a guest that was silent for minutes. That counts as a death.
    pub(crate) fn end_silent(&self) {
        if self.has_died() {
            return;
        }
        let console = self.shared.console();
        let last = console.lines().last().unwrap_or("no output").trim_end();
        self.shared.die(&self.kernel, &format!("hung, after: {last}"));
        self.shared.kill();
    }

    /// Whether the guest's death was already detected.
    pub(crate) fn is_dead(&self) -> bool {
        self.shared.is_dead.load(Ordering::Relaxed)
    }

    /// Waits until QEMU has ended.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.shared.exit_status();
            if status.is_some() || Instant::now() > deadline {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends QEMU; a death that was not yet detected is recorded.
    pub(crate) fn end(&mut self) {
        self.shared.check_status(&self.kernel, self.shared.exit_status());
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.kill();
        let _ = bounded::wait(&mut self.shared.lock());
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        let console = self.shared.console();
        match self.shared.sign(&console) {
            Some(Sign::Dead(line)) => self.shared.die(&self.kernel, line),
            // The test that fails at the same time is repeated.
            Some(Sign::Stalled(line)) if std::thread::panicking() => {
                self.shared.die(&self.kernel, line);
            }
            _ => {}
        }
    }
}

/// Ends QEMU as soon as its guest's console shows that the kernel is broken.
fn watch_console(shared: &Shared, kernel: &str) {
    let mut length = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        std::thread::park_timeout(CHECK_INTERVAL);
        let now = shared.console.metadata().map_or(0, |metadata| metadata.len());
        if now == length {
            continue;
        }
        length = now;
        if let Some(Sign::Dead(line)) = shared.sign(&shared.console()) {
            shared.die(kernel, line);
            shared.kill();
            return;
        }
    }
}
