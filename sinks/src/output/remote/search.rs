//! Finding the record for which a receiver of HTTP refuses a request.
//!
//! A request has records of several systems, and one that the receiver cannot take must cost none
//! of the others. So the records come again in smaller requests. Each has half of those among which
//! one is refused, until that one is alone.
//!
//! It is dropped only if the receiver takes other records meanwhile. If the search has seen none
//! taken, a *sample* is sent: a record that the receiver took before, or another one that waits. A
//! receiver that refuses the samples, too, refuses everything, as for a wrong path. Then nothing is
//! dropped, and the output waits as for any receiver that fails.
//!
//! Nothing in a search waits, so records that are refused do not lengthen the pauses of an output.
//! Among n records, one that is refused costs about log2(n) + 2 requests. Where many are refused,
//! requests stay small after a search, and one costs two to five requests.

use crate::output::backlog::Backlog;

/// A search for refused records among those that come next.
#[derive(Debug)]
pub(super) struct RefusalSearch {
    /// Among so many records, one at least is refused; 0: no search is under way.
    left: u64,
    /// The sequence of the last one of them in the backlog.
    until: u64,
    /// How many records the next request can have.
    most: u64,
    /// How many were taken since one was dropped.
    since: u64,
    /// Whether the receiver may take each of them alone: their request was too large.
    is_size: bool,
    /// How many records may be dropped before the receiver has to take another one.
    trust: u32,
    /// Whether the next request has the sample.
    is_sampling: bool,
    /// Samples since the receiver took something, or since the last pause.
    samples: u32,
    /// Decides which record is the next sample.
    place: u64,
    /// A record of the last request, as it waits.
    record: Vec<u8>,
    /// A record that the receiver took; empty if there is none.
    taken: Vec<u8>,
}

/// What follows when a request was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RefusalStep {
    /// A smaller request.
    Smaller,
    /// The record that was refused alone is dropped.
    Drop,
    /// A sample ([`RefusalSearch::choose`]).
    Sample,
}

/// A receiver that begins to refuse everything during a search costs so many records at most.
const TRUST: u32 = 64;
/// So many samples are refused before the receiver is left alone.
const SAMPLES_MAX: u32 = 8;
/// 2^64 divided by the golden ratio: multiples of it spread evenly (Knuth, "The Art of Computer
/// Programming", volume 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl RefusalSearch {
    pub(super) const fn new() -> Self {
        Self {
            left: 0,
            until: 0,
            most: u64::MAX,
            since: u64::MAX,
            is_size: false,
            trust: 0,
            is_sampling: false,
            samples: 0,
            place: 0,
            record: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Whether the next request has the sample, and nothing else.
    pub(super) const fn sample(&self) -> Option<&[u8]> {
        if self.is_sampling { Some(self.record.as_slice()) } else { None }
    }

    /// Remembers a record of the request that is made.
    pub(super) fn remember(&mut self, record: &[u8]) {
        self.record.clear();
        self.record.extend_from_slice(record);
    }

    /// Whether a request is complete that has so many records, the last one of this sequence.
    pub(super) const fn is_complete(&self, sequence: u64, records: u64) -> bool {
        records >= self.most || self.left > 0 && sequence >= self.until
    }

    /// Notes that such a request was taken, but for so many of its records. Returns whether it had
    /// the sample, which is no part of what is confirmed.
    pub(super) fn taken(&mut self, sequence: u64, records: u64, rejected: u64) -> bool {
        if rejected == 0 {
            std::mem::swap(&mut self.record, &mut self.taken);
        }
        self.samples = 0;
        if std::mem::take(&mut self.is_sampling) {
            self.trust = TRUST;
            return true;
        }
        let is_search = self.left > 0 || records >= self.most;
        self.trust = if is_search && rejected < records { TRUST } else { 0 };
        self.since = self.since.saturating_add(records);
        let left = self.left.saturating_sub(records);
        if self.left == 0 && is_search {
            self.most = self.most.saturating_mul(2);
        } else if left == 0 || sequence >= self.until {
            (self.left, self.most) = (0, u64::MAX);
        } else {
            self.left = left;
            self.most = if self.is_size { self.most } else { left.div_ceil(2) };
        }
        false
    }

    /// Notes that such a request was refused: for its size, or for what is in it.
    pub(super) fn refused(&mut self, sequence: u64, records: u64, is_size: bool) -> RefusalStep {
        if std::mem::take(&mut self.is_sampling) {
            // It took it once, but not any more.
            self.taken.clear();
            return RefusalStep::Sample;
        }
        (self.left, self.until, self.is_size) = (records, sequence, is_size);
        self.most = records.div_ceil(2).max(1);
        if records > 1 {
            return RefusalStep::Smaller;
        }
        if self.trust == 0 {
            return RefusalStep::Sample;
        }
        self.trust -= 1;
        self.left = 0;
        // The next one that is refused may be as near as the last one was.
        self.most = self.since.saturating_add(1).saturating_mul(2);
        self.since = 0;
        RefusalStep::Drop
    }

    /// Chooses a sample, of which the receiver has to take one before more is dropped. Returns
    /// whether there is one: not too many were refused, and something else waits. What was sent of
    /// the backlog is sent again.
    pub(super) fn choose(&mut self, backlog: &mut Backlog) -> bool {
        if self.samples == SAMPLES_MAX {
            return false;
        }
        self.samples += 1;
        if !self.taken.is_empty() {
            self.record.clone_from(&self.taken);
            self.is_sampling = true;
            return true;
        }
        // The first one was refused just now.
        let others = pass(backlog, usize::MAX).saturating_sub(1);
        self.place = self.place.wrapping_add(GOLDEN);
        let place = (u128::from(self.place) * others as u128) >> u64::BITS;
        pass(backlog, 1 + place as usize);
        if let Some(entry) = backlog.peek() {
            self.record.clear();
            self.record.extend_from_slice(entry.bytes);
            self.is_sampling = true;
        }
        backlog.rewind();
        self.is_sampling
    }

    /// The sample cannot be in a request.
    pub(super) const fn skip_sample(&mut self) {
        self.is_sampling = false;
    }

    /// Notes that a pause follows, or has just ended: the receiver may be another one then.
    pub(super) const fn pause(&mut self) {
        (self.trust, self.samples, self.is_sampling) = (0, 0, false);
    }
}

/// Passes over so many records from the first one that is not confirmed, as far as more may be
/// sent; returns their number.
fn pass(backlog: &mut Backlog, count: usize) -> usize {
    backlog.rewind();
    let mut passed = 0;
    while passed < count
        && let Some(length) = backlog.peek().map(|entry| entry.bytes.len())
    {
        backlog.send(length);
        passed += 1;
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends the records of these numbers to a receiver that refuses some; returns the numbers of
    /// those that were taken, of those that were dropped, and of the requests. A search without a
    /// further sample ends.
    fn deliver(count: u64, is_refused: impl Fn(u64) -> bool) -> (Vec<u64>, Vec<u64>, usize) {
        let mut backlog = Backlog::new(1 << 20);
        for number in 0..count {
            backlog.push(false, 0, &[&number.to_le_bytes()]);
        }
        let (mut search, mut requests) = (RefusalSearch::new(), 0);
        let (mut taken, mut dropped) = (Vec::new(), Vec::new());
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        loop {
            let (mut numbers, mut sequence) = (Vec::new(), 0);
            if let Some(sample) = search.sample() {
                numbers.push(number(sample));
            } else {
                while let Some(entry) = backlog.peek() {
                    sequence = entry.sequence;
                    search.remember(entry.bytes);
                    numbers.push(number(entry.bytes));
                    backlog.send(8);
                    if search.is_complete(sequence, numbers.len() as u64) {
                        break;
                    }
                }
            }
            if numbers.is_empty() {
                return (taken, dropped, requests);
            }
            requests += 1;
            if !numbers.iter().copied().any(&is_refused) {
                if search.taken(sequence, numbers.len() as u64, 0) {
                    backlog.rewind();
                } else {
                    backlog.confirm(sequence);
                    taken.append(&mut numbers);
                }
                continue;
            }
            match search.refused(sequence, numbers.len() as u64, false) {
                RefusalStep::Smaller => backlog.rewind(),
                RefusalStep::Drop => {
                    backlog.confirm(sequence);
                    dropped.append(&mut numbers);
                }
                RefusalStep::Sample if search.choose(&mut backlog) => {}
                RefusalStep::Sample => return (taken, dropped, requests),
            }
        }
    }

    #[test]
    fn a_refused_record_costs_itself_and_few_requests() {
        for wrong in [0, 1, 499, 998, 999] {
            let (taken, dropped, requests) = deliver(1000, |number| number == wrong);
            assert!(taken.into_iter().eq((0..1000).filter(|number| *number != wrong)));
            assert_eq!(dropped, [wrong]);
            assert!(requests <= 16, "{requests} requests for record {wrong}");
        }
    }

    #[test]
    fn any_refused_records_cost_themselves_and_few_requests_each() {
        let cases: [fn(u64) -> bool; 4] = [
            |number| number < 500,
            |number| (300..600).contains(&number),
            |number| number.is_multiple_of(7),
            |number| !number.is_multiple_of(3),
        ];
        for is_refused in cases {
            let (taken, dropped, requests) = deliver(1000, is_refused);
            assert!(taken.into_iter().eq((0..1000).filter(|number| !is_refused(*number))));
            assert!(dropped.iter().copied().eq((0..1000).filter(|number| is_refused(*number))));
            assert!(requests <= 5 * dropped.len() + 20, "{requests} for {}", dropped.len());
        }
    }

    #[test]
    fn a_receiver_that_refuses_everything_costs_no_record() {
        for count in [1, 2, 1000] {
            let (taken, dropped, requests) = deliver(count, |_| true);
            assert!(taken.is_empty() && dropped.is_empty());
            assert!(requests <= 11 + SAMPLES_MAX as usize, "{requests}");
        }
    }

    #[test]
    fn a_receiver_that_refuses_everything_from_now_on_costs_no_record() {
        let mut backlog = Backlog::new(1 << 20);
        let mut search = RefusalSearch::new();
        for number in 0..3_u64 {
            backlog.push(false, 0, &[&number.to_le_bytes()]);
        }
        search.remember(b"good");
        assert!(!search.taken(0, 1, 0));
        assert_eq!(search.refused(1, 1, false), RefusalStep::Sample);
        assert!(search.choose(&mut backlog));
        assert_eq!(search.sample(), Some(&b"good"[..]));
        for _ in 1..SAMPLES_MAX {
            assert_eq!(search.refused(0, 1, false), RefusalStep::Sample);
            assert!(search.choose(&mut backlog));
        }
        assert_eq!(search.refused(0, 1, false), RefusalStep::Sample);
        assert!(!search.choose(&mut backlog));
        search.pause();
        assert_eq!(search.sample(), None);
        assert!(search.is_complete(1, 1), "that one comes alone first");
    }

    #[test]
    fn a_receiver_that_takes_requests_and_no_record_of_them_is_not_trusted() {
        let mut search = RefusalSearch::new();
        search.remember(b"bad");
        assert_eq!(search.refused(2, 2, false), RefusalStep::Smaller);
        assert!(!search.taken(1, 1, 1));
        assert_eq!(search.refused(2, 1, false), RefusalStep::Sample);
        assert!(search.taken.is_empty());
    }

    #[test]
    fn the_halves_of_a_request_that_is_too_large_are_whole_requests() {
        let mut search = RefusalSearch::new();
        assert!(!search.is_complete(10, 100));
        assert_eq!(search.refused(10, 5, true), RefusalStep::Smaller);
        assert!(!search.is_complete(7, 2));
        assert!(search.is_complete(8, 3));
        assert!(!search.taken(8, 3, 0));
        assert!(search.is_complete(10, 2));
        assert!(!search.taken(10, 2, 0));
        assert!(!search.is_complete(11, 9), "behind both");
    }
}
