//! Lasting losses of scans: one warning when they last, one message when they are over.
//!
//! A machine changes while it is read, so a scan may fail to read something that the next scan
//! reads. If all scans of some time could not read something, or had no room for it, the records
//! are incomplete, and a warning reports that.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use panoptes_engine::walk::Losses;

/// A loss is reported after every scan of this time had it, and is over after none had it.
const LASTING: Duration = Duration::from_secs(2);

/// The kinds of losses, in words.
const KINDS: [&str; 3] = [
    "objects cannot be read",
    "lists do not end",
    "objects do not fit within the limits (raise them with --limits)",
];

/// How many objects of each kind a scan lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Lasting([u32; KINDS.len()]);

impl Lasting {
    /// Whether nothing is lost.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl From<Losses> for Lasting {
    fn from(losses: Losses) -> Self {
        // Data that is not resident is no loss of a scan: it is in swap, or never was in memory.
        let Losses { unreadable, unbounded, dropped, not_resident: _ } = losses;
        Self([unreadable, unbounded, dropped])
    }
}

impl fmt::Display for Lasting {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("scans are complete again");
        }
        f.write_str("scans are incomplete:")?;
        let lost = self.0.into_iter().zip(KINDS).filter(|(count, _)| *count > 0);
        for (number, (count, what)) in lost.enumerate() {
            write!(f, "{} {count} {what}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Separates lasting losses from temporary ones, for each kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    reported: [bool; KINDS.len()],
    /// Since when every scan differed from `reported`, for each kind.
    since: [Option<Instant>; KINDS.len()],
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { reported: [false; 3], since: [None; 3] }
    }

    /// Evaluates one scan; returns the lasting losses if a kind of loss began to last or is over.
    pub(super) fn consider(&mut self, losses: Losses, now: Instant) -> Option<Lasting> {
        let Lasting(counts) = Lasting::from(losses);
        let mut changed = false;
        for ((count, reported), since) in
            counts.into_iter().zip(&mut self.reported).zip(&mut self.since)
        {
            let is_lost = count > 0;
            if is_lost == *reported {
                *since = None;
            } else if now.saturating_duration_since(*since.get_or_insert(now)) >= LASTING {
                (*reported, *since, changed) = (is_lost, None, true);
            }
        }
        let kept = |kind| if self.reported[kind] { u32::max(counts[kind], 1) } else { 0 };
        changed.then(|| Lasting(std::array::from_fn(kept)))
    }
}

/// Passes losses from the scanner to the control thread; a newer value replaces an older one.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    is_new: AtomicBool,
    counts: [AtomicU32; KINDS.len()],
}

impl Mailbox {
    /// Scanner: sets the losses to report.
    pub(super) fn put(&self, losses: Lasting) {
        for (place, count) in self.counts.iter().zip(losses.0) {
            place.store(count, Ordering::Relaxed);
        }
        self.is_new.store(true, Ordering::Release);
    }

    /// Control thread: takes the losses to report, if they are new.
    pub(super) fn take(&self) -> Option<Lasting> {
        let counts = || self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        self.is_new.swap(false, Ordering::Acquire).then(|| Lasting(counts()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Losses = Losses { unreadable: 0, unbounded: 0, dropped: 0, not_resident: 9 };

    /// The messages of `count` scans, 100 ms apart, each with the number of its scan.
    fn messages(count: u32, scan: impl Fn(u32) -> Losses) -> Vec<(u32, String)> {
        let (start, mut patience, post) = (Instant::now(), Patience::new(), Mailbox::default());
        let mut all = Vec::new();
        for number in 0..count {
            let now = start + Duration::from_millis(100) * number;
            if let Some(losses) = patience.consider(scan(number), now) {
                post.put(losses);
            }
            all.extend(post.take().map(|losses| (number, losses.to_string())));
        }
        all
    }

    #[test]
    fn a_temporary_loss_is_not_reported() {
        let torn =
            |number: u32| Losses { unreadable: u32::from(!number.is_multiple_of(10)), ..NONE };
        assert_eq!(messages(1000, torn), []);
        assert_eq!(messages(1000, |_| NONE), [], "command lines in swap are no loss");
    }

    #[test]
    fn a_lasting_loss_and_its_end_are_reported_once() {
        let lost = |number: u32| Losses {
            unreadable: if (50..200).contains(&number) { number } else { 0 },
            dropped: if (100..500).contains(&number) { 7 } else { 0 },
            ..NONE
        };
        let expected = [
            (70, "scans are incomplete: 70 objects cannot be read"),
            (
                120,
                "scans are incomplete: 120 objects cannot be read, \
                 7 objects do not fit within the limits (raise them with --limits)",
            ),
            (
                220,
                "scans are incomplete: 7 objects do not fit within the limits \
                 (raise them with --limits)",
            ),
            (520, "scans are complete again"),
        ];
        let expected = expected.map(|(number, text)| (number, text.to_owned()));
        assert_eq!(messages(1000, lost), expected);
    }
}
