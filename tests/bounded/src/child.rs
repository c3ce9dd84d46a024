//! Programs that end, or are killed.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::read::poll_until;
use crate::{BOUND, POLL};

/// How long the end of a killed child may take.
const KILLED: Duration = Duration::from_secs(5);

/// Waits for the end of a child, whose standard input it closes as [`Child::wait`] does.
///
/// After [`BOUND`] the child is killed. The error has its process id and [`ErrorKind::TimedOut`].
pub fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    wait_within(child, BOUND)
}

/// As [`wait`], with another bound.
pub fn wait_within(child: &mut Child, bound: Duration) -> io::Result<ExitStatus> {
    drop(child.stdin.take());
    let status = ended(child, Instant::now() + bound)?;
    status.ok_or_else(|| late(child, bound, b""))
}

/// Waits for the end of a child. What it writes to its pipes is read meanwhile.
///
/// After [`BOUND`] the child is killed. The error has its process id, what it wrote and
/// [`ErrorKind::TimedOut`].
pub fn wait_with_output(child: Child) -> io::Result<Output> {
    wait_with_output_within(child, BOUND)
}

/// As [`wait_with_output`], with another bound.
pub fn wait_with_output_within(mut child: Child, bound: Duration) -> io::Result<Output> {
    drop(child.stdin.take());
    let until = Instant::now() + bound;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let out = child.stdout.take().map(|pipe| (File::from(OwnedFd::from(pipe)), &mut stdout));
    let err = child.stderr.take().map(|pipe| (File::from(OwnedFd::from(pipe)), &mut stderr));
    let is_read = drain([out, err].into_iter().flatten().collect(), until)?;
    match ended(&mut child, until)? {
        Some(status) if is_read => Ok(Output { status, stdout, stderr }),
        _ => Err(late(&mut child, bound, &[stdout, stderr].concat())),
    }
}

/// Runs a program without input to its end, and collects what it writes.
///
/// After [`BOUND`] the program is killed. The error has its name, what it wrote and
/// [`ErrorKind::TimedOut`]. Other errors are those of starting it.
pub fn output(command: &mut Command) -> io::Result<Output> {
    output_within(command, BOUND)
}

/// As [`output`], with another bound.
pub fn output_within(command: &mut Command, bound: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    wait_with_output_within(child, bound).map_err(|error| named(command, &error))
}

/// Runs a program to its end. It has the input and the outputs that the command names, or this
/// process's.
///
/// After [`BOUND`] the program is killed. The error has its name and [`ErrorKind::TimedOut`]. Other
/// errors are those of starting it.
pub fn status(command: &mut Command) -> io::Result<ExitStatus> {
    status_within(command, BOUND)
}

/// As [`status`], with another bound.
pub fn status_within(command: &mut Command, bound: Duration) -> io::Result<ExitStatus> {
    let mut child = command.spawn()?;
    wait_within(&mut child, bound).map_err(|error| named(command, &error))
}

/// Reads pipes to their ends; `false` if the time is over before.
fn drain(mut pipes: Vec<(File, &mut Vec<u8>)>, until: Instant) -> io::Result<bool> {
    let mut bytes = vec![0; 1 << 16];
    while !pipes.is_empty() {
        let mut polled: Vec<_> =
            pipes.iter().map(|(pipe, _)| PollFd::new(pipe, PollFlags::IN)).collect();
        if !poll_until(&mut polled, until)? || Instant::now() > until {
            return Ok(false);
        }
        let ready: Vec<_> = polled.iter().map(|pipe| !pipe.revents().is_empty()).collect();
        for index in (0..ready.len()).rev().filter(|&index| ready[index]) {
            let (pipe, text) = &mut pipes[index];
            let count = pipe.read(&mut bytes)?;
            text.extend_from_slice(&bytes[..count]);
            if count == 0 {
                pipes.remove(index);
            }
        }
    }
    Ok(true)
}

/// How a child has ended; `None` if it still runs at that time.
fn ended(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() > until {
            return Ok(status);
        }
        sleep(POLL);
    }
}

/// Kills a child that is late.
fn late(child: &mut Child, bound: Duration, written: &[u8]) -> io::Error {
    let still = match child.try_wait() {
        // A program that it started has the pipes, too.
        Ok(Some(status)) => format!("has ended ({status}), but its output had no end"),
        _ => "still ran".to_owned(),
    };
    let written = String::from_utf8_lossy(written);
    let written =
        if written.is_empty() { written } else { format!("; it wrote: {written}").into() };
    let text = format!("process {} {still} after {} s{written}", child.id(), bound.as_secs());
    drop(child.kill());
    drop(ended(child, Instant::now() + KILLED));
    io::Error::new(ErrorKind::TimedOut, text)
}

fn named(command: &Command, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", command.get_program().display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const SHORT: Duration = Duration::from_millis(50);
    /// Time in which a shell starts and writes, on a busy machine, too.
    const LATE: Duration = Duration::from_millis(900);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn is_gone(child: &Child) -> bool {
        !Path::new(&format!("/proc/{}", child.id())).exists()
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let error = wait_within(&mut child, SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), format!("process {} still ran after 0 s", child.id()));
        assert!(is_gone(&child));
    }

    #[test]
    fn a_child_ends() {
        let mut child = sh("read line; exit 3").stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(wait(&mut child).unwrap().code(), Some(3), "its input is closed");
        assert_eq!(status(&mut sh("exit 4")).unwrap().code(), Some(4));
    }

    #[test]
    fn output_of_any_length_is_read() {
        let script = "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; cat; exit 5";
        let found = output(&mut sh(script)).unwrap();
        assert_eq!((found.stdout.len(), found.stderr.len()), (300_000, 300_000));
        assert_eq!(found.status.code(), Some(5));
    }

    #[test]
    fn a_late_program_is_named_with_what_it_wrote() {
        let error = output_within(&mut sh("echo a; echo b >&2; exec sleep 1000"), LATE);
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("sh: process "), "{text}");
        assert!(text.ends_with(" still ran after 0 s; it wrote: a\nb\n"), "{text}");
        let error = output_within(&mut sh("exec yes"), SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "it never stops writing");
        let error = status_within(&mut sh("exec sleep 1000"), SHORT).unwrap_err();
        assert!(error.to_string().starts_with("sh: process "), "{error}");
    }

    #[test]
    fn a_pipe_that_another_program_has_is_a_failure() {
        let error = output_within(&mut sh("sleep 5 & exit 0"), Duration::from_millis(300));
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_a_failure() {
        let missing = "/missing/program";
        let error = output(&mut Command::new(missing)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
