//! The forms in which records leave. A record is written once in each form that an output has.

use panoptes_records::flow::{Cause, Extra, FlowRecord, Resolution};
use panoptes_sinks::flow::argus::{Interim, Management, Options, PLAIN_BYTES_MAX, Version};
use panoptes_sinks::flow::json::{Lines, PLAIN_LINE_BYTES_MAX, RESOLUTION_BYTES_MAX};

use super::request::Form;

/// The seed of community ids in most tools.
const COMMUNITY_ID_SEED: u16 = 0;

/// Room for one record in each form, and what management records have in common.
#[derive(Debug)]
pub(super) struct Forms {
    argus: Written,
    argus_5: Written,
    json: Written,
    passive_dns: Written,
    pub(super) management: Management,
}

/// A record in one form.
#[derive(Debug)]
struct Written {
    bytes: Box<[u8]>,
    /// The length of the record; `None` while it is not written in this form.
    length: Option<usize>,
}

impl Written {
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
            argus: Written::new(argus),
            argus_5: Written::new(argus),
            json: Written::new(json),
            passive_dns: Written::new(RESOLUTION_BYTES_MAX),
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

    const fn of(&mut self, form: Form) -> &mut Written {
        match form {
            Form::Argus => &mut self.argus,
            Form::Argus5 => &mut self.argus_5,
            Form::Json => &mut self.json,
            Form::PassiveDns => &mut self.passive_dns,
        }
    }

    /// A flow record in a form.
    #[inline]
    pub(super) fn flow(
        &mut self,
        form: Form,
        options: &Options,
        record: &FlowRecord,
        extra: &Extra<'_>,
    ) -> &[u8] {
        let written = self.of(form);
        if written.length.is_none() {
            let out = &mut written.bytes;
            written.length = match form {
                Form::Argus => Version::Three.write(out, options, record, extra),
                Form::Argus5 => Version::Five.write(out, options, record, extra),
                Form::Json => lines(options).write(out, record, extra),
                Form::PassiveDns => None,
            };
        }
        &written.bytes[..written.length.unwrap_or(0)]
    }

    /// An answer of DNS.
    pub(super) fn resolution(&mut self, options: &Options, resolution: &Resolution<'_>) -> &[u8] {
        let written = &mut self.passive_dns;
        let length = lines(options).resolution(&mut written.bytes, resolution);
        &written.bytes[..length.unwrap_or(0)]
    }

    /// A management record in a form. `cause` is its place in the stream.
    pub(super) fn state(&mut self, form: Form, cause: Cause, interim: &Interim) -> &[u8] {
        let management = self.management;
        let written = self.of(form);
        if written.length.is_none() {
            written.length = match (form, cause) {
                (Form::Argus, Cause::Start) => written.copy(&management.first(interim.now_ns)),
                (Form::Argus, Cause::Status) => written.copy(&management.interim(interim)),
                (Form::Argus, Cause::Stop | Cause::Shutdown) => {
                    written.copy(&management.last(interim))
                }
                (Form::Argus5, _) => written.copy(&management.five(cause, interim)),
                (Form::Json, _) => {
                    let lines = lines(&Options::default());
                    lines.sensor(&mut written.bytes, cause, &management, interim)
                }
                (Form::PassiveDns, _) => None,
            };
        }
        &written.bytes[..written.length.unwrap_or(0)]
    }

    /// The record that begins an output.
    pub(super) fn first(&mut self, form: Form) -> &[u8] {
        self.begin();
        let interim = Interim {
            since_ns: self.management.begin_ns,
            now_ns: super::now_ns(),
            ..Interim::default()
        };
        self.state(form, Cause::Start, &interim)
    }
}

fn lines(options: &Options) -> Lines {
    Lines { options: *options, community_id_seed: Some(COMMUNITY_ID_SEED) }
}
