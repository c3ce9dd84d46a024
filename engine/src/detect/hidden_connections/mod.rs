//! Connections that packets show and no socket of the kernel accounts for.
//!
//! A sensor sees the packets of a system on the wire, and passes what it has seen to
//! [`TrafficLink`]. Scans show the system's sockets. [`judge`] has the rule.
//!
//! TCP and UDP are judged. Other protocols have packets without sockets in every kernel.
//!
//! Not here: packets and flows (the sensor), and the wording of the record (`policy`).

mod datagrams;
mod judge;
mod scans;
mod sockets;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use std::sync::Arc;

pub use judge::{HiddenConnection, HiddenConnectionKind, SeenEnd};
pub use scans::ScanCounts;
pub use sockets::SocketOwner;
pub use wire::{FlowOwners, SeenFlow, TrafficLink};

use wire::HiddenConnectionList;

use super::{Acceptance, Detector, DetectorContext, DetectorSetup, Finding};
use crate::loss::{GapKind, GapLoss, Loss};
use crate::page_cache::ContentSource;
use crate::state::MachineState;

/// The detector of a system whose packets are seen.
#[derive(Debug, Default)]
pub struct HiddenConnections {
    wire: Option<Arc<TrafficLink>>,
    owed: HiddenConnectionList,
    unchecked: Loss,
}

impl HiddenConnections {
    /// Sets what it shares with the sensor of the system's packets. Without that, it is off.
    pub fn set_wire(&mut self, wire: Arc<TrafficLink>) {
        self.wire = Some(wire);
    }

    /// Whether it is on.
    pub const fn has_wire(&self) -> bool {
        self.wire.is_some()
    }
}

impl Detector for HiddenConnections {
    type Scratch = ();

    const GAPS: &'static [GapKind] = &[];

    fn build(_: &DetectorSetup<'_>) -> Self {
        Self::default()
    }

    fn update(
        &mut self,
        scene: &mut DetectorContext<'_>,
        _: &MachineState,
        _: &mut dyn ContentSource,
    ) {
        let Some(wire) = &self.wire else { return };
        wire.note_scan(scene.cx.snapshot, scene.cx.now, &mut self.owed);
        self.owed
            .retain(|hidden| scene.found(&Finding::HiddenConnection(hidden)) == Acceptance::No);
    }

    fn unchecked(&mut self) -> &mut Loss {
        &mut self.unchecked
    }

    fn losses<'a>(&'a mut self, _visit: &mut dyn FnMut(GapLoss<'a>)) {}
}
