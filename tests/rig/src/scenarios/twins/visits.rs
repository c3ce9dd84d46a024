//! Twins that come from outside: clients on the host, by a port of QEMU's that leads to the guest's
//! ssh server.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use panoptes_bounded::{self as bounded, Port};
use serde_json::json;

use super::{Turns, Twin};
use crate::boxes;
use crate::cache;
use crate::error::{Error, Result};
use crate::guest::Guest;
use crate::userland;

/// The longest turn.
const TURN_SECONDS: u32 = 120;
/// The time between two turns.
const PAUSE: Duration = Duration::from_secs(2);
/// The end of a failed turn's output that is kept.
const OUTPUT_BYTES: usize = 300;

/// The lanes on the host; they end when this is dropped.
pub(super) struct Visits {
    lanes: Vec<(&'static str, Arc<Mutex<Turns>>)>,
    over: Arc<AtomicBool>,
}

impl Visits {
    /// Starts a lane for each twin that has a visit.
    pub(super) fn start(
        guest: &mut Guest,
        twins: &[(&'static Twin, Turns)],
        folder: &Path,
    ) -> Result<Self> {
        let mut visits = Self { lanes: Vec::new(), over: Arc::default() };
        let visitors: Vec<&'static Twin> =
            twins.iter().map(|(twin, _)| *twin).filter(|twin| !twin.visit.is_empty()).collect();
        if visitors.is_empty() {
            return Ok(visits);
        }
        let tools = boxes::NETWORK_TOOLS.obtain()?;
        let (port, key) = (forward(guest)?, folder.join("key"));
        let lines = guest.agent("run cat /root/.ssh/id_ed25519")?;
        cache::write(&key, format!("{}\n", lines.join("\n")).as_bytes())?;
        userland::set_mode(&key, 0o600)?;
        for twin in visitors {
            let turns = Arc::<Mutex<Turns>>::default();
            visits.lanes.push((twin.name, Arc::clone(&turns)));
            let (over, key, tools) = (Arc::clone(&visits.over), key.clone(), tools.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let done = visit(twin, port, &key, &tools);
                    note(&mut turns.lock().unwrap_or_else(PoisonError::into_inner), done);
                    std::thread::sleep(PAUSE);
                }
            });
        }
        Ok(visits)
    }

    /// The turns of a twin up to now, if it has a visit.
    pub(super) fn turns(&self, twin: &Twin) -> Option<Turns> {
        let (_, turns) = self.lanes.iter().find(|(name, _)| *name == twin.name)?;
        Some(turns.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Drop for Visits {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Makes a port of the host lead to the guest's ssh server.
fn forward(guest: &mut Guest) -> Result<u16> {
    // It stays reserved until QEMU listens there.
    let free = Port::reserve().map_err(|e| Error::new(format!("no free port: {e}")))?;
    let port = free.number();
    let line = format!("hostfwd_add n0 tcp:127.0.0.1:{port}-:22");
    let said = guest.qmp("human-monitor-command", Some(&json!({ "command-line": line })))?;
    match said.as_str() {
        Some("") => Ok(port),
        _ => Err(Error::new(format!("QEMU does not forward port {port}: {said}"))),
    }
}

/// One turn. `tools` is the folder of ssh.
fn visit(twin: &Twin, port: u16, key: &Path, tools: &Path) -> Result<()> {
    let mut bash = crate::tied("timeout");
    bash.args(["-k", "1", &TURN_SECONDS.to_string(), "bash", "-c"]);
    bash.arg(format!("set -e; exec 2>&1 < /dev/null\n{}", twin.visit));
    let searched = std::env::var("PATH").unwrap_or_default();
    bash.env("PATH", format!("{}:{searched}", tools.display()));
    bash.env("port", port.to_string()).env("key", key);
    let done = bounded::output_within(&mut bash, bounded::LONG)
        .map_err(|e| Error::new(format!("cannot start bash: {e}")))?;
    if done.status.success() {
        return Ok(());
    }
    let end = &done.stdout[done.stdout.len().saturating_sub(OUTPUT_BYTES)..];
    let words = String::from_utf8_lossy(end).lines().collect::<Vec<_>>().join(" / ");
    Err(Error::new(format!("{}: {words}", done.status)))
}

fn note(turns: &mut Turns, done: Result<()>) {
    match done {
        Ok(()) => turns.good += 1,
        Err(error) => {
            turns.bad += 1;
            turns.output = error.to_string();
        }
    }
}
