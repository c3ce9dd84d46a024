//! Removes broken lines from the end of a log that a crash left.
//!
//! A write that ended early leaves a line without its end. A write that did not take place leaves a
//! hole of NULs before those that did, because several are under way at once; no record has a NUL.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What was found at the end of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct TailRepair {
    /// Where the file ends now.
    pub(super) end: u64,
    /// How many broken lines were removed.
    pub(super) lines: usize,
}

/// Twice what can be under way at once by default: four buffers of 256 KiB.
const TAIL_BYTES: u64 = 2 << 20;

/// Removes the broken lines of the file's last [`TAIL_BYTES`].
pub(super) fn mend(file: &File) -> io::Result<TailRepair> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL_BYTES);
    let mut tail = vec![0; (length - start) as usize];
    file.read_exact_at(&mut tail, start)?;
    // The first line is not seen whole, unless the file begins with it.
    let first = if start == 0 { Some(0) } else { end_of_line(&tail) };
    let Some(first) = first else {
        // One line, longer than any record: others wrote it, and it only needs an end.
        file.write_all_at(b"\n", length)?;
        return Ok(TailRepair { end: length + 1, lines: 0 });
    };
    mend_lines(file, start + first as u64, &tail[first..])
}

/// Removes the broken ones of these lines, which are those of the file from `at` on.
fn mend_lines(file: &File, mut at: u64, lines: &[u8]) -> io::Result<TailRepair> {
    let mut removed = 0;
    let mut moved = Vec::new();
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        if !line.ends_with(b"\n") || line.contains(&0) {
            removed += 1;
        } else if removed == 0 {
            at += line.len() as u64;
        } else {
            moved.extend_from_slice(line);
        }
    }
    let end = at + moved.len() as u64;
    if removed > 0 {
        file.write_all_at(&moved, at)?;
        file.set_len(end)?;
    }
    Ok(TailRepair { end, lines: removed })
}

/// Where the first line ends.
fn end_of_line(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn check(before: &[u8], after: &[u8], lines: usize) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, before).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let expected = TailRepair { end: after.len() as u64, lines };
        assert_eq!(mend(&file).unwrap(), expected);
        assert!(fs::read(&path).unwrap() == after);
        assert_eq!(mend(&file).unwrap(), TailRepair { lines: 0, ..expected });
    }

    #[test]
    fn lines_that_are_whole_stay() {
        for text in [&b""[..], b"\n", b"{}\n", b"{}\n\n{}\n"] {
            check(text, text, 0);
        }
    }

    #[test]
    fn a_line_without_its_end_goes() {
        check(b"{", b"", 1);
        check(b"{}\n{", b"{}\n", 1);
        check(b"{}\n{}\n\0\0\0", b"{}\n{}\n", 1);
    }

    #[test]
    fn the_lines_of_a_hole_go_and_those_behind_it_stay() {
        check(b"{}\n{\0\0\0}\n{1}\n{2}\n", b"{}\n{1}\n{2}\n", 1);
        check(b"\0\0}\n{1}\n{\0}\n{2}\n{", b"{1}\n{2}\n", 3);
    }

    #[test]
    fn a_long_file_is_mended_at_its_end() {
        let long = b"{12345}\n".repeat(500_000);
        check(&long, &long, 0);
        check(&[&long[..], b"{\0}\n{1}\n{"].concat(), &[&long[..], b"{1}\n"].concat(), 2);
        let line = vec![b'x'; 3 << 20];
        check(&line, &[&line[..], b"\n"].concat(), 0);
    }
}
