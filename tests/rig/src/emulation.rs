//! A QEMU at work, with an eye on its guest's console: a kernel that dies takes QEMU with it.
//!
//! So whoever waits for the guest learns it at once, instead of after minutes.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::death::{self, Sign};

/// How often the console is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long QEMU's end may come after its connections' end.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Signals of a program that fails by itself: ILL, TRAP, ABRT, FPE, SEGV. Others come from people,
/// or from a machine that has no memory or no room left.
const CRASHES: [i32; 5] = [4, 5, 6, 8, 11];

/// QEMU's process and what is known of its guest's health.
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
    /// Somebody writes to the guest's memory: its death may be their doing.
    is_patched: AtomicBool,
    /// A test makes the guest die: nobody needs to know.
    is_meant_to_die: AtomicBool,
    /// The guest's death was met and recorded.
    is_dead: AtomicBool,
    is_over: AtomicBool,
}

impl Shared {
    /// What the console shows of a broken kernel that nobody but the emulator can have broken.
    fn sign<'a>(&self, console: &'a str) -> Option<Sign<'a>> {
        if self.is_patched.load(Ordering::Relaxed) { None } else { death::sign(console) }
    }

    /// The console's whole lines: half a line may look like another one.
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

    fn status(&self) -> Option<ExitStatus> {
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
    /// Takes care of a QEMU that was just started.
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
        let thread = std::thread::spawn(move || look_until_over(&seen, &kernel_seen));
        Self { shared, process_id, thread: Some(thread), kernel: kernel.to_owned() }
    }

    pub(crate) const fn process_id(&self) -> u32 {
        self.process_id
    }

    /// From now on a broken kernel may be the doing of whoever writes to its memory.
    pub(crate) fn memory_is_patched(&self) {
        self.shared.is_patched.store(true, Ordering::Relaxed);
    }

    /// The guest's death is the caller's purpose.
    pub(crate) fn is_meant_to_die(&self) {
        self.shared.is_meant_to_die.store(true, Ordering::Relaxed);
    }

    /// Whether the guest's kernel or QEMU itself has failed; asked by those to whom the guest does
    /// not answer.
    pub(crate) fn has_died(&self) -> bool {
        let console = self.shared.console();
        // A processor that stands still for long is as good as dead to those who wait for an
        // answer.
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

    /// Whether the guest's death was met already.
    pub(crate) fn is_dead(&self) -> bool {
        self.shared.is_dead.load(Ordering::Relaxed)
    }

    /// Waits until QEMU has ended.
    pub(crate) fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            let status = self.shared.status();
            if status.is_some() || Instant::now() > deadline {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends QEMU; a death that nobody asked about is recorded.
    pub(crate) fn end(&mut self) {
        self.shared.check_status(&self.kernel, self.shared.status());
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.kill();
        let _ = self.shared.lock().wait();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
        let console = self.shared.console();
        match self.shared.sign(&console) {
            Some(Sign::Dead(line)) => self.shared.die(&self.kernel, line),
            // A test that fails beside this is tried again.
            Some(Sign::Stalled(line)) if std::thread::panicking() => {
                self.shared.die(&self.kernel, line);
            }
            _ => {}
        }
    }
}

/// Ends QEMU as soon as its guest's console shows that the kernel is broken.
fn look_until_over(shared: &Shared, kernel: &str) {
    let mut length = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        std::thread::park_timeout(LOOK_AGAIN);
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
