//! What the kernel's code and read-only data were when they were seen first, as hashes.

use core::ops::Range;

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_tables::{HashKey, room};

/// Maximum number of blocks of code, and of read-only data.
pub(super) const CODE_BLOCKS_MAX: usize = 8192;
pub(super) const DATA_BLOCKS_MAX: usize = 4096;
/// Least bytes of a block. Blocks are larger where there is more code.
const BLOCK_BYTES_MIN: u64 = 1024;
/// Maximum number of functions whose bytes are remembered, and of their bytes.
const COPIES_MAX: usize = 8;
const COPIED_BYTES_MAX: usize = 12 << 10;
/// Maximum number of parts of modules' code.
const MODULE_PARTS_MAX: usize = 320;
/// Number of rounds in which each part is judged once even if nothing has changed there.
const MODULE_TURNS: u64 = 16;

/// The hashes of one block of code.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct CodeBlock {
    /// All bytes, as they were seen last. Inverted if a place of the window was not legal then.
    pub(super) whole: u32,
    /// The bytes that nothing may change.
    pub(super) fixed: u32,
}

/// What one machine's kernel was: hashes, and copies of the functions that matter most.
#[derive(Debug)]
pub(super) struct Baseline {
    /// Blocks of code, in the order of addresses, and where each has changed.
    pub(super) code: Vec<CodeBlock>,
    pub(super) code_places: Vec<u16>,
    /// Hashes of read-only data, and where each block has changed.
    pub(super) data: Vec<u32>,
    pub(super) data_places: Vec<u16>,
    pub(super) copies: CodeCopies,
    pub(super) modules: ModuleParts,
    /// Secret from the machine.
    pub(super) key: HashKey,
    /// Addresses of the code that all this is about.
    text: Range<u64>,
    /// Number of rounds that have looked at the code.
    rounds: u64,
}

impl Baseline {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            code: room::list(CODE_BLOCKS_MAX),
            code_places: room::list(CODE_BLOCKS_MAX),
            data: room::list(DATA_BLOCKS_MAX),
            data_places: room::list(DATA_BLOCKS_MAX),
            copies: CodeCopies::new(),
            modules: ModuleParts::new(),
            key,
            text: 0..0,
            rounds: 0,
        }
    }

    /// Begins a round. What was known about another kernel is forgotten. `functions` are those to
    /// remember, each with its maximum size in bytes.
    pub(super) fn begin(&mut self, text: Range<u64>, functions: &[(Option<KernelVa>, u32)]) {
        self.rounds = self.rounds.wrapping_add(1);
        if self.text != text {
            self.text = text;
            self.code.clear();
            self.code_places.clear();
            self.data.clear();
            self.data_places.clear();
            self.modules.rows.clear();
            self.copies.choose(&self.text, functions);
        }
    }

    /// Whether it is the turn of one of so many windows: its places are judged in this round even
    /// if nothing has changed there. What they lead to may have lost its owner.
    pub(super) const fn has_turn(&self, window: u64, windows: u64) -> bool {
        matches!(self.rounds.checked_rem(windows), Some(turn) if turn == window)
    }
}

/// The bytes of a few functions, without what kprobes had replaced.
#[derive(Debug)]
pub(super) struct CodeCopies {
    /// Addresses of each function.
    functions: ArrayVec<Range<u64>, COPIES_MAX>,
    /// The bytes of all of them, one after the other.
    bytes: Box<[u8]>,
}

impl CodeCopies {
    fn new() -> Self {
        Self { functions: ArrayVec::new(), bytes: room::copies(0, COPIED_BYTES_MAX) }
    }

    /// Chooses the functions, as far as there is room.
    fn choose(&mut self, text: &Range<u64>, functions: &[(Option<KernelVa>, u32)]) {
        self.functions.clear();
        let mut left = COPIED_BYTES_MAX as u64;
        for &(start, size) in functions {
            let Some(KernelVa(start)) = start.filter(|start| text.contains(&start.0)) else {
                continue;
            };
            let bytes = left.min(size.into()).min(text.end - start);
            if self.functions.try_push(start..start + bytes).is_ok() {
                left -= bytes;
            }
        }
    }

    /// The index of the copy of a byte of code.
    fn index_of(&self, address: u64) -> Option<usize> {
        let mut before = 0;
        for function in &self.functions {
            if function.contains(&address) {
                return Some(before + (address - function.start) as usize);
            }
            before += (function.end - function.start) as usize;
        }
        None
    }

    /// The byte that was at an address, if it is known.
    pub(super) fn byte_at(&self, address: u64) -> Option<u8> {
        self.bytes.get(self.index_of(address)?).copied()
    }

    /// Remembers the bytes from an address on that belong to the functions.
    pub(super) fn remember(&mut self, start: u64, code: &[u8]) {
        let code_range = start..start + code.len() as u64;
        let mut before = 0;
        for function in &self.functions {
            let from = function.start.max(code_range.start);
            let to = function.end.min(code_range.end);
            let at = before + from.saturating_sub(function.start) as usize;
            before += (function.end - function.start) as usize;
            let Some(length) = to.checked_sub(from) else { continue };
            let copies = self.bytes.get_mut(at..at + length as usize).unwrap_or(&mut []);
            let code = code.get((from - start) as usize..).unwrap_or(&[]);
            copies.iter_mut().zip(code).for_each(|(copy, byte)| *copy = *byte);
        }
    }
}

/// The hashes of a part of a module's code.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ModulePart {
    /// The address of its first byte.
    pub(super) start: u64,
    /// As those of a [`CodeBlock`].
    pub(super) whole: u32,
    pub(super) fixed: u32,
    /// Tells the module from another one in the same memory.
    pub(super) identity: u32,
    /// The lowest bits of the round that has seen it last.
    pub(super) seen_in: u16,
    /// Whether two rounds have seen the same. Until then, other code replaces it.
    pub(super) is_settled: bool,
}

/// The hashes of the code of modules.
#[derive(Debug)]
pub(super) struct ModuleParts {
    rows: Vec<ModulePart>,
    round: u16,
}

impl ModuleParts {
    fn new() -> Self {
        Self { rows: room::list(MODULE_PARTS_MAX), round: 0 }
    }

    pub(super) const fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Ends a round that was whole: modules that it has not seen are gone.
    pub(super) fn end_round(&mut self) {
        let round = self.round;
        self.rows.retain(|row| row.seen_in == round);
    }

    /// Notes that a part is there, and returns what it was if it is of the same module. Without an
    /// identity, that is not known.
    pub(super) fn see(&mut self, start: u64, identity: Option<u32>) -> Option<ModulePart> {
        let row = self.rows.iter_mut().find(|row| row.start == start)?;
        row.seen_in = self.round;
        identity.filter(|&identity| identity == row.identity).map(|_| *row)
    }

    /// Remembers what a part is. Returns whether there was room.
    pub(super) fn put(&mut self, part: ModulePart) -> bool {
        let part = ModulePart { seen_in: self.round, ..part };
        if let Some(row) = self.rows.iter_mut().find(|row| row.start == part.start) {
            *row = part;
            return true;
        }
        let has_room = self.rows.len() < MODULE_PARTS_MAX;
        if has_room {
            self.rows.push(part);
        }
        has_room
    }

    /// Whether it is the turn of a part: its places are judged even if nothing has changed.
    pub(super) fn has_turn(&self, start: u64) -> bool {
        let index = self.rows.iter().position(|row| row.start == start).unwrap_or(0) as u64;
        index.wrapping_add(self.round.into()) % MODULE_TURNS == 0
    }
}

/// The hash of some bytes.
pub(super) fn hash_with(key: HashKey, bytes: &[u8]) -> u32 {
    key.hash(bytes) as u32
}

/// Bytes of a piece of a block.
pub(super) const PIECE_BYTES: usize = 16;

/// A hash of a block that shows which of its pieces has changed, if only one has.
///
/// Each piece has a hash of its own. The block has their sum, weighted by `2 * index + 1` so that
/// their order matters, and the sum of these terms, weighted by `index + 1`. A change of one piece
/// by `delta` changes the first sum by `delta`, and the second by `(index + 1) * delta`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct BlockHash {
    pub(super) sum: u32,
    /// The lowest bits of the second sum.
    pub(super) place: u16,
}

impl BlockHash {
    /// Adds bytes to those before them. All but the last ones are of whole pieces.
    pub(super) fn add(&mut self, key: HashKey, first: usize, bytes: &[u8]) {
        for (index, piece) in (first..).zip(bytes.chunks(PIECE_BYTES)) {
            let index = index as u32;
            let term = hash_with(key, piece).wrapping_mul(2 * index + 1);
            self.sum = self.sum.wrapping_add(term);
            self.place = self.place.wrapping_add((index + 1).wrapping_mul(term) as u16);
        }
    }

    pub(super) fn of(key: HashKey, bytes: &[u8]) -> Self {
        let mut hash = Self::default();
        hash.add(key, 0, bytes);
        hash
    }

    /// The only piece that differs, of so many; `None` if several do.
    pub(super) fn changed_piece(self, before: Self, pieces: usize) -> Option<usize> {
        let delta = self.sum.wrapping_sub(before.sum) as u16;
        let moved = self.place.wrapping_sub(before.place);
        let mut fits = (0..pieces).filter(|&at| (at as u16 + 1).wrapping_mul(delta) == moved);
        fits.next().filter(|_| fits.next().is_none())
    }
}

/// Bytes of code that are read and compared at once.
pub(super) const CODE_WINDOW_BYTES: usize = 1 << 20;
/// Bytes of a window before and behind these.
pub(super) const MARGIN: u64 = 8;
const WITH_MARGINS: usize = CODE_WINDOW_BYTES + 2 * MARGIN as usize;

/// A window of code, with a bit for each byte that may be patched.
#[derive(Debug)]
pub(super) struct CodeWindow {
    code: Box<[u8]>,
    masks: Box<[u64]>,
}

impl CodeWindow {
    pub(super) fn new() -> Self {
        Self {
            code: room::copies(0, WITH_MARGINS),
            masks: room::copies(0, WITH_MARGINS.div_ceil(64)),
        }
    }

    /// Takes the bytes and the masks, which [`Self::put`] returns.
    pub(super) fn take(&mut self) -> (Box<[u8]>, Box<[u64]>) {
        (core::mem::take(&mut self.code), core::mem::take(&mut self.masks))
    }

    pub(super) fn put(&mut self, code: Box<[u8]>, masks: Box<[u64]>) {
        (self.code, self.masks) = (code, masks);
    }

    /// The bytes in a range; fewer where there are none.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.code.get(range).unwrap_or(&[])
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.code.get(at).copied().unwrap_or(0)
    }

    /// Sets bytes from a place on.
    pub(super) fn set(&mut self, at: usize, bytes: &[u8]) {
        let to = self.code.get_mut(at..).unwrap_or(&mut []);
        to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    }

    /// Whether a byte may be patched.
    pub(super) fn is_masked(&self, at: usize) -> bool {
        self.masks.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }
}

/// Bytes of a block, so that all blocks of so many bytes have room: a power of two.
pub(super) const fn block_bytes(bytes: u64, blocks_max: usize) -> u64 {
    let mut block = BLOCK_BYTES_MIN;
    while bytes.div_ceil(block) > blocks_max as u64 {
        block *= 2;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_with_the_code() {
        assert_eq!(block_bytes(1, CODE_BLOCKS_MAX), 1024);
        assert_eq!(block_bytes(8 << 20, CODE_BLOCKS_MAX), 1024);
        assert_eq!(block_bytes((8 << 20) + 1, CODE_BLOCKS_MAX), 2048);
        assert_eq!(block_bytes(20 << 20, CODE_BLOCKS_MAX), 4096);
        assert_eq!(block_bytes(8 << 20, DATA_BLOCKS_MAX), 2048);
    }

    #[test]
    fn a_machine_has_at_most_128_kib() {
        let code = CODE_BLOCKS_MAX * (size_of::<CodeBlock>() + size_of::<u16>());
        let data = DATA_BLOCKS_MAX * (size_of::<u32>() + size_of::<u16>());
        let hashes = code + data;
        let modules = MODULE_PARTS_MAX * size_of::<ModulePart>();
        assert!(hashes + modules + COPIED_BYTES_MAX <= 128 << 10);
    }

    #[test]
    fn a_change_of_one_piece_is_found() {
        const BLOCK: usize = 4096;
        const PIECES: usize = BLOCK / PIECE_BYTES;
        let key = HashKey::new(7);
        let block: [u8; BLOCK] = core::array::from_fn(|index| (index / 3) as u8);
        let before = BlockHash::of(key, &block);
        let mut found = 0;
        for piece in 0..PIECES {
            let mut changed = block;
            changed[piece * PIECE_BYTES + piece % PIECE_BYTES] ^= 0x40;
            let after = BlockHash::of(key, &changed);
            assert_ne!(after.sum, before.sum);
            let place = after.changed_piece(before, PIECES);
            assert!(place.is_none_or(|place| place == piece), "{piece}");
            found += usize::from(place.is_some());
        }
        // A difference whose lowest bits are zero fits several pieces.
        assert!(found > PIECES * 97 / 100, "{found}");
        // The same pieces in another order are another block.
        let mut swapped = block;
        swapped.swap(0, 3 * PIECE_BYTES);
        swapped[..2 * PIECE_BYTES].rotate_left(PIECE_BYTES);
        assert_ne!(BlockHash::of(key, &swapped).sum, before.sum);
        // Parts of a block have the hash of the whole.
        let mut parts = BlockHash::default();
        parts.add(key, 0, &block[..1024]);
        parts.add(key, 1024 / PIECE_BYTES, &block[1024..]);
        assert_eq!(parts, before);
    }

    #[test]
    fn functions_are_remembered_from_any_window() {
        let mut copies = CodeCopies::new();
        let functions = [(Some(KernelVa(1000)), 8), (None, 8), (Some(KernelVa(1020)), 8)];
        copies.choose(&(1000..1024), &functions);
        // The second function ends with the code.
        for start in [996, 1004, 1012, 1020] {
            let code: [u8; 8] = core::array::from_fn(|index| (start + index as u64 - 900) as u8);
            copies.remember(start, &code);
        }
        for address in 990..1030 {
            let is_known = (1000..1008).contains(&address) || (1020..1024).contains(&address);
            let byte = is_known.then_some((address - 900) as u8);
            assert_eq!(copies.byte_at(address), byte, "{address}");
        }
    }

    #[test]
    fn another_kernel_has_another_baseline() {
        let mut baseline = Baseline::new(HashKey::new(1));
        baseline.begin(0..4096, &[]);
        baseline.code.push(CodeBlock::default());
        baseline.data.push(1);
        baseline.begin(0..4096, &[]);
        assert_eq!((baseline.code.len(), baseline.data.len()), (1, 1));
        baseline.begin(4096..8192, &[]);
        assert_eq!((baseline.code.len(), baseline.data.len()), (0, 0));
    }

    #[test]
    fn every_window_has_its_turn() {
        let mut baseline = Baseline::new(HashKey::new(1));
        let mut turns = [0; 3];
        for _ in 0..6 {
            baseline.begin(0..4096, &[]);
            for (window, turns) in turns.iter_mut().enumerate() {
                *turns += u32::from(baseline.has_turn(window as u64, 3));
            }
        }
        assert_eq!(turns, [2, 2, 2]);
        assert!(!baseline.has_turn(0, 0));
    }

    #[test]
    fn parts_of_modules_have_bounded_room() {
        let mut parts = ModuleParts::new();
        parts.begin_round();
        let part = |start| ModulePart { start, ..ModulePart::default() };
        assert!((0..MODULE_PARTS_MAX as u64).all(|start| parts.put(part(start))));
        assert!(!parts.put(part(u64::MAX)));
        assert!(parts.put(part(3)));
        parts.begin_round();
        assert!(parts.see(5, None).is_none());
        assert!(parts.see(6, Some(0)).is_some());
        assert!(parts.see(7, Some(1)).is_none());
        parts.end_round();
        assert_eq!(parts.rows.len(), 3);
    }
}
