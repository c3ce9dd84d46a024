//! Interpreters on connections that may be about to be something else: between fork and exec, or within exec.

use super::judge::At;
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
    /// A shell that somebody works in may wait for what a server says (`read -r line <&3`).
    pub(super) const HELD: Self = Self { ns: 2_000_000_000, scans: 3 };
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

/// When one was first seen to be what it is, and in how many scans since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) since_ns: i64,
    pub(super) scans: u32,
}

/// What is asked about a pair in one scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) pair: Pair,
    /// Through which descriptors they hang together.
    pub(super) shape: (At, At),
    /// Whether something was written to the connection.
    pub(super) has_spoken: bool,
    /// Whether the interpreter is at work, or who feeds it.
    pub(super) works: bool,
    pub(super) settled: Settled,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    pair: Pair,
    shape: (At, At),
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
    /// How often one found no room.
    refused: u64,
}

impl PendingList {
    pub(super) fn new() -> Self {
        Self { scan: 0, list: Vec::with_capacity(PENDING_MAX), refused: 0 }
    }

    /// How often one found no room.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Lets go of what the last scan did not see, unless that `was_cut`: then it may not have looked.
    pub(super) fn begin_scan(&mut self, was_cut: bool) {
        if was_cut {
            let scan = self.scan;
            self.list.iter_mut().for_each(|pending| pending.seen = scan);
        }
        self.scan = self.scan.wrapping_add(1);
        let scan = self.scan;
        self.list.retain(|pending| scan.wrapping_sub(pending.seen) <= 1);
    }

    /// Whether something had been written to the connection when a pair of this shape was first asked for; nothing of one
    /// that was not.
    pub(super) fn had_spoken(&self, pair: Pair, shape: (At, At)) -> Option<bool> {
        let mut list = self.list.iter();
        list.find(|it| it.pair == pair && it.shape == shape).map(|pending| pending.had_spoken)
    }

    /// Whether an interpreter has been the same on a connection for long enough, and if so, since when. As long as it, or
    /// who feeds it, is at work, it is not: on a busy machine that takes its time.
    pub(super) fn settled(&mut self, question: &Question, now_ns: i64) -> Option<Seen> {
        let Question { pair, shape, has_spoken, works, settled } = *question;
        let scan = self.scan;
        let Some(pending) = self.list.iter_mut().find(|pending| pending.pair == pair) else {
            if self.list.len() == self.list.capacity() {
                self.refused += 1;
                return None;
            }
            self.list.push(Pending {
                pair,
                shape,
                had_spoken: has_spoken,
                begun_ns: now_ns,
                since_ns: now_ns,
                scans: u32::from(!works),
                seen: scan,
            });
            return None;
        };
        if pending.seen == scan {
            return None;
        }
        pending.seen = scan;
        // Our clock may be set back.
        pending.begun_ns = pending.begun_ns.min(now_ns);
        let is_busy = works && now_ns - pending.begun_ns < PATIENCE_NS;
        if pending.shape != shape {
            (pending.shape, pending.had_spoken, pending.scans) = (shape, has_spoken, 0);
        }
        if is_busy || pending.scans == 0 || now_ns < pending.since_ns {
            (pending.since_ns, pending.scans) = (now_ns, 0);
        }
        pending.scans += u32::from(!is_busy);
        let lasted = now_ns - pending.since_ns;
        let seen = Seen { since_ns: pending.since_ns, scans: pending.scans };
        (seen.scans >= settled.scans && lasted >= settled.ns).then_some(seen)
    }
}
