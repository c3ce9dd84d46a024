//! Filters: of packets, which libpcap compiles, and of records.

use panoptes_decoders::packet::link_type::{COOKED, ETHERNET, RAW, WIRELESS};
use panoptes_decoders::packet::program::Instruction;
use panoptes_packet_files::Frame;
use panoptes_packet_filter::{FilterOptions, PacketFilter, PacketOrigin};
use panoptes_sinks::flow::filter::{NameSource, RecordFilter};

use super::request::FlowRequest;
use crate::exit::{Exit, Failure};

/// Other link types than Ethernet with words of their own.
const OTHERS: [u16; 3] = [RAW, WIRELESS, COOKED];

/// The most terms of a client's filter: each record costs a step for each.
const CLIENT_TERMS_MAX: usize = 64;

/// The filter of packets, compiled for each link type and origin that occurs.
#[derive(Debug)]
pub(super) struct PacketFilters {
    expression: Option<String>,
    optimises: bool,
    compiled: Vec<(u16, PacketOrigin, PacketFilter)>,
}

impl PacketFilters {
    pub(super) fn new(request: &FlowRequest) -> Self {
        let expression = request.input.filter.clone();
        Self { expression, optimises: request.input.optimises, compiled: Vec::new() }
    }

    /// Whether the expression has a mistake, whatever the link type of the first packet.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        if self.expression.is_none() {
            return Ok(());
        }
        let mut compiles = |link| {
            let options = FilterOptions { optimise: self.optimises, ..FilterOptions::new(link) };
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
        let options = FilterOptions { optimise: self.optimises, ..FilterOptions::new(frame.link) };
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
        let options = FilterOptions {
            origin: PacketOrigin::Interface,
            snap_length,
            optimise: self.optimises,
            ..FilterOptions::new(link)
        };
        self.compiled(&options).map(PacketFilter::instructions)
    }

    /// The program for packets as captures have them; an empty one for all packets.
    pub(super) fn of_captures(&mut self, link: u16) -> Result<&[Instruction], Failure> {
        if self.expression.is_none() {
            return Ok(&[]);
        }
        let options = FilterOptions { optimise: self.optimises, ..FilterOptions::new(link) };
        self.compiled(&options).map(PacketFilter::instructions)
    }

    /// The filter's program for captures of a link type, as text: `-b`.
    pub(super) fn text(&mut self, link: u16) -> Result<String, Failure> {
        let options = FilterOptions { optimise: self.optimises, ..FilterOptions::new(link) };
        self.compiled(&options).map(PacketFilter::dump)
    }

    fn compiled(&mut self, options: &FilterOptions) -> Result<&PacketFilter, Failure> {
        let is_it = |link: u16, origin| (link, origin) == (options.link, options.origin);
        let known = self.compiled.iter().position(|(link, origin, _)| is_it(*link, *origin));
        let index = known.unwrap_or(self.compiled.len());
        if known.is_none() {
            let expression = self.expression.as_deref().unwrap_or_default();
            let filter = PacketFilter::compile(expression, options)
                .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
            self.compiled.push((options.link, options.origin, filter));
        }
        Ok(&self.compiled[index].2)
    }
}

/// The filter of an output.
pub(super) fn of_output(expression: &str) -> Result<RecordFilter, Failure> {
    RecordFilter::parse(expression, NameSource::System)
        .map_err(|error| Failure::new(Exit::Usage, format!("`-w TO {expression}`: {error}")))
}

/// The filter of a client, which must not make the program wait for a resolver.
pub(super) fn of_client(expression: &str) -> Result<RecordFilter, String> {
    let filter =
        RecordFilter::parse(expression, NameSource::BuiltIn).map_err(|error| error.to_string())?;
    if filter.terms() > CLIENT_TERMS_MAX {
        return Err(format!("it has more than {CLIENT_TERMS_MAX} terms"));
    }
    Ok(filter)
}
