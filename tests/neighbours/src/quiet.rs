//! The quiet systems: their clocks go, and attacks are planted in them.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use panoptes_synthetic::Size;

use crate::machines::Live;
use crate::plants::{Editor, Kind, Plant, editor, plant};

/// Processes of a quiet system.
pub(crate) const PROCESSES: u32 = 100;
/// Memory of a quiet system: an image, tables, and room for what is planted.
const MEMORY_BYTES: u64 = 192 << 20;
/// From one step of a clock to the next: the watcher takes a clock that does not change for 100 ms
/// for that of a stopped machine.
const STEP: Duration = Duration::from_millis(8);
/// The same if there are more than [`FEW`] systems.
const LONG_STEP: Duration = Duration::from_millis(30);
const FEW: usize = 16;

/// A quiet system and what is planted in it.
#[derive(Debug)]
struct Quiet {
    live: Live,
    /// Processes with files to be changed, the next one last.
    editors: Vec<Editor>,
    /// Number of plants and files so far.
    number: u32,
    /// Processes that end after the measure.
    started: Vec<u32>,
}

/// All quiet systems.
#[derive(Debug)]
pub(crate) struct Quiets {
    all: Vec<Quiet>,
    step: Duration,
}

/// How a quiet system is filled.
pub(crate) fn size() -> Size {
    Size {
        processes: PROCESSES,
        kernel_threads: 20,
        threads: 1,
        descriptors: 3,
        areas: 4,
        connections: 0,
        containers: 2,
        processors: 2,
        modules: 4,
    }
}

/// Their limits in the configuration: those for 100 processes, with room for what is planted.
pub(crate) const LIMITS: [(&str, u32); 6] = [
    ("processes", 512),
    ("threads", 1024),
    ("file_descriptors", 4096),
    ("vmas", 8192),
    ("connections", 512),
    ("containers", 64),
];

impl Quiets {
    /// Boots systems named `quiet-1` and so on.
    pub(crate) fn boot(folder: &Path, count: usize) -> io::Result<Self> {
        let boot = |number| {
            let name = format!("quiet-{number}");
            let live = Live::boot(folder, &name, size(), MEMORY_BYTES, number as u64)?;
            Ok(Quiet { live, editors: Vec::new(), number: 0, started: Vec::new() })
        };
        let step = if count > FEW { LONG_STEP } else { STEP };
        Ok(Self { all: (1..=count).map(boot).collect::<io::Result<_>>()?, step })
    }

    /// Name and memory file of each.
    pub(crate) fn systems(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.all.iter().map(|quiet| (quiet.live.name.as_str(), quiet.live.path.as_path()))
    }

    /// Opens the files that `plants` plants of each system will change.
    pub(crate) fn prepare(&mut self, plants: u32) {
        for quiet in &mut self.all {
            for _ in 0..plants.div_ceil(Kind::QUIET.len() as u32) + 2 {
                quiet.number += 1;
                let editor = editor(&mut quiet.live.machine, quiet.number);
                quiet.editors.push(editor);
                quiet.started.push(editor.pid());
            }
            quiet.live.machine.memory().flush();
        }
    }

    /// Ends all that was started for a measure.
    pub(crate) fn clean(&mut self) {
        for quiet in &mut self.all {
            quiet.editors.clear();
            for pid in quiet.started.drain(..) {
                quiet.live.machine.kill(pid);
            }
            quiet.live.machine.memory().flush();
        }
    }

    /// Lets all clocks go until `end`.
    pub(crate) fn run(&mut self, end: Instant) {
        while Instant::now() < end {
            self.tick();
            std::thread::sleep(self.step);
        }
    }

    /// Lets time pass in all systems.
    pub(crate) fn tick(&mut self) {
        for quiet in &mut self.all {
            quiet.live.tick(self.step);
        }
    }

    /// Plants an attack in each system every `period` from now to `end`, one system after the
    /// other; returns what was planted.
    pub(crate) fn plant(&mut self, period: Duration, end: Instant) -> Vec<Plant> {
        let (start, count) = (Instant::now(), self.all.len() as u32);
        let (mut next, mut plants) = (0_u32, Vec::new());
        while Instant::now() < end {
            self.tick();
            if start.elapsed() >= period * next / count {
                let (system, round) = ((next % count) as usize, next / count);
                let kind = Kind::QUIET[(round as usize + system) % Kind::QUIET.len()];
                plants.push(self.all[system].plant(kind));
                next += 1;
            }
            std::thread::sleep(self.step);
        }
        plants
    }
}

impl Quiet {
    fn plant(&mut self, kind: Kind) -> Plant {
        let at = SystemTime::now();
        let editor = match kind {
            Kind::ChangedFile => self.editors.pop(),
            _ => self.editors.last().copied(),
        };
        let editor = editor.expect("there is a file for each plant");
        self.number += 1;
        let pid = plant(&mut self.live.machine, kind, self.number, editor, 0);
        if kind != Kind::ChangedFile {
            self.started.push(pid);
        }
        Plant { kind, system: self.live.name.clone(), pid, at }
    }
}
