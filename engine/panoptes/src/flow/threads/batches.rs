//! Batches that one thread fills and another one empties. They go round, so that nothing is
//! allocated once each has grown to what fits into it. Neither thread waits for the other one.

use rtrb::{Consumer, Producer, RingBuffer};

/// What fills a batch.
pub(super) trait ThreadBatch: Default {
    /// Bytes of a full one.
    const BYTES: usize;

    /// Whether it must be passed on before something else is added.
    fn is_full(&self) -> bool;
    fn is_empty(&self) -> bool;
    /// Empties it; its memory stays.
    fn clear(&mut self);
}

/// The end of the thread that fills batches.
#[derive(Debug)]
pub(super) struct Filler<B> {
    current: Option<B>,
    full: Producer<B>,
    free: Consumer<B>,
}

/// The end of the thread that empties them.
#[derive(Debug)]
pub(super) struct Emptier<B> {
    full: Consumer<B>,
    free: Producer<B>,
}

/// So many batches between two threads.
pub(super) fn circle<B: ThreadBatch>(count: usize) -> (Filler<B>, Emptier<B>) {
    let (full, to_empty) = RingBuffer::new(count);
    let (mut empty, free) = RingBuffer::new(count);
    for _ in 0..count {
        // There is room for all.
        let _ = empty.push(B::default());
    }
    (Filler { current: None, full, free }, Emptier { full: to_empty, free: empty })
}

impl<B: ThreadBatch> Filler<B> {
    /// A batch with room; `None` if all wait until they are emptied.
    pub(super) fn batch(&mut self) -> Option<&mut B> {
        if self.current.as_ref().is_some_and(ThreadBatch::is_full) {
            self.pass_on();
        }
        if self.current.is_none() {
            self.current = self.free.pop().ok();
        }
        self.current.as_mut()
    }

    /// Whether nobody empties batches any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }

    /// Whether something was added that was not passed on.
    pub(super) fn has_some(&self) -> bool {
        self.current.as_ref().is_some_and(|batch| !batch.is_empty())
    }

    /// Passes on what was added.
    pub(super) fn pass_on(&mut self) {
        if let Some(batch) = self.current.take_if(|batch| !batch.is_empty()) {
            // There is room for all.
            let _ = self.full.push(batch);
        }
    }
}

impl<B: ThreadBatch> Emptier<B> {
    /// The next batch, if there is one.
    pub(super) fn next(&mut self) -> Option<B> {
        self.full.pop().ok()
    }

    /// Gives a batch back.
    pub(super) fn give_back(&mut self, mut batch: B) {
        batch.clear();
        // There is room for all.
        let _ = self.free.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ThreadBatch for Vec<u32> {
        const BYTES: usize = 2 * size_of::<u32>();

        fn is_full(&self) -> bool {
            self.len() == 2
        }

        fn is_empty(&self) -> bool {
            self.is_empty()
        }

        fn clear(&mut self) {
            self.clear();
        }
    }

    #[test]
    fn batches_go_round() {
        let (mut filler, mut emptier) = circle::<Vec<u32>>(2);
        assert!(emptier.next().is_none());
        filler.pass_on();
        assert!(emptier.next().is_none(), "nothing was added");
        assert!(filler.batch().is_some() && !filler.has_some());
        for number in 0..4 {
            filler.batch().expect("room").push(number);
        }
        assert!(filler.batch().is_none(), "both are full");
        let first = emptier.next().expect("a batch");
        assert_eq!(first, [0, 1]);
        assert!(filler.batch().is_none(), "it is not back yet");
        emptier.give_back(first);
        filler.batch().expect("room").push(4);
        assert!(filler.has_some());
        filler.pass_on();
        assert!(!filler.has_some());
        for expected in [&[2, 3][..], &[4]] {
            assert_eq!(emptier.next().expect("a batch"), expected);
        }
    }
}
