//! Keeps this process's own memory in RAM, so that no scan waits for swap.
//!
//! `mlockall` would also lock the mapped memory of guests, which must not change by being watched.
//! So only private memory without a file is locked, as it is now.

#![allow(unsafe_code, reason = "mlock2")]

use std::io;

/// Locks the private memory that this process has. Pages that are not touched yet stay so, and are
/// locked when they are.
///
/// # Errors
///
/// The limit of locked memory (`RLIMIT_MEMLOCK`) is too low, or /proc cannot be read.
pub fn lock_own_memory() -> io::Result<()> {
    // Other threads unmap memory meanwhile; what they unmapped is not listed the second time.
    lock_listed().or_else(|_| lock_listed())
}

fn lock_listed() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut result = Ok(());
    for (start, length) in maps.lines().filter_map(own_area) {
        // SAFETY: locking changes the content of no memory, whichever it is.
        let failed = unsafe {
            libc::mlock2(std::ptr::without_provenance(start), length, libc::MLOCK_ONFAULT) != 0
        };
        if failed {
            result = Err(io::Error::last_os_error());
        }
    }
    result
}

/// Start and length of an area, if it is private, writable and without a file.
fn own_area(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    let inode = words.nth(2)?;
    let is_plain = matches!(words.next(), None | Some("[heap]"));
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    let is_own = permissions.starts_with("rw") && permissions.ends_with('p') && inode == "0";
    (is_own && is_plain && end > start).then(|| (start, end - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_without_a_file_is_its_own() {
        let of = |line: &str| own_area(line);
        assert_eq!(of("1000-3000 rw-p 00000000 00:00 0 "), Some((0x1000, 0x2000)));
        assert_eq!(of("1000-3000 rw-p 00000000 00:00 0      [heap]"), Some((0x1000, 0x2000)));
        for other in [
            "1000-3000 rw-s 00000000 00:01 1041 /dev/shm/guest",
            "1000-3000 rw-p 00000000 08:01 77   /usr/lib/libc.so.6",
            "1000-3000 r--p 00000000 00:00 0 ",
            "1000-3000 rw-p 00000000 00:00 0    [stack]",
            "1000-3000 r--p 00000000 00:00 0    [vvar]",
            "",
            "x-y rw-p 00000000 00:00 0",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn memory_is_locked_if_that_is_allowed() {
        let bytes = vec![1_u8; 1 << 20];
        let locked = |status: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
            line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
        };
        let result = lock_own_memory();
        let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        match result {
            Ok(()) => assert!(locked(&status) >= 1024, "{status}"),
            Err(error) => panoptes_needs::skip::test_for("locked memory", error),
        }
        assert_eq!(bytes[bytes.len() - 1], 1);
    }
}
