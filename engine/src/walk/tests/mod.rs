//! What tests of the rounds share, and tests of reading in batches.

pub(crate) mod memory;

use core::cell::Cell;

use self::memory::{Sparse, kernel};
use super::*;

/// Objects in many batches, and a scan that must stop after some of them.
struct Stopped {
    memory: Sparse,
    kernel: Kernel,
    reader: MemoryReader,
    addresses: Vec<KernelVa>,
}

const OBJECTS: usize = 100;
const OBJECTS_A_BATCH: usize = 10;
/// Batches before the request to stop.
const BATCHES: usize = 3;

impl Stopped {
    fn new() -> Self {
        let mut memory = Sparse::default();
        let addresses = (0..OBJECTS).map(|_| KernelVa(memory.structure())).collect();
        let sizes = ReaderSizes { objects: OBJECTS_A_BATCH, arena_bytes: 1 << 20, walks: 16 };
        Self { memory, kernel: kernel(), reader: MemoryReader::new(sizes), addresses }
    }

    fn read(
        &mut self,
        rounds: impl FnOnce(&mut MemoryReader, &mut ScannedMemory<'_>, &[KernelVa]),
    ) {
        let questions = Cell::new(0);
        let must_stop = || {
            questions.set(questions.get() + 1);
            questions.get() > BATCHES
        };
        let budget = Budget::NONE.unless(&must_stop);
        let mut memory = ScannedMemory::new(&mut self.memory, &self.kernel, budget);
        rounds(&mut self.reader, &mut memory, &self.addresses);
        assert_eq!(self.memory.batches, BATCHES as u64);
    }
}

#[test]
fn after_a_request_to_stop_no_object_joins_a_batch() {
    let (pushed, mut decoded) = (Cell::new(0), Vec::new());
    let push = |reader: &mut MemoryReader, space: &_, &address: &_| {
        let is_pushed = reader.push_bytes(space, address, 8);
        pushed.set(pushed.get() + usize::from(is_pushed.is_some()));
        is_pushed
    };
    Stopped::new().read(|reader, memory, addresses| {
        fetch_each(reader, memory, addresses, push, |index, bytes| {
            decoded.push((index, bytes.is_some()));
        });
    });
    // The batch that is not read was made before the question.
    assert_eq!(pushed.get(), (BATCHES + 1) * OBJECTS_A_BATCH);
    let expected = |index| (index, index < BATCHES * OBJECTS_A_BATCH);
    assert_eq!(decoded, (0..OBJECTS).map(expected).collect::<Vec<_>>());
}

#[test]
fn after_a_request_to_stop_every_object_of_every_group_is_unread() {
    let kernel = kernel();
    let packing = &kernel.layouts.upid.packing;
    let mut decoded = Vec::new();
    Stopped::new().read(|reader, memory, addresses| {
        let (one, two) = addresses.split_at(BATCHES * OBJECTS_A_BATCH + 15);
        let groups = [(1, packing, one), (2, packing, two)];
        fetch_groups(reader, memory, groups, |kind, index, bytes| {
            decoded.push((kind, index, bytes.is_some()));
        });
    });
    let first = (0..45).map(|index| (1, index, index < BATCHES * OBJECTS_A_BATCH));
    let second = (0..OBJECTS - 45).map(|index| (2, index, false));
    assert_eq!(decoded, first.chain(second).collect::<Vec<_>>());
}
