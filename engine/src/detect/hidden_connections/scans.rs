//! When scans were, and of which protocols each has shown all sockets.

use panoptes_decoders::kernel::sock::IPPROTO_UDP;
use panoptes_tables::room;

/// Number of scans whose times are remembered.
const SCANS_MAX: usize = 4096;

/// Protocols of which a scan shows all sockets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Shows {
    pub(super) tcp: bool,
    pub(super) udp: bool,
}

impl Shows {
    const fn all_of(self, protocol: u8) -> bool {
        if protocol as u16 == IPPROTO_UDP { self.udp } else { self.tcp }
    }
}

/// Numbers of scans. Nothing is found in the times of those that do not show all sockets of a
/// protocol.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ScanCounts {
    pub all: u64,
    pub without_tcp: u64,
    pub without_udp: u64,
}

/// The times of scans.
#[derive(Debug)]
pub(super) struct Scans {
    /// When they began, in nanoseconds since 1970.
    times: Vec<(i64, Shows)>,
    next: usize,
    counts: ScanCounts,
}

impl Scans {
    pub(super) fn new() -> Self {
        Self { times: room::list(SCANS_MAX), next: 0, counts: ScanCounts::default() }
    }

    /// Notes the beginning of a scan, and what it shows.
    pub(super) fn note(&mut self, begin_ns: i64, shows: Shows) {
        let scan = (begin_ns, shows);
        self.counts.all += 1;
        self.counts.without_tcp += u64::from(!shows.tcp);
        self.counts.without_udp += u64::from(!shows.udp);
        if self.times.len() < SCANS_MAX {
            self.times.push(scan);
        } else {
            self.times[self.next] = scan;
        }
        self.next = (self.next + 1) % SCANS_MAX;
    }

    pub(super) const fn counts(&self) -> ScanCounts {
        self.counts
    }

    /// Number of whole scans that have begun and ended within a time and that show all sockets of a
    /// protocol. A scan has ended when the next one begins.
    pub(super) fn within(&self, protocol: u8, first_ns: i64, last_ns: i64) -> u32 {
        let is_full = self.times.len() == SCANS_MAX;
        let (recent, old) = self.times.split_at(if is_full { self.next } else { 0 });
        let mut count = 0;
        let mut before: Option<(i64, Shows)> = None;
        for &(begin_ns, shows) in old.iter().chain(recent) {
            let ended =
                before.is_some_and(|(begin, shows)| shows.all_of(protocol) && begin >= first_ns);
            count += u32::from(ended && begin_ns <= last_ns);
            before = Some((begin_ns, shows));
        }
        count
    }

    pub(super) fn clear(&mut self) {
        self.times.clear();
        self.next = 0;
    }
}
