//! The part of the packets of an interface that one of several threads has.

use std::sync::Arc;

use panoptes_decoders::packet::program::Instruction;
use panoptes_packet_rings::{Division, Group, Interface, InterfaceError};

/// The part of the packets of an interface that a thread has.
#[derive(Debug)]
pub(super) struct InterfacePart {
    pub(super) number: usize,
    pub(super) division: Division,
    /// All parts of this interface.
    pub(super) group: Arc<Group>,
    /// The generation of the group that it has joined.
    pub(super) joined: u32,
}

impl InterfacePart {
    /// Whether it is the one that joins first.
    pub(super) const fn is_first(&self) -> bool {
        self.number == 0
    }

    /// Whether it is the last one that joins the others.
    pub(super) const fn is_last(&self) -> bool {
        self.number + 1 == self.division.parts()
    }

    /// Whether it is its turn to join the others again, once the interface is back.
    pub(super) fn may_join(&self) -> bool {
        let has_new_group = self.number == 0 || self.group.generation() != self.joined;
        has_new_group && self.group.has_place_for(self.number)
    }

    /// Begins to receive the part of the packets that a filter accepts.
    pub(super) fn start(
        &mut self,
        interface: &mut Interface,
        filter: &[Instruction],
    ) -> Result<(), InterfaceError> {
        interface.start_part(filter, (&self.division, self.number), &self.group)?;
        self.joined = self.group.generation();
        Ok(())
    }
}
