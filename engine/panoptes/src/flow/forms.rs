//! The forms in which records leave. A record is written once in each form that an output has.

use panoptes_records::flow::{Cause, Extra, FlowRecord, NameResolution};
use panoptes_sinks::flow::argus::{ArgusOptions, Interim, Management, PLAIN_BYTES_MAX, Version};
use panoptes_sinks::flow::json::{JsonLineFormat, PLAIN_LINE_BYTES_MAX, RESOLUTION_BYTES_MAX};

use super::request::FlowRecordForm;

/// The seed of community ids in most tools.
const COMMUNITY_ID_SEED: u16 = 0;

/// Room for one record in each form, and what management records have in common.
#[derive(Debug)]
pub(super) struct Forms {
    argus: RecordFormBuffer,
    argus_5: RecordFormBuffer,
    json: RecordFormBuffer,
    passive_dns: RecordFormBuffer,
    pub(super) management: Management,
}

/// A record in one form.
#[derive(Debug)]
struct RecordFormBuffer {
    bytes: Box<[u8]>,
    /// The length of the record; `None` while it is not written in this form.
    length: Option<usize>,
}

impl RecordFormBuffer {
    fn new(length: usize) -> Self {
        Self { bytes: vec![0; length].into_boxed_slice(), length: None }
    }

    /// Takes a management record.
    fn copy(&mut self, record: &[u8]) -> Option<usize> {
        self.bytes.get_mut(..record.len())?.copy_from_slice(record);
        Some(record.len())
    }
}

impl Forms {
    /// Makes room for records with so many bytes of user data of each end.
    pub(super) fn new(user_bytes: usize, management: Management) -> Self {
        let argus = PLAIN_BYTES_MAX + 2 * user_bytes;
        // Base64 has four letters for three bytes.
        let json = PLAIN_LINE_BYTES_MAX + 2 * 4 * user_bytes.div_ceil(3);
        Self {
            argus: RecordFormBuffer::new(argus),
            argus_5: RecordFormBuffer::new(argus),
            json: RecordFormBuffer::new(json),
            passive_dns: RecordFormBuffer::new(RESOLUTION_BYTES_MAX),
            management,
        }
    }

    /// Begins another record.
    pub(super) const fn begin(&mut self) {
        self.argus.length = None;
        self.argus_5.length = None;
        self.json.length = None;
        self.passive_dns.length = None;
    }

    const fn of(&mut self, form: FlowRecordForm) -> &mut RecordFormBuffer {
        match form {
            FlowRecordForm::Argus => &mut self.argus,
            FlowRecordForm::Argus5 => &mut self.argus_5,
            FlowRecordForm::Json => &mut self.json,
            FlowRecordForm::PassiveDns => &mut self.passive_dns,
        }
    }

    /// A flow record in a form.
    #[inline]
    pub(super) fn flow(
        &mut self,
        form: FlowRecordForm,
        options: &ArgusOptions,
        record: &FlowRecord,
        extra: &Extra<'_>,
    ) -> &[u8] {
        let written = self.of(form);
        if written.length.is_none() {
            let out = &mut written.bytes;
            written.length = match form {
                FlowRecordForm::Argus => Version::Three.write(out, options, record, extra),
                FlowRecordForm::Argus5 => Version::Five.write(out, options, record, extra),
                FlowRecordForm::Json => lines(options).write(out, record, extra),
                FlowRecordForm::PassiveDns => None,
            };
        }
        &written.bytes[..written.length.unwrap_or(0)]
    }

    /// An answer of DNS.
    pub(super) fn resolution(
        &mut self,
        options: &ArgusOptions,
        resolution: &NameResolution<'_>,
    ) -> &[u8] {
        let written = &mut self.passive_dns;
        let length = lines(options).resolution(&mut written.bytes, resolution);
        &written.bytes[..length.unwrap_or(0)]
    }

    /// A management record in a form. `cause` is its place in the stream.
    pub(super) fn state(&mut self, form: FlowRecordForm, cause: Cause, interim: &Interim) -> &[u8] {
        let management = self.management;
        let written = self.of(form);
        if written.length.is_none() {
            written.length = match (form, cause) {
                (FlowRecordForm::Argus, Cause::Start) => {
                    written.copy(&management.first(interim.now_ns))
                }
                (FlowRecordForm::Argus, Cause::Status) => {
                    written.copy(&management.interim(interim))
                }
                (FlowRecordForm::Argus, Cause::Stop | Cause::Shutdown) => {
                    written.copy(&management.last(interim))
                }
                (FlowRecordForm::Argus5, _) => written.copy(&management.five(cause, interim)),
                (FlowRecordForm::Json, _) => {
                    let lines = lines(&ArgusOptions::default());
                    lines.sensor(&mut written.bytes, cause, &management, interim)
                }
                (FlowRecordForm::PassiveDns, _) => None,
            };
        }
        &written.bytes[..written.length.unwrap_or(0)]
    }

    /// The record that begins an output.
    pub(super) fn first(&mut self, form: FlowRecordForm) -> &[u8] {
        self.begin();
        let interim = Interim {
            since_ns: self.management.begin_ns,
            now_ns: super::now_ns(),
            ..Interim::default()
        };
        self.state(form, Cause::Start, &interim)
    }
}

fn lines(options: &ArgusOptions) -> JsonLineFormat {
    JsonLineFormat { options: *options, community_id_seed: Some(COMMUNITY_ID_SEED) }
}
