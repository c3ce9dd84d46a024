//! `cargo xtask demo`: Panoptes watches a guest that runs a tour of ordinary and hostile activity.
//!
//! Prints one line per activity for people and writes the records to a file. The tests check
//! correctness; this command only shows it.

use std::collections::BTreeMap;
use std::io::{BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_rig::story::Story;
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, cache, death, setup};
use panoptes_sinks::people::{LineStyle, escape, line};
use serde_json::Value;

use crate::{folders, human, processes, program};

/// Boots a guest that does ordinary and hostile things, and watches it live
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Kernel of the guest
    #[arg(long, value_name = "NAME", default_value = "6.1", value_parser = Flavor::from_name)]
    kernel: Flavor,
    /// Show the guest's own housekeeping, too
    #[arg(long)]
    all: bool,
    /// Draw some of the lines into an SVG file
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// Maximum time for the watcher to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(options: Options) -> Result<(), String> {
    setup::ensure()?;
    let kernel = Kernel::obtain(options.kernel)?;
    let program = program::build()?;
    let screen = Arc::new(Screen::new());
    death::survive(|| tour(&kernel, &program, options.all, &screen))?;
    let Some(path) = options.picture else { return Ok(()) };
    let lines = screen.lines.lock().map_err(|_| "the reader failed")?;
    Ok(cache::write(&path, crate::picture::svg(&lines).as_bytes())?)
}

/// What the demo prints, kept with its colours.
struct Screen {
    is_coloured: bool,
    lines: Mutex<Vec<String>>,
}

impl Screen {
    fn new() -> Self {
        Self { is_coloured: std::io::stdout().is_terminal(), lines: Mutex::default() }
    }

    /// Prints a line, which `make` makes with colours or without.
    fn print(&self, make: impl Fn(bool) -> String) {
        println!("{}", make(self.is_coloured));
        if let Ok(mut lines) = self.lines.lock() {
            lines.push(make(true));
        }
    }
}

/// Boots a guest, runs its tour and prints what is reported.
fn tour(kernel: &Kernel, program: &Path, all: bool, screen: &Arc<Screen>) -> Result<(), String> {
    eprintln!("demo: booting Linux {} in QEMU …", kernel.release());
    let begin = Instant::now();
    let mut guest = Guest::boot(&GuestSpec::new(kernel.clone()))?;
    let folder = folders::numbered("demo")?;
    let mut watcher = Watcher::start(program, &guest, &folder, all, screen)?;
    watcher.wait_until_attached()?;
    eprintln!("demo: watching the guest from outside; Panoptes reads only its memory file");
    eprintln!();
    guest.agent_lines("tour", |line| screen.print(|colour| human::act(line, colour)))?;
    std::thread::sleep(Duration::from_millis(500));
    let Shown { counts, story, errors } = watcher.stop()?;
    drop(guest);

    println!();
    println!("What was reported:");
    for (name, count) in &counts {
        println!("  {count:>6}  {name}");
    }
    println!();
    println!(
        "{:.0} s after the guest was started. The records, one JSON object per line:",
        begin.elapsed().as_secs_f64()
    );
    println!("  {}", folder.join("events.jsonl").display());
    println!("{} incidents have {} later records.", story.incidents, story.members);
    if story.incidents == 0 {
        return Err("no alert began an incident".into());
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(format!("records without their right incident: {}", errors.join("; ")))
}

/// What was shown.
#[derive(Default)]
struct Shown {
    /// Number of records by activity.
    counts: BTreeMap<String, u64>,
    story: Story,
    /// What is wrong with the incidents.
    errors: Vec<String>,
}

/// `panoptes watch`, and a thread that prints its records.
struct Watcher {
    child: Child,
    reader: Option<JoinHandle<Shown>>,
    attached: Arc<Mutex<bool>>,
}

impl Watcher {
    fn start(
        program: &Path,
        guest: &Guest,
        folder: &Path,
        all: bool,
        screen: &Arc<Screen>,
    ) -> Result<Self, String> {
        let mut child = Command::new(program)
            .arg("watch")
            .arg(guest.ram_path())
            .args(["--interval", "10ms", "--set", "output.stdout=true", "--log-folder"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start {}: {e}", program.display()))?;
        let stdout = child.stdout.take().ok_or("panoptes has no output")?;
        let attached = Arc::new(Mutex::new(false));
        let seen = Arc::clone(&attached);
        let screen = Arc::clone(screen);
        let reader = std::thread::spawn(move || show(BufReader::new(stdout), &seen, all, &screen));
        Ok(Self { child, reader: Some(reader), attached })
    }

    fn wait_until_attached(&mut self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            if *self.attached.lock().map_err(|_| "the reader failed")? {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("panoptes ended before it attached ({status})"));
            }
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
                return Err("panoptes did not find the guest's kernel".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the watcher to stop, waits for its end, and returns what was shown.
    fn stop(mut self) -> Result<Shown, String> {
        let pid = i32::try_from(self.child.id()).map_err(|e| e.to_string())?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|e| e.to_string())?;
        let status = processes::wait(&mut self.child, PATIENCE).map_err(|e| e.to_string())?;
        let Some(status) = status else {
            let _ = self.child.kill();
            return Err("panoptes did not stop on request".into());
        };
        let reader = self.reader.take().ok_or("there is no reader")?;
        let shown = reader.join().map_err(|_| "the reader failed")?;
        if status.success() { Ok(shown) } else { Err(format!("panoptes ended with {status}")) }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The watcher has already ended unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prints records as lines for people until the stream ends.
fn show(
    records: impl std::io::BufRead,
    attached: &Mutex<bool>,
    all: bool,
    screen: &Screen,
) -> Shown {
    let mut shown = Shown::default();
    for text in records.lines() {
        let Ok(text) = text else { break };
        let Ok(record) = serde_json::from_str::<Value>(&text) else {
            println!("not a record: {}", escape(&text));
            continue;
        };
        let name = record["activity_data"]["name"].as_str().unwrap_or("?").to_owned();
        if name == "host_initialization_successful"
            && let Ok(mut attached) = attached.lock()
        {
            *attached = true;
        }
        *shown.counts.entry(name).or_insert(0) += 1;
        if all || !human::is_housekeeping(&record) {
            screen.print(|has_colours| {
                line(&record, LineStyle { has_colours, ..LineStyle::default() })
            });
        }
        shown.errors.extend(shown.story.read(&record));
    }
    shown
}
