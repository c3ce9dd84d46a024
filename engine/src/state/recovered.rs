//! Processes that came and went between two scans, found in memory that the kernel has not used
//! again.
//!
//! The scan shows ended tasks of the last moments, seen or not ([`crate::walk::Snapshot::ended`]).
//! Those that no scan has seen are reported as created and terminated at once, at most as many as
//! births were missed by the kernel's own count.

use super::MachineState;
use super::change::Change;
use super::emit::Update;
use super::keys::ProcessKey;
use super::process::Process;
use crate::walk::Snapshot;
use panoptes_tables::RecentList;

/// Number of the latest births that are known by their starts.
const BIRTHS_MAX: usize = 1024;

/// The latest births that scans saw, or that were recovered.
#[derive(Debug)]
pub(super) struct Births {
    /// Starts of processes in nanoseconds since boot.
    starts: RecentList<u64>,
    /// Processes that began no later may have been seen. 0 until the first scan.
    known_until: u64,
}

impl Births {
    pub(super) fn new() -> Self {
        Self { starts: RecentList::new(BIRTHS_MAX), known_until: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.starts.clear();
        self.known_until = 0;
    }

    /// Notes the first scan: what began until then is none of its births.
    fn begin(&mut self, snapshot: &Snapshot) {
        if self.known_until == 0 {
            let newest = super::absence::newest(snapshot);
            let clock = snapshot.machine.boot_ns().and_then(|ns| u64::try_from(ns).ok());
            self.known_until = newest.max(clock.unwrap_or(0));
        }
    }

    pub(super) fn note(&mut self, start: u64) {
        let forgotten = self.starts.push(start);
        self.known_until = self.known_until.max(forgotten.unwrap_or(0));
    }

    /// Whether no scan has seen a process that began then. A thread that calls exec in place of its
    /// leader gets the leader's id and start (`de_thread`, fs/exec.c), so the start decides.
    fn is_unseen(&self, start: u64) -> bool {
        start > self.known_until && !self.starts.contains(&start)
    }
}

impl MachineState {
    /// Reports the ended processes of a scan that no scan has seen. `missed` is the number of
    /// births that are missing by the kernel's count. Returns how many were recovered.
    pub(super) fn recover(&mut self, missed: u64, update: &mut Update<'_>) -> u64 {
        let snapshot = update.snapshot;
        self.births.begin(snapshot);
        let mut recovered = 0;
        for task in snapshot.ended.iter() {
            if recovered >= missed || update.must_stop() {
                break;
            }
            let is_new = self.births.is_unseen(task.start_boottime)
                && self.processes.find(&ProcessKey::of(task)).is_none();
            if !is_new {
                continue;
            }
            recovered += 1;
            self.births.note(task.start_boottime);
            if !update.quiet {
                let process = &Process::recovered(task, snapshot, update.now.monotonic);
                let mut emitter = update.emitter(&self.containers, &mut self.names);
                emitter.emit(&Change::ProcessCreated(process));
                emitter.emit(&Change::ProcessTerminated(process));
            }
        }
        recovered
    }
}
