//! A full table of flows: a record of it, in the form of the other records of limits.

use std::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::json::Limits as TextLimits;
use panoptes_sinks::record::header::Header;
use panoptes_sinks::record::interface::BluefieldSystem;
use panoptes_sinks::record::system_activity::SystemActivityDetails;
use panoptes_sinks::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};

use crate::random;

/// The time between two records while the table stays full, in nanoseconds.
const INTERVAL_NS: u64 = 60_000_000_000;
/// Room for the reason, with the longest number.
const REASON_BYTES: usize = 160;
/// Length of a string in these records; they have none of others.
const STRING_LENGTH: usize = 1024;

/// The header of records that no configuration changes.
pub(super) fn plain_header() -> Header {
    let limits = TextLimits::new(STRING_LENGTH);
    Header::new(&"NONE".into(), &BluefieldSystem::default(), limits)
}

/// The records of a full table of flows.
#[derive(Debug)]
pub(super) struct FlowLimit {
    /// `None` if nobody wants records.
    header: Option<Header>,
    writer: RecordWriter,
    line: Box<[u8]>,
    capacity: u64,
    /// Number of flows that were removed early by the last record.
    reported: u64,
    next_ns: u64,
}

impl FlowLimit {
    /// Of tables with so much room each. Without a header, there are no
    /// records.
    pub(super) fn new(capacity: usize, header: Option<Header>) -> Self {
        Self {
            header,
            writer: RecordWriter::new(random::key(), STRING_LENGTH),
            line: vec![0; RECORD_BYTES_MAX].into_boxed_slice(),
            capacity: capacity as u64,
            reported: 0,
            next_ns: 0,
        }
    }

    /// A record and a line feed, if one is due. `evicted` is the number of flows that were removed
    /// early since the start. `now_ns` never goes back; `None` is the end.
    pub(super) fn due(&mut self, evicted: u64, now_ns: Option<u64>) -> Option<&[u8]> {
        let untracked = evicted.saturating_sub(self.reported);
        if untracked == 0 || now_ns.is_some_and(|now_ns| now_ns < self.next_ns) {
            return None;
        }
        let header = self.header.as_ref()?;
        self.reported = evicted;
        self.next_ns = now_ns.unwrap_or(0).saturating_add(INTERVAL_NS);
        let mut reason = ArrayString::<REASON_BYTES>::new();
        // There is room: see the test.
        let _ = write!(
            reason,
            "the table of flows is full; {untracked} flows were reported early, those that were \
             idle for longest; see --flows"
        );
        let details = SystemActivityDetails {
            reason: reason.as_str().into(),
            limit: Some("flows"),
            capacity: Some(self.capacity),
            untracked: Some(untracked),
            ..SystemActivityDetails::default()
        };
        let record = Record::new(Activity::FlowsLimitReached, Details::SystemActivity(&details));
        let room = self.line.len() - 1;
        let written =
            self.writer.write(&mut self.line[..room], header, &record, super::now_ns()).ok()?;
        self.line[written] = b'\n';
        Some(&self.line[..=written])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// The number of flows in a record, if one is due.
    fn untracked(limit: &mut FlowLimit, evicted: u64, second: u64) -> Option<u64> {
        let line = limit.due(evicted, Some(second * SECOND_NS))?;
        let record: Value = serde_json::from_slice(line).expect("a record");
        record["activity_data"]["system_activity_details"]["untracked"].as_u64()
    }

    #[test]
    fn a_full_table_is_reported_at_once_and_then_each_minute() {
        let mut limit = FlowLimit::new(4096, Some(plain_header()));
        assert_eq!(untracked(&mut limit, 0, 0), None);
        assert_eq!(untracked(&mut limit, 3, 5), Some(3));
        assert_eq!(untracked(&mut limit, 10, 64), None);
        assert_eq!(untracked(&mut limit, 13, 65), Some(10));
        // It is not full any more.
        assert_eq!(untracked(&mut limit, 13, 200), None);
        assert_eq!(untracked(&mut limit, 14, 300), Some(1));
        // At the end, the rest.
        assert_eq!(untracked(&mut limit, 20, 301), None);
        assert!(limit.due(20, None).is_some());
        assert!(limit.due(20, None).is_none());
    }

    #[test]
    fn the_record_has_the_form_of_the_other_limits() {
        let mut limit = FlowLimit::new(4096, Some(plain_header()));
        let line = limit.due(u64::MAX, Some(0)).expect("it is due");
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
        let record: Value = serde_json::from_slice(line).expect("a record");
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

    #[test]
    fn a_configuration_can_switch_it_off() {
        let mut limit = FlowLimit::new(4096, None);
        assert!(limit.due(1, Some(0)).is_none());
    }
}
