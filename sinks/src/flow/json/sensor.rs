//! Management records as JSON.

use panoptes_records::flow::Cause;

use super::{Full, JsonLineFormat, JsonWriter, Timestamp, line, words, write_source_id};
use crate::flow::argus::{Interim, Management};

impl JsonLineFormat {
    /// Writes a management record and a line feed to the beginning of `out`, and returns the length
    /// in bytes; `None` if there is no room. 1024 bytes are always enough. `cause` is the place of
    /// the record in its stream: at the beginning, at an interval, at the end.
    pub fn sensor(
        &self,
        out: &mut [u8],
        cause: Cause,
        management: &Management,
        interim: &Interim,
    ) -> Option<usize> {
        line(out, |out| {
            out.word(",\"kind\":", "flow_sensor")?;
            write_source_id(out, management.source_id)?;
            out.word(",\"cause\":", words::cause(cause))?;
            times(out, cause, management, interim)?;
            if management.link != 0 {
                out.integer(",\"link_type\":", management.link.into())?;
            }
            out.integer(",\"status_interval_s\":", management.flow_interval_s.into())?;
            out.integer(",\"management_interval_s\":", management.interval_s.into())?;
            out.integer(",\"user_bytes\":", management.user_bytes.into())?;
            match cause {
                Cause::Start => Ok(()),
                Cause::Status | Cause::Stop | Cause::Shutdown => counts(out, interim),
            }
        })
    }
}

fn times(
    out: &mut JsonWriter<'_>,
    cause: Cause,
    management: &Management,
    interim: &Interim,
) -> Result<(), Full> {
    out.timestamp(",\"begin_time\":", Timestamp::from_ns(management.begin_ns))?;
    if cause != Cause::Start {
        out.timestamp(",\"since_time\":", Timestamp::from_ns(interim.since_ns))?;
    }
    out.timestamp(",\"time\":", Timestamp::from_ns(interim.now_ns))
}

fn counts(out: &mut JsonWriter<'_>, interim: &Interim) -> Result<(), Full> {
    out.integer(",\"sequence\":", interim.sequence.into())?;
    out.integer(",\"packets\":", interim.packets)?;
    out.integer(",\"bytes\":", interim.bytes)?;
    out.integer(",\"dropped_packets\":", interim.dropped.into())?;
    out.integer(",\"records\":", interim.records.into())?;
    out.integer(",\"flows\":", interim.flows.into())?;
    out.integer(",\"tracked_flows\":", interim.tracked.into())?;
    out.integer(",\"fallow_flows\":", interim.fallow.into())?;
    out.integer(",\"interfaces\":", interim.interfaces.into())?;
    out.integer(",\"clients\":", interim.clients.into())
}
