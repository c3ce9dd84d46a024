//! What could not be found out, of a system or of this machine: each is reported once until it
//! changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What it is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Topic {
    /// Reading the configuration again.
    Configuration,
    /// The functions of DMA devices.
    Functions,
    /// The guests of this machine.
    Guests,
    /// The network interfaces of this machine.
    Interfaces,
    /// Which kernel runs in a system now.
    Kernel,
    /// A system's folder of profiles.
    Profiles,
}

/// Reports of one topic about one system in [`TOPIC_REPORT_PERIOD`]: a reason may change all the
/// time.
const REPORTS_MAX: u32 = 4;
const TOPIC_REPORT_PERIOD: Duration = Duration::from_mins(1);

/// The problems that were reported.
#[derive(Debug, Default)]
pub(super) struct Problems(BTreeMap<(String, Topic), ReportedProblem>);

#[derive(Debug)]
struct ReportedProblem {
    /// `None`: it is over.
    reason: Option<String>,
    /// Since when reports are counted, and their number.
    since: Instant,
    count: u32,
}

impl Problems {
    /// Whether the reason is to be reported: it is another one than last time. `None`: all is well.
    /// The name of the service itself is empty.
    pub(super) fn is_new(
        &mut self,
        (system, topic): (&str, Topic),
        reason: Option<&str>,
        now: Instant,
    ) -> bool {
        let key = (system.to_owned(), topic);
        let Some(reason) = reason else {
            if let Some(reported) = self.0.get_mut(&key) {
                reported.reason = None;
            }
            return false;
        };
        let new = || ReportedProblem { reason: None, since: now, count: 0 };
        let reported = self.0.entry(key).or_insert_with(new);
        if now.saturating_duration_since(reported.since) >= TOPIC_REPORT_PERIOD {
            (reported.since, reported.count) = (now, 0);
        }
        let is_new = reported.reason.as_deref() != Some(reason) && reported.count < REPORTS_MAX;
        if is_new {
            reported.reason = Some(reason.to_owned());
            reported.count += 1;
        }
        is_new
    }

    /// Forgets a system that is gone.
    pub(super) fn forget(&mut self, system: &str) {
        self.0.retain(|(name, _), _| name != system);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_reported_once_until_it_changes() {
        let (now, mut problems) = (Instant::now(), Problems::default());
        let mut is_new = |system, reason| problems.is_new((system, Topic::Profiles), reason, now);
        assert!(is_new("web", Some("a")) && !is_new("web", Some("a")));
        assert!(is_new("db", Some("a")) && is_new("web", Some("b")));
        assert!(!is_new("web", None) && is_new("web", Some("b")));
        assert!(problems.is_new(("web", Topic::Kernel), Some("b"), now));
        problems.forget("web");
        assert_eq!(problems.0.len(), 1);
    }

    #[test]
    fn a_reason_that_changes_all_the_time_is_no_flood() {
        let (begin, mut problems) = (Instant::now(), Problems::default());
        let reports = (0..600_u32).filter(|second| {
            let now = begin + Duration::from_secs(u64::from(*second));
            problems.is_new(("", Topic::Guests), Some(&second.to_string()), now)
        });
        assert_eq!(reports.count(), 10 * REPORTS_MAX as usize);
    }
}
