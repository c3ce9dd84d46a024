//! Reports the state of the service to the service manager (sd_notify(3)).
//!
//! Without `NOTIFY_SOCKET` in the environment, nothing is sent.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::message::Messages;

/// What the control thread knows of the service.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServiceStatus {
    /// Whether a system is watched, or every known one was tried: what is left is to wait for
    /// machines.
    pub(super) is_initialized: bool,
    /// Whether SIGHUP was received and not all of the configuration was read again.
    pub(super) is_reloading: bool,
    /// Whether no scanner has ended. One that waits for memory that does not answer counts as
    /// alive: it would do the same after a restart, and the others would lose their state.
    pub(super) is_alive: bool,
}

/// What was sent to the service manager.
#[derive(Debug)]
pub(super) struct Notifier {
    stage: ServiceStage,
    /// The period of the signs of life, if the manager expects them.
    period: Option<Duration>,
    /// When the next one is due; `None`: at once.
    due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ServiceStage {
    Starting,
    Ready,
    Reloading,
}

impl Notifier {
    pub(super) fn new() -> Self {
        Self::with_watchdog(sd_notify::watchdog_enabled())
    }

    /// `patience`: how long the manager waits for a sign of life.
    fn with_watchdog(patience: Option<Duration>) -> Self {
        // sd_watchdog_enabled(3) recommends half of that time.
        Self {
            stage: ServiceStage::Starting,
            period: patience.map(|patience| patience / 2),
            due: None,
        }
    }

    /// Sends what has changed, and a sign of life if one is due.
    pub(super) fn update(&mut self, facts: ServiceStatus, now: Instant, messages: &Messages) {
        if let Some(stage) = self.next_stage(facts) {
            self.stage = stage;
            send(&stage.states(), messages);
        }
        if self.owes_sign_of_life(facts, now) {
            send(&[NotifyState::Watchdog], messages);
        }
    }

    /// The stage that begins now.
    fn next_stage(&self, facts: ServiceStatus) -> Option<ServiceStage> {
        let next = match (self.stage, facts.is_initialized, facts.is_reloading) {
            (ServiceStage::Starting, true, false) | (ServiceStage::Reloading, _, false) => {
                ServiceStage::Ready
            }
            (ServiceStage::Ready, _, true) => ServiceStage::Reloading,
            _ => return None,
        };
        Some(next)
    }

    fn owes_sign_of_life(&mut self, facts: ServiceStatus, now: Instant) -> bool {
        let Some(period) = self.period else { return false };
        let is_due = self.due.is_none_or(|due| now >= due);
        if is_due && facts.is_alive {
            self.due = Some(now + period);
        }
        is_due && facts.is_alive
    }
}

impl ServiceStage {
    fn states(self) -> Vec<NotifyState<'static>> {
        match self {
            Self::Starting => Vec::new(),
            Self::Ready => vec![NotifyState::Ready],
            // Managers since systemd 253 need the time, too.
            Self::Reloading => {
                let time = NotifyState::monotonic_usec_now().ok();
                [NotifyState::Reloading].into_iter().chain(time).collect()
            }
        }
    }
}

/// Reports that the service ends.
pub(super) fn stopping(messages: &Messages) {
    send(&[NotifyState::Stopping], messages);
}

fn send(states: &[NotifyState<'_>], messages: &Messages) {
    if let Err(error) = sd_notify::notify(states) {
        messages.debug(format_args!("cannot reach the service manager: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: ServiceStatus =
        ServiceStatus { is_initialized: true, is_reloading: false, is_alive: true };

    #[test]
    fn each_stage_is_reported_once() {
        let mut notifier = Notifier::with_watchdog(None);
        let starting = ServiceStatus { is_initialized: false, ..QUIET };
        let reloading = ServiceStatus { is_reloading: true, ..QUIET };
        let turns = [
            (starting, None),
            // A reload at the start is part of the start.
            (reloading, None),
            (QUIET, Some(ServiceStage::Ready)),
            (QUIET, None),
            (reloading, Some(ServiceStage::Reloading)),
            (reloading, None),
            (QUIET, Some(ServiceStage::Ready)),
        ];
        for (turn, (facts, expected)) in turns.into_iter().enumerate() {
            let next = notifier.next_stage(facts);
            assert_eq!(next, expected, "turn {turn}");
            notifier.stage = next.unwrap_or(notifier.stage);
        }
    }

    #[test]
    fn signs_of_life_end_with_a_scanner() {
        let (second, start) = (Duration::from_secs(1), Instant::now());
        let mut notifier = Notifier::with_watchdog(Some(2 * second));
        let dead = ServiceStatus { is_alive: false, ..QUIET };
        let turns = [
            (QUIET, 0, true),
            (QUIET, 0, false),
            (QUIET, 1, true),
            (dead, 2, false),
            (dead, 9, false),
            (QUIET, 9, true),
        ];
        for (turn, (facts, seconds, expected)) in turns.into_iter().enumerate() {
            let owes = notifier.owes_sign_of_life(facts, start + seconds * second);
            assert_eq!(owes, expected, "turn {turn}");
        }
        let mut notifier = Notifier::with_watchdog(None);
        assert!(!notifier.owes_sign_of_life(QUIET, start), "nobody expects one");
    }
}
