//! The machine whose records are sent: its connections cause as many as are needed.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use panoptes_synthetic::{Machine, Size, profile};

/// Its kernel.
const RELEASE: &str = "6.1.0-50-amd64";
const MEMORY_BYTES: u64 = 192 << 20;
/// The status of each connection is a record in each scan.
const CONNECTIONS: u16 = 50;
/// From one step of the clock to the next.
const STEP: Duration = Duration::from_millis(8);

/// A machine in a file, and the thread in which its clock goes.
#[derive(Debug)]
pub(crate) struct Live {
    is_calm: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    pub(crate) fn boot(path: &Path) -> io::Result<Self> {
        let size =
            Size { processes: 2, kernel_threads: 2, connections: 0, modules: 0, ..Size::default() };
        let mut machine =
            Machine::builder(&profile(RELEASE)).size(size).memory(MEMORY_BYTES).build();
        let pid = machine.fork(1);
        machine.exec(pid, "/usr/bin/sleep", &["sleep", "infinity"]);
        for number in 0..CONNECTIONS {
            let source = SocketAddr::from((Ipv4Addr::new(10, 0, 2, 15), 40_000 + number));
            let peer = SocketAddr::from((Ipv4Addr::new(10, 9, 9, 9), 443));
            machine.connect(pid, source, peer);
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        machine.memory().mirror_to(file)?;
        let (is_calm, is_over) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let signals = (Arc::clone(&is_calm), Arc::clone(&is_over));
        let thread = thread::spawn(move || run(&mut machine, pid, &signals.0, &signals.1));
        Ok(Self { is_calm, is_over, thread: Some(thread) })
    }

    /// Ends the connections.
    pub(crate) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(machine: &mut Machine, pid: u32, is_calm: &AtomicBool, is_over: &AtomicBool) {
    let mut ticked = Instant::now();
    let mut is_connected = true;
    while !is_over.load(Ordering::Relaxed) {
        if is_connected && is_calm.load(Ordering::Relaxed) {
            machine.kill(pid);
            is_connected = false;
        }
        let passed = ticked.elapsed();
        ticked += passed;
        machine.tick(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        machine.memory().flush();
        thread::sleep(STEP);
    }
}
