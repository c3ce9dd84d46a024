//! How long the end of the program waits for outputs.

use std::time::{Duration, Instant};

use super::signals::Signals;

/// How long the end of the program waits for receivers, and for files after a signal.
pub(super) const LAST_WAIT: Duration = Duration::from_secs(5);

/// How long the end of the program waits.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    signals: Signals,
    before: u32,
    begin: Instant,
}

impl Patience {
    pub(super) fn begin(signals: &Signals) -> Self {
        // The first one has ended the audit; a second one may have come since.
        Self { signals: signals.clone(), before: signals.ends().min(1), begin: Instant::now() }
    }

    /// Whether to continue waiting: another signal ends all waits.
    pub(super) fn goes_on(&self) -> bool {
        self.signals.ends() <= self.before && self.begin.elapsed() < LAST_WAIT
    }
}
