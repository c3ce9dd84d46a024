//! Flows that routers and probes export: NetFlow versions 1, 5, 6, 7, 8 and 9, IPFIX and sFlow 5.
//!
//! [`decode`] takes the payload of a UDP datagram and gives each flow as a [`NetFlow`]. sFlow gives
//! sampled packets, whose first bytes [`crate::packet::decode`] reads.
//!
//! [`Exporters`] keeps what later datagrams need: templates, sequence numbers, rates of sampling.
//! It has a fixed size. An exporter can fill only its own part of it: others keep their templates.
//!
//! Sources: Cisco's "NetFlow Export Datagram Formats", RFC 3954 (version 9), RFC 7011 and 7012
//! (IPFIX), RFC 5103 (both directions in one record), sFlow.org's "sFlow Version 5".
//!
//! The crates for NetFlow and IPFIX (`netflow_parser`, `netgauze`) allocate lists for the records
//! and fields of each datagram, so they cannot serve a sensor that allocates nothing.
//!
//! Every length comes from a stranger. Each function checks it, takes a bounded number of steps and
//! allocates nothing.

mod clock;
mod fields;
mod fixed;
mod flow;
mod reader;
mod sets;
mod sflow;
mod table;
mod template;
#[cfg(test)]
mod tests;

pub use flow::{ExportFormat, Item, NetFlow, NetFlowCounters, Sample};

use reader::DatagramReader;
use table::{ExporterKey, ExporterTable};
use template::Template;

/// Templates of all exporters, and of one.
pub const TEMPLATES_MAX: usize = 256;
pub const OWN_TEMPLATES_MAX: usize = 64;
/// Streams of datagrams of all exporters, and of one.
const SOURCES_MAX: usize = 256;
const OWN_SOURCES_MAX: usize = 64;
const _: () = {
    assert!(OWN_TEMPLATES_MAX < TEMPLATES_MAX, "no exporter fills the table for all");
    assert!(OWN_SOURCES_MAX < SOURCES_MAX, "no exporter fills the table for all");
};

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Sender's address: an IPv4 address has its 32 bits in the lowest ones.
    pub exporter: u128,
    /// When it was received, in nanoseconds since 1970.
    pub received_ns: i64,
    pub payload: &'a [u8],
    /// The length of the payload in bytes before the capture cut it.
    pub wire_length: u32,
}

/// What was decoded, and what was not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ExporterCounts {
    /// Datagrams in a known format.
    pub datagrams: u64,
    /// Datagrams in another one.
    pub others: u64,
    /// Datagrams with a part that ends too early or that contradicts itself.
    pub malformed: u64,
    pub flows: u64,
    /// Packets that sFlow has sampled.
    pub samples: u64,
    /// Records of flows in which no packet and no byte is counted: events of firewalls.
    pub without_counters: u64,
    /// Records about the exporter itself, and counters of its interfaces.
    pub options: u64,
    /// Templates that were taken, those that were repeated included.
    pub templates: u64,
    /// Templates with too many fields or without bytes, and those for which there was no room.
    pub templates_refused: u64,
    /// Sets of records whose template has not come yet.
    pub sets_without_template: u64,
    /// How often a sequence number was not the next one.
    pub gaps: u64,
    /// Records that are missing by the sequence numbers of versions 5 to 8 and IPFIX.
    pub lost_records: u64,
    /// Datagrams that are missing by the sequence numbers of version 9 and sFlow.
    pub lost_datagrams: u64,
    /// Datagrams of exporters that there was no room to follow.
    pub not_followed: u64,
}

/// A stream of datagrams.
#[derive(Clone, Copy, Debug, Default)]
struct ExporterStream {
    /// The sequence number of the next datagram.
    next: Option<u32>,
    /// When the exporter was started, in nanoseconds since 1970.
    started_ns: Option<i64>,
    /// One of so many packets is looked at.
    sampling: Option<u32>,
}

/// Templates, streams and counts of exporters. They take some 170 KiB.
#[derive(Clone, Debug)]
pub struct Exporters {
    templates: ExporterTable<Template, TEMPLATES_MAX, OWN_TEMPLATES_MAX>,
    sources: ExporterTable<ExporterStream, SOURCES_MAX, OWN_SOURCES_MAX>,
    counts: ExporterCounts,
}

impl Default for Exporters {
    fn default() -> Self {
        Self {
            templates: ExporterTable::new(Template::EMPTY),
            sources: ExporterTable::new(ExporterStream::default()),
            counts: ExporterCounts::default(),
        }
    }
}

impl Exporters {
    pub const fn counts(&self) -> ExporterCounts {
        self.counts
    }

    /// The stream that a datagram belongs to, and whether numbers of it are missing. `None` if
    /// there is no room to follow it.
    fn follow(
        &mut self,
        key: &ExporterKey,
        now_ns: i64,
        sequence: Option<u32>,
    ) -> Option<&mut ExporterStream> {
        if self.sources.find(key, now_ns).is_none() {
            self.sources.put(key, now_ns, ExporterStream::default());
        }
        let Some(source) = self.sources.find(key, now_ns) else {
            self.counts.not_followed += 1;
            return None;
        };
        if let (Some(expected), Some(sequence)) = (source.next, sequence)
            && expected != sequence
        {
            self.counts.gaps += 1;
            // A number from before says that datagrams came late or that the exporter began anew.
            let missing = sequence.wrapping_sub(expected);
            if missing < 1 << 31 {
                let counts_datagrams =
                    matches!(key.format, ExportFormat::NetflowV9 | ExportFormat::Sflow);
                let lost = if counts_datagrams {
                    &mut self.counts.lost_datagrams
                } else {
                    &mut self.counts.lost_records
                };
                *lost += u64::from(missing);
            }
        }
        Some(source)
    }
}

/// Decodes a datagram and gives what it contains to `each`.
pub fn decode(datagram: &Datagram<'_>, exporters: &mut Exporters, mut each: impl FnMut(Item<'_>)) {
    let mut rest = DatagramReader::new(datagram.payload);
    let format = match rest.short() {
        Some(1) => ExportFormat::NetflowV1,
        Some(5) => ExportFormat::NetflowV5,
        Some(6) => ExportFormat::NetflowV6,
        Some(7) => ExportFormat::NetflowV7,
        Some(8) => ExportFormat::NetflowV8,
        Some(9) => ExportFormat::NetflowV9,
        Some(10) => ExportFormat::Ipfix,
        // The version of sFlow is a number of four bytes.
        Some(0) if rest.short() == Some(5) => ExportFormat::Sflow,
        _ => {
            exporters.counts.others += 1;
            return;
        }
    };
    exporters.counts.datagrams += 1;
    let decoded = match format {
        ExportFormat::NetflowV9 => sets::v9(datagram, rest, exporters, &mut each),
        ExportFormat::Ipfix => sets::ipfix(datagram, rest, exporters, &mut each),
        ExportFormat::Sflow => sflow::decode(datagram, rest, exporters, &mut each),
        _ => fixed_layout(format, datagram, rest, exporters, &mut each),
    };
    if decoded.is_none() {
        exporters.counts.malformed += 1;
    }
}

/// Versions 1 to 8. `None` if records are missing.
fn fixed_layout(
    format: ExportFormat,
    datagram: &Datagram<'_>,
    mut rest: DatagramReader<'_>,
    exporters: &mut Exporters,
    each: &mut impl FnMut(Item<'_>),
) -> Option<()> {
    let header = fixed::header(format, &mut rest)?;
    let length = header.record_bytes()?;
    // A program that is no exporter may send such a first number. Its other bytes are no records.
    let cut = (datagram.wire_length as usize).saturating_sub(datagram.payload.len());
    let behind = rest.remaining() + cut;
    if header.count == 0 || behind < length * usize::from(header.count) {
        return None;
    }
    let key =
        ExporterKey { exporter: datagram.exporter, domain: header.domain, format, template: 0 };
    if header.sequence.is_some()
        && let Some(source) = exporters.follow(&key, datagram.received_ns, header.sequence)
    {
        source.next = header.sequence.map(|number| number.wrapping_add(header.count.into()));
    }
    for at in 0..u32::from(header.count) {
        let mut flow = header.record(&mut rest)?;
        flow.exporter = datagram.exporter;
        flow.sequence = header.sequence.unwrap_or(0).wrapping_add(at);
        exporters.counts.flows += 1;
        each(Item::Flow(&flow));
    }
    Some(())
}
