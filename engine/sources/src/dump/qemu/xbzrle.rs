//! XBZRLE: a page as the difference from what it was before (QEMU's docs/devel/migration/main.rst
//! and migration/xbzrle.c).
//!
//! Pairs of runs: so many bytes are unchanged, so many follow. A length is a ULEB128 of one or two
//! bytes. Only the first run may be empty.

/// Changes a page; `false` if the difference is none of such a page.
pub(super) fn apply(difference: &[u8], page: &mut [u8]) -> bool {
    let (mut left, mut at, mut is_first) = (difference, 0_usize, true);
    while !left.is_empty() {
        let (Some(unchanged), Some(changed)) = (length(&mut left), length(&mut left)) else {
            return false;
        };
        if changed == 0 || (unchanged == 0 && !is_first) {
            return false;
        }
        at += unchanged;
        let (Some(target), Some((new, rest))) =
            (page.get_mut(at..at + changed), left.split_at_checked(changed))
        else {
            return false;
        };
        target.copy_from_slice(new);
        at += changed;
        left = rest;
        is_first = false;
    }
    true
}

/// Takes a length.
fn length(left: &mut &[u8]) -> Option<usize> {
    let (first, rest) = left.split_first()?;
    *left = rest;
    if first & 0x80 == 0 {
        return Some(usize::from(*first));
    }
    let (second, rest) = left.split_first()?;
    *left = rest;
    (second & 0x80 == 0).then(|| usize::from(first & 0x7f) | usize::from(*second) << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_replace_bytes() {
        let mut page = *b"0123456789";
        assert!(apply(&[2, 3, b'a', b'b', b'c', 4, 1, b'z'], &mut page));
        assert_eq!(&page, b"01abc5678z");
        assert!(apply(&[0, 1, b'y'], &mut page));
        assert_eq!(&page, b"y1abc5678z");
        assert!(apply(&[], &mut page));
        let mut long = vec![0; 4096];
        // 300 is 0xac 0x02.
        assert!(apply(&[0xac, 2, 1, 7], &mut long));
        assert_eq!(long.iter().position(|byte| *byte == 7), Some(300));
    }

    #[test]
    fn impossible_runs_are_refused() {
        let mut page = [0; 10];
        let wrong: [&[u8]; 8] = [
            &[1],
            &[1, 0],
            &[1, 1],
            &[10, 1, 1],
            &[0, 11, 1],
            &[0, 1, 1, 0, 1, 1],
            &[0x80, 0x80, 1, 1],
            &[0x80],
        ];
        for difference in wrong {
            assert!(!apply(difference, &mut page), "{difference:?}");
        }
    }
}
