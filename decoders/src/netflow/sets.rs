//! Messages of NetFlow version 9 and of IPFIX: sets of templates, and sets of records that are read
//! by them.

use super::clock::{Clock, SECOND_NS};
use super::reader::DatagramReader;
use super::table::ExporterKey;
use super::template::{self, Template};
use super::{Datagram, ExportFormat, Exporters, Item};

/// The smallest id of a template, and so of a set of records.
const TEMPLATE_ID_MIN: u16 = 256;

/// What the header of a message says of all its sets.
#[derive(Clone, Copy, Debug)]
struct ExportHeader {
    key: ExporterKey,
    received_ns: i64,
    sequence: u32,
    clock: Clock,
}

/// Kinds of sets.
#[derive(Clone, Copy, Debug)]
enum SetKind {
    Flows,
    Options,
}

/// Decodes version 9 behind the version; `None` if something is wrong.
pub(super) fn v9(
    datagram: &Datagram<'_>,
    mut rest: DatagramReader<'_>,
    exporters: &mut Exporters,
    each: &mut impl FnMut(Item<'_>),
) -> Option<()> {
    rest.short()?; // how many records, which exporters count in different ways
    let uptime_ms = rest.number()?;
    let clock = Clock::new(Some(uptime_ms), i64::from(rest.number()?) * SECOND_NS);
    let sequence = rest.number()?;
    let message = ExportHeader {
        key: key(datagram, ExportFormat::NetflowV9, rest.number()?),
        received_ns: datagram.received_ns,
        sequence,
        clock,
    };
    if let Some(source) = exporters.follow(&message.key, datagram.received_ns, Some(sequence)) {
        source.next = Some(sequence.wrapping_add(1));
    }
    message.sets(rest, &mut Some(0), exporters, each)
}

/// Decodes IPFIX behind the version; `None` if something is wrong.
pub(super) fn ipfix(
    datagram: &Datagram<'_>,
    mut rest: DatagramReader<'_>,
    exporters: &mut Exporters,
    each: &mut impl FnMut(Item<'_>),
) -> Option<()> {
    let length = usize::from(rest.short()?).checked_sub(4)?;
    let (mut rest, is_whole) = rest.part(length);
    let clock = Clock::new(None, i64::from(rest.number()?) * SECOND_NS);
    let sequence = rest.number()?;
    let message = ExportHeader {
        key: key(datagram, ExportFormat::Ipfix, rest.number()?),
        received_ns: datagram.received_ns,
        sequence,
        clock,
    };
    exporters.follow(&message.key, datagram.received_ns, Some(sequence));
    let mut records = Some(0);
    let read = message.sets(rest, &mut records, exporters, each);
    if let Some(source) = exporters.sources.find(&message.key, datagram.received_ns) {
        // The number counts records. It is not known if records were not.
        source.next = read.and(records).map(|records| sequence.wrapping_add(records));
    }
    read.filter(|()| is_whole)
}

const fn key(datagram: &Datagram<'_>, format: ExportFormat, domain: u32) -> ExporterKey {
    ExporterKey { exporter: datagram.exporter, domain, format, template: 0 }
}

impl ExportHeader {
    /// Reads sets until the end, and adds the number of records up; it becomes `None` if that of
    /// a set is not known. `None` if something is wrong.
    fn sets(
        &self,
        mut rest: DatagramReader<'_>,
        records: &mut Option<u32>,
        exporters: &mut Exporters,
        each: &mut impl FnMut(Item<'_>),
    ) -> Option<()> {
        while rest.remaining() >= 4 {
            let id = rest.short()?;
            let length = usize::from(rest.short()?).checked_sub(4)?;
            let (set, is_whole) = rest.part(length);
            match (self.key.format, id) {
                (ExportFormat::NetflowV9, 0) | (ExportFormat::Ipfix, 2) => {
                    self.templates(set, SetKind::Flows, exporters)?;
                }
                (ExportFormat::NetflowV9, 1) | (ExportFormat::Ipfix, 3) => {
                    self.templates(set, SetKind::Options, exporters)?;
                }
                (_, TEMPLATE_ID_MIN..) => {
                    let read = self.records(id, set, exporters, each);
                    *records = records.zip(read).map(|(sum, more)| sum.wrapping_add(more));
                }
                _ => {}
            }
            is_whole.then_some(())?;
        }
        Some(())
    }

    /// Reads definitions of templates. `None` if one ends too early.
    fn templates(
        &self,
        mut set: DatagramReader<'_>,
        kind: SetKind,
        exporters: &mut Exporters,
    ) -> Option<()> {
        let is_ipfix = self.key.format == ExportFormat::Ipfix;
        // Shorter bytes are padding.
        let least = if matches!(kind, SetKind::Options) && !is_ipfix { 6 } else { 4 };
        while set.remaining() >= least {
            let id = set.short()?;
            let mut template = Template::EMPTY;
            match (kind, is_ipfix) {
                (SetKind::Flows, _) => template::flows(&mut set, is_ipfix, &mut template)?,
                (SetKind::Options, true) => template::ipfix_options(&mut set, &mut template)?,
                (SetKind::Options, false) => template::v9_options(&mut set, &mut template)?,
            }
            if template.is_empty() {
                // In version 9, zeros that fill the set.
                if is_ipfix {
                    self.withdraw(id, exporters);
                }
                continue;
            }
            let key = ExporterKey { template: id, ..self.key };
            let is_usable = id >= TEMPLATE_ID_MIN && template.is_usable();
            if is_usable && exporters.templates.put(&key, self.received_ns, template).is_some() {
                exporters.counts.templates += 1;
            } else {
                exporters.counts.templates_refused += 1;
            }
        }
        Some(())
    }

    /// Removes a template; with the id of a set of templates, all (RFC 7011 §8.1).
    fn withdraw(&self, id: u16, exporters: &mut Exporters) {
        exporters.templates.remove(|other| {
            let is_own = ExporterKey { template: 0, ..*other } == self.key;
            is_own && (other.template == id || matches!(id, 2 | 3))
        });
    }

    /// Reads records. `None` if their number is not known.
    fn records(
        &self,
        id: u16,
        mut set: DatagramReader<'_>,
        exporters: &mut Exporters,
        each: &mut impl FnMut(Item<'_>),
    ) -> Option<u32> {
        let Exporters { templates, sources, counts } = exporters;
        let key = ExporterKey { template: id, ..self.key };
        let Some(template) = templates.find(&key, self.received_ns) else {
            counts.sets_without_template += 1;
            return None;
        };
        let mut source = sources.find(&self.key, self.received_ns);
        // Version 9 fills sets with up to three bytes.
        let length_min = template.record_bytes_min().max(match self.key.format {
            ExportFormat::NetflowV9 => 4,
            _ => 1,
        });
        let mut number = 0;
        while set.remaining() >= length_min {
            let Some(mut record) = template.record(&mut set) else {
                counts.malformed += 1;
                return None;
            };
            let index = number;
            number += 1;
            if template.is_options {
                counts.options += 1;
                if let Some(source) = source.as_mut() {
                    source.started_ns = record.started_ns.or(source.started_ns);
                    source.sampling = record.sampling().or(source.sampling);
                }
                continue;
            }
            let known = source.as_deref().copied().unwrap_or_default();
            record.started_ns = record.started_ns.or(known.started_ns);
            record.flow.sampling = record.sampling().or(known.sampling).unwrap_or(1).max(1);
            record.flow.format = self.key.format;
            record.flow.exporter = self.key.exporter;
            record.flow.domain = self.key.domain;
            record.flow.sequence = match self.key.format {
                ExportFormat::Ipfix => self.sequence.wrapping_add(index),
                _ => self.sequence,
            };
            match record.finish(&self.clock) {
                Some(flow) => {
                    counts.flows += 1;
                    each(Item::Flow(&flow));
                }
                None => counts.without_counters += 1,
            }
        }
        Some(number)
    }
}
