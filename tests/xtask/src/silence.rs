//! Runs programs whose output is shown as it comes, and ends one that prints nothing for minutes.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::processes;

/// A program that prints nothing for this long hangs: the slowest crate compiles in less.
pub(crate) const SILENCE_MAX: Duration = Duration::from_mins(5);
/// How often the program's end is checked while it prints nothing.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How long lines are awaited after the program's end: what it started may hold its output open.
const LAST_LINES_TIME: Duration = Duration::from_secs(1);

/// How a program ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Status(ExitStatus),
    /// It printed nothing for too long, and was ended with all that it had started.
    Silent,
}

/// Runs a program with an empty input. `on_line` gets each line of both its outputs.
pub(crate) fn run(
    command: Command,
    silence_max: Duration,
    on_line: impl FnMut(&str),
) -> io::Result<End> {
    let (reader, writer) = io::pipe()?;
    let mut command = command;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // The command has the ends to write to, and the output has no end while they are open.
    drop(command);
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    pass_on(&mut child, &lines, silence_max, on_line)
}

/// Passes on lines until the program has ended, or was silent for too long.
fn pass_on(
    child: &mut Child,
    lines: &mpsc::Receiver<String>,
    silence_max: Duration,
    mut on_line: impl FnMut(&str),
) -> io::Result<End> {
    let (mut last, mut ended) = (Instant::now(), None);
    loop {
        match lines.recv_timeout(CHECK_INTERVAL.min(silence_max)) {
            Ok(line) => {
                on_line(&line);
                last = Instant::now();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(1)),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some(status) = child.try_wait()? {
            let (since, status) = *ended.get_or_insert((Instant::now(), status));
            let is_read = lines.try_recv() == Err(mpsc::TryRecvError::Disconnected);
            if is_read || since.elapsed() >= LAST_LINES_TIME.min(silence_max) {
                return Ok(End::Status(status));
            }
        } else if last.elapsed() >= silence_max {
            processes::end_tree(child.id());
            let _ = child.wait();
            return Ok(End::Silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn lines_of(script: &str, silence_max: Duration) -> (Vec<String>, End) {
        let mut lines = Vec::new();
        let end = run(shell(script), silence_max, |line| lines.push(line.to_owned())).unwrap();
        (lines, end)
    }

    #[test]
    fn each_line_of_both_outputs_is_passed_on() {
        let (lines, end) = lines_of("echo a; echo b >&2; printf c; exit 3", SILENCE_MAX);
        assert_eq!(lines, ["a", "b", "c"]);
        let End::Status(status) = end else { panic!("{end:?}") };
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn a_silent_program_is_ended_with_all_that_it_started() {
        let begin = Instant::now();
        let script = "sleep 1000 & echo $!; sleep 1000";
        let (lines, end) = lines_of(script, Duration::from_millis(300));
        assert_eq!(end, End::Silent);
        assert!(begin.elapsed() < Duration::from_mins(1));
        let child = format!("/proc/{}/stat", lines[0]);
        // It is gone, or dead and not yet collected by init.
        let is_dead = || std::fs::read_to_string(&child).map_or(true, |stat| stat.contains(") Z "));
        while !is_dead() {
            assert!(begin.elapsed() < Duration::from_mins(1), "{child} lives");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_program_that_leaves_its_output_open_has_ended() {
        let begin = Instant::now();
        let (lines, end) = lines_of("sleep 1000 & echo $!", Duration::from_mins(10));
        assert!(matches!(end, End::Status(status) if status.success()));
        assert!(begin.elapsed() < Duration::from_mins(1));
        processes::end_tree(lines[0].parse().unwrap());
    }
}
