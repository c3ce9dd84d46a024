//! Pairs that a light scan does not show, because their relays rest.
//!
//! A light scan leaves the descriptors of a relay that has not run, so the way over it is not seen.
//! It shows all TCP sockets and all processes: that is enough to count turns. A whole scan is
//! needed only to report.

use arrayvec::ArrayVec;

use super::{ShellWork, Sight, TURNS_UNASKED, WATCHED_MAX, is_busy};
use crate::detect::DetectorContext;
use crate::detect::reverse_shells::ReverseShells;
use crate::detect::reverse_shells::direction::key_of;
use crate::detect::reverse_shells::pairs::Pair;
use crate::detect::reverse_shells::turns::{has_started_after, newest_of};
use crate::walk::{ConnectionRow, Snapshot};

/// A pair that the scan has not shown so far.
struct RestingPair {
    pair: Pair,
    sight: Sight,
    /// Whether its connections are still to be found: the first and the second one.
    is_missing: [bool; 2],
}

impl RestingPair {
    fn new(snapshot: &Snapshot, pair: Pair, before: Sight) -> Self {
        let sight = Sight { newest: newest_of(snapshot), ..before };
        Self { pair, sight, is_missing: before.ports.map(|port| port != 0) }
    }

    /// Takes the counters of a connection, if it is one of the pair's. `key` computes its key.
    fn take(&mut self, row: &ConnectionRow, key: impl FnOnce() -> u64) {
        let port = row.endpoints.source_port;
        let Some(counters) = row.counters.filter(|_| self.sight.ports.contains(&port)) else {
            return;
        };
        let key = key();
        if key == self.pair.key {
            self.sight.received = counters.bytes_in;
            self.sight.asked = counters.bytes_out;
            self.is_missing[0] = false;
        } else if key == self.sight.out {
            self.sight.sent = counters.bytes_out;
            self.is_missing[1] = false;
        }
    }
}

impl ReverseShells {
    /// Counts turns of the pairs that a light scan has not shown. Asks for a whole scan if one of
    /// them may be due.
    pub(in super::super) fn watch_resting_pairs(&mut self, context: &DetectorContext<'_>) {
        let (snapshot, now) = (context.cx.snapshot, context.cx.now);
        if !snapshot.is_light {
            return;
        }
        let mut hidden = ArrayVec::<RestingPair, WATCHED_MAX>::new();
        let unseen = self.two_peers.0.unseen();
        let open = unseen.filter(|(pair, _)| !self.reported.has_key(pair.key)).take(WATCHED_MAX);
        hidden.extend(open.map(|(pair, watched)| RestingPair::new(snapshot, pair, watched.sight)));
        if hidden.is_empty() {
            return;
        }
        let secret = self.reported.secret();
        for row in snapshot.connections.iter() {
            let mut key = None;
            let mut key = || *key.get_or_insert_with(|| key_of(row, secret));
            hidden.iter_mut().for_each(|it| it.take(row, &mut key));
        }
        for RestingPair { pair, sight, .. } in
            hidden.iter().filter(|it| it.is_missing == [false; 2])
        {
            let process = snapshot.process_by_pid(pair.process.process_id);
            let Some(row) = process.filter(|row| pair.is_of(snapshot, row)) else { continue };
            let Some(watched) = self.two_peers.0.get_mut(*pair) else { continue };
            let before = watched.turns;
            watched.scans = watched.scans.saturating_add(1);
            watched.observe(*sight, now, |after| ShellWork {
                has_started: has_started_after(snapshot, row, after),
                is_busy: is_busy(snapshot, row),
            });
            self.waits |= watched.turns > before.max(TURNS_UNASKED - 1);
        }
    }
}
