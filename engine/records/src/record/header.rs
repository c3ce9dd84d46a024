//! The constant parts of the records about one watched system, serialised in advance.
//!
//! More than half of a record's bytes are the same in every record of a system. A [`RecordHeader`]
//! holds them: one head for each activity (vendor to schema version) and one middle for the system
//! (time zone to workload). Both are in space allocated once; [`RecordHeader::set_workload`] and
//! [`RecordHeader::set_severity`] rewrite them in place. A header knows where its lists of
//! interfaces are, for outputs that write them only where they are new.

use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;

use crate::activities::{Activity, ActivityInfo, MessageType, Preset, Severity};
use crate::dialect::Dialect;
use crate::json::text::Text;
use crate::json::time::TIMESTAMP_LENGTH;
use crate::json::{Full, JsonWriter, Limits, fit};
use crate::queue::{HeaderLists, RecordClass};

use super::interface::BluefieldSystem;
use super::value::Uuid;
use super::workload::{ContainerContext, Workload};
use super::{DetailsObject, Record, SCHEMA_VERSION};

/// A head has a handful of short constants and no external data.
const HEAD_BYTES: usize = 224;

/// The middle may fill a third of a record: a machine with hundreds of interfaces gets only the
/// first of them, marked `truncated`, because the activity matters more than the machine's
/// description.
const MIDDLE_BYTES_MAX: usize = super::RECORD_BYTES_MAX / 3;

/// The text between the message id and the time.
pub const TIME_KEY: &str = "\",\"occurred_message_time_iso_8601_ns\":\"";

/// Bytes between the head and the middle: the message id and the time.
const BETWEEN_BYTES: usize = Uuid::TEXT_LENGTH + TIME_KEY.len() + TIMESTAMP_LENGTH;
const _: () = {
    let header = HEAD_BYTES + BETWEEN_BYTES + MIDDLE_BYTES_MAX;
    assert!(header <= super::RECORD_BYTES_MAX / 2, "half of a record is left for its details");
};

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
}

#[derive(Debug)]
pub struct RecordHeader {
    dialect: Dialect,
    heads: Box<[Head]>,
    /// `","message_timezone":…,"workload_information":{…` without the last brace.
    middle: Box<[u8]>,
    middle_length: usize,
    /// Where the workload's fields start in `middle`; the bytes before never change.
    workload_start: usize,
    workload_is_empty: bool,
    /// The watcher's list of interfaces in `middle`.
    watcher_list: Range<usize>,
    lists: HeaderLists,
    limits: Limits,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    bytes: [u8; HEAD_BYTES],
    length: usize,
    weight: Weight,
    /// The smallest preset that contains the activity's records.
    preset: Preset,
}

impl RecordHeader {
    /// Serialises the constant parts, with no workload yet: `"workload_information":{}`.
    pub fn new(user_data: &Text<'_>, watcher: &BluefieldSystem<'_>, limits: Limits) -> Self {
        Self::in_dialect(Dialect::Panoptes, user_data, watcher, limits)
    }

    /// The same in a dialect, which all records with this header have.
    pub fn in_dialect(
        dialect: Dialect,
        user_data: &Text<'_>,
        watcher: &BluefieldSystem<'_>,
        limits: Limits,
    ) -> Self {
        let heads = Activity::ALL
            .iter()
            .map(|&activity| {
                let weight = Weight::of(activity.info(), activity.info().severity);
                Head::new(dialect, weight, activity.preset())
            })
            .collect();
        let mut middle = vec![0; MIDDLE_BYTES_MAX].into_boxed_slice();
        let mut watcher_list = 0..0;
        // The other half is reserved for the workload.
        let start = fit(&mut middle[..MIDDLE_BYTES_MAX / 2], limits, 0, |out| {
            out.set_dialect(dialect);
            out.text("\",\"message_timezone\":\"UTC\",\"user_data\":", user_data)?;
            // All between the braces of the watcher's object.
            let begin = out.length() + BluefieldSystem::KEY_FRAGMENT.len() + 1;
            watcher.append(out)?;
            watcher_list = begin..out.length() - 1;
            out.raw(b",\"workload_information\":")
        });
        let workload_start = start.expect("half a middle holds the shortest of all watchers");
        let mut header = Self {
            dialect,
            heads,
            middle,
            middle_length: 0,
            workload_start,
            workload_is_empty: true,
            watcher_list,
            lists: HeaderLists::default(),
            limits,
        };
        header.set_workload(&Workload::default());
        header
    }

    /// That of all records with this header.
    #[inline]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Sets the machine that later records are about.
    pub fn set_workload(&mut self, workload: &Workload<'_>) {
        let Workload { unique_identifier, workload_networking_interfaces, .. } = *workload;
        let name = Workload { unique_identifier, ..Workload::default() };
        let list = Workload { workload_networking_interfaces, ..Workload::default() };
        let others = Workload { workload_networking_interfaces: None, ..*workload };
        let room = &mut self.middle[self.workload_start..];
        let length = fit(room, self.limits, 0, |out| name.append_fields(out))
            .expect("half a middle holds a name");
        let system = hash([&room[..length]]);
        let mut place = 0..0;
        let length = fit(room, self.limits, 0, |out| {
            out.set_dialect(self.dialect);
            out.object(|out| {
                others.append_fields(out)?;
                let begin = out.length();
                // The last field of the object.
                list.append_fields(out)?;
                // As the first field it has the object's brace, and stays.
                place = if begin == 0 { 0..0 } else { begin..out.length() };
                Ok(())
            })
        })
        .expect("half a middle holds the shortest of all workloads");
        let place = self.workload_start + place.start..self.workload_start + place.end;
        let lists = [self.watcher_list.clone(), place];
        self.lists = HeaderLists {
            system,
            content: hash(lists.each_ref().map(|list| &self.middle[list.clone()])),
            places: lists.map(|list| (list.start as u16, list.end as u16)),
        };
        // The last brace is written after the container's context.
        self.middle_length = self.workload_start + length - 1;
        self.workload_is_empty = length == 2;
    }

    /// Overrides the table's severity of an activity.
    pub fn set_severity(&mut self, activity: Activity, severity: Severity) {
        let head = &mut self.heads[activity as usize];
        *head = Head::new(self.dialect, Weight::of(activity.info(), severity), head.preset);
    }

    /// Overrides the smallest preset that contains the records of an activity.
    pub fn set_preset(&mut self, activity: Activity, preset: Preset) {
        self.heads[activity as usize].preset = preset;
    }

    /// How important the records of an activity are, and to whom, unless they have a weight of
    /// their own.
    pub fn class(&self, activity: Activity) -> RecordClass {
        self.class_by(activity, &self.heads[activity as usize])
    }

    /// The same of a record.
    pub fn class_of(&self, record: &Record<'_>) -> RecordClass {
        let head = &self.heads[record.activity as usize];
        record.weight.map_or_else(
            || self.class_by(record.activity, head),
            |weight| {
                let preset = record.activity.preset_of_kind(weight.message_type, head.preset);
                let head = Head::new(self.dialect, weight, preset);
                self.class_by(record.activity, &head)
            },
        )
    }

    fn class_by(&self, activity: Activity, head: &Head) -> RecordClass {
        RecordClass {
            activity,
            severity: head.weight.severity,
            is_urgent: head.weight.severity >= Severity::Medium,
            is_alert: head.weight.message_type == MessageType::Alert,
            is_flow: false,
            preset: head.preset,
            middle: (head.length + BETWEEN_BYTES) as u16,
            lists: self.lists,
        }
    }

    /// Appends everything from the brace to the message id's quote.
    pub(crate) fn append_head(
        &self,
        record: &Record<'_>,
        out: &mut JsonWriter<'_>,
    ) -> Result<(), Full> {
        let head = &self.heads[record.activity as usize];
        match record.weight {
            Some(weight) => out.raw(Head::new(self.dialect, weight, head.preset).text()),
            None => out.raw(head.text()),
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

/// A hash of some bytes, and of where each piece of them ends.
fn hash<const N: usize>(pieces: [&[u8]; N]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for piece in pieces {
        hasher.write_usize(piece.len());
        hasher.write(piece);
    }
    hasher.finish()
}

impl Head {
    fn new(dialect: Dialect, weight: Weight, preset: Preset) -> Self {
        let mut bytes = [0; HEAD_BYTES];
        let mut out = JsonWriter::new(&mut bytes, Limits::new(HEAD_BYTES));
        let mut write = || {
            for (key, word) in [
                ("{\"vendor_name\":", dialect.vendor_name()),
                (",\"product_name\":", dialect.product_name()),
                (",\"product_version\":", env!("CARGO_PKG_VERSION")),
                (",\"message_type\":", weight.message_type.word()),
                (",\"severity\":", weight.severity.word()),
                (",\"schema_version\":", SCHEMA_VERSION),
            ] {
                out.word(key, word)?;
            }
            out.raw(b",\"message_id\":\"")
        };
        write().expect("the constants fit into a head");
        let length = out.length();
        Self { bytes, length, weight, preset }
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
