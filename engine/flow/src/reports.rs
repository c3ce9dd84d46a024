//! The receiver of what is known of flows.

use panoptes_records::flow::{Extra, FlowRecord, NameResolution};

/// A receiver of records.
pub trait Reports {
    /// Takes a record. It is written at once: what is borrowed changes with the next packet.
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>);

    /// Takes an answer of DNS, if passive DNS is on.
    fn resolved(&mut self, _resolution: &NameResolution<'_>) {}
}
