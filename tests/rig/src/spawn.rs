//! Starts child processes from one thread that lives as long as the program.
//!
//! The kernel sends the parent-death signal when the *thread* that forked ends. A guest started by
//! one test's thread and used by another's would die with the first. So one thread forks for all.

use std::ffi::OsStr;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};

use panoptes_bounded as bounded;

use crate::error::{Error, Result};

/// A command that runs a program and kills it when the thread that started it ends. So no process
/// is left behind even if the rig itself is killed.
pub fn tied(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

type Request = (Command, Sender<std::io::Result<Child>>);

/// Starts `command` on the thread that never ends.
pub(crate) fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in requests {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let name = command.get_program().to_string_lossy().into_owned();
    let (reply, answer) = channel();
    let sender = spawner.lock().map_err(|_| Error::new("a thread that started QEMU panicked"))?;
    sender.send((command, reply)).map_err(|_| Error::new("the thread that starts QEMU ended"))?;
    drop(sender);
    let started =
        bounded::recv(&answer).map_err(|_| Error::new("the thread that starts QEMU ended"))?;
    started.map_err(|e| Error::new(format!("cannot start {name}: {e}; run `cargo xtask setup`")))
}
