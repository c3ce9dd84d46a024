//! [`CaptureError`]: why a capture cannot be opened or read on.

use std::io;

use crate::frame::PACKET_BYTES_MAX;

/// Why a capture cannot be opened or read on.
///
/// `offset` is in bytes from the start of the capture. If the file is compressed, these are bytes
/// of the unpacked capture, and the name ends with "(unpacked)".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    #[error("cannot open {name}: {error}")]
    Open {
        name: String,
        #[source]
        error: io::Error,
    },
    #[error("cannot read {name} at byte {offset}: {error}")]
    Read {
        name: String,
        offset: u64,
        #[source]
        error: io::Error,
    },
    #[error("{name} is empty: no capture was written to it")]
    Empty { name: String },
    #[error(
        "{name} is not a capture in a known format: give a pcap, pcapng, snoop or ERF file, or \
         choose TSH, which has no mark of its own"
    )]
    UnknownFormat { name: String },
    #[error("{name} is compressed with {compression}, which is not supported: unpack it first")]
    Compression { name: String, compression: &'static str },
    /// The format is known, but not what its packets are.
    #[error(
        "{name} has {records} of type {number}, which is not supported: convert it to pcap, for \
         example with editcap"
    )]
    Unsupported { name: String, records: &'static str, number: u32 },
    #[error("{name} is damaged at byte {offset}: {problem}; copy or convert it again")]
    Damaged { name: String, offset: u64, problem: Problem },
}

/// Fault of a damaged capture.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    #[error("its header is incomplete")]
    Header,
    #[error("unknown version {0} of the format")]
    Version(u32),
    #[error("a packet of {0} bytes is longer than the {PACKET_BYTES_MAX} bytes that any may have")]
    PacketLength(u32),
    /// The length of a block or record is below that of its own header, or no multiple of 4.
    #[error("a record claims {0} bytes, which no record of this format has")]
    RecordLength(u32),
    #[error("the two lengths of a block, {0} and {1}, are not the same")]
    BlockLengths(u32, u32),
    #[error("a section has no byte order")]
    ByteOrder,
    #[error("a section has more than {0} interfaces")]
    Interfaces(usize),
    #[error("a record does not begin with an IPv4 header")]
    NotIpv4,
}

/// An error before the name of the file is added.
#[derive(Debug)]
pub(crate) enum CaptureFault {
    Read(io::Error),
    Empty,
    UnknownFormat,
    Unsupported { records: &'static str, number: u32 },
    Damaged { offset: u64, problem: Problem },
}

impl From<io::Error> for CaptureFault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl CaptureFault {
    /// The error of the capture of this name. `offset` is where reading stopped.
    pub(crate) fn of(self, name: &str, offset: u64) -> CaptureError {
        let name = name.to_owned();
        match self {
            Self::Read(error) => CaptureError::Read { name, offset, error },
            Self::Empty => CaptureError::Empty { name },
            Self::UnknownFormat => CaptureError::UnknownFormat { name },
            Self::Unsupported { records, number } => {
                CaptureError::Unsupported { name, records, number }
            }
            Self::Damaged { offset, problem } => CaptureError::Damaged { name, offset, problem },
        }
    }
}
