//! JA4, a fingerprint of the client's program (FoxIO, `technical_details/JA4.md`).
//!
//! An example is `t13d1516h2_8daaf6152771_e5627efa2ab1`. The parts are what is read directly, a
//! hash of the sorted ciphers, and a hash of the sorted extensions and the signature algorithms.

use core::fmt;

use sha2::{Digest, Sha256};

use super::{ClientHello, extension, is_grease};

/// A client with more ciphers, extensions or algorithms has no fingerprint. Programs have fewer
/// than a hundred.
const NUMBERS_MAX: usize = 512;
/// Length of a hash: the first digits of SHA-256.
const HASH_LENGTH: usize = 12;
/// Where the hashes begin.
const HASHES: [usize; 2] = [11, 24];

/// What carries TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ja4Transport {
    Dtls,
    Quic,
    Tcp,
}

/// The fingerprint as text.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Ja4([u8; 36]);

impl Ja4 {
    /// The fingerprint of a hello; `None` if a part of the hello is missing.
    pub fn of(hello: &ClientHello<'_>, transport: Ja4Transport) -> Option<Self> {
        if hello.missing > 0 {
            return None;
        }
        let mut numbers = Ja4Numbers::new();
        let mut text = [b'_'; 36];
        for cipher in hello.ciphers.clone() {
            numbers.push(cipher)?;
        }
        let ciphers = numbers.count;
        numbers.hash(core::iter::empty(), &mut text[HASHES[0]..]);
        numbers.count = 0;
        let mut extensions = 0_usize;
        for (number, _) in hello.extensions.clone() {
            extensions += usize::from(!is_grease(number));
            if !matches!(number, extension::SERVER_NAME | extension::ALPN) {
                numbers.push(number)?;
            }
        }
        if hello.signature_algorithms().count() > NUMBERS_MAX {
            return None;
        }
        let algorithms = hello.signature_algorithms().filter(|&number| !is_grease(number));
        numbers.hash(algorithms, &mut text[HASHES[1]..]);
        let has_name = hello.extensions.find(extension::SERVER_NAME).is_some();
        text[0] = match transport {
            Ja4Transport::Dtls => b'd',
            Ja4Transport::Quic => b'q',
            Ja4Transport::Tcp => b't',
        };
        text[1..3].copy_from_slice(&version(hello.version()));
        text[3] = if has_name { b'd' } else { b'i' };
        text[4..6].copy_from_slice(&two_digits(ciphers));
        text[6..8].copy_from_slice(&two_digits(extensions));
        text[8..10].copy_from_slice(&protocol(hello.protocols().next().unwrap_or_default()));
        Some(Self(text))
    }

    pub fn as_str(&self) -> &str {
        // All of it is ASCII.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Numbers that will be sorted.
struct Ja4Numbers {
    numbers: [u16; NUMBERS_MAX],
    count: usize,
}

impl Ja4Numbers {
    const fn new() -> Self {
        Self { numbers: [0; NUMBERS_MAX], count: 0 }
    }

    /// Adds a number that has a meaning; `None` if there are too many.
    fn push(&mut self, number: u16) -> Option<()> {
        if !is_grease(number) {
            *self.numbers.get_mut(self.count)? = number;
            self.count += 1;
        }
        Some(())
    }

    /// Sorts the numbers and writes the hash of them and of what follows them. No number at all has
    /// a hash of zeros.
    fn hash(&mut self, after: impl Iterator<Item = u16>, text: &mut [u8]) {
        let numbers = &mut self.numbers[..self.count];
        numbers.sort_unstable();
        let mut hash = Sha256::new();
        let mut is_empty = true;
        for (at, &number) in numbers.iter().enumerate() {
            add(&mut hash, if at > 0 { "," } else { "" }, number);
            is_empty = false;
        }
        for (at, number) in after.enumerate() {
            add(&mut hash, if at > 0 { "," } else { "_" }, number);
            is_empty = false;
        }
        let digest = hash.finalize();
        for (index, digit) in text.iter_mut().take(HASH_LENGTH).enumerate() {
            let byte = digest[index / 2];
            *digit = if is_empty { b'0' } else { hexadecimal(byte >> (4 * (1 - index % 2))) };
        }
    }
}

/// Adds a number of four digits behind a mark.
fn add(hash: &mut Sha256, mark: &str, number: u16) {
    hash.update(mark);
    hash.update([12, 8, 4, 0].map(|shift| hexadecimal((number >> shift) as u8)));
}

/// The digit for the lowest four bits.
const fn hexadecimal(value: u8) -> u8 {
    match value & 15 {
        digit @ 0..=9 => b'0' + digit,
        digit => b'a' + digit - 10,
    }
}

/// A number in two decimal digits; 99 stands for all larger ones.
fn two_digits(number: usize) -> [u8; 2] {
    let number = number.min(99) as u8;
    [b'0' + number / 10, b'0' + number % 10]
}

const fn version(number: u16) -> [u8; 2] {
    match number {
        0x0304 => *b"13",
        0x0303 => *b"12",
        0x0302 => *b"11",
        0x0301 => *b"10",
        0x0300 => *b"s3",
        0x0002 => *b"s2",
        0xfeff => *b"d1",
        0xfefd => *b"d2",
        0xfefc => *b"d3",
        _ => *b"00",
    }
}

/// The first and the last character of a protocol's name, or the first and the last hexadecimal
/// digit of it if one of these characters is neither a letter nor a digit.
fn protocol(name: &[u8]) -> [u8; 2] {
    match (name.first(), name.last()) {
        (Some(&first), Some(&last)) => {
            if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
                [first, last]
            } else {
                [hexadecimal(first >> 4), hexadecimal(last)]
            }
        }
        _ => *b"00",
    }
}
