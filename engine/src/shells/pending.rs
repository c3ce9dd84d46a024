//! Interpreters on connections that may be about to be something else: between fork and exec, or within exec.

use crate::state::process::ProcessKey;

/// Most pairs of interpreter and connection that are watched for whether they stay as they are.
const PENDING_MAX: usize = 64;
/// How long somebody may work before what can be seen counts for all that there will be.
const PATIENCE_NS: i64 = 5_000_000_000;

/// For how long, and in how many scans in a row, one must be what it seems to be, with nobody at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    ns: i64,
    scans: u32,
}

impl Settled {
    /// Who is between fork and exec, or moves a descriptor for one command, is at work.
    pub(super) const AT_REST: Self = Self { ns: 0, scans: 2 };
    /// Who hands a shell its script may wait for more of it.
    pub(super) const FED: Self = Self { ns: 100_000_000, scans: 3 };
}

/// An interpreter and a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pair {
    /// The connection.
    pub(super) key: u64,
    /// The interpreter, and which program of it.
    pub(super) process: ProcessKey,
    pub(super) exec_id: u32,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    pair: Pair,
    /// Whether something had been written to the connection when it was first seen to be one.
    had_spoken: bool,
    begun_ns: i64,
    since_ns: i64,
    scans: u32,
    seen: u32,
}

/// All that are waited for.
#[derive(Debug)]
pub(super) struct PendingList {
    scan: u32,
    list: Vec<Pending>,
}

impl PendingList {
    pub(super) fn new() -> Self {
        Self { scan: 0, list: Vec::with_capacity(PENDING_MAX) }
    }

    /// Lets go of what the last scan did not see.
    pub(super) fn begin_scan(&mut self) {
        self.scan = self.scan.wrapping_add(1);
        let scan = self.scan;
        self.list.retain(|pending| scan.wrapping_sub(pending.seen) <= 1);
    }

    /// Whether something had been written to the connection when a pair was first asked for; nothing of one that was not.
    pub(super) fn had_spoken(&self, pair: Pair) -> Option<bool> {
        self.list.iter().find(|pending| pending.pair == pair).map(|pending| pending.had_spoken)
    }

    /// Whether an interpreter has been the same on a connection for long enough. As long as it, or who feeds it, `works`, it
    /// is not: on a busy machine that takes its time.
    pub(super) fn is_settled(
        &mut self,
        pair: Pair,
        settled: Settled,
        has_spoken: bool,
        works: bool,
        now_ns: i64,
    ) -> bool {
        let scan = self.scan;
        if let Some(pending) = self.list.iter_mut().find(|pending| pending.pair == pair) {
            pending.scans += u32::from(pending.seen != scan);
            pending.seen = scan;
            if works && now_ns.saturating_sub(pending.begun_ns) < PATIENCE_NS {
                (pending.since_ns, pending.scans) = (now_ns, 0);
            }
            let lasted = now_ns.saturating_sub(pending.since_ns);
            return pending.scans >= settled.scans && lasted >= settled.ns;
        }
        if self.list.len() < self.list.capacity() {
            self.list.push(Pending {
                pair,
                had_spoken: has_spoken,
                begun_ns: now_ns,
                since_ns: now_ns,
                scans: 1,
                seen: scan,
            });
        }
        false
    }
}
