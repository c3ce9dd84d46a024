//! Templates of NetFlow version 9 (RFC 3954) and IPFIX (RFC 7011).

use super::fields::{DataRecord, REVERSE, UNKNOWN};
use super::reader::DatagramReader;

/// The most fields of a template that is kept.
const FIELDS_MAX: usize = 128;
/// A length that says that each value has its own (RFC 7011 §7).
const VARIABLE: u16 = 0xffff;
/// The enterprise number of elements of the other direction (RFC 5103 §6.1).
const REVERSE_ENTERPRISE: u32 = 29_305;
/// Marks an element that has an enterprise number.
const ENTERPRISE: u16 = 0x8000;

/// A field: its element, as [`DataRecord::set`] takes it, and its length in bytes.
#[derive(Clone, Copy, Debug)]
struct TemplateField {
    element: u16,
    length: u16,
}

/// The fields of records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    fields: [TemplateField; FIELDS_MAX],
    count: u16,
    /// Whether there are more fields than are kept.
    has_more: bool,
    /// Whether the records describe the exporter, and no flows.
    pub(super) is_options: bool,
}

impl Template {
    pub(super) const EMPTY: Self = Self {
        fields: [TemplateField { element: UNKNOWN, length: 0 }; FIELDS_MAX],
        count: 0,
        has_more: false,
        is_options: false,
    };

    fn add(&mut self, element: u16, length: u16) {
        match self.fields.get_mut(usize::from(self.count)) {
            Some(field) => {
                *field = TemplateField { element, length };
                self.count += 1;
            }
            None => self.has_more = true,
        }
    }

    /// Whether it has no fields.
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether its records can be read, and have bytes.
    pub(super) fn is_usable(&self) -> bool {
        !self.has_more && self.record_bytes_min() > 0
    }

    fn fields(&self) -> &[TemplateField] {
        &self.fields[..usize::from(self.count)]
    }

    /// The length in bytes of the shortest record.
    pub(super) fn record_bytes_min(&self) -> usize {
        let least = |field: &TemplateField| match field.length {
            VARIABLE => 1,
            length => usize::from(length),
        };
        self.fields().iter().map(least).sum()
    }

    /// Reads a record; `None` if the end is before.
    pub(super) fn record(&self, rest: &mut DatagramReader<'_>) -> Option<DataRecord> {
        let mut record = DataRecord::default();
        for field in self.fields() {
            let length = match field.length {
                VARIABLE => match rest.byte()? {
                    255 => usize::from(rest.short()?),
                    length => usize::from(length),
                },
                length => usize::from(length),
            };
            record.set(field.element, rest.bytes(length)?);
        }
        Some(record)
    }
}

/// Reads the definition of a template behind its id (RFC 3954 §5.2, RFC 7011 §3.4.1); `None` if
/// the set ends within it. `is_ipfix` is whether elements may have enterprise numbers.
pub(super) fn flows(
    rest: &mut DatagramReader<'_>,
    is_ipfix: bool,
    template: &mut Template,
) -> Option<()> {
    let count = rest.short()?;
    fields(rest, template, count, is_ipfix)
}

/// Reads the definition of an options template of IPFIX behind its id (RFC 7011 §3.4.2.2).
pub(super) fn ipfix_options(rest: &mut DatagramReader<'_>, template: &mut Template) -> Option<()> {
    template.is_options = true;
    let count = rest.short()?;
    if count > 0 {
        rest.short()?; // how many of the fields are the scope
    }
    fields(rest, template, count, true)
}

/// Reads the definition of an options template of version 9 behind its id (RFC 3954 §6.1).
pub(super) fn v9_options(rest: &mut DatagramReader<'_>, template: &mut Template) -> Option<()> {
    template.is_options = true;
    let (scope_bytes, option_bytes) = (rest.short()?, rest.short()?);
    for _ in 0..scope_bytes / 4 {
        // The numbers of scopes are none of elements.
        rest.short()?;
        template.add(UNKNOWN, rest.short()?);
    }
    fields(rest, template, option_bytes / 4, false)
}

/// Reads the fields of a template.
fn fields(
    rest: &mut DatagramReader<'_>,
    template: &mut Template,
    count: u16,
    is_ipfix: bool,
) -> Option<()> {
    for _ in 0..count {
        let (number, length) = (rest.short()?, rest.short()?);
        let enterprise = if is_ipfix && number & ENTERPRISE != 0 { rest.number()? } else { 0 };
        let element = match number & !ENTERPRISE {
            element if element == number => element,
            element if enterprise == REVERSE_ENTERPRISE => element | REVERSE,
            _ => UNKNOWN,
        };
        template.add(element, length);
    }
    Some(())
}
