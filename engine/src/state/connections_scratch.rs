//! Lists that the comparison of connections fills and reads during a scan.

use panoptes_tables::room;

use super::holders::Holders;
use crate::limits::Limits;
use crate::time::RealTime;

/// The lists of a comparison.
#[derive(Debug)]
pub(super) struct ConnectionsScratch {
    pub(super) claimed: Box<[bool]>,
    pub(super) first_seen_ns: Box<[Option<RealTime>]>,
    pub(super) holders: Holders,
}

impl ConnectionsScratch {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            claimed: room::copies(false, limits.connections_seen_max()),
            first_seen_ns: room::copies(None, limits.connections_seen_max()),
            holders: Holders::new(limits),
        }
    }
}
