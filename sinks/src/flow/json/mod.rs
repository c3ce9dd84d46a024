//! Flow records as JSON: one object a line, with everything that is known of a flow.
//!
//! Values that are not known have no key, and no value is `null`. `docs/flow-record.md` has all
//! keys. Where clients of argus derive a word from a record (state, direction), it is the word that
//! `ra` prints.

mod application;
mod detail;
mod passive_dns;
mod sensor;
mod sides;
mod words;

use panoptes_records::flow::{
    Address, Extra, FlowKey, FlowKeyKind, FlowProcess, FlowRecord, LABELS_BYTES_MAX, Labels,
};
use panoptes_records::json::address::MacAddress;
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::json::{Full, JsonWriter, Limits};

pub(super) use application::APPLICATION_COLUMNS;
pub use passive_dns::RESOLUTION_BYTES_MAX;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::argus::{ArgusOptions, SourceId};
use super::community_id::{self, COMMUNITY_ID_BYTES};

/// Bytes that are always enough for a record without user data. A byte of a label may need six.
pub const PLAIN_LINE_BYTES_MAX: usize = 10_240 + 6 * LABELS_BYTES_MAX + 64;

/// More than any text has: the longest are 384 bytes, each of which may become three in UTF-8.
const TEXT_BYTES_MAX: usize = 3 * 384;

/// How records are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct JsonLineFormat {
    pub options: ArgusOptions,
    /// Adds `community_id`, made with this seed.
    pub community_id_seed: Option<u16>,
}

impl JsonLineFormat {
    /// Writes a flow record and a line feed to the beginning of `out`, and returns the length in
    /// bytes; `None` if there is no room. [`PLAIN_LINE_BYTES_MAX`] and 4/3 of the user data of
    /// each end, rounded up to four, are always enough.
    pub fn write(&self, out: &mut [u8], record: &FlowRecord, extra: &Extra<'_>) -> Option<usize> {
        line(out, |out| {
            out.word(",\"kind\":", "flow")?;
            write_source_id(out, self.options.source_id)?;
            out.integer(",\"sequence\":", record.sequence.into())?;
            out.word(",\"cause\":", words::cause(record.cause))?;
            times(out, record)?;
            write_key(out, &record.key)?;
            self.community_id(out, record)?;
            out.word(",\"direction\":", words::direction(record))?;
            out.word(",\"state\":", words::state(record))?;
            sides::write(out, &self.options, record, extra)?;
            detail::write(out, record)?;
            owners(out, extra.owners)?;
            application::write(out, extra)?;
            if self.options.hardware {
                hardware(out, record)?;
            }
            labels(out, &extra.labels)
        })
    }

    fn community_id(&self, out: &mut JsonWriter<'_>, record: &FlowRecord) -> Result<(), Full> {
        let Some(seed) = self.community_id_seed else { return Ok(()) };
        let mut id = [0; COMMUNITY_ID_BYTES];
        match community_id::write(&mut id, record, seed) {
            Some(length) => out.text(",\"community_id\":", &Text::new(&id[..length])),
            None => Ok(()),
        }
    }
}

/// Writes one object and a line feed, or nothing.
fn line(
    out: &mut [u8],
    write: impl FnOnce(&mut JsonWriter<'_>) -> Result<(), Full>,
) -> Option<usize> {
    let mut out = JsonWriter::new(out, Limits::new(TEXT_BYTES_MAX));
    out.object(write).and_then(|()| out.raw(b"\n")).ok()?;
    Some(out.length())
}

fn write_source_id(out: &mut JsonWriter<'_>, id: SourceId) -> Result<(), Full> {
    const KEY: &str = ",\"source_id\":";
    match id {
        SourceId::None => Ok(()),
        SourceId::Number(number) => out.number(KEY, number.into()),
        SourceId::Address(address) => out.ip_address(KEY, Ipv4Addr::from_bits(address).into()),
        SourceId::Address6(id) => out.ip_address(KEY, Ipv6Addr::from(id).into()),
        SourceId::Uuid(id) => {
            let mut text = [b'-'; 36];
            let places = (0..36).filter(|place| ![8, 13, 18, 23].contains(place));
            let digits = id.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
            for (place, digit) in places.zip(digits) {
                text[place] = b"0123456789abcdef"[usize::from(digit)];
            }
            out.text(KEY, &Text::new(&text))
        }
        SourceId::Text(text) => {
            let length = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            out.text(KEY, &Text::new(&text[..length]))
        }
    }
}

fn times(out: &mut JsonWriter<'_>, record: &FlowRecord) -> Result<(), Full> {
    let (first, last) = record.times();
    out.timestamp(",\"first_time\":", Timestamp::from_ns(first))?;
    out.timestamp(",\"last_time\":", Timestamp::from_ns(last))?;
    let duration_ns = last.saturating_sub(first).max(0);
    decimal(out, ",\"duration_us\":", duration_ns as u64)
}

/// A number that is given in thousandths.
fn decimal(out: &mut JsonWriter<'_>, before: &str, thousandths: u64) -> Result<(), Full> {
    out.number(before, thousandths / 1000)?;
    let mut rest = thousandths % 1000;
    if rest == 0 {
        return Ok(());
    }
    let mut digits = [b'.', 0, 0, 0];
    for (digit, unit) in digits[1..].iter_mut().zip([100, 10, 1]) {
        *digit = b'0' + (rest / unit) as u8;
        rest %= unit;
    }
    let length = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    out.raw(&digits[..length])
}

/// What identifies the flow.
fn write_key(out: &mut JsonWriter<'_>, key: &FlowKey) -> Result<(), Full> {
    match words::protocol(key) {
        (Some(word), _) => out.word(",\"protocol\":", word)?,
        (None, number) => {
            out.raw(b",\"protocol\":\"")?;
            out.number("", number.unwrap_or_default().into())?;
            out.raw(b"\"")?;
        }
    }
    if let (_, Some(number)) = words::protocol(key) {
        out.integer(",\"protocol_number\":", number.into())?;
    }
    addresses(out, key)?;
    match key.kind {
        FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6 if words::has_ports(key.protocol) => {
            out.integer(",\"source_port\":", key.source_port.into())?;
            out.integer(",\"destination_port\":", key.destination_port.into())?;
            if key.extra != 0 {
                out.integer(",\"dns_id\":", key.extra.into())?;
            }
            Ok(())
        }
        FlowKeyKind::Igmp => {
            let [kind, code] = key.source_port.to_be_bytes();
            out.integer(",\"igmp_type\":", kind.into())?;
            out.integer(",\"igmp_code\":", code.into())
        }
        FlowKeyKind::FragmentV4 | FlowKeyKind::FragmentV6 => {
            out.integer(",\"fragment_id\":", key.number().into())
        }
        FlowKeyKind::EspV4 | FlowKeyKind::EspV6 => out.integer(",\"spi\":", key.number().into()),
        FlowKeyKind::Ethernet => out.integer(",\"ethernet_type\":", key.extra.into()),
        FlowKeyKind::Llc => {
            out.integer(",\"source_sap\":", key.source_port.into())?;
            out.integer(",\"destination_sap\":", key.destination_port.into())
        }
        _ => Ok(()),
    }
}

fn addresses(out: &mut JsonWriter<'_>, key: &FlowKey) -> Result<(), Full> {
    const KEYS: [&str; 2] = [",\"source_address\":", ",\"destination_address\":"];
    for (name, address) in KEYS.into_iter().zip([key.source, key.destination]) {
        match key.kind {
            // Rarp has the hardware address that is asked about, twice.
            FlowKeyKind::Rarp
            | FlowKeyKind::Ethernet
            | FlowKeyKind::Llc
            | FlowKeyKind::Wireless => {
                out.mac_address(name, MacAddress(address.hardware_in(1)))?;
            }
            _ => out.ip_address(name, ip(key, address))?,
        }
    }
    if key.kind == FlowKeyKind::Arp {
        let asker = if key.source.0[0] == 0 { key.destination } else { key.source };
        out.mac_address(",\"arp_asker\":", MacAddress(asker.hardware_in(0)))?;
    }
    Ok(())
}

fn ip(key: &FlowKey, address: Address) -> IpAddr {
    if key.is_v6() {
        Ipv6Addr::from(address.v6()).into()
    } else {
        Ipv4Addr::from_bits(address.v4()).into()
    }
}

/// The processes at both ends.
fn owners(out: &mut JsonWriter<'_>, owners: [Option<FlowProcess<'_>>; 2]) -> Result<(), Full> {
    const KEYS: [&str; 2] = [",\"source_process\":", ",\"destination_process\":"];
    for (key, owner) in KEYS.into_iter().zip(owners) {
        let Some(process) = owner else { continue };
        out.raw(key.as_bytes())?;
        out.object(|out| {
            out.integer(",\"process_id\":", process.id.into())?;
            out.text(",\"process_name\":", &Text::new(process.name))?;
            if let Some(user) = process.user_id {
                out.integer(",\"process_real_user_id\":", user.into())?;
            }
            if !process.container_id.is_empty() {
                out.text(",\"process_container_id\":", &Text::new(process.container_id))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The hardware addresses of the first packet.
fn hardware(out: &mut JsonWriter<'_>, record: &FlowRecord) -> Result<(), Full> {
    if record.hardware == [[0; 6]; 2] && record.ethertype == 0 {
        return Ok(());
    }
    let [destination, source] = record.hardware;
    out.mac_address(",\"source_hardware_address\":", MacAddress(source))?;
    out.mac_address(",\"destination_hardware_address\":", MacAddress(destination))?;
    if matches!(record.key.kind, FlowKeyKind::Ethernet | FlowKeyKind::Wireless) {
        return Ok(());
    }
    out.integer(",\"ethernet_type\":", record.ethertype.into())
}

/// What others say of the flow.
fn labels(out: &mut JsonWriter<'_>, labels: &Labels<'_>) -> Result<(), Full> {
    if labels.is_empty() {
        return Ok(());
    }
    out.raw(b",\"labels\":")?;
    out.list(labels.iter(), |out, label| out.text(",", &label.as_bytes().into()))
}

#[cfg(test)]
mod tests;
