//! A system that is to be watched, and its phase: it waits to be attached to, or is scanned.

use std::sync::Arc;
use std::time::{Duration, Instant};

use panoptes_sources::Placed;

use crate::config::System;
use crate::watch::clock_watch::{Found, SystemShared};
use crate::watch::skipped::Skipped;

/// Pause before a retry of a system; it doubles with each failure, up to the maximum.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) system: System,
    /// Whether it was tried before: in a retry, QEMU may still be loading a saved machine.
    pub(super) is_retry: bool,
    /// Whether it was found by `auto_scan` rather than named: it is removed when it ends.
    pub(super) is_found: bool,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    Waiting(Waiting),
    /// A scanner has it.
    Scanned(Scanned),
    /// It was removed, so that a new system can take its place.
    Gone,
}

/// The next attempt to attach to a system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) due: Instant,
    /// The pause after that attempt, if it fails.
    pause: Duration,
    /// Whether a failure was reported; it is reported once until the system works again.
    pub(super) is_reported: bool,
}

impl Waiting {
    /// The first attempt.
    fn first(due: Instant) -> Self {
        Self { due, pause: RETRY_FIRST, is_reported: false }
    }

    /// The attempt after a failed one.
    pub(super) fn next(self) -> Self {
        Self {
            due: Instant::now() + self.pause,
            pause: (self.pause * 2).min(RETRY_MOST),
            is_reported: true,
        }
    }

    /// Whether to wait for a kernel that is still starting. The wait is bounded, because a kernel
    /// may hide that it has started.
    pub(super) fn is_patient(self) -> bool {
        self.pause < RETRY_MOST
    }
}

/// A system that a scanner has.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) found: Found,
    /// The state shared with the scanner.
    pub(super) shared: Arc<SystemShared>,
    /// The layout of its memory in QEMU when it was opened.
    pub(super) opened_layout: Vec<Placed>,
    /// The same at the last check.
    pub(super) last_layout: Vec<Placed>,
    /// Whether the standstill of its clock was logged.
    pub(super) is_standstill_logged: bool,
    /// What was skipped and already reported.
    pub(super) reported: Skipped,
}

impl Scanned {
    /// A system to scan; `layout` is that of a QEMU process's memory.
    pub(super) fn new(found: Found, shared: Arc<SystemShared>, layout: &[Placed]) -> Self {
        Self {
            found,
            shared,
            opened_layout: layout.to_vec(),
            last_layout: layout.to_vec(),
            is_standstill_logged: false,
            reported: Skipped::default(),
        }
    }
}

impl Candidate {
    pub(super) fn new(system: System, now: Instant, is_found: bool) -> Self {
        Self { system, is_retry: false, is_found, phase: Phase::Waiting(Waiting::first(now)) }
    }

    /// Attaches to it again after a pause.
    pub(super) fn wait_again(&mut self) {
        self.phase = Phase::Waiting(Waiting::first(Instant::now() + RETRY_FIRST));
    }

    pub(super) fn waiting(&self) -> Option<Waiting> {
        if let Phase::Waiting(waiting) = self.phase { Some(waiting) } else { None }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_maximum() {
        let mut waiting = Waiting::first(Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(waiting.pause.as_millis());
            assert_eq!(waiting.is_patient(), waiting.pause < RETRY_MOST);
            waiting = waiting.next();
            assert!(waiting.is_reported);
        }
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }
}
