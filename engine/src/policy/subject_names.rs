//! How a reason names the file or the process that it is about, and lists names.
//!
//! A watched system chooses these names, so each is escaped, and has a bounded length.

use core::fmt::{self, Display};

use panoptes_decoders::kernel::task_struct::TASK_COMM_LEN;

/// Maximum length of a path in a reason in bytes, as it is written there.
pub(super) const PATH_BYTES_MAX: usize = 256;
/// Maximum length of a process in a reason in bytes: each byte of its name is written as `\x00` at
/// worst.
pub(super) const PROCESS_BYTES_MAX: usize = (TASK_COMM_LEN - 1) * 4 + " (process 4294967295)".len();
/// Stands for the beginning of a path that is too long.
const CUT: &str = "…";

/// A path, or its end if it is too long; without a path, words that say so.
pub(super) fn path(path: Option<&[u8]>) -> impl Display {
    fmt::from_fn(move |f| {
        let Some(path) = path else { return f.write_str("a file of unknown path") };
        let begin = begin_of_end(path);
        f.write_str(if begin > 0 { CUT } else { "" })?;
        path[begin..].escape_ascii().fmt(f)
    })
}

/// Where the longest end of a path begins that fits as it is written.
fn begin_of_end(path: &[u8]) -> usize {
    let mut room = PATH_BYTES_MAX - CUT.len();
    let mut begin = path.len();
    for (at, &byte) in path.iter().enumerate().rev() {
        let length = core::ascii::escape_default(byte).len();
        if length > room {
            break;
        }
        room -= length;
        begin = at;
    }
    begin
}

/// A process, by its name and its id (tgid): `bash (process 124)`.
pub(super) fn process(name: &[u8], process_id: u32) -> impl Display {
    fmt::from_fn(move |f| match name {
        [] => write!(f, "process {process_id}"),
        name => write!(f, "{} (process {process_id})", name.escape_ascii()),
    })
}

/// Names with commas between them, and `last` before the last one.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str> + Clone, last: &str) -> impl Display {
    fmt::from_fn(move |f| {
        let count = names.clone().count();
        for (at, name) in names.clone().enumerate() {
            let between = match at {
                0 => "",
                _ if at + 1 == count => last,
                _ => ", ",
            };
            write!(f, "{between}{name}")?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_escaped_and_its_end_stays() {
        assert_eq!(path(Some(b"/etc/pass\nwd")).to_string(), "/etc/pass\\nwd");
        assert_eq!(path(None).to_string(), "a file of unknown path");
        let long = [b"/tmp/".as_slice(), &[b'a'; 4096], b"/evil"].concat();
        let named = path(Some(&long)).to_string();
        assert!(named.starts_with("…aaa") && named.ends_with("/evil"), "{named}");
        assert_eq!(named.len(), PATH_BYTES_MAX);
    }

    #[test]
    fn no_path_is_longer_than_its_room() {
        for byte in [b'a', b'\n', 0, 0xe2, b'"'] {
            for length in [0, 1, 62, 63, 64, 65, 126, 252, 253, 254, 256, 4095] {
                let named = path(Some(&vec![byte; length])).to_string();
                assert!(named.len() <= PATH_BYTES_MAX, "{length} times {byte}: {}", named.len());
            }
        }
    }

    #[test]
    fn a_process_has_its_name_and_its_id() {
        assert_eq!(process(b"bash", 98).to_string(), "bash (process 98)");
        assert_eq!(process(b"", 98).to_string(), "process 98");
        assert_eq!(process(&[0; 15], u32::MAX).to_string().len(), PROCESS_BYTES_MAX);
    }
}
