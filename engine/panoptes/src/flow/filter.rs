//! Filters: of packets, which libpcap compiles, and of records.

use panoptes_capture::Frame;
use panoptes_decoders::packet::program::Instruction;
use panoptes_packet_filter::{Options, Origin, PacketFilter};
use panoptes_sinks::flow::filter::{Names, RecordFilter};

use super::captures::{Captures, Source};
use super::request::Request;
use crate::exit::{Exit, Failure, print};

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;
/// Other link types with words of their own: raw IP, 802.11, cooked.
const OTHERS: [u16; 3] = [101, 105, 113];

/// The filter of packets, compiled for each link type that occurs.
#[derive(Debug)]
pub(super) struct PacketFilters {
    expression: Option<String>,
    optimises: bool,
    compiled: Vec<(u16, PacketFilter)>,
}

impl PacketFilters {
    pub(super) fn new(request: &Request) -> Self {
        let expression = request.filter.clone();
        Self { expression, optimises: request.optimises, compiled: Vec::new() }
    }

    /// Whether the expression has a mistake, whatever the link type of the first packet.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        if self.expression.is_none() {
            return Ok(());
        }
        let mut compiles = |link| {
            let options = Options { optimise: self.optimises, ..Options::new(link) };
            self.compiled(&options).map(drop)
        };
        compiles(ETHERNET).or_else(|mistake| {
            let any = OTHERS.iter().any(|link| compiles(*link).is_ok());
            if any { Ok(()) } else { Err(mistake) }
        })
    }

    /// Whether a packet of a capture matches.
    #[inline]
    pub(super) fn matches(&mut self, frame: &Frame<'_>) -> Result<bool, Failure> {
        if self.expression.is_none() {
            return Ok(true);
        }
        let options = Options { optimise: self.optimises, ..Options::new(frame.link) };
        Ok(self.compiled(&options)?.matches(frame.bytes, frame.wire_length))
    }

    /// The program for an interface; an empty one for all packets.
    pub(super) fn of_interface(
        &mut self,
        link: u16,
        snap_length: u32,
    ) -> Result<&[Instruction], Failure> {
        if self.expression.is_none() {
            return Ok(&[]);
        }
        let options = Options {
            origin: Origin::Interface,
            snap_length,
            optimise: self.optimises,
            ..Options::new(link)
        };
        self.compiled(&options).map(PacketFilter::instructions)
    }

    fn compiled(&mut self, options: &Options) -> Result<&PacketFilter, Failure> {
        let known = self.compiled.iter().position(|(link, _)| *link == options.link);
        let index = known.unwrap_or(self.compiled.len());
        if known.is_none() {
            let expression = self.expression.as_deref().unwrap_or_default();
            let filter = PacketFilter::compile(expression, options)
                .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
            self.compiled.push((options.link, filter));
        }
        Ok(&self.compiled[index].1)
    }
}

/// Prints the program of the filter: `-b`. It is that for the first capture or interface.
pub(super) fn print_program(request: &Request) -> Result<Exit, Failure> {
    let mut filters = PacketFilters::new(request);
    let link = if request.reads_captures() {
        match Captures::new(request)?.open()? {
            Some(Source::File(mut file)) => {
                let first = file.next().map_err(|error| super::captures::failure(&error))?;
                first.map_or(ETHERNET, |frame| frame.link)
            }
            _ => ETHERNET,
        }
    } else {
        ETHERNET
    };
    let options = Options { optimise: request.optimises, ..Options::new(link) };
    let text = filters.compiled(&options)?.dump();
    print(text.as_bytes())
}

/// The filter of an output.
pub(super) fn of_output(expression: &str) -> Result<RecordFilter, Failure> {
    RecordFilter::parse(expression, Names::System)
        .map_err(|error| Failure::new(Exit::Usage, format!("`-w TO {expression}`: {error}")))
}

/// The filter of a client, which must not make the program wait for a resolver.
pub(super) fn of_client(expression: &str) -> Result<RecordFilter, String> {
    RecordFilter::parse(expression, Names::BuiltIn).map_err(|error| error.to_string())
}
