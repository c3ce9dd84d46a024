//! Recognises programs by words in their files, whatever the files are called.
//!
//! POSIX defines the names of a shell's builtins, and a shell's file has them as strings that end
//! in NUL. No other program has several of the names chosen here.

use memchr::memmem::Finder;

/// Words that are searched: names of builtins (POSIX.1-2024, XCU 1.6 and 2.15) and, last, one that
/// only a multi-call binary has (`busybox`, libbb/messages.c).
const WORDS: [&[u8]; 5] = [b"getopts\0", b"unalias\0", b"ulimit\0", b"readonly\0", b"BusyBox v"];
/// The bits of builtins.
const BUILTINS: u8 = 0b1111;
/// Number of builtins that a shell has at least: one name may be across two pages, or in a module.
const BUILTINS_MIN: u32 = 3;

/// Maximum size of a shell's file, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 20;

/// The words that were found in a file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traits(u8);

impl Traits {
    /// Those of a shell.
    #[cfg(test)]
    pub(crate) const SHELL: Self = Self(BUILTINS);

    /// Whether the file has the builtins of a shell.
    pub const fn is_shell(self) -> bool {
        (self.0 & BUILTINS).count_ones() >= BUILTINS_MIN
    }

    /// Whether the file is a multi-call binary.
    pub const fn is_box(self) -> bool {
        self.0 & !BUILTINS != 0
    }
}

/// Searches for the words.
#[derive(Debug)]
pub(super) struct ShellWordFinder([Finder<'static>; WORDS.len()]);

impl Default for ShellWordFinder {
    fn default() -> Self {
        Self(WORDS.map(Finder::new))
    }
}

impl ShellWordFinder {
    /// Adds the words of a piece of the file.
    pub(super) fn add(&self, traits: &mut Traits, bytes: &[u8]) {
        for (bit, finder) in self.0.iter().enumerate() {
            if traits.0 & 1 << bit == 0 && finder.find(bytes).is_some() {
                traits.0 |= 1 << bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_recognised_by_its_builtins() {
        let words = ShellWordFinder::default();
        let mut traits = Traits::default();
        words.add(&mut traits, b"\0getopts\0test\0readonly");
        assert!(!traits.is_shell());
        words.add(&mut traits, b"\0 3readonly\0\0ulimit\0");
        assert!(traits.is_shell() && !traits.is_box());
        words.add(&mut traits, b"BusyBox v1.35.0 (Debian)");
        assert!(traits.is_box());
    }
}
