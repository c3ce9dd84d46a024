//! The constant parts of the records about one watched system, serialised in advance.
//!
//! More than half of a record's bytes are the same in every record of a system. A [`Header`] holds
//! them: one head for each activity (vendor to schema version) and one middle for the system (time
//! zone to workload). Both are in space allocated once; [`Header::set_workload`] and
//! [`Header::set_severity`] rewrite them in place.

use crate::activities::{Activity, ActivityInfo, MessageType, Severity};
use crate::json::text::Text;
use crate::json::{Full, JsonWriter, Limits, fit};
use crate::queue::Class;

use super::interface::BluefieldSystem;
use super::workload::{ContainerContext, Workload};
use super::{DetailsObject, Record, SCHEMA_VERSION};

const VENDOR_NAME: &str = "PANOPTES";
const PRODUCT_NAME: &str = "PANOPTES";

/// A head has a handful of short constants and no external data.
const HEAD_BYTES: usize = 224;

/// The middle may fill a third of a record: a machine with hundreds of interfaces gets only the
/// first of them, marked `truncated`, because the activity matters more than the machine's
/// description.
const MIDDLE_BYTES_MAX: usize = super::RECORD_BYTES_MAX / 3;

/// Type and severity of one record, where these depend on more than its activity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Weight {
    pub message_type: MessageType,
    pub severity: Severity,
}

impl Weight {
    /// That of an activity's records.
    fn of(info: &ActivityInfo, severity: Severity) -> Self {
        Self { message_type: info.message_type, severity }
    }

    fn class(self) -> Class {
        Class {
            is_urgent: self.severity >= Severity::Medium,
            is_alert: self.message_type == MessageType::Alert,
        }
    }
}

#[derive(Debug)]
pub struct Header {
    heads: Box<[Head]>,
    /// `","message_timezone":…,"workload_information":{…` without the last brace.
    middle: Box<[u8]>,
    middle_length: usize,
    /// Where the workload's fields start in `middle`; the bytes before never change.
    workload_start: usize,
    workload_is_empty: bool,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: [u8; HEAD_BYTES],
    length: usize,
    weight: Weight,
}

impl Header {
    /// Serialises the constant parts, with no workload yet: `"workload_information":{}`.
    pub fn new(user_data: &Text<'_>, watcher: &BluefieldSystem<'_>, limits: Limits) -> Self {
        let heads = Activity::ALL
            .iter()
            .map(|activity| Head::new(Weight::of(activity.info(), activity.info().severity)))
            .collect();
        let mut middle = vec![0; MIDDLE_BYTES_MAX].into_boxed_slice();
        // The other half is reserved for the workload.
        let start = fit(&mut middle[..MIDDLE_BYTES_MAX / 2], limits, 0, |out| {
            out.raw(b"\",\"message_timezone\":\"UTC\",\"user_data\":")?;
            out.text(user_data)?;
            watcher.append(out)?;
            out.raw(b",\"workload_information\":")
        });
        let workload_start = start.expect("half a middle holds the shortest of all watchers");
        let mut header = Self {
            heads,
            middle,
            middle_length: 0,
            workload_start,
            workload_is_empty: true,
            limits,
        };
        header.set_workload(&Workload::default());
        header
    }

    /// Sets the machine that later records are about.
    pub fn set_workload(&mut self, workload: &Workload<'_>) {
        let room = &mut self.middle[self.workload_start..];
        let length = fit(room, self.limits, 0, |out| out.object(|out| workload.append_fields(out)))
            .expect("half a middle holds the shortest of all workloads");
        // The last brace is written after the container's context.
        self.middle_length = self.workload_start + length - 1;
        self.workload_is_empty = length == 2;
    }

    /// Overrides the table's severity of an activity.
    pub fn set_severity(&mut self, activity: Activity, severity: Severity) {
        self.heads[activity as usize] = Head::new(Weight::of(activity.info(), severity));
    }

    /// How important the records of an activity are, unless they have a weight of their own.
    pub fn class(&self, activity: Activity) -> Class {
        self.heads[activity as usize].weight.class()
    }

    /// How important a record is.
    pub fn class_of(&self, record: &Record<'_>) -> Class {
        record.weight.map_or_else(|| self.class(record.activity), Weight::class)
    }

    /// Appends everything from the brace to the message id's quote.
    pub(crate) fn append_head(
        &self,
        record: &Record<'_>,
        out: &mut JsonWriter<'_>,
    ) -> Result<(), Full> {
        match record.weight {
            Some(weight) => out.raw(Head::new(weight).text()),
            None => out.raw(self.heads[record.activity as usize].text()),
        }
    }

    /// From the time's closing quote to the workload's last field, and the container if there is
    /// one.
    pub(crate) fn append_middle(
        &self,
        container: Option<&ContainerContext<'_>>,
        out: &mut JsonWriter<'_>,
    ) -> Result<(), Full> {
        out.raw(&self.middle[..self.middle_length])?;
        match container {
            Some(container) if self.workload_is_empty => {
                out.raw(&ContainerContext::KEY_FRAGMENT.as_bytes()[1..])?;
                out.object(|out| container.append_fields(out))
            }
            Some(container) => container.append(out),
            None => Ok(()),
        }
    }
}

impl Head {
    fn new(weight: Weight) -> Self {
        let mut bytes = [0; HEAD_BYTES];
        let mut out = JsonWriter::new(&mut bytes, Limits::new(HEAD_BYTES));
        let mut write = || {
            for (key, word) in [
                ("{\"vendor_name\":", VENDOR_NAME),
                (",\"product_name\":", PRODUCT_NAME),
                (",\"product_version\":", env!("CARGO_PKG_VERSION")),
                (",\"message_type\":", weight.message_type.word()),
                (",\"severity\":", weight.severity.word()),
                (",\"schema_version\":", SCHEMA_VERSION),
            ] {
                out.raw(key.as_bytes())?;
                out.word(word)?;
            }
            out.raw(b",\"message_id\":\"")
        };
        write().expect("the constants fit into a head");
        let length = out.length();
        Self { bytes, length, weight }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
