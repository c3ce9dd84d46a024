//! A full table of flows: a record of it, in the form of the other records of limits.

use std::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_records::record::system_activity::SystemActivityDetails;

/// The time between two records while the table stays full, in nanoseconds.
const INTERVAL_NS: u64 = 60_000_000_000;
/// Room for the reason, with the longest number.
const REASON_BYTES: usize = 160;

/// The records of a full table of flows.
#[derive(Debug)]
pub(super) struct FlowLimit {
    capacity: u64,
    /// What sets it.
    setting: &'static str,
    /// Number of flows that were removed early by the last record.
    reported: u64,
    next_ns: u64,
}

impl FlowLimit {
    /// Creates the limit of tables with room for `capacity` flows each, which `setting` sets.
    pub(super) const fn new(capacity: usize, setting: &'static str) -> Self {
        Self { capacity: capacity as u64, setting, reported: 0, next_ns: 0 }
    }

    /// Calls `report` with the details of a record, if one is due. `evicted` is the number of flows
    /// that were removed early since the start. `now_ns` never goes back; `None` is the end.
    pub(super) fn look(
        &mut self,
        evicted: u64,
        now_ns: Option<u64>,
        report: impl FnOnce(&SystemActivityDetails<'_>),
    ) {
        let untracked = evicted.saturating_sub(self.reported);
        if untracked == 0 || now_ns.is_some_and(|now_ns| now_ns < self.next_ns) {
            return;
        }
        self.reported = evicted;
        self.next_ns = now_ns.unwrap_or(0).saturating_add(INTERVAL_NS);
        let mut reason = ArrayString::<REASON_BYTES>::new();
        // There is room: see the test.
        let _ = write!(
            reason,
            "the table of flows is full; {untracked} flows were reported early, those that were \
             idle for longest; see {}",
            self.setting
        );
        report(&SystemActivityDetails {
            reason: reason.as_str().into(),
            limit: Some("flows"),
            capacity: Some(self.capacity),
            untracked: Some(untracked),
            ..SystemActivityDetails::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use panoptes_records::activities::Activity;
    use serde_json::Value;

    use super::super::sensor_records::{SensorRecords, plain_header};
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// The record that is due.
    fn record(limit: &mut FlowLimit, evicted: u64, now_ns: Option<u64>) -> Option<Value> {
        let mut records = SensorRecords::new(plain_header(), Vec::new());
        let mut line = None;
        limit.look(evicted, now_ns, |details| {
            let written = records.write(Activity::FlowsLimitReached, details);
            line = written.map(|line| serde_json::from_slice(line).expect("a record"));
        });
        line
    }

    /// The number of flows in a record, if one is due.
    fn untracked(limit: &mut FlowLimit, evicted: u64, second: u64) -> Option<u64> {
        let record = record(limit, evicted, Some(second * SECOND_NS))?;
        record["activity_data"]["system_activity_details"]["untracked"].as_u64()
    }

    #[test]
    fn a_full_table_is_reported_at_once_and_then_each_minute() {
        let mut limit = FlowLimit::new(4096, "--flows");
        assert_eq!(untracked(&mut limit, 0, 0), None);
        assert_eq!(untracked(&mut limit, 3, 5), Some(3));
        assert_eq!(untracked(&mut limit, 10, 64), None);
        assert_eq!(untracked(&mut limit, 13, 65), Some(10));
        // It is not full any more.
        assert_eq!(untracked(&mut limit, 13, 200), None);
        assert_eq!(untracked(&mut limit, 14, 300), Some(1));
        // At the end, the rest.
        assert_eq!(untracked(&mut limit, 20, 301), None);
        assert!(record(&mut limit, 20, None).is_some());
        assert!(record(&mut limit, 20, None).is_none());
    }

    #[test]
    fn the_record_has_the_form_of_the_other_limits() {
        let record =
            record(&mut FlowLimit::new(4096, "--flows"), u64::MAX, Some(0)).expect("it is due");
        assert_eq!(
            (&record["message_type"], &record["severity"]),
            (&"SYSTEM_ACTIVITY".into(), &"MEDIUM".into())
        );
        assert_eq!(record["activity_data"]["name"], "flows_limit_reached");
        let details = &record["activity_data"]["system_activity_details"];
        assert_eq!((&details["limit"], &details["capacity"]), (&"flows".into(), &4096.into()));
        assert_eq!(
            details["reason"],
            "the table of flows is full; 18446744073709551615 flows were reported early, those \
             that were idle for longest; see --flows"
        );
    }
}
