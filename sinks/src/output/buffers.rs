//! A few large buffers, filled and written in turn, and how much of each is written.
//!
//! A buffer holds whole records. It is free, ready (sealed with its offset in the file), being
//! written, or failed; a short write leaves it ready with the rest. Buffers are sealed and begun in
//! order; writes to a file may complete in any order.

/// The buffers of one output.
#[derive(Debug)]
pub(crate) struct OutputBuffers {
    slots: Box<[OutputBuffer]>,
    /// Index of the oldest sealed buffer.
    oldest: usize,
    /// Number of sealed buffers, which follow each other from the oldest. The next one is being
    /// filled.
    sealed: usize,
    /// Maximum number of buffers under way at once.
    most: usize,
}

#[derive(Debug)]
struct OutputBuffer {
    data: Box<[u8]>,
    filled: usize,
    written: usize,
    records: usize,
    offset: u64,
    state: OutputBufferState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OutputBufferState {
    Free,
    Ready,
    Writing,
    Failed,
    /// Written, but an earlier buffer is not: if the file were cut there, this one would be lost.
    Done,
}

/// The next piece for a transport to write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PendingWrite {
    pub(crate) slot: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) offset: u64,
}

impl OutputBuffers {
    /// `count` buffers of `bytes` each. At most `most` may be under way at once: one for a stream,
    /// all for a file.
    pub(crate) fn new(count: usize, bytes: usize, most: usize) -> Self {
        let slot = || OutputBuffer {
            data: vec![0; bytes].into_boxed_slice(),
            filled: 0,
            written: 0,
            records: 0,
            offset: 0,
            state: OutputBufferState::Free,
        };
        let slots = std::iter::repeat_with(slot).take(count).collect();
        Self { slots, oldest: 0, sealed: 0, most }
    }

    /// Every buffer's memory, in the order of [`PendingWrite::slot`].
    pub(crate) fn memory(&self) -> impl Iterator<Item = &[u8]> {
        self.slots.iter().map(|slot| &*slot.data)
    }

    /// The buffer being filled; `None` when all are sealed.
    fn filling(&self) -> Option<usize> {
        (self.sealed < self.slots.len()).then(|| self.place(self.sealed))
    }

    /// The slot `place` positions after the oldest.
    fn place(&self, place: usize) -> usize {
        (self.oldest + place) % self.slots.len()
    }

    /// Bytes that still fit into the buffer being filled; 0 when all are sealed.
    pub(crate) fn room(&self) -> usize {
        self.filling().map_or(0, |index| self.slots[index].data.len() - self.slots[index].filled)
    }

    /// Bytes in the buffer being filled.
    pub(crate) fn filled(&self) -> usize {
        self.filling().map_or(0, |index| self.slots[index].filled)
    }

    /// Bytes of all buffers that are not wholly written, or that follow one.
    pub(crate) fn pending(&self) -> u64 {
        self.slots.iter().map(|slot| slot.filled as u64).sum()
    }

    /// Adds whole records, which must fit.
    pub(crate) fn append(&mut self, bytes: &[u8], records: usize) {
        let index = self.filling().expect("the caller asked for room");
        let slot = &mut self.slots[index];
        debug_assert_eq!(slot.state, OutputBufferState::Free, "only a free buffer is filled");
        slot.data[slot.filled..slot.filled + bytes.len()].copy_from_slice(bytes);
        slot.filled += bytes.len();
        slot.records += records;
    }

    /// Seals the buffer being filled, if it is not empty; it will be written at `offset`.
    pub(crate) fn seal(&mut self, offset: u64) {
        if self.filled() == 0 {
            return;
        }
        let index = self.place(self.sealed);
        debug_assert_eq!(
            self.slots[index].state,
            OutputBufferState::Free,
            "a buffer is sealed once"
        );
        self.slots[index].offset = offset;
        self.slots[index].state = OutputBufferState::Ready;
        self.sealed += 1;
    }

    /// Whether everything sealed has been written.
    pub(crate) const fn is_idle(&self) -> bool {
        self.sealed == 0
    }

    /// Number of buffers being written.
    pub(crate) fn under_way(&self) -> usize {
        self.slots.iter().filter(|slot| slot.state == OutputBufferState::Writing).count()
    }

    /// The next piece to begin, in order; it counts as under way from now on.
    pub(crate) fn begin(&mut self) -> Option<PendingWrite> {
        for place in 0..self.most.min(self.sealed) {
            let index = self.place(place);
            let slot = &mut self.slots[index];
            match slot.state {
                OutputBufferState::Ready => {
                    slot.state = OutputBufferState::Writing;
                    let (start, end) = (slot.written, slot.filled);
                    let offset = slot.offset + start as u64;
                    return Some(PendingWrite { slot: index, start, end, offset });
                }
                OutputBufferState::Writing | OutputBufferState::Done | OutputBufferState::Free => {}
                // Blocks the buffers after it: a full disk is then tried once, not once per buffer.
                OutputBufferState::Failed => return None,
            }
        }
        None
    }

    pub(crate) fn bytes(&self, piece: PendingWrite) -> &[u8] {
        &self.slots[piece.slot].data[piece.start..piece.end]
    }

    /// Adds `bytes` to what was written of a buffer. Returns the number of records that are now
    /// written, and all records before them too.
    pub(crate) fn wrote(&mut self, slot: usize, bytes: usize) -> usize {
        let slot = &mut self.slots[slot];
        debug_assert_eq!(slot.state, OutputBufferState::Writing, "only what was begun is written");
        slot.written += bytes;
        assert!(slot.written <= slot.filled, "more was written than there was");
        slot.state = if slot.written < slot.filled {
            OutputBufferState::Ready
        } else {
            OutputBufferState::Done
        };
        let mut records = 0;
        while self.sealed > 0 && self.slots[self.oldest].state == OutputBufferState::Done {
            records += self.forget_oldest();
        }
        records
    }

    /// Frees the oldest buffer and returns the number of its records.
    fn forget_oldest(&mut self) -> usize {
        let records = self.slots[self.oldest].clear();
        self.oldest = self.place(1);
        self.sealed -= 1;
        records
    }

    /// Marks a buffer whose write failed; it waits for [`Self::retry`].
    pub(crate) fn failed(&mut self, slot: usize) {
        debug_assert_eq!(
            self.slots[slot].state,
            OutputBufferState::Writing,
            "only what was begun fails"
        );
        self.slots[slot].state = OutputBufferState::Failed;
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.slots.iter().any(|slot| slot.state == OutputBufferState::Failed)
    }

    /// Makes failed buffers ready again.
    pub(crate) fn retry(&mut self) {
        for slot in &mut self.slots {
            if slot.state == OutputBufferState::Failed {
                slot.state = OutputBufferState::Ready;
            }
        }
    }

    /// Has everything sealed written again, from `offset` on: into another file. Returns where it
    /// ends. Only allowed while nothing is under way.
    pub(crate) fn move_to(&mut self, mut offset: u64) -> u64 {
        for place in 0..self.sealed {
            let index = self.place(place);
            let slot = &mut self.slots[index];
            debug_assert_ne!(slot.state, OutputBufferState::Writing, "nothing is under way");
            (slot.offset, slot.written, slot.state) = (offset, 0, OutputBufferState::Ready);
            offset += slot.filled as u64;
        }
        offset
    }

    /// Where the file would end after its last whole line if no more were written; `None` when all
    /// was written.
    pub(crate) fn whole_end(&self) -> Option<u64> {
        let slot = self.slots.get(self.oldest).filter(|_| self.sealed > 0)?;
        let written = &slot.data[..slot.written];
        let lines = written.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        Some(slot.offset + lines as u64)
    }

    /// Drops everything and returns the number of records lost. Buffers under way keep their bytes
    /// until they are done.
    pub(crate) fn abandon(&mut self) -> usize {
        let mut records = 0;
        for slot in &mut self.slots {
            records += match slot.state {
                OutputBufferState::Writing => std::mem::take(&mut slot.records),
                _ => slot.clear(),
            };
        }
        while self.sealed > 0 && self.slots[self.oldest].state == OutputBufferState::Free {
            self.forget_oldest();
        }
        records
    }
}

impl OutputBuffer {
    /// Frees the buffer and returns the number of its records.
    fn clear(&mut self) -> usize {
        (self.filled, self.written, self.state) = (0, 0, OutputBufferState::Free);
        std::mem::take(&mut self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(count: usize, most: usize) -> OutputBuffers {
        let mut buffers = OutputBuffers::new(count, 8, most);
        for index in 0..count {
            buffers.append(b"ab\ncd\n", 2);
            buffers.seal(6 * index as u64);
        }
        buffers
    }

    #[test]
    fn a_file_may_have_all_buffers_under_way_and_complete_them_in_any_order() {
        let mut buffers = filled(3, 3);
        assert_eq!(buffers.room(), 0);
        let pieces: Vec<_> = std::iter::from_fn(|| buffers.begin()).collect();
        assert_eq!(pieces.iter().map(|piece| piece.offset).collect::<Vec<_>>(), [0, 6, 12]);
        assert_eq!(buffers.wrote(1, 6), 0, "what is before it is not written");
        assert_eq!(buffers.room(), 0);
        assert_eq!(buffers.wrote(0, 6), 4);
        assert_eq!(buffers.room(), 8);
        assert!(!buffers.is_idle());
        assert_eq!(buffers.wrote(2, 6), 2);
        assert!(buffers.is_idle());
    }

    #[test]
    fn a_stream_has_one_under_way_and_finishes_it_before_the_next() {
        let mut buffers = filled(2, 1);
        let first = buffers.begin().unwrap();
        assert_eq!(buffers.begin(), None);
        assert_eq!(buffers.wrote(first.slot, 4), 0);
        let rest = buffers.begin().unwrap();
        assert_eq!((rest.slot, rest.start, rest.end), (0, 4, 6));
        assert_eq!(buffers.wrote(0, 2), 2);
        assert_eq!(buffers.begin().unwrap().slot, 1);
    }

    #[test]
    fn a_failure_stops_what_comes_after_until_it_is_tried_again() {
        let mut buffers = filled(2, 2);
        let first = buffers.begin().unwrap();
        assert_eq!(buffers.wrote(first.slot, 4), 0);
        buffers.begin().unwrap();
        buffers.failed(0);
        assert_eq!(buffers.begin(), None);
        assert_eq!(buffers.whole_end(), Some(3));
        buffers.retry();
        assert_eq!(buffers.begin().unwrap().start, 4);
        buffers.failed(0);
        assert_eq!(buffers.abandon(), 4);
        assert_eq!(buffers.whole_end(), None);
    }

    #[test]
    fn what_is_not_wholly_written_goes_into_another_file_whole() {
        let mut buffers = filled(3, 3);
        let pieces: Vec<_> = std::iter::from_fn(|| buffers.begin()).collect();
        buffers.wrote(pieces[0].slot, 6);
        buffers.wrote(pieces[1].slot, 2);
        buffers.begin().unwrap();
        buffers.failed(pieces[1].slot);
        buffers.wrote(pieces[2].slot, 6);
        buffers.append(b"ef\n", 1);
        assert_eq!(buffers.pending(), 15);
        assert_eq!(buffers.move_to(100), 112);
        let pieces: Vec<_> = std::iter::from_fn(|| buffers.begin()).collect();
        assert_eq!(pieces.iter().map(|piece| piece.offset).collect::<Vec<_>>(), [100, 106]);
        assert!(pieces.iter().all(|piece| (piece.start, piece.end) == (0, 6)));
    }
}
