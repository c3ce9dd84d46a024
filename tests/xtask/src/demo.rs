//! `cargo xtask demo`: Panoptes watches a guest that runs a tour of ordinary and hostile activity.
//!
//! Prints a line for each act and for what matters of its records, then the alerts with their
//! reasons and delays. All records go into a file. The tests check correctness; this command only
//! shows it.

use std::io::{BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_records::activities::{Activity, Preset};
use panoptes_records::people::{LineStyle, escape, line};
use panoptes_rig::story::Story;
use panoptes_rig::{Flavor, Guest, GuestSpec, Kernel, cache, death, setup};
use serde_json::Value;

use crate::{folders, human, processes, program};

/// Boots a guest that does ordinary and hostile things, and watches it live
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Kernel of the guest
    #[arg(long, value_name = "NAME", default_value = "6.1", value_parser = Flavor::from_name)]
    kernel: Flavor,
    /// Show every record: also descriptors, mappings and the guest's own housekeeping
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
    /// The guest's last act, and when its line came.
    act: Mutex<Option<(String, Instant)>>,
}

impl Screen {
    fn new() -> Self {
        let is_coloured = std::io::stdout().is_terminal();
        Self { is_coloured, lines: Mutex::default(), act: Mutex::default() }
    }

    /// Prints what the guest does next.
    fn begin_act(&self, line: &str) {
        let name = human::name_of_act(line);
        if let Ok(mut act) = self.act.lock() {
            *act = Some((name.to_owned(), Instant::now()));
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now_ns = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        self.print(|colour| human::act(name, now_ns, colour));
    }

    /// The last act, and how long ago its line came.
    fn last_act(&self) -> Option<(String, Duration)> {
        let act = self.act.lock().ok()?;
        act.as_ref().map(|(name, at)| (name.clone(), at.elapsed()))
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
    guest.agent_lines("tour", |line| screen.begin_act(line))?;
    std::thread::sleep(Duration::from_millis(500));
    let Shown { records, alerts, story, errors } = watcher.stop()?;
    drop(guest);

    println!();
    print_alerts(&alerts, screen);
    println!();
    println!(
        "{}: {} after the alerts that began them have their incident_id.",
        human::counted(story.incidents, "incident"),
        human::counted(story.members, "record"),
    );
    println!(
        "{} in {:.0} s, one JSON object per line:",
        human::counted(records, "record"),
        begin.elapsed().as_secs_f64()
    );
    println!("  {}", folder.join("events.jsonl").display());
    if story.incidents == 0 {
        return Err("no alert began an incident".into());
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(format!("records without their right incident: {}", errors.join("; ")))
}

/// Prints the alerts, those of the highest severity first, with their reasons and delays.
fn print_alerts(alerts: &[Alert], screen: &Screen) {
    let of = |severity: &str| {
        let count = alerts.iter().filter(|alert| alert.severity == severity).count();
        (count > 0).then(|| format!("{count} {severity}"))
    };
    let severities: Vec<String> = SEVERITIES.iter().copied().filter_map(of).collect();
    screen
        .print(|_| format!("{}: {}", human::counted(alerts.len(), "alert"), severities.join(", ")));
    for severity in SEVERITIES {
        for alert in alerts.iter().filter(|alert| alert.severity == severity) {
            screen.print(|colour| alert.heading(colour));
            screen.print(|_| format!("    {}", escape(&alert.reason)));
        }
    }
}

/// The severities of alerts, from the highest one on.
const SEVERITIES: [&str; 5] = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFO"];

/// An alert that was reported.
struct Alert {
    severity: String,
    name: String,
    reason: String,
    /// The act before it, and the time from the line of that act to this record.
    act: Option<(String, Duration)>,
}

impl Alert {
    /// Reads a record; `None` if it is no alert.
    fn of(record: &Value, act: Option<(String, Duration)>) -> Option<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (record["message_type"] == "ALERT").then(|| Self {
            severity: text(&record["severity"]),
            name: text(&record["activity_data"]["name"]),
            reason: text(&record["detection"]["reason"]),
            act,
        })
    }

    fn heading(&self, colour: bool) -> String {
        let Self { severity, name, .. } = self;
        let after = self
            .act
            .as_ref()
            .map(|(act, delay)| format!(", {:.2} s after: {}", delay.as_secs_f64(), escape(act)));
        let line = format!("  {severity:<8}{name}{}", after.unwrap_or_default());
        if colour { format!("\x1b[1;31m{line}\x1b[0m") } else { line }
    }
}

/// What was shown.
#[derive(Default)]
struct Shown {
    /// Number of records.
    records: usize,
    alerts: Vec<Alert>,
    story: Story,
    /// Errors of the incidents.
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
        let name = record["activity_data"]["name"].as_str().unwrap_or("?");
        if name == "host_initialization_successful"
            && let Ok(mut attached) = attached.lock()
        {
            *attached = true;
        }
        shown.records += 1;
        shown.alerts.extend(Alert::of(&record, screen.last_act()));
        let preset = Activity::from_name(name).map(Activity::preset).unwrap_or_default();
        let is_event = record["message_type"] != "SYSTEM_ACTIVITY";
        let matters = preset <= Preset::Security && is_event && !human::is_housekeeping(&record);
        if all || matters {
            screen.print(|has_colours| {
                line(&record, LineStyle { has_colours, ..LineStyle::default() })
            });
        }
        shown.errors.extend(shown.story.read(&record));
    }
    shown
}
