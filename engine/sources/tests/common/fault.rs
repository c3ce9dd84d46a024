//! [`Fault`]: damages what a source reads, from a seed, to test how a scan copes.
//!
//! Damage to pages is permanent: a page is damaged or not for the life of the wrapper, and every
//! read of it gives the same bytes, as on a damaged dump. Damage to requests comes and goes, as on
//! a live machine. The same seed, source and requests give the same damage.

#![allow(dead_code, unreachable_pub, reason = "each user takes a part of it")]

use std::ops::Range;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest};

/// Probability of each kind of damage, in parts per million; 1,000,000 is always.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FaultRates {
    /// Pages that are not backed.
    pub not_backed_pages: u32,
    /// Pages that hold zeros.
    pub zeroed_pages: u32,
    /// Pages that hold random bytes in a part, which may be the whole page.
    pub overwritten_pages: u32,
    /// Requests that fail.
    pub failed_requests: u32,
    /// Requests with one bit flipped.
    pub flipped_requests: u32,
    /// Requests whose second half is what the same request read the last time. Only requests of at
    /// most 256 bytes are remembered.
    pub torn_requests: u32,
}

/// Number of times each kind of damage was applied. Permanent damage counts once for each request
/// that read it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FaultCounts {
    pub not_backed_pages: u64,
    pub zeroed_pages: u64,
    pub overwritten_pages: u64,
    pub failed_requests: u64,
    pub flipped_requests: u64,
    pub torn_requests: u64,
}

/// Called before each batch with its number, from 0 on: to wait, or to change the memory below.
pub type Hook = Box<dyn FnMut(u64) + Send>;

/// A source that damages what it reads.
pub struct Fault<S> {
    source: S,
    seed: u64,
    rates: FaultRates,
    counts: FaultCounts,
    random: SplitMix,
    batches: u64,
    hook: Option<Hook>,
    past: Vec<EarlierRead>,
}

/// The bytes that a request read the last time.
#[derive(Clone, Copy, Debug)]
struct EarlierRead {
    address: u64,
    length: usize,
    bytes: [u8; PAST_BYTES],
}

const PAST_BYTES: usize = 256;
/// Number of remembered requests, a power of two; they take 1 MiB.
const PAST_COUNT: usize = 4096;
const MILLION: u64 = 1_000_000;

/// Salts that keep the kinds of permanent damage independent of each other.
const NOT_BACKED: u64 = 1;
const ZEROED: u64 = 2;
const OVERWRITTEN: u64 = 3;
const SPAN: u64 = 4;
const CONTENT: u64 = 5;

impl<S: MemorySource> Fault<S> {
    /// Wraps a source. Damage depends on `seed` and `rates` only.
    pub fn new(source: S, seed: u64, rates: FaultRates) -> Self {
        let torn = rates.torn_requests > 0;
        let past = EarlierRead { address: 0, length: 0, bytes: [0; PAST_BYTES] };
        Self {
            source,
            seed,
            rates,
            counts: FaultCounts::default(),
            random: SplitMix(seed),
            batches: 0,
            hook: None,
            past: if torn { vec![past; PAST_COUNT] } else { Vec::new() },
        }
    }

    /// Sets a function to call before each batch.
    #[must_use]
    pub fn with_hook(mut self, hook: Hook) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Number of times each kind of damage was applied so far.
    pub fn counts(&self) -> FaultCounts {
        self.counts
    }

    pub fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Damages the bytes that were read for a request.
    fn damage(&mut self, address: u64, bytes: &mut [u8]) -> ReadOutcome {
        // One random number for each request, whatever the rates are: changing one rate then moves
        // no other damage.
        let roll = self.random.next();
        if bytes.is_empty() {
            return ReadOutcome::Read;
        }
        if strikes(roll, self.rates.failed_requests) {
            self.counts.failed_requests += 1;
            bytes.fill(0xa5); // must not be read
            return ReadOutcome::Failed;
        }
        if self.damage_pages(address, bytes) == ReadOutcome::NotBacked {
            self.counts.not_backed_pages += 1;
            bytes.fill(0);
            return ReadOutcome::NotBacked;
        }
        self.tear(address, bytes, strikes(roll >> 20, self.rates.torn_requests));
        if strikes(roll >> 40, self.rates.flipped_requests) {
            self.counts.flipped_requests += 1;
            let bit = SplitMix(roll).next() % (bytes.len() as u64 * 8);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        ReadOutcome::Read
    }

    fn damage_pages(&mut self, address: u64, bytes: &mut [u8]) -> ReadOutcome {
        let mut done = 0;
        while done < bytes.len() {
            // An address that was read does not wrap, but a wrong source must not cause a panic
            // here.
            let at = address.wrapping_add(done as u64);
            let offset = at % PAGE_BYTES;
            let length = (bytes.len() - done).min((PAGE_BYTES - offset) as usize);
            let piece = &mut bytes[done..done + length];
            let page = at / PAGE_BYTES;
            if strikes(hash(self.seed, NOT_BACKED, page), self.rates.not_backed_pages) {
                return ReadOutcome::NotBacked;
            }
            if strikes(hash(self.seed, ZEROED, page), self.rates.zeroed_pages) {
                self.counts.zeroed_pages += 1;
                piece.fill(0);
            }
            if strikes(hash(self.seed, OVERWRITTEN, page), self.rates.overwritten_pages) {
                self.counts.overwritten_pages += 1;
                self.overwrite(page, offset, piece);
            }
            done += length;
        }
        ReadOutcome::Read
    }

    /// Writes random bytes where the page's damaged span overlaps the piece that begins at
    /// `offset`.
    fn overwrite(&self, page: u64, offset: u64, piece: &mut [u8]) {
        let span = hash(self.seed, SPAN, page);
        let start = span % PAGE_BYTES;
        let end = start + 1 + (span >> 32) % (PAGE_BYTES - start);
        for (at, byte) in (offset..).zip(piece) {
            if (start..end).contains(&at) {
                let word = hash(self.seed, CONTENT, page * (PAGE_BYTES / 8) + at / 8);
                *byte = word.to_le_bytes()[(at % 8) as usize];
            }
        }
    }

    /// Remembers the bytes that were read. If `strike`, replaces the second half with the bytes of
    /// the previous read.
    fn tear(&mut self, address: u64, bytes: &mut [u8], strike: bool) {
        if self.past.is_empty() || bytes.len() > PAST_BYTES {
            return;
        }
        let past = &mut self.past[hash(0, 0, address) as usize % PAST_COUNT];
        let known = past.address == address && past.length == bytes.len();
        let old = past.bytes;
        *past = EarlierRead { address, length: bytes.len(), bytes: old };
        past.bytes[..bytes.len()].copy_from_slice(bytes);
        let half = bytes.len() / 2..bytes.len();
        if strike && known && bytes[half.clone()] != old[half.clone()] {
            self.counts.torn_requests += 1;
            bytes[half.clone()].copy_from_slice(&old[half]);
        }
    }
}

impl<S: MemorySource> MemorySource for Fault<S> {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        if let Some(hook) = &mut self.hook {
            hook(self.batches);
        }
        self.batches += 1;
        self.source.read_batch(requests, arena);
        for request in requests.iter_mut().filter(|request| request.outcome == ReadOutcome::Read) {
            if let Some(range) = request.target_range(arena.len()) {
                request.outcome = self.damage(request.address.0, &mut arena[range]);
            }
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        self.source.regions()
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        self.source.next_data(from)
    }

    fn move_by(&mut self, bytes: u64) -> bool {
        self.source.move_by(bytes)
    }
}

/// Whether to apply damage of this rate, from the low 20 bits of a random number.
fn strikes(random: u64, rate: u32) -> bool {
    ((random & 0xf_ffff) * MILLION) >> 20 < u64::from(rate)
}

/// A random number for each salt and number.
fn hash(seed: u64, salt: u64, number: u64) -> u64 {
    SplitMix(SplitMix(seed ^ salt.rotate_left(56)).next() ^ number).next()
}

/// SplitMix64 (Steele, Lea, Flood 2014; constants of <https://prng.di.unimi.it/splitmix64.c>).
#[derive(Clone, Copy, Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
