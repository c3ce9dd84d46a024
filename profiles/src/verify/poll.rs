//! The majority of the objects that a check asks.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::Layout;
use panoptes_decoders::source::PAGE_BYTES;

use crate::memory::{KernelMemory, MemoryFault, is_page_of_zeros};
use crate::object::read_object;
use crate::report::CheckOutcome;

/// Pairs that lead to each other by more than chance.
const PAIRS_MIN: usize = 3;

/// So many objects that disagree are enough for a majority to refuse a profile.
const ASKED_MIN: usize = 16;

/// So many objects refuse a profile if none confirms it, and others could not be read.
const UNANIMOUS_MIN: usize = 4;

/// Why an object proves nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Silence {
    Fault(MemoryFault),
    /// It lies in a page of zeros, as tools write for pages that they could not read.
    Zeros(KernelVa),
}

impl Silence {
    /// Whether the memory lacks what the page tables lead to; otherwise the address is wrong.
    pub(super) const fn is_missing(&self) -> bool {
        match self {
            Self::Fault(fault) => fault.is_missing(),
            Self::Zeros(_) => true,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Fault(fault) => fault.to_string(),
            Self::Zeros(at) => format!("{at} lies in a page of zeros"),
        }
    }

    /// The outcome of a check that asks this object alone.
    pub(super) fn outcome(&self) -> CheckOutcome {
        if self.is_missing() {
            CheckOutcome::Unread(self.text())
        } else {
            CheckOutcome::Failed(self.text())
        }
    }
}

/// Reads an object's fields, unless a page of them has nothing but zeros.
pub(super) fn object(
    memory: &mut KernelMemory<'_>,
    layout: &impl Layout,
    at: KernelVa,
) -> Result<Vec<u8>, Silence> {
    let bytes = read_object(memory, layout, at).map_err(Silence::Fault)?;
    let packing = layout.packing();
    for span in packing.spans() {
        let (first, length) = (at.plus(span.offset.into()), u64::from(span.length));
        let mut from = 0;
        while from < length {
            let here = first.plus(from);
            let end = length.min(from + PAGE_BYTES - here.0 % PAGE_BYTES);
            let packed = u64::from(span.packed);
            let part = bytes.get((packed + from) as usize..(packed + end) as usize);
            let is_zero = part.is_some_and(|part| part.iter().all(|&byte| byte == 0));
            if is_zero && is_page_of_zeros(memory, here) {
                return Err(Silence::Zeros(here));
            }
            from = end;
        }
    }
    Ok(bytes)
}

/// The answers of the objects that a check asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Poll {
    confirmed: usize,
    contradicted: usize,
    /// The first contradiction, and the first object that proves nothing.
    how: Option<String>,
    missing: Option<String>,
}

impl Poll {
    /// A poll of objects to which others lead: where some of those could not be read, so could some
    /// of these.
    pub(super) fn after(others: &Self) -> Self {
        Self { missing: others.missing.clone(), ..Self::default() }
    }

    pub(super) fn confirm(&mut self) {
        self.confirmed += 1;
    }

    pub(super) fn contradict(&mut self, how: impl FnOnce() -> String) {
        self.contradicted += 1;
        self.how.get_or_insert_with(how);
    }

    pub(super) fn vote(&mut self, confirms: bool, how: impl FnOnce() -> String) {
        if confirms { self.confirm() } else { self.contradict(how) }
    }

    /// An object that cannot be read proves nothing. One at a wrong address contradicts.
    pub(super) fn ask(&mut self, asked: Result<(), Silence>, whose: impl FnOnce() -> String) {
        match asked {
            Ok(()) => self.confirm(),
            Err(silence) if silence.is_missing() => self.silence(&silence),
            Err(silence) => self.contradict(|| format!("{}: {}", whose(), silence.text())),
        }
    }

    /// As [`Self::ask`], where the object's address is enough to name it.
    pub(super) fn silence(&mut self, silence: &Silence) {
        if silence.is_missing() {
            self.missing.get_or_insert_with(|| silence.text());
        } else {
            self.contradict(|| silence.text());
        }
    }

    /// Whether an object that was to be asked could not be read.
    pub(super) const fn lacks_any(&self) -> bool {
        self.missing.is_some()
    }

    /// The answer where two objects must lead to each other. Tasks come and go while a copy is
    /// made, so many pairs of a busy machine do not. Under a wrong profile none does.
    pub(super) fn outcome_of_pairs(&self) -> CheckOutcome {
        if self.confirmed < PAIRS_MIN {
            return self.outcome();
        }
        if self.confirmed * 4 >= self.asked() {
            return CheckOutcome::Passed;
        }
        CheckOutcome::Undecided(self.contradiction())
    }

    /// The majority's answer. A few objects are no majority: a copy may have all of them torn.
    pub(super) fn outcome(&self) -> CheckOutcome {
        if self.confirmed > self.contradicted {
            return CheckOutcome::Passed;
        }
        if self.contradicted == 0 {
            return match &self.missing {
                Some(missing) => CheckOutcome::Unread(missing.clone()),
                None => CheckOutcome::Skipped("there is none"),
            };
        }
        // Where all agree, the machine may be that small, unless some could not be asked.
        let enough = match (self.confirmed, &self.missing) {
            (0, None) => 1,
            (0, Some(_)) => UNANIMOUS_MIN,
            _ => ASKED_MIN,
        };
        if self.asked() < enough {
            return CheckOutcome::Undecided(self.contradiction());
        }
        CheckOutcome::Failed(self.contradiction())
    }

    const fn asked(&self) -> usize {
        self.confirmed + self.contradicted
    }

    fn contradiction(&self) -> String {
        let how = self.how.as_deref().unwrap_or_default();
        format!("{} of {} do not: {how}", self.contradicted, self.asked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(confirmed: usize, contradicted: usize) -> Poll {
        let mut poll = Poll::default();
        (0..confirmed).for_each(|_| poll.confirm());
        (0..contradicted).for_each(|_| poll.contradict(|| "a".to_owned()));
        poll
    }

    fn failed(how: &str) -> CheckOutcome {
        CheckOutcome::Failed(how.to_owned())
    }

    fn undecided(how: &str) -> CheckOutcome {
        CheckOutcome::Undecided(how.to_owned())
    }

    #[test]
    fn a_quarter_of_all_pairs_is_enough() {
        assert_eq!(poll(3, 6).outcome_of_pairs(), CheckOutcome::Passed);
        // Some confirm it, so the profile is right, and the copy is torn.
        assert_eq!(poll(3, 10).outcome_of_pairs(), undecided("10 of 13 do not: a"));
        assert_eq!(poll(1, 2).outcome_of_pairs(), undecided("2 of 3 do not: a"));
    }

    #[test]
    fn pairs_of_a_wrong_profile_refuse_it() {
        assert_eq!(poll(0, 1).outcome_of_pairs(), failed("1 of 1 do not: a"));
        assert_eq!(poll(2, 62).outcome_of_pairs(), failed("62 of 64 do not: a"));
    }

    #[test]
    fn the_majority_of_what_can_be_read_decides() {
        assert_eq!(poll(0, 0).outcome(), CheckOutcome::Skipped("there is none"));
        assert_eq!(poll(9, 8).outcome(), CheckOutcome::Passed);
        assert_eq!(poll(8, 8).outcome(), failed("8 of 16 do not: a"));
        assert_eq!(poll(0, 2).outcome(), failed("2 of 2 do not: a"));
    }

    #[test]
    fn a_few_objects_that_disagree_refuse_no_profile() {
        assert_eq!(poll(1, 1).outcome(), undecided("1 of 2 do not: a"));
        assert_eq!(poll(5, 8).outcome(), undecided("8 of 13 do not: a"));
    }

    #[test]
    fn what_cannot_be_read_proves_nothing() {
        let missing = |mut poll: Poll| {
            poll.silence(&Silence::Zeros(KernelVa(0x1000)));
            poll
        };
        assert!(matches!(missing(poll(0, 0)).outcome(), CheckOutcome::Unread(_)));
        assert_eq!(missing(poll(0, 3)).outcome(), undecided("3 of 3 do not: a"));
        assert_eq!(missing(poll(0, 4)).outcome(), failed("4 of 4 do not: a"));
        assert_eq!(missing(poll(2, 1)).outcome(), CheckOutcome::Passed);
    }

    #[test]
    fn a_wrong_address_contradicts() {
        let mut poll = poll(0, 0);
        let fault = MemoryFault::NotCanonical { address: KernelVa(1) };
        poll.ask(Err(Silence::Fault(fault)), || "b".to_owned());
        assert_eq!(poll.outcome(), failed(&format!("1 of 1 do not: b: {fault}")));
    }
}
