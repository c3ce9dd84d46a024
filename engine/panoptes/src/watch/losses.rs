//! What scans do not show, said once when it lasts and once when it is over.
//!
//! A machine changes while it is read, so that any scan may fail to read something that the next one reads. What
//! no scan of some time could read, or had room for, is another thing: whoever reads the records must know that
//! they are not all.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use panoptes_engine::walk::Losses;

/// So long every scan must have lost something for it to be said, and none for it to be over.
const LASTING: Duration = Duration::from_secs(2);

/// How much of each kind a scan lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Lasting {
    unreadable: u32,
    unbounded: u32,
    dropped: u32,
}

impl Lasting {
    /// Whether nothing is lost.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    fn kinds(self) -> [bool; 3] {
        [self.unreadable > 0, self.unbounded > 0, self.dropped > 0]
    }
}

impl From<Losses> for Lasting {
    fn from(losses: Losses) -> Self {
        // What is not resident is no loss of ours: the machine has it in swap, or never had it.
        let Losses { unreadable, unbounded, dropped, not_resident: _ } = losses;
        Self { unreadable, unbounded, dropped }
    }
}

impl fmt::Display for Lasting {
    /// For people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("scans show everything again");
        }
        f.write_str("scans do not show everything:")?;
        let parts = [
            (self.unreadable, "objects cannot be read"),
            (self.unbounded, "lists do not end"),
            (self.dropped, "objects do not fit within the limits (raise them with --limits)"),
        ];
        let lost = parts.iter().filter(|(count, _)| *count > 0);
        for (number, (count, what)) in lost.enumerate() {
            write!(f, "{} {count} {what}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// Tells what lasts from what passes, kind by kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    told: [bool; 3],
    /// Since when each kind has been the other way in every scan.
    since: [Option<Instant>; 3],
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { told: [false; 3], since: [None; 3] }
    }

    /// Takes in one scan; what there is to be said when a kind of loss has come to last or is over.
    pub(super) fn consider(&mut self, losses: Losses, now: Instant) -> Option<Lasting> {
        let losses = Lasting::from(losses);
        let mut changed = false;
        for ((is_lost, told), since) in
            losses.kinds().into_iter().zip(&mut self.told).zip(&mut self.since)
        {
            if is_lost == *told {
                *since = None;
            } else if now.saturating_duration_since(*since.get_or_insert(now)) >= LASTING {
                (*told, *since, changed) = (is_lost, None, true);
            }
        }
        let kept = |count, told: bool| if told { u32::max(count, 1) } else { 0 };
        changed.then(|| Lasting {
            unreadable: kept(losses.unreadable, self.told[0]),
            unbounded: kept(losses.unbounded, self.told[1]),
            dropped: kept(losses.dropped, self.told[2]),
        })
    }
}

/// Hands what is to be said from the scanner to the control thread, the newest only.
#[derive(Debug, Default)]
pub(super) struct Post {
    is_new: AtomicBool,
    counts: [AtomicU32; 3],
}

impl Post {
    /// The scanner: this is to be said.
    pub(super) fn put(&self, losses: Lasting) {
        let counts = [losses.unreadable, losses.unbounded, losses.dropped];
        for (place, count) in self.counts.iter().zip(counts) {
            place.store(count, Ordering::Relaxed);
        }
        self.is_new.store(true, Ordering::Release);
    }

    /// The control thread: what is to be said, once.
    pub(super) fn take(&self) -> Option<Lasting> {
        self.is_new.swap(false, Ordering::Acquire).then(|| {
            let [unreadable, unbounded, dropped] =
                self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
            Lasting { unreadable, unbounded, dropped }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Losses = Losses { unreadable: 0, unbounded: 0, dropped: 0, not_resident: 9 };

    /// What is said over so many scans, 100 ms apart, by the number of the scan.
    fn said(count: u32, scan: impl Fn(u32) -> Losses) -> Vec<(u32, String)> {
        let (start, mut patience, post) = (Instant::now(), Patience::new(), Post::default());
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
    fn what_passes_is_not_said() {
        let torn =
            |number: u32| Losses { unreadable: u32::from(!number.is_multiple_of(10)), ..NONE };
        assert_eq!(said(1000, torn), []);
        assert_eq!(said(1000, |_| NONE), [], "command lines in swap are no loss");
    }

    #[test]
    fn what_lasts_is_said_once_however_it_changes_and_so_is_its_end() {
        let lost = |number: u32| Losses {
            unreadable: if (50..200).contains(&number) { number } else { 0 },
            dropped: if (100..500).contains(&number) { 7 } else { 0 },
            ..NONE
        };
        let expected = [
            (70, "scans do not show everything: 70 objects cannot be read"),
            (
                120,
                "scans do not show everything: 120 objects cannot be read, 7 objects do not fit within the limits \
                 (raise them with --limits)",
            ),
            (
                220,
                "scans do not show everything: 7 objects do not fit within the limits (raise them with --limits)",
            ),
            (520, "scans show everything again"),
        ];
        let expected = expected.map(|(number, text)| (number, text.to_owned()));
        assert_eq!(said(1000, lost), expected);
    }
}
