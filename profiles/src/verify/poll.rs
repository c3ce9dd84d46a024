//! The majority of the objects that a check asks.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::Layout;
use panoptes_decoders::source::PAGE_BYTES;

use crate::memory::{Fault, KernelMemory, is_page_of_zeros};
use crate::object::read_object;
use crate::report::CheckOutcome;

/// Pairs that lead to each other by more than chance.
const PAIRS_MIN: usize = 3;

/// Why an object proves nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Silence {
    Fault(Fault),
    /// It lies in a page of zeros, as tools write for pages that they could not read.
    Zeros(KernelVa),
}

impl Silence {
    /// Whether the memory lacks what the page tables lead to; otherwise the address is wrong.
    pub(super) const fn is_missing(&self) -> bool {
        matches!(self, Self::Zeros(_) | Self::Fault(Fault::NotRead { .. }))
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
            Err(silence) if silence.is_missing() => {
                self.missing.get_or_insert_with(|| silence.text());
            }
            Err(silence) => self.contradict(|| format!("{}: {}", whose(), silence.text())),
        }
    }

    pub(super) fn silence(&mut self, silence: Silence) {
        self.ask(Err(silence), String::new);
    }

    /// The answer where two objects must lead to each other. Tasks come and go while a copy is made,
    /// so many pairs of a busy machine do not. Under a wrong profile none does.
    pub(super) fn outcome_of_pairs(&self) -> CheckOutcome {
        let asked = self.confirmed + self.contradicted;
        if self.confirmed >= PAIRS_MIN && self.confirmed * 4 >= asked {
            return CheckOutcome::Passed;
        }
        self.outcome()
    }

    /// The majority's answer.
    pub(super) fn outcome(&self) -> CheckOutcome {
        let asked = self.confirmed + self.contradicted;
        if self.confirmed > self.contradicted {
            return CheckOutcome::Passed;
        }
        // Half of them are no majority if others are missing.
        let is_half = self.confirmed == self.contradicted && self.missing.is_some();
        if let Some(how) = self.how.as_ref().filter(|_| !is_half) {
            return CheckOutcome::Failed(format!("{} of {asked} do not: {how}", self.contradicted));
        }
        match &self.missing {
            Some(missing) => CheckOutcome::Unread(missing.clone()),
            None => CheckOutcome::Skipped("there is none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_all_pairs_is_enough() {
        let mut poll = Poll::default();
        (0..2).for_each(|_| poll.confirm());
        (0..6).for_each(|_| poll.contradict(|| "a".to_owned()));
        assert_eq!(poll.outcome_of_pairs(), CheckOutcome::Failed("6 of 8 do not: a".to_owned()));
        poll.confirm();
        assert_eq!(poll.outcome_of_pairs(), CheckOutcome::Passed);
        (0..4).for_each(|_| poll.contradict(|| "a".to_owned()));
        assert_eq!(poll.outcome_of_pairs(), CheckOutcome::Failed("10 of 13 do not: a".to_owned()));
    }

    #[test]
    fn the_majority_of_what_can_be_read_decides() {
        let mut poll = Poll::default();
        assert_eq!(poll.outcome(), CheckOutcome::Skipped("there is none"));
        poll.silence(Silence::Zeros(KernelVa(0x1000)));
        assert!(matches!(poll.outcome(), CheckOutcome::Unread(_)));
        poll.contradict(|| "a".to_owned());
        assert_eq!(poll.outcome(), CheckOutcome::Failed("1 of 1 do not: a".to_owned()));
        poll.confirm();
        assert!(matches!(poll.outcome(), CheckOutcome::Unread(_)));
        poll.confirm();
        assert_eq!(poll.outcome(), CheckOutcome::Passed);
        let address = KernelVa(1);
        for _ in 0..2 {
            poll.ask(Err(Silence::Fault(Fault::NotCanonical { address })), || "b".to_owned());
        }
        assert_eq!(poll.outcome(), CheckOutcome::Failed("3 of 5 do not: a".to_owned()));
    }
}
