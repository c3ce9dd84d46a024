//! What the pages of a copy show of a process, in the order in which they were copied.

/// Pages that are copied, at most, while a process leaves or enters all its lists: the kernel holds
/// a lock meanwhile, for some microseconds.
const SLACK: u64 = 8;

/// The pages, in the order in which they were copied, that show a process or lack it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct TearEvidence {
    /// The page with the task's state. A process gets its end's state before it leaves a list, and
    /// loses its beginning's state after it has entered all lists.
    pub state: Pages,
    /// Those with the process's own number.
    pub shows: Pages,
    /// Those of the tree of numbers. A process enters that before it enters the lists, and others
    /// may run meanwhile.
    pub numbers: Pages,
    /// Links to its task. If it has ended, they may be those of the next task at its address.
    pub links: Pages,
    pub lacks: Pages,
    /// A page that lacks it, and nanoseconds since boot after which that was copied, by what it has
    /// of others.
    pub lacked_after: Option<(u64, u64)>,
    /// Whether an entry that is behind the process in a list lacks it. Entries are added at the end
    /// of a list, so the process was in the list before that one.
    pub is_followed: bool,
    /// Whether one object both shows the process and lacks it, so that no order explains it.
    pub is_contradicted: bool,
    /// Whether the number that the tree lacks was not free then, so the process had not ended.
    pub is_reserved: bool,
}

impl TearEvidence {
    /// Whether everything that shows the process was copied before everything that lacks it. Links
    /// that were copied later may be those of another task: the kernel reuses the newest memory
    /// first.
    pub(super) fn is_end(&self) -> bool {
        let shows = self.shows.and(self.numbers);
        !self.is_reserved
            && self.state.precede(self.lacks, 0)
            && (shows.is_empty() || shows.precede(self.lacks, SLACK))
    }

    /// Whether everything that lacks the process was copied before everything that shows it.
    pub(super) fn is_begin(&self, has_links: bool) -> bool {
        let shows = if has_links { self.shows.and(self.links) } else { self.shows };
        !self.is_followed
            && self.lacks.precede(self.state, 0)
            && (shows.is_empty() || self.lacks.precede(shows, SLACK))
    }

    /// Whether something that was copied after a page shows the process.
    pub(super) fn is_alive_at(&self, page: u64) -> bool {
        self.last_seen().is_some_and(|last| page <= last)
    }

    /// The last page that shows the process.
    pub(super) fn last_seen(&self) -> Option<u64> {
        self.shows.and(self.numbers).and(self.state).0.map(|(_, last)| last)
    }

    /// Whether the process may have entered the list after all that lacks it was copied, and before
    /// a page of its own was.
    pub(super) fn has_entered(&self, page: u64) -> bool {
        !self.is_followed && self.lacks.precede(Pages(Some((page, page))), 0)
    }

    /// Whether the process may have left the list after a page of its own was copied, and before
    /// all that lacks it was.
    pub(super) fn has_left(&self, page: u64) -> bool {
        Pages(Some((page, page))).precede(self.lacks, 0)
    }
}

/// The first and the last of some pages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Pages(pub Option<(u64, u64)>);

impl Pages {
    pub(super) fn add(&mut self, page: u64) {
        *self = self.and(Self(Some((page, page))));
    }

    pub(super) fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some((first, last)), Some((from, to))) => Self(Some((first.min(from), last.max(to)))),
            (one, another) => Self(one.or(another)),
        }
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0.is_none()
    }

    /// Whether all of these were copied before all others, or fewer than `slack` pages later.
    pub(super) fn precede(self, others: Self, slack: u64) -> bool {
        let last = self.0.map(|(_, last)| last);
        let first = others.0.map(|(first, _)| first);
        last.zip(first).is_some_and(|(last, first)| last < first.saturating_add(slack))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(of: &[u64]) -> Pages {
        let mut pages = Pages::default();
        for &page in of {
            pages.add(page);
        }
        pages
    }

    #[test]
    fn a_process_that_ended_is_shown_by_what_was_copied_first() {
        let evidence = |lacks: &[u64]| {
            let (state, links) = (pages(&[2000]), pages(&[5000]));
            let (shows, lacks) = (pages(&[3000, 1000]), pages(lacks));
            TearEvidence { state, shows, links, lacks, ..TearEvidence::default() }
        };
        assert!(!evidence(&[]).is_end() && !evidence(&[]).is_begin(false));
        assert!(evidence(&[4000]).is_end() && !evidence(&[4000]).is_begin(false));
        assert!(evidence(&[2999]).is_end(), "pages that are copied while it ends");
        assert!(!evidence(&[2990]).is_end());
        assert!(!evidence(&[2000]).is_end() && !evidence(&[2000]).is_begin(false));
        assert!(!evidence(&[500, 4000]).is_end());
    }

    #[test]
    fn a_process_that_began_is_lacked_by_what_was_copied_first() {
        let (state, lacks) = (pages(&[5000]), pages(&[4000]));
        let evidence = TearEvidence { state, lacks, ..TearEvidence::default() };
        assert!(evidence.is_begin(true) && !evidence.is_end());
        assert!(evidence.has_entered(5000) && evidence.has_left(3000));
        assert!(!evidence.has_entered(3000) && !evidence.has_left(5000));
        // It was in the tree of numbers some time before it was in the lists.
        let evidence = TearEvidence { numbers: pages(&[1000]), ..evidence };
        assert!(evidence.is_begin(true) && !evidence.is_end());
        let evidence = TearEvidence { is_followed: true, ..evidence };
        assert!(!evidence.is_begin(true) && !evidence.has_entered(5000));
    }
}
