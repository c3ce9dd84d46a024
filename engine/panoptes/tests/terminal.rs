//! `panoptes watch` on a terminal: lines for people, and a status line that never mixes with them.

mod recorded;

use std::fs::{self, File};
use std::io::Read as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use tempfile::TempDir;

use recorded::write_machine;

/// Maximum time to wait for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);
/// Wide enough that no line is continued in the next row.
const COLUMNS: u16 = 1000;

/// Which of the program's outputs are the terminal.
#[derive(Clone, Copy, Debug, Default)]
struct Start<'a> {
    arguments: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    stdout_elsewhere: bool,
    stderr_elsewhere: bool,
}

/// `panoptes watch` on a terminal of its own; killed at the end of the test.
struct Watch {
    folder: TempDir,
    child: Child,
    written: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the machine `web`, and `db`, whose memory does not exist; `None` without xz.
    fn start(start: Start) -> Option<Self> {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let web = folder.path().join("web");
        if !write_machine(&[web]) {
            return None;
        }
        let size = Winsize { ws_row: 50, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).expect("a terminal can be made");
        let slave = || Stdio::from(terminal.slave.try_clone().expect("it can be opened"));
        let other = |name: &str| {
            Stdio::from(File::create(folder.path().join(name)).expect("there is room"))
        };
        let child = Command::new(env!("CARGO_BIN_EXE_panoptes"))
            .args(["watch", "web", "db"])
            .args(["--limits", "processes=512,vmas=16384,file_descriptors=8192"])
            .args(start.arguments)
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .envs(start.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(if start.stdout_elsewhere { other("out") } else { slave() })
            .stderr(if start.stderr_elsewhere { other("err") } else { slave() })
            .spawn()
            .expect("the program starts");
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut master, keeps) = (File::from(terminal.master), Arc::clone(&written));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal that nobody has open any more gives an error.
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                lock(&keeps).extend_from_slice(&bytes[..count]);
            }
        });
        Some(Self { folder, child, written, reader: Some(reader) })
    }

    /// Everything that was written to the terminal.
    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.written)).into_owned()
    }

    #[track_caller]
    fn wait(&self, what: &str, is_true: impl Fn(&str) -> bool) {
        let begin = Instant::now();
        while !is_true(&self.text()) {
            assert!(begin.elapsed() < PATIENCE, "no {what}: {:?}", self.text());
            sleep(Duration::from_millis(10));
        }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Stops it as Ctrl+C does; returns what the terminal shows then.
    fn stop(mut self) -> (ExitStatus, Vec<String>) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).expect("it runs");
        let status = bounded::wait(&mut self.child).expect("it ends");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("all was read");
        }
        (status, rows(&self.text()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = bounded::wait(&mut self.child);
    }
}

fn lock(written: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rows of a terminal that was sent this text.
fn rows(text: &str) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut column = 0;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let row = rows.last_mut().expect("there is one");
        match character {
            '\r' => column = 0,
            '\n' => rows.push(String::new()),
            '\x1b' => {
                assert_eq!(characters.next(), Some('['), "{text:?}");
                let end = characters.find(char::is_ascii_alphabetic);
                match end {
                    Some('K') => row.truncate(column),
                    Some('m') => {}
                    other => panic!("{other:?} in {text:?}"),
                }
            }
            _ => {
                // All is ASCII here.
                row.truncate(column);
                row.push(character);
                column += 1;
            }
        }
    }
    rows
}

/// Whether a row is a message, or the line of a record.
fn is_whole(row: &str) -> bool {
    let is_record = row.len() > 62 && row.as_bytes()[2] == b':' && row.as_bytes()[8] == b'.';
    (row.starts_with("panoptes: ") || is_record) && !row.contains("watching ")
}

const STATUS: &str = "\r\x1b[Kwatching 1 of 2 systems, scan ";

#[test]
fn a_status_line_never_mixes_with_lines() {
    let Some(watch) = Watch::start(Start::default()) else { return };
    watch.wait("status", |text| text.contains(STATUS));
    // Soon: the pauses between the tries to attach grow. A line comes while the status line stands
    // there.
    let new = watch.folder.path().join("new");
    // Sparse, which a copy would not be.
    assert!(write_machine(std::slice::from_ref(&new)));
    fs::rename(new, watch.folder.path().join("db")).unwrap();
    watch.wait("second system", |text| text.contains("\r\x1b[Kwatching 2 systems, scan "));
    let text = watch.text();
    let status = text.rsplit("watching ").next().unwrap();
    let figures: Vec<&str> = status.split(", ").collect();
    assert!(figures[1].ends_with(" ms") || figures[1].ends_with(" s"), "{status:?}");
    let objects = figures[2].strip_suffix(" objects").map(str::parse::<u64>);
    assert!(objects.is_some_and(|count| count.is_ok_and(|count| count > 100)), "{status:?}");
    let (exit, rows) = watch.stop();
    assert_eq!(exit.code(), Some(0), "{rows:?}");
    let (last, lines) = rows.split_last().unwrap();
    assert_eq!(last, "", "the status line is erased: {rows:?}");
    assert!(lines.iter().all(|row| is_whole(row)), "{rows:?}");
    for text in ["host_initialization_successful", "service_gracefully_shutdown", "panoptes: web"] {
        assert!(lines.iter().any(|row| row.contains(text)), "no {text}: {rows:?}");
    }
}

/// Watches until a scan was made and a status line would stand there; returns what was written to
/// the terminal, and what was written elsewhere.
fn watched(start: Start) -> Option<(String, String)> {
    let watch = Watch::start(start)?;
    let all = |watch: &Watch, text: &str| text.to_owned() + &watch.file("out") + &watch.file("err");
    watch.wait("system", |text| all(&watch, text).contains("panoptes: web: Linux 6.1"));
    watch.wait("failure", |text| all(&watch, text).contains("No such file or directory"));
    // Time for a status line.
    sleep(Duration::from_millis(1500));
    let text = watch.text();
    let elsewhere = all(&watch, "");
    let (exit, rows) = watch.stop();
    assert_eq!(exit.code(), Some(0), "{rows:?}");
    Some((text, elsewhere))
}

#[test]
fn only_people_at_a_capable_terminal_have_a_status_line() {
    for start in [
        Start { arguments: &["--json"], ..Start::default() },
        Start { environment: &[("TERM", "dumb")], ..Start::default() },
        Start { stdout_elsewhere: true, ..Start::default() },
        Start { stderr_elsewhere: true, ..Start::default() },
    ] {
        let Some((text, elsewhere)) = watched(start) else { return };
        assert!(!text.contains("watching") && !elsewhere.contains("watching"), "{start:?}");
        assert!(!text.contains("\x1b[K") && !elsewhere.contains('\x1b'), "{start:?}: {text:?}");
        let is_json = elsewhere.starts_with('{') || text.contains("\n{");
        let wants_json = start.stdout_elsewhere || !start.arguments.is_empty();
        assert_eq!(is_json, wants_json, "{start:?}: {text:?} {elsewhere:?}");
    }
}

#[test]
fn without_colours_there_is_a_status_line() {
    let start = Start { environment: &[("NO_COLOR", "1")], ..Start::default() };
    let Some(watch) = Watch::start(start) else { return };
    watch.wait("status", |text| text.contains(STATUS));
    let text = watch.text();
    assert!(!text.replace("\x1b[K", "").contains('\x1b'), "{text:?}");
}

#[test]
fn a_terminal_shows_what_the_options_name() {
    for (arguments, expected) in [
        (["--activities", "host_initialization_successful"], "host_initialization_successful"),
        (["--severity", "ERROR"], "host_initialization_failed"),
    ] {
        let Some((text, _)) = watched(Start { arguments: &arguments, ..Start::default() }) else {
            return;
        };
        let mut lines = rows(&text);
        lines.retain(|row| !row.starts_with("panoptes: ") && !row.starts_with("watching "));
        let names: Vec<&str> =
            lines.iter().filter_map(|row| row.get(22..62)).map(str::trim).collect();
        assert_eq!(names, [expected], "{arguments:?}: {lines:?}");
    }
}

#[test]
fn rows_are_those_of_a_terminal() {
    assert_eq!(rows("abc\r\x1b[Kd\r\n\x1b[1;31me\x1b[0m"), ["d", "e"]);
    assert_eq!(rows("abc\rd"), ["d"], "what is behind is left out, so that it is missed");
}
