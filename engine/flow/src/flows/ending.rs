//! Records of flows, and flows that end: idle ones, those that need room, and all at the end.

use panoptes_records::flow::{Cause, Extra};

use super::Flows;
use crate::queues::{Queues, Waits};
use crate::reports::Reports;

/// Number of flows among which the one is searched that is idle for longest.
const CANDIDATES: usize = 32;

impl Flows {
    /// Reports the flows whose status interval has passed.
    pub(super) fn report_due(&mut self, reports: &mut impl Reports) {
        while let Some(flow) = self.queues.first(Waits::Status) {
            let since_ns = self.places[flow as usize].since_ns;
            if self.now_ns.saturating_sub(since_ns) < self.settings.status_interval_ns {
                break;
            }
            self.prefetch(Queues::after(&self.places, flow));
            self.report(flow, None, reports);
            let queue = self.slots[flow as usize].idle_queue();
            self.queues.remove(&mut self.places, flow);
            self.queues.add(&mut self.places, flow, queue, self.now_ns);
        }
    }

    pub(super) fn remove_idle(&mut self) {
        let timeouts = self.settings.timeouts;
        for queue in Waits::IDLE {
            let timeout_ns = match queue {
                Waits::IdleTcp => timeouts.tcp_ns,
                Waits::Fallow => timeouts.tcp_fallow_ns,
                Waits::IdleIcmp => timeouts.icmp_ns,
                Waits::IdleArp => timeouts.arp_ns,
                Waits::IdleFragment => timeouts.fragment_ns,
                Waits::IdleOther => timeouts.other_ns,
                _ => timeouts.ip_ns,
            };
            while let Some(flow) = self.queues.first(queue) {
                let since_ns = self.places[flow as usize].since_ns;
                if self.now_ns.saturating_sub(since_ns) < timeout_ns {
                    break;
                }
                let may_go_on = || self.slots[flow as usize].may_go_on();
                if queue == Waits::IdleTcp && timeouts.tcp_fallow_ns > 0 && may_go_on() {
                    self.let_lie_fallow(flow);
                } else {
                    self.remove(flow);
                }
            }
        }
    }

    /// Remembers an idle connection, whose packets all have a record. It keeps its room until
    /// another flow needs it.
    fn let_lie_fallow(&mut self, flow: u32) {
        self.user.clear(flow);
        self.queues.remove(&mut self.places, flow);
        self.queues.add(&mut self.places, flow, Waits::Fallow, self.now_ns);
    }

    pub(super) fn remove(&mut self, flow: u32) {
        self.queues.remove(&mut self.places, flow);
        let place = &mut self.places[flow as usize];
        place.number = place.number.wrapping_add(1);
        let hash = place.hash;
        self.user.clear(flow);
        self.index.remove(hash, flow);
        self.free.push(flow);
    }

    /// Removes the flow that is idle for longest, and reports it first if there is anything. Those
    /// that are only remembered go first.
    pub(super) fn evict(&mut self, reports: &mut impl Reports) {
        if let Some(flow) = self.queues.first(Waits::Fallow) {
            self.counts.forgotten += 1;
            return self.remove(flow);
        }
        let idle = Waits::IDLE.iter().filter_map(|queue| self.queues.first(*queue));
        let last_ns = |flow: u32| self.slots[flow as usize].record.times().1;
        let oldest = idle.min_by_key(|flow| last_ns(*flow));
        let flow = oldest.or_else(|| {
            let mut next = self.queues.first(Waits::Status);
            let mut best: Option<u32> = None;
            for _ in 0..CANDIDATES {
                let Some(flow) = next else { break };
                if best.is_none_or(|best| last_ns(flow) < last_ns(best)) {
                    best = Some(flow);
                }
                next = Queues::after(&self.places, flow);
            }
            best
        });
        if let Some(flow) = flow {
            self.counts.evicted += 1;
            self.report(flow, None, reports);
            self.remove(flow);
        }
    }

    /// Reports a flow if it has packets that no record has.
    pub(super) fn report(&mut self, flow: u32, cause: Option<Cause>, reports: &mut impl Reports) {
        let place = &mut self.places[flow as usize];
        if place.is_written {
            return;
        }
        let slot = &mut self.slots[flow as usize];
        if slot.record.source.packets + slot.record.destination.packets == 0 {
            return;
        }
        if slot.record.sequence == 0 {
            let (part, parts) = self.settings.part;
            let next = self.last_sequence.checked_add(parts.max(1));
            let next = next.filter(|_| self.last_sequence > 0);
            self.last_sequence = next.unwrap_or(part + 1);
            slot.record.sequence = self.last_sequence;
        }
        if let Some(cause) = cause {
            slot.record.cause = cause;
        }
        place.is_written = true;
        self.counts.records += 1;
        let user = self.user.of(flow);
        let applications = self.applications.as_deref();
        let known = applications.map(|all| all.of(flow)).unwrap_or_default();
        let jitter = self.jitter.get(flow as usize);
        let size_squares = self.squares.get(flow as usize).copied();
        let extra = Extra { jitter, user, size_squares, ..known };
        reports.report(&self.slots[flow as usize].record, &extra);
    }

    /// Reports all flows that have packets that no record has, and removes all.
    pub fn finish(&mut self, reports: &mut impl Reports) {
        for queue in Waits::IDLE.into_iter().chain([Waits::Status]) {
            while let Some(flow) = self.queues.first(queue) {
                self.prefetch(Queues::after(&self.places, flow));
                self.report(flow, None, reports);
                self.remove(flow);
            }
        }
        self.report_resolutions(reports);
    }

    /// Reports the answers of DNS since the last such report.
    pub fn report_resolutions(&mut self, reports: &mut impl Reports) {
        if let Some(applications) = &mut self.applications {
            applications.report_resolutions(reports);
        }
    }
}
