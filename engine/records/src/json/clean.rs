//! Copies of text that needs no escapes, and what tells whether it needs some: eight bytes at a
//! time, as a `u64` whose lowest byte is the first one.
//!
//! Most texts are names and paths of a few dozen plain characters. One pass copies such a text and
//! looks for bytes that need care; only if there are any is it written character by character.

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES * 0x80;

/// Sets the top bit of each byte that needs care (not printable ASCII, or `"` or `\`), and perhaps
/// of bytes above the first of them.
///
/// The usual tricks on eight bytes at once: a subtraction borrows out of bytes below 0x20 and out
/// of bytes that became zero, an addition carries 0x7f into the top bit. Borrows and carries run
/// upwards only, and only out of bytes that need care, so the lowest flag is always true. Bytes
/// whose top bit was set before need care anyway.
#[inline]
pub(super) const fn special_bytes(word: u64) -> u64 {
    let below_space = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let delete = word.wrapping_add(ONES);
    (below_space | quote | backslash | delete | word) & TOPS
}

/// Sets the top bit of exactly the bytes that are zero.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    const OTHERS: u64 = !TOPS;
    !(((word & OTHERS) + OTHERS) | word) & TOPS
}

/// Copies `source` to `target`, which is as long, while no byte needs care. Returns whether none
/// does.
#[inline]
pub(super) fn copy_clean(source: &[u8], target: &mut [u8]) -> bool {
    let (Some(last), Some(last_target)) = (source.last_chunk(), target.last_chunk_mut()) else {
        return copy_words(source, target, |word| (word, special_bytes(word))) == 0;
    };
    // The last sixteen bytes overlap those before, which gives the same bytes twice.
    *last_target = *last;
    let (chunks, _) = source.as_chunks::<16>();
    let (targets, _) = target.as_chunks_mut::<16>();
    for (chunk, target) in chunks.iter().zip(targets) {
        *target = *chunk;
        if has_special(chunk) {
            return false;
        }
    }
    !has_special(last)
}

/// Whether one of sixteen bytes needs care. Compilers make this a few vector instructions: no
/// operator here skips its right side, and as signed numbers, bytes from 0x80 on are below a space.
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch for each byte")]
#[inline]
fn has_special(chunk: &[u8; 16]) -> bool {
    chunk.iter().fold(false, |found, &byte| {
        found | (byte.cast_signed() < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0x7f)
    })
}

/// Copies a short text that is known to need no care.
#[inline]
pub(super) fn copy_any(source: &[u8], target: &mut [u8]) {
    if source.len() > 16 {
        target.copy_from_slice(source);
    } else {
        copy_words(source, target, |word| (word, 0));
    }
}

/// Copies `source` to `target`, which is as long, with a space in place of each NUL, while no other
/// byte needs care. Returns whether none does.
#[inline]
pub(super) fn copy_joined(source: &[u8], target: &mut [u8]) -> bool {
    copy_words(source, target, |word| {
        // The top bit of a byte, two places lower, is a space.
        let joined = word | zero_bytes(word) >> 2;
        (joined, special_bytes(joined))
    }) == 0
}

/// Copies `source` to `target`, which is as long, as `change` returns it for each eight bytes,
/// until it also returns flags. Returns these.
#[inline]
fn copy_words(source: &[u8], target: &mut [u8], change: impl Fn(u64) -> (u64, u64)) -> u64 {
    debug_assert_eq!(source.len(), target.len());
    let (Some(last), Some(last_target)) = (source.last_chunk(), target.last_chunk_mut()) else {
        return copy_few(source, target, change);
    };
    // The last eight bytes overlap those before, which gives the same bytes twice.
    let (word, last_flags) = change(u64::from_le_bytes(*last));
    *last_target = word.to_le_bytes();
    let (chunks, _) = source.as_chunks::<8>();
    let (targets, _) = target.as_chunks_mut::<8>();
    for (chunk, target) in chunks.iter().zip(targets) {
        let (word, flags) = change(u64::from_le_bytes(*chunk));
        *target = word.to_le_bytes();
        if flags != 0 {
            return flags;
        }
    }
    last_flags
}

/// Fewer than eight bytes as one word; those above them are zero.
#[inline]
pub(super) fn load_few(bytes: &[u8]) -> u64 {
    debug_assert!(bytes.len() < 8);
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        // Where both overlap, they are the same.
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) | u64::from(last) << (8 * (bytes.len() - 4));
    }
    let [first, .., last] = bytes else {
        return bytes.first().copied().map_or(0, u64::from);
    };
    // With two bytes, the middle is the last one.
    let middle = bytes.len() / 2;
    u64::from(*first)
        | u64::from(bytes[middle]) << (8 * middle)
        | u64::from(*last) << (8 * (bytes.len() - 1))
}

/// The same as [`copy_words`] for fewer than eight bytes. They are filled up with spaces.
#[inline]
fn copy_few(source: &[u8], target: &mut [u8], change: impl Fn(u64) -> (u64, u64)) -> u64 {
    let (word, flags) = change(load_few(source) | (ONES * 0x20) << (8 * source.len()));
    store_few(word, target);
    flags
}

/// Fills fewer than eight bytes with the first of a word.
#[inline]
fn store_few(word: u64, target: &mut [u8]) {
    let end = target.len();
    let byte = |at: usize| (word >> (8 * at)) as u8;
    if let Some(first) = target.first_chunk_mut() {
        *first = (word as u32).to_le_bytes();
        if let Some(last) = target.last_chunk_mut() {
            *last = ((word >> (8 * (end - 4))) as u32).to_le_bytes();
        }
    } else if let [first, .., last] = target {
        (*first, *last) = (byte(0), byte(end - 1));
        target[end / 2] = byte(end / 2);
    } else if let [only] = target {
        *only = byte(0);
    }
}

/// Copies the arguments in `source`, which are separated by NUL, to `target`, with `","` in place
/// of each NUL. Returns the length of that. `target` has [`separated_bytes`].
#[inline]
pub(super) fn copy_separated(source: &[u8], target: &mut [u8]) -> usize {
    let (chunks, rest) = source.as_chunks::<8>();
    let mut to = 0;
    for chunk in chunks {
        to += 8 + separate(u64::from_le_bytes(*chunk), &mut target[to..]);
    }
    // Filled up with what is no NUL.
    let last = load_few(rest) | u64::MAX << (8 * rest.len());
    to + rest.len() + separate(last, &mut target[to..])
}

/// The same for eight bytes. Returns how many more bytes there are in `target`; what follows them
/// is undefined.
#[inline]
fn separate(word: u64, target: &mut [u8]) -> usize {
    target[..8].copy_from_slice(&word.to_le_bytes());
    let mut zeros = zero_bytes(word);
    let mut more = SEPARATOR_MORE * usize::from(zeros != 0);
    // Whether there is a NUL is hard to predict, so there is no branch for the first one. If there
    // is none, this is written behind the eight bytes.
    put_separator(word, zeros, target);
    zeros &= zeros.wrapping_sub(1);
    while zeros != 0 {
        put_separator(word, zeros, &mut target[more..]);
        zeros &= zeros - 1;
        more += SEPARATOR_MORE;
    }
    more
}

/// Replaces the first of the zeros, and writes what is behind it in the word anew.
#[inline]
fn put_separator(word: u64, zeros: u64, target: &mut [u8]) {
    let at = zeros.trailing_zeros() / 8;
    let behind = word.wrapping_shr(8 * (at + 1));
    let target = &mut target[at as usize..];
    target[..3].copy_from_slice(b"\",\"");
    target[3..11].copy_from_slice(&behind.to_le_bytes());
}

/// Room for the arguments in a text of that length, if all of them are empty, and for what is
/// written beyond their end.
pub(super) const fn separated_bytes(length: usize) -> usize {
    (1 + SEPARATOR_MORE) * length + 24
}

/// How many bytes more `","` has than a NUL.
const SEPARATOR_MORE: usize = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs_care(byte: u8) -> bool {
        !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\'
    }

    fn check_clean(text: &[u8]) {
        let is_clean = !text.iter().copied().any(needs_care);
        let mut target = vec![0xff; text.len()];
        assert_eq!(copy_clean(text, &mut target), is_clean, "{text:x?}");
        assert!(!is_clean || target == text, "{text:x?}");
    }

    fn check_joined(text: &[u8]) {
        let joined: Vec<_> = text.iter().map(|&byte| if byte == 0 { b' ' } else { byte }).collect();
        let is_clean = !joined.iter().copied().any(needs_care);
        let mut target = vec![0xff; text.len()];
        assert_eq!(copy_joined(text, &mut target), is_clean, "{text:x?}");
        assert!(!is_clean || target == joined, "{text:x?}");
    }

    fn check_separated(text: &[u8]) {
        let mut target = vec![0; separated_bytes(text.len())];
        let length = copy_separated(text, &mut target);
        let arguments: Vec<_> = text.split(|&byte| byte == 0).collect();
        assert_eq!(target[..length], arguments.join(&b"\",\""[..]), "{text:x?}");
    }

    #[test]
    fn empty_and_short_arguments_have_room_at_each_length() {
        for length in 0..=40 {
            for argument in 1..=9 {
                let text: Vec<_> =
                    (1..=length).map(|at| if at % argument == 0 { 0 } else { b'a' }).collect();
                check_separated(&text);
            }
        }
    }

    #[test]
    fn each_byte_at_each_place_is_seen() {
        for length in 1..=40 {
            for place in 0..length {
                for byte in 0..=255 {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    check_clean(&text);
                    check_joined(&text);
                }
            }
        }
    }

    /// Text in which about one byte in some needs care.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            200 => b' '..=b'~',
            5 => Just(0),
            1 => any::<u8>(),
        ];
        proptest::collection::vec(byte, 0..100)
    }

    proptest! {
        #[test]
        fn text_is_copied_as_in_the_model(text in text()) {
            check_clean(&text);
            check_joined(&text);
            let mut target = vec![0; text.len()];
            copy_any(&text, &mut target);
            prop_assert_eq!(&target, &text);
        }

        #[test]
        fn arguments_are_separated_as_in_the_model(text in text()) {
            check_separated(&text);
        }
    }
}
