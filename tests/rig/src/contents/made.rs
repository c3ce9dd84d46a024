//! The files that the agent's `files make` creates, computed here: their names and every byte of
//! them.
//!
//! The steps are those of `tests/agent/files.c`; [`super`] compares the two.

/// One file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Made {
    /// Its path below the folder: `03/0307-of-1234`.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Sizes around boundaries: a page, a node of the page cache's tree, a huge page, another node.
const EDGES: [u64; 30] = [
    0,
    1,
    15,
    64,
    1000,
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    12288,
    16383,
    16384,
    16385,
    65535,
    65536,
    65537,
    262_143,
    262_144,
    262_145,
    1 << 20,
    (1 << 20) + 1,
    (1 << 21) - 1,
    1 << 21,
    (1 << 21) + 1,
    (4 << 20) + 77,
    (16 << 20) - 1,
    (16 << 20) + 4097,
    (20 << 20) + 5,
];

/// The bytes that the agent's `files touch` writes into the middle of a file that it changes.
pub const CHANGE: &[u8] = b"changed";

/// The files of `files make … count=COUNT seed=SEED`, in order.
pub fn all(count: u32, seed: u64) -> impl Iterator<Item = Made> {
    (0..count).map(move |index| {
        let mut random = Random::of_file(seed, index);
        random.next();
        let bits = random.next() % 18;
        let mut size = random.next() % (1 << bits);
        if let Some(&edge) = EDGES.get(index as usize)
            && edge <= u64::from(count) << 16
        {
            size = edge;
        }
        Made {
            name: format!("{:02}/{index:04}-of-{size}", index / 100),
            content: content(index, size, &mut random),
        }
    })
}

/// The files of `files huge … count=COUNT seed=SEED`, in order.
pub fn huge(count: u32, seed: u64) -> impl Iterator<Item = Made> {
    (0..count).map(move |index| {
        let pages = 1 + index as usize % 3;
        let mut content = vec![0; pages * HUGE_PAGE_BYTES];
        let mut random = Random::of_file(seed, index);
        let hole = if index % 2 == 1 { HUGE_PAGE_BYTES } else { 0 };
        random.fill(&mut content[hole..]);
        Made { name: format!("00/{index:04}-of-{}", content.len()), content }
    })
}

/// Bytes of a huge page, with 4 KiB pages.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The content of a file after the agent has changed it.
pub fn changed(mut content: Vec<u8>) -> Vec<u8> {
    let middle = content.len() / 2;
    content[middle..middle + CHANGE.len()].copy_from_slice(CHANGE);
    content
}

fn content(index: u32, size: u64, random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    if index % 10 != 9 {
        random.fill(&mut bytes);
        return bytes;
    }
    for _ in 0..3 {
        if size > 0 {
            let at = (random.next() % size) as usize;
            let length = (random.next() % 20_000) as usize;
            let end = bytes.len().min(at + length);
            random.fill(&mut bytes[at..end]);
        }
    }
    bytes
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn of_file(seed: u64, index: u32) -> Self {
        let number = seed.wrapping_mul(1_000_003) + u64::from(index);
        Self(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(1 << 16) {
            for word in part.chunks_mut(8) {
                word.copy_from_slice(&self.next().to_le_bytes()[..word.len()]);
            }
        }
    }
}
