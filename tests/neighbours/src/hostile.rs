//! The hostile system: what an attack of [`crate::attacks`] can use.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use panoptes_synthetic::{ForkOptions, Machine, Size};

use crate::machines::Live;
use crate::plants::{Editor, Kind, Plant, editor, plant};

/// The name of the hostile system.
pub(crate) const NAME: &str = "hostile";
/// Its address space has room for all attacks. Only what is stored takes memory.
const MEMORY_BYTES: u64 = 1 << 30;
/// From one step of the clock to the next.
const STEP: Duration = Duration::from_millis(8);

/// What the threads of a run let each other know.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// The attack begins.
    pub(crate) ready: AtomicBool,
    /// The attack has done what it hides.
    pub(crate) acted: AtomicBool,
    /// The attack ends.
    pub(crate) stop: AtomicBool,
}

/// The hostile system while an attack runs.
#[derive(Debug)]
pub(crate) struct Hostile<'a> {
    live: Live,
    signals: &'a Signals,
    clock_goes: bool,
    /// Whether the attack ends with its act.
    only_acts: bool,
    hides: Kind,
    editor: Editor,
    /// What the attack did under its cover.
    pub(crate) act: Option<Plant>,
}

impl<'a> Hostile<'a> {
    /// Boots the system for an attack that hides a plant of the kind `hides`.
    pub(crate) fn boot(folder: &Path, hides: Kind, signals: &'a Signals) -> io::Result<Self> {
        let size = Size {
            processes: 30,
            kernel_threads: 10,
            threads: 1,
            descriptors: 3,
            areas: 4,
            connections: 0,
            containers: 1,
            processors: 2,
            modules: 4,
        };
        let mut live = Live::boot(folder, NAME, size, MEMORY_BYTES, 99)?;
        let editor = editor(&mut live.machine, 0);
        live.tick(STEP);
        Ok(Self { live, signals, clock_goes: true, only_acts: false, hides, editor, act: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.live.path
    }

    /// Lets the clock go until the watcher is ready; `false` if it ends before.
    pub(crate) fn wait_until_ready(&mut self) -> bool {
        while !self.signals.ready.load(Ordering::Relaxed) {
            if !self.rest(STEP) {
                return false;
            }
        }
        true
    }

    pub(crate) fn machine(&mut self) -> &mut Machine {
        &mut self.live.machine
    }

    /// Lets time pass during the attack. Call it between operations. Returns `false` when the
    /// attack must end.
    pub(crate) fn goes_on(&mut self) -> bool {
        if self.clock_goes {
            self.live.tick(STEP);
        } else {
            self.live.machine.memory().flush();
        }
        let is_over = self.only_acts && self.act.is_some();
        !is_over && !self.signals.stop.load(Ordering::Relaxed)
    }

    /// Ends the attack as soon as it has acted.
    #[cfg(test)]
    pub(crate) fn act_only(&mut self) {
        self.only_acts = true;
    }

    /// As [`Self::goes_on`], after a rest.
    pub(crate) fn rest(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            if !self.goes_on() {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(STEP));
        }
    }

    /// Rests until the attack must end.
    pub(crate) fn rest_on(&mut self) {
        while self.rest(Duration::from_millis(50)) {}
    }

    /// Stops the machine's clock, as an attacker with the rights of its kernel does.
    pub(crate) fn stop_clock(&mut self) {
        self.clock_goes = false;
    }

    /// Does what the attack hides. Call it once, when the cover is complete.
    pub(crate) fn act(&mut self) {
        self.act_in(0);
    }

    /// As [`Self::act`], in a container.
    pub(crate) fn act_in(&mut self, container: usize) {
        self.goes_on();
        let at = SystemTime::now();
        let pid = plant(&mut self.live.machine, self.hides, 1, self.editor, container);
        let system = self.live.name.clone();
        self.act = Some(Plant { kind: self.hides, system, pid, at });
        self.signals.acted.store(true, Ordering::Relaxed);
    }

    /// Starts a process of an ordinary user.
    pub(crate) fn process(&mut self, path: &str, arguments: &[&str]) -> u32 {
        let options = ForkOptions { container: 0, uid: 1000, new_session: true };
        let pid = self.live.machine.fork_with(1, options);
        self.live.machine.exec(pid, path, arguments);
        pid
    }

    /// A process that only keeps something busy.
    pub(crate) fn busy(&mut self) -> u32 {
        self.process("/usr/bin/busy", &["busy"])
    }
}
