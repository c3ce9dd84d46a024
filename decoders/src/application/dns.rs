//! DNS messages: RFC 1035, over UDP and over TCP. Multicast DNS (RFC 6762) has the same ones, with
//! another meaning of the top bit of a class.
//!
//! A message may end early, in a segment or in a capture. What is whole before the end is read.

mod name;

pub use name::{DomainName, Labels, NAME_TEXT_MAX};

use super::WireReader;

/// Numbers of record types (IANA, "Resource Record (RR) TYPEs").
pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const PTR: u16 = 12;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const SRV: u16 = 33;
    pub const HTTPS: u16 = 65;
}

/// Length in bytes of the header.
const HEADER_LENGTH: usize = 12;

/// A query or a response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DnsMessage<'a> {
    /// Names refer to other places of the message, so all of it is kept.
    bytes: &'a [u8],
    pub id: u16,
    /// The second word of the header.
    pub flags: u16,
    /// How many entries the sections have as the header says: questions, answers, authorities,
    /// additional records.
    pub counts: [u16; 4],
}

impl<'a> DnsMessage<'a> {
    /// Decodes the data of a UDP datagram; `None` if the header is not whole.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut header = WireReader::new(bytes);
        let (id, flags) = (header.u16()?, header.u16()?);
        let counts = [header.u16()?, header.u16()?, header.u16()?, header.u16()?];
        Some(Self { bytes, id, flags, counts })
    }

    /// Decodes the first message in the data of a TCP segment that begins with one (RFC 1035
    /// §4.2.2), and returns it with the data behind it.
    pub fn decode_tcp(data: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut data = WireReader::new(data);
        let length = data.u16()?;
        let message = Self::decode(data.take_up_to(usize::from(length)))?;
        Some((message, data.bytes))
    }

    pub const fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// Kind of request: 0 is a query, 4 a notification, 5 an update.
    pub const fn opcode(&self) -> u8 {
        (self.flags >> 11 & 15) as u8
    }

    /// Whether the server that answers is responsible for the name.
    pub const fn is_authoritative(&self) -> bool {
        self.flags & 0x0400 != 0
    }

    /// Whether the answer was too long for a datagram.
    pub const fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// The result: 0 is no error, 2 a failure, 3 a name that does not exist, 5 a refusal. The upper
    /// bits of an extended code (RFC 6891 §6.1.3) are not here.
    pub const fn response_code(&self) -> u8 {
        (self.flags & 15) as u8
    }

    /// The first question. Only queries of multicast DNS have more (RFC 6762 §5.3, RFC 9619).
    pub fn question(&self) -> Option<DnsQuestion<'a>> {
        if self.counts[0] == 0 {
            return None;
        }
        self.question_at(HEADER_LENGTH).map(|(question, _)| question)
    }

    /// The answers, in their order.
    pub fn answers(&self) -> DnsAnswers<'a> {
        let mut at = HEADER_LENGTH;
        for _ in 0..self.counts[0] {
            // Each question takes five bytes at least.
            let Some((_, after)) = self.question_at(at) else {
                return DnsAnswers { message: *self, at, remaining: 0 };
            };
            at = after;
        }
        DnsAnswers { message: *self, at, remaining: self.counts[1] }
    }

    /// A question, and where what follows it begins.
    fn question_at(&self, at: usize) -> Option<(DnsQuestion<'a>, usize)> {
        let name = DomainName::new(self.bytes, at);
        let end = name.end()?;
        let mut reader = WireReader::new(self.bytes.get(end..)?);
        Some((DnsQuestion { name, kind: reader.u16()?, class: reader.u16()? }, end + 4))
    }
}

/// A question: the name, and the type and class of the records asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DnsQuestion<'a> {
    pub name: DomainName<'a>,
    /// The record type that is asked for: one of [`kind`], or another number.
    pub kind: u16,
    /// 1 is the Internet.
    pub class: u16,
}

/// The answers of a message. They end with the first one that is not whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnsAnswers<'a> {
    message: DnsMessage<'a>,
    at: usize,
    remaining: u16,
}

impl<'a> DnsAnswers<'a> {
    fn read(&mut self) -> Option<ResourceRecord<'a>> {
        let bytes = self.message.bytes;
        let name = DomainName::new(bytes, self.at);
        let end = name.end()?;
        let mut reader = WireReader::new(bytes.get(end..)?);
        let (kind, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let data = reader.vector16()?;
        let start = bytes.len() - reader.bytes.len() - data.len();
        self.at = start + data.len();
        Some(ResourceRecord { name, kind, class, ttl, data: Data::read(bytes, start, data, kind) })
    }
}

impl<'a> Iterator for DnsAnswers<'a> {
    type Item = ResourceRecord<'a>;

    fn next(&mut self) -> Option<ResourceRecord<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let record = self.read();
        if record.is_none() {
            self.remaining = 0;
        }
        record
    }
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResourceRecord<'a> {
    pub name: DomainName<'a>,
    /// The record type: one of [`kind`], or another number.
    pub kind: u16,
    /// 1 is the Internet.
    pub class: u16,
    /// For how many seconds the answer may be kept.
    pub ttl: u32,
    pub data: Data<'a>,
}

/// The data of a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Data<'a> {
    A([u8; 4]),
    Aaaa([u8; 16]),
    Cname(DomainName<'a>),
    /// A service at a name (RFC 9460). Priority 0 is an alias.
    Https {
        priority: u16,
        target: DomainName<'a>,
        parameters: Parameters<'a>,
    },
    /// A lower preference comes first.
    Mx {
        preference: u16,
        exchange: DomainName<'a>,
    },
    Ns(DomainName<'a>),
    Ptr(DomainName<'a>),
    /// Where a service is (RFC 2782).
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: DomainName<'a>,
    },
    Txt(Strings<'a>),
    /// Bytes of another type, or bytes that do not fit their type.
    Other(&'a [u8]),
}

impl<'a> Data<'a> {
    /// Reads the data that starts at an offset of the message.
    fn read(message: &'a [u8], start: usize, data: &'a [u8], kind: u16) -> Self {
        let known = Self::read_known(message, start, data, kind);
        known.unwrap_or(Self::Other(data))
    }

    fn read_known(message: &'a [u8], start: usize, data: &'a [u8], kind: u16) -> Option<Self> {
        // Names may not leave the data, but refer to what is before it.
        let message = message.get(..start + data.len())?;
        let name = |offset| {
            let name = DomainName::new(message, start + offset);
            name.end().map(|_| name)
        };
        let mut reader = WireReader::new(data);
        Some(match kind {
            kind::A => Self::A(data.try_into().ok()?),
            kind::AAAA => Self::Aaaa(data.try_into().ok()?),
            kind::CNAME => Self::Cname(name(0)?),
            kind::HTTPS => {
                let (priority, target) = (reader.u16()?, name(2)?);
                let parameters = Parameters { bytes: message.get(target.end()?..)? };
                Self::Https { priority, target, parameters }
            }
            kind::MX => Self::Mx { preference: reader.u16()?, exchange: name(2)? },
            kind::NS => Self::Ns(name(0)?),
            kind::PTR => Self::Ptr(name(0)?),
            kind::SRV => {
                let (priority, weight, port) = (reader.u16()?, reader.u16()?, reader.u16()?);
                Self::Srv { priority, weight, port, target: name(6)? }
            }
            kind::TXT => Self::Txt(Strings { bytes: data }),
            _ => return None,
        })
    }
}

/// The strings of a TXT record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Strings<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let mut reader = WireReader::new(self.bytes);
        let string = reader.vector8()?;
        self.bytes = reader.bytes;
        Some(string)
    }
}

/// The parameters of an HTTPS record, each as its number and its value (RFC 9460 §2.2).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parameters<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Parameters<'a> {
    type Item = (u16, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = WireReader::new(self.bytes);
        let parameter = (reader.u16()?, reader.vector16()?);
        self.bytes = reader.bytes;
        Some(parameter)
    }
}
