//! Counts the events of kernel modules and of programs of eBPF, as those of a process are
//! (`floods`): all of one kind together, for no process need be to blame.

use core::mem;

use panoptes_records::activities::Activity;

use super::Reporter;
use crate::state::ScanContext;

/// The events that are counted.
const EVENTS: [Activity; 7] = [
    Activity::KernelModuleLoaded,
    Activity::KernelModuleUnloaded,
    Activity::KernelModuleChanged,
    Activity::EbpfProgramLoaded,
    Activity::EbpfProgramUnloaded,
    Activity::EbpfProgramAttached,
    Activity::EbpfProgramDetached,
];

/// Counts the events in a second, of all modules and of all programs.
#[derive(Debug)]
pub(super) struct KernelEvents {
    /// Maximum number of each.
    most: u32,
    counts: [u32; EVENTS.len()],
}

impl KernelEvents {
    pub(super) const fn new(most: u32) -> Self {
        Self { most, counts: [0; EVENTS.len()] }
    }

    /// Counts an event; returns whether it is written.
    pub(super) fn admit(&mut self, activity: Activity) -> bool {
        let Some(kind) = EVENTS.iter().position(|&one| one == activity) else { return true };
        let count = &mut self.counts[kind];
        *count = count.saturating_add(1);
        *count <= self.most
    }

    /// Begins to count anew; returns by how much the counts exceeded the maximum.
    fn take(&mut self) -> impl Iterator<Item = (Activity, u32)> + use<> {
        let (most, counts) = (self.most, mem::take(&mut self.counts));
        EVENTS
            .into_iter()
            .zip(counts)
            .filter_map(move |(activity, events)| Some((activity, events.checked_sub(most)?)))
            .filter(|(_, more)| *more > 0)
    }
}

impl Reporter<'_> {
    /// Reports how many events of the kernel were not written in the last second.
    pub(super) fn sum_up_kernel_events(&mut self, cx: &ScanContext<'_>) {
        for (activity, more) in self.policy.kernel_events.take() {
            self.more_events_of_others(cx, activity, more.into(), "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_maximum_are_counted() {
        let mut events = KernelEvents::new(2);
        let loaded = Activity::KernelModuleLoaded;
        assert_eq!([(); 4].map(|()| events.admit(loaded)), [true, true, false, false]);
        assert!(events.admit(Activity::KernelModuleUnloaded));
        assert_eq!(events.take().collect::<Vec<_>>(), [(loaded, 2)]);
        assert!(events.admit(loaded) && events.take().next().is_none());
    }
}
