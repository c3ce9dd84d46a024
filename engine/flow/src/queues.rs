//! The queues that flows wait in: for their next report, or idle for their removal.
//!
//! Each is a list through the places of flows, in the order in which they were added. As all flows
//! of a queue wait equally long, the first one is always the next.
//!
//! Places are apart from flows, which are large: those of a queue stay in the processor's cache.

/// No flow.
pub(crate) const NONE: u32 = u32::MAX;

/// What a flow waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Waits {
    /// It has no place in a queue.
    #[default]
    Nowhere,
    Status,
    IdleTcp,
    IdleIp,
    IdleIcmp,
    IdleArp,
    IdleFragment,
    IdleOther,
    /// A TCP connection whose idle timeout has passed, and that may continue.
    Fallow,
}

impl Waits {
    /// The queues of idle flows.
    pub(crate) const IDLE: [Self; 7] = [
        Self::IdleTcp,
        Self::IdleIp,
        Self::IdleIcmp,
        Self::IdleArp,
        Self::IdleFragment,
        Self::IdleOther,
        Self::Fallow,
    ];
    const COUNT: usize = 9;
}

/// A flow's place in a queue, and what its removal needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowPlace {
    previous: u32,
    next: u32,
    /// When it was added, in nanoseconds since 1970.
    pub(crate) since_ns: i64,
    /// The hash of the flow's key.
    pub(crate) hash: u64,
    /// Counts the flows that were in this slot, so that a reference to an earlier one is noticed.
    pub(crate) number: u32,
    pub(crate) queue: Waits,
    /// Whether the flow's record was written, and so begins anew with the next packet.
    pub(crate) is_written: bool,
}

impl Default for FlowPlace {
    fn default() -> Self {
        let (previous, next, queue) = (NONE, NONE, Waits::Nowhere);
        Self { previous, next, since_ns: 0, hash: 0, number: 0, queue, is_written: false }
    }
}

/// The places of all flows.
pub(crate) type FlowPlaces = Vec<FlowPlace>;

/// The ends of all queues.
#[derive(Debug)]
pub(crate) struct Queues {
    first: [u32; Waits::COUNT],
    last: [u32; Waits::COUNT],
    /// Number of flows in [`Waits::Fallow`].
    fallow: u32,
}

impl Queues {
    pub(crate) const fn new() -> Self {
        Self { first: [NONE; Waits::COUNT], last: [NONE; Waits::COUNT], fallow: 0 }
    }

    /// The flow that has waited for longest.
    pub(crate) fn first(&self, queue: Waits) -> Option<u32> {
        let first = self.first[queue as usize];
        (first != NONE).then_some(first)
    }

    /// Number of connections that are remembered after their idle timeout.
    pub(crate) const fn fallow(&self) -> u32 {
        self.fallow
    }

    /// Adds a flow that is in no queue.
    pub(crate) fn add(&mut self, places: &mut FlowPlaces, flow: u32, queue: Waits, now_ns: i64) {
        self.fallow += u32::from(queue == Waits::Fallow);
        let last = core::mem::replace(&mut self.last[queue as usize], flow);
        let place = &mut places[flow as usize];
        *place = FlowPlace { previous: last, next: NONE, since_ns: now_ns, queue, ..*place };
        match last {
            NONE => self.first[queue as usize] = flow,
            _ => places[last as usize].next = flow,
        }
    }

    /// Removes a flow from its queue, if it is in one.
    pub(crate) fn remove(&mut self, places: &mut FlowPlaces, flow: u32) {
        let place = &mut places[flow as usize];
        let FlowPlace { previous, next, queue, .. } = *place;
        if queue == Waits::Nowhere {
            return;
        }
        self.fallow -= u32::from(queue == Waits::Fallow);
        (place.previous, place.next, place.queue) = (NONE, NONE, Waits::Nowhere);
        match previous {
            NONE => self.first[queue as usize] = next,
            _ => places[previous as usize].next = next,
        }
        match next {
            NONE => self.last[queue as usize] = previous,
            _ => places[next as usize].previous = previous,
        }
    }

    /// The flow behind one in its queue.
    pub(crate) fn after(places: &[FlowPlace], flow: u32) -> Option<u32> {
        let next = places[flow as usize].next;
        (next != NONE).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn queues_agree_with_lists(
            steps in proptest::collection::vec((0..20_u32, 0..3_usize), 0..200),
        ) {
            let kinds = [Waits::Nowhere, Waits::Status, Waits::Fallow];
            let mut places = vec![FlowPlace::default(); 20];
            let (mut queues, mut model) = (Queues::new(), [const { VecDeque::new() }; 3]);
            for (flow, kind) in steps {
                queues.remove(&mut places, flow);
                for list in &mut model {
                    list.retain(|other| *other != flow);
                }
                if kind > 0 {
                    queues.add(&mut places, flow, kinds[kind], 0);
                    model[kind].push_back(flow);
                }
                for kind in 1..3 {
                    let first = queues.first(kinds[kind]);
                    let all = std::iter::successors(first, |one| Queues::after(&places, *one));
                    prop_assert_eq!(all.collect::<VecDeque<_>>(), model[kind].clone());
                }
                prop_assert_eq!(queues.fallow() as usize, model[2].len());
            }
        }
    }
}
