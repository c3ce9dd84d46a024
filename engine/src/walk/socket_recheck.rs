//! TCP sockets of rows that are kept: a second, shorter look at them.
//!
//! While no task runs, packets still change TCP sockets: their counters, their states, and the
//! chains they are in. Nearly always only counters change. So a scan that keeps its rows reads the
//! heads of all chains, and of each known socket its `sock_common` and its counters. If each head,
//! each link and each state is as before, the chains have the same sockets as before. Otherwise the
//! scan reads all TCP sockets anew ([`super::connections`]).
//!
//! The route of a socket may change without its state. The next scan that keeps no rows reads it.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::sock::{Endpoints, TcpCounters, TcpState};
use panoptes_decoders::layout::View;
use panoptes_tables::room;

use super::losses::WalkedStructure;
use super::snapshot::ConnectionRow;
use super::{Reads, ScannedMemory, Snapshot, Walker, fetch_groups};

/// How the last scan found its TCP sockets.
#[derive(Debug)]
pub(super) struct KeptSockets {
    /// The first socket of each chain, in the order of the buckets.
    heads: Vec<KernelVa>,
    /// Whether the chains from these heads have just the sockets in the rows.
    has_all: bool,
    /// The socket of each row.
    all: Vec<KernelVa>,
    /// Full sockets, and such in TIME_WAIT.
    full: Reads<ConnectionRow>,
    waiting: Reads<ConnectionRow>,
}

impl KeptSockets {
    /// Allocates for so many sockets.
    pub(super) fn with_capacity(sockets: usize) -> Self {
        Self {
            heads: room::list(sockets),
            has_all: false,
            all: room::list(sockets),
            full: Reads::with_capacity(sockets),
            waiting: Reads::with_capacity(sockets),
        }
    }

    /// Notes the heads of all chains before a scan follows them.
    pub(super) fn begin(&mut self, heads: &[KernelVa]) {
        self.heads.clear();
        self.has_all = heads.len() <= self.heads.capacity();
        if self.has_all {
            self.heads.extend_from_slice(heads);
        }
    }

    /// Notes how many sockets the chains had.
    pub(super) fn end(&mut self, sockets: usize, snapshot: &Snapshot) {
        self.has_all &= sockets == snapshot.connections.len();
    }

    /// Lists what is read of each socket; `false` if one of them must be read whole.
    fn collect(&mut self, snapshot: &Snapshot) -> bool {
        let Self { all, full, waiting, .. } = self;
        all.clear();
        [&mut *full, &mut *waiting].into_iter().for_each(Reads::clear);
        for (index, row) in snapshot.connections.indexed() {
            all.push(row.address);
            match (row.counters, TcpState::from_number(row.endpoints.state)) {
                (Some(_), _) => full.push(index, row.address),
                (None, Some(TcpState::TimeWait | TcpState::FinWait2)) => {
                    waiting.push(index, row.address);
                }
                (None, Some(TcpState::SynReceived)) => {}
                (None, _) => return false,
            }
        }
        true
    }
}

impl Walker {
    /// Reads the counters of all TCP sockets in the rows; `false` if anything else of the sockets
    /// has changed, or may have. The rows are of no use then.
    pub(super) fn refresh_connections(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        // The scan that the rows are from was whole.
        self.snapshot.losses.forget_counted();
        if !self.scratch.kept_sockets.has_all {
            return false;
        }
        self.snapshot.losses.forget_stops(&[WalkedStructure::SocketBuckets]);
        self.list_heads(memory);
        self.scratch.addresses == self.scratch.kept_sockets.heads
            && self.snapshot.losses.is_whole()
            && self.scratch.kept_sockets.collect(&self.snapshot)
            && self.read_counters(memory)
    }

    /// Reads the sockets in the rows; `false` if one has changed by more than its counters.
    fn read_counters(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        #[derive(Clone, Copy)]
        enum CounterObjectKind {
            OutputCounters,
            Waiting,
            Endpoints,
        }
        let layouts = &memory.kernel.layouts;
        let connections = &mut self.snapshot.connections;
        let KeptSockets { all, full, waiting, .. } = &self.scratch.kept_sockets;
        // The 4-tuples come last: a socket that has its own then had it at its counters, too.
        let batch = [
            (
                CounterObjectKind::OutputCounters,
                &layouts.tcp_sock.packing,
                full.addresses.as_slice(),
            ),
            (CounterObjectKind::Waiting, &layouts.inet_timewait_sock.packing, &waiting.addresses),
            (CounterObjectKind::Endpoints, &layouts.sock_common.packing, all),
        ];
        let (mut is_same, mut has_counted) = (true, false);
        fetch_groups(&mut self.reader, memory, batch, |kind, index, bytes| {
            let Some(bytes) = bytes else {
                is_same = false;
                return;
            };
            match kind {
                CounterObjectKind::OutputCounters => {
                    let counters = Some(TcpCounters::decode(&layouts.tcp_sock, bytes));
                    let row = &mut connections[full.rows[index]];
                    has_counted |= row.counters != counters;
                    row.counters = counters;
                }
                CounterObjectKind::Waiting => {
                    let state = View::new(bytes).unsigned(layouts.inet_timewait_sock.tw_substate);
                    is_same &= connections[waiting.rows[index]].endpoints.state == state as u8;
                }
                CounterObjectKind::Endpoints => {
                    let row = &connections.as_slice()[index];
                    let mut after = Endpoints::decode(&layouts.sock_common, bytes);
                    if row.counters.is_none() && after.state == TcpState::TimeWait as u8 {
                        // The state in the row is the one that `CounterObjectKind::Waiting`
                        // compares.
                        after.state = row.endpoints.state;
                    }
                    is_same &= after == row.endpoints;
                }
            }
        });
        self.snapshot.connections_version += u64::from(has_counted);
        is_same
    }
}
