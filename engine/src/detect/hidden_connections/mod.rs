//! Connections that packets show and no socket of the kernel accounts for.
//!
//! A sensor sees the packets of a system on the wire, and passes what it has seen to
//! [`TrafficLink`]. Scans show the system's sockets. [`judge`] has the rule.
//!
//! TCP and UDP are judged. Other protocols have packets without sockets in every kernel.
//!
//! What cannot be judged is a gap of its own: connections that are followed anew, and findings,
//! because there was no room; addresses without room; and consecutive scans that do not show all
//! sockets. One such scan alone is no gap: the next ones decide.
//!
//! Not here: packets and flows (the sensor), and the wording of the record (`policy`).

mod datagrams;
mod judge;
mod scans;
mod sockets;
#[cfg(test)]
pub(crate) mod tests;
mod traffic_link;

use std::sync::Arc;

pub use judge::{HiddenConnection, HiddenConnectionKind, SeenEnd};
pub use scans::ScanCounts;
pub use sockets::SocketOwner;
pub(crate) use sockets::WHOLE_SCAN_NS;
pub use traffic_link::{FlowOwners, SeenFlow, TrafficLink};

use judge::SCANS_MIN;
use scans::Shows;
use traffic_link::HiddenConnectionList;

use super::{Acceptance, Detector, DetectorContext, DetectorSetup, Finding};
use crate::loss::{GapKind, Loss};
use crate::page_cache::ContentSource;
use crate::state::MachineState;
use crate::time::Now;
use crate::walk::Snapshot;

/// The detector of a system whose packets are seen.
#[derive(Debug, Default)]
pub struct HiddenConnections {
    traffic_link: Option<Arc<TrafficLink>>,
    owed: HiddenConnectionList,
    /// Number of consecutive scans, up to the last one, that did not show all sockets: those of
    /// TCP, and those of UDP.
    blind_scans: [u32; 2],
    /// Searches that lacked something. No process is known to cause that.
    lost: Loss,
}

impl HiddenConnections {
    /// Sets what it shares with the sensor of the system's packets. Without that, it is off.
    pub fn set_traffic_link(&mut self, traffic_link: Arc<TrafficLink>) {
        self.traffic_link = Some(traffic_link);
    }

    /// Whether it is on.
    pub const fn has_traffic_link(&self) -> bool {
        self.traffic_link.is_some()
    }

    /// Notes a scan, and counts what cannot be judged.
    fn note_scan(&mut self, snapshot: &Snapshot, now: Now) {
        let Self { traffic_link: Some(traffic_link), owed, blind_scans, lost } = self else {
            return;
        };
        let coverage = traffic_link.note_scan(snapshot, now, owed);
        lost.begin_scan();
        let Shows { tcp, udp } = coverage.map(|coverage| coverage.shows).unwrap_or_default();
        // Where the kernel may translate ports, UDP is never judged, which the sensor reports.
        let is_shown = [tcp, udp || snapshot.udp_ports.may_translate];
        for (scans, is_shown) in blind_scans.iter_mut().zip(is_shown) {
            *scans = if is_shown { 0 } else { scans.saturating_add(1) };
            // A finding needs as many scans that show all sockets.
            lost.stand(u64::from(*scans >= SCANS_MIN), None);
        }
        if let Some(coverage) = coverage {
            lost.stand(u64::from(!coverage.has_all_addresses), None);
            lost.add(coverage.forgotten, None);
        }
    }
}

impl Detector for HiddenConnections {
    type Scratch = ();

    const GAPS: &'static [GapKind] = &[GapKind::at_once(
        "hidden_connections",
        "searches for hidden connections began anew, or lacked sockets, addresses or room",
    )];

    fn build(_: &DetectorSetup<'_>) -> Self {
        Self::default()
    }

    fn update(
        &mut self,
        context: &mut DetectorContext<'_>,
        _: &MachineState,
        _: &mut dyn ContentSource,
    ) {
        self.note_scan(context.cx.snapshot, context.cx.now);
        self.owed
            .retain(|hidden| context.found(&Finding::HiddenConnection(hidden)) == Acceptance::No);
    }

    fn unchecked(&mut self) -> &mut Loss {
        &mut self.lost
    }
}
