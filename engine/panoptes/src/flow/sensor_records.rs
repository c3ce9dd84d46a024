//! Records about the sensor itself, in the form of those of `panoptes watch`.

use panoptes_records::activities::Activity;
use panoptes_records::json::Limits as TextLimits;
use panoptes_records::record::header::RecordHeader;
use panoptes_records::record::interface::BluefieldSystem;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_records::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};

use crate::random;

/// Length of a string in these records.
const STRING_LENGTH: usize = 1024;

/// The header of records that no configuration changes.
pub(super) fn plain_header() -> RecordHeader {
    let limits = TextLimits::new(STRING_LENGTH);
    RecordHeader::new(&"NONE".into(), &BluefieldSystem::default(), limits)
}

/// Writes records about the sensor.
#[derive(Debug)]
pub(super) struct SensorRecords {
    header: RecordHeader,
    /// The activities that a configuration has switched off.
    disabled: Vec<Activity>,
    writer: RecordWriter,
    line: Box<[u8]>,
}

impl SensorRecords {
    pub(super) fn new(header: RecordHeader, disabled: Vec<Activity>) -> Self {
        Self {
            header,
            disabled,
            writer: RecordWriter::new(random::key(), STRING_LENGTH),
            line: vec![0; RECORD_BYTES_MAX].into_boxed_slice(),
        }
    }

    /// A record and a line feed; `None` if the activity is switched off.
    pub(super) fn write(
        &mut self,
        activity: Activity,
        details: &SystemActivityDetails<'_>,
    ) -> Option<&[u8]> {
        if self.disabled.contains(&activity) {
            return None;
        }
        let record = Record::new(activity, Details::SystemActivity(details));
        let room = self.line.len() - 1;
        let (line, now_ns) = (&mut self.line[..room], super::now_ns());
        let written = self.writer.write(line, &self.header, &record, now_ns).ok()?;
        self.line[written] = b'\n';
        Some(&self.line[..=written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_can_switch_an_activity_off() {
        let mut records = SensorRecords::new(plain_header(), vec![Activity::FlowsLimitReached]);
        let details = SystemActivityDetails::default();
        assert!(records.write(Activity::FlowsLimitReached, &details).is_none());
        let line = records.write(Activity::RecordsDropped, &details).expect("a record");
        assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
    }
}
