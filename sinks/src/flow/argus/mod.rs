//! The records of argus 3, which all its clients read, and those of argus 5.
//!
//! A stream is a management record ([`Management`]) and then records back to back. All numbers are
//! big-endian, and everything is a multiple of four bytes. A flow record is a header and parts
//! ("DSRs", data-specific records), each with its type and length. The facts are those of
//! `include/argus_out.h`, `include/argus_def.h` and `argus/ArgusModeler.c` of argus 3.0.8.2; tests
//! compare the bytes with a file that argus and its clients were seen to read.
//!
//! Some mistakes of argus 3.0.8.2 are not copied: it does not write counters above 32 bits, leaves
//! identifiers of ICMP and the addresses of its messages in the byte order of the machine, and
//! cuts the hardware address of ARP.
//!
//! Records of [`Version::Five`] have nanoseconds, and no other facts. Clients 3 do not read them.
//! Their facts are those of the same files of argus 5.0.3.

mod management;
mod parts;
mod words;

use panoptes_records::flow::{Extra, FlowRecord, LABELS_BYTES_MAX};

pub use management::{Interim, Management};
pub(super) use parts::error_group;

use words::ArgusWordWriter;

/// The largest record in bytes: its length is 16 bits that count words.
pub const RECORD_BYTES_MAX: usize = 4 * 0xffff;
/// The most bytes of a record without user data.
pub const PLAIN_BYTES_MAX: usize = 768 + LABELS_BYTES_MAX + 4;
const _: () = {
    // Each end's data has a header of eight bytes, and fills words.
    let data = 2 * (panoptes_records::flow::USER_BYTES_MAX + 8 + 3);
    assert!(PLAIN_BYTES_MAX + data <= RECORD_BYTES_MAX, "a record has room for all data");
};

/// The version of the format.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum Version {
    #[default]
    Three = 3,
    Five = 5,
}

const FLOW: u8 = 0x10;
/// A flow that an exporter told (`ARGUS_NETFLOW`).
const NETFLOW: u8 = 0x30;

/// The writer of the records.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SourceId {
    #[default]
    None,
    Number(u32),
    Address(u32),
    /// Up to four characters, padded with zeros.
    Text([u8; 4]),
    /// An IPv6 address or a UUID (RFC 9562), for version 5. Version 3 has no room for them: it has
    /// their words, joined by exclusive or, as a number.
    Address6([u8; 16]),
    Uuid([u8; 16]),
}

impl SourceId {
    /// The four bytes in flow records of version 3.
    pub const fn bytes(self) -> [u8; 4] {
        self.code().1
    }

    /// The code and the four bytes in flow records of version 3.
    pub(super) const fn code(self) -> (u8, [u8; 4]) {
        match self {
            Self::None => (0, [0; 4]),
            Self::Address(address) => (0x01, address.to_be_bytes()),
            Self::Number(number) => (0x20, number.to_be_bytes()),
            Self::Text(text) => (0x21, text),
            Self::Address6(id) | Self::Uuid(id) => {
                let [high, low] =
                    [(u128::from_be_bytes(id) >> 64) as u64, u128::from_be_bytes(id) as u64];
                let word = high ^ low;
                (0x20, ((word >> 32) as u32 ^ word as u32).to_be_bytes())
            }
        }
    }

    /// The code and the bytes in flow records of version 5, of which so many are there.
    const fn code_5(self) -> (u8, [u8; 16], usize) {
        match self {
            Self::Address6(id) => (0x02, id, 16),
            Self::Uuid(id) => (0x22, id, 16),
            _ => {
                let (code, [a, b, c, d]) = self.code();
                (code, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 4)
            }
        }
    }
}

/// What records contain: the options of argus(8).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ArgusOptions {
    pub source_id: SourceId,
    /// The interface, in records of version 5: up to four characters, padded with zeros.
    pub interface: [u8; 4],
    /// `-A`: bytes behind the transport header.
    pub application_bytes: bool,
    /// `-m`: hardware addresses.
    pub hardware: bool,
    /// `-Z`: smallest and largest packets.
    pub packet_sizes: bool,
}

/// Writes a flow record to the beginning of `out` and returns its length in bytes; `None` if there
/// is no room. [`PLAIN_BYTES_MAX`] and the user data are always enough.
pub fn write(
    out: &mut [u8],
    options: &ArgusOptions,
    record: &FlowRecord,
    extra: &Extra<'_>,
) -> Option<usize> {
    Version::Three.write(out, options, record, extra)
}

impl Version {
    /// The same as [`write()`] in a version. [`PLAIN_BYTES_MAX`] is enough for both.
    pub fn write(
        self,
        out: &mut [u8],
        options: &ArgusOptions,
        record: &FlowRecord,
        extra: &Extra<'_>,
    ) -> Option<usize> {
        let mut words = ArgusWordWriter::new(out, self);
        // The version is the lower half of the type.
        let kind = if extra.exporter.is_some() { NETFLOW } else { FLOW };
        words.bytes(&[kind | self as u8, record.cause as u8, 0, 0]);
        parts::write(&mut words, options, record, extra);
        words.finish()
    }
}

#[cfg(test)]
mod tests;
