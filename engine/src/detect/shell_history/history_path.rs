//! What a path shows of the file in which bash would save its history.
//!
//! At its end bash opens the value as a path, without expansions, to append or to create a regular
//! file (`maybe_save_shell_history`, bashhist.c; `history_do_write`, lib/readline/histfile.c). If
//! that fails, the history is lost without a message. A device accepts the history and keeps
//! nothing. A file below /dev/shm is a regular one: it lasts until the machine ends.

use panoptes_decoders::kernel::dentry::DENTRY_NAME_BYTES_MAX;
use panoptes_tables::HashKey;

use crate::path::PATH_BYTES_MAX;

/// The longest path, with its NUL.
const HISTORY_PATH_BYTES_MAX: usize = PATH_BYTES_MAX + 1;

/// Kind of the place that `HISTFILE` names, as far as it is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum HistoryFilePlace {
    /// There is none, or it is not decided yet.
    #[default]
    Open,
    /// A file, or nothing is known against it.
    File,
    /// The kernel has no name in memory for a folder on the path.
    Unnamed,
    /// A folder on the path does not exist, or is a file.
    NoFolder,
    /// It is a folder, a device or a FIFO, or no path can be so long.
    NoFile,
    /// It is below a folder of devices or of the kernel's own files. /dev/shm has regular files.
    Special,
    /// A device that drops or refuses all data.
    Null,
}

impl HistoryFilePlace {
    /// What the path alone shows. `is_whole` is whether `path` is all of it.
    pub(super) fn of(path: &[u8], is_whole: bool) -> Self {
        const NULLS: [&[u8]; 3] = [b"dev/null", b"dev/zero", b"dev/full"];
        const FOLDERS: [&[u8]; 3] = [b"dev", b"proc", b"sys"];
        const SHARED_MEMORY: &[u8] = b"dev/shm";
        let is_too_long = path.len() >= HISTORY_PATH_BYTES_MAX
            || names(path).any(|name| name.len() > DENTRY_NAME_BYTES_MAX);
        let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let mut room = [0; HISTORY_PATH_BYTES_MAX];
        let normal = if path.starts_with(b"/") { normalize(path, &mut room) } else { &[] };
        let is_below = |folder: &&[u8]| {
            normal
                .strip_prefix(*folder)
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        if is_too_long {
            Self::NoFile
        } else if is_whole && NULLS.contains(&normal) {
            Self::Null
        } else if FOLDERS.iter().any(is_below) && !is_below(&SHARED_MEMORY) {
            Self::Special
        } else if is_whole && matches!(last, b"" | b"." | b"..") {
            Self::NoFile
        } else {
            Self::Open
        }
    }
}

/// The names of a path, without those that lead nowhere.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// The names of an absolute path with slashes between them. `..` goes back, as if there were no
/// symbolic links.
fn normalize<'a>(path: &[u8], room: &'a mut [u8]) -> &'a [u8] {
    let mut length = 0;
    for name in names(path) {
        let before = room.get(..length).unwrap_or(&[]);
        if name == b".." {
            length = before.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            continue;
        }
        let start = length + usize::from(length > 0);
        let Some(into) = room.get_mut(start..start + name.len()) else { break };
        into.copy_from_slice(name);
        if start > length {
            room[length] = b'/';
        }
        length = start + name.len();
    }
    room.get(..length).unwrap_or(&[])
}

/// The folder of a file, as a keyed hash. A relative path depends on the folder in which the shell
/// ends, so its hash is that of the whole path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FolderHash(u64);

impl FolderHash {
    /// The folder of the file with this path.
    pub(super) fn of_file(path: &[u8], key: HashKey) -> Self {
        if !path.starts_with(b"/") {
            return Self::of_relative(path, key);
        }
        let mut room = [0; HISTORY_PATH_BYTES_MAX];
        let path = normalize(path, &mut room);
        let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Self::of(&path[..end], key)
    }

    /// Whether the file with this path is in the folder, or below it. In the root folder are only
    /// its own files. A relative path is in no other folder than its own.
    pub(super) fn has(self, path: &[u8], key: HashKey) -> bool {
        if !path.starts_with(b"/") {
            return self == Self::of_relative(path, key);
        }
        let mut room = [0; HISTORY_PATH_BYTES_MAX];
        let path = normalize(path, &mut room);
        let mut ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').peekable();
        if ends.peek().is_none() {
            return self == Self::of(b"", key);
        }
        ends.any(|(end, _)| self == Self::of(&path[..end], key))
    }

    fn of(folder: &[u8], key: HashKey) -> Self {
        Self(key.hash_numbers([0, key.hash(folder)]))
    }

    fn of_relative(path: &[u8], key: HashKey) -> Self {
        Self(key.hash_numbers([1, key.hash(path)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> HistoryFilePlace {
        HistoryFilePlace::of(path.as_bytes(), true)
    }

    #[test]
    fn a_path_shows_that_no_file_can_be_there() {
        for null in ["/dev/null", "/dev/zero", "/dev/full", "//dev//null", "/dev/./null"] {
            assert_eq!(of(null), HistoryFilePlace::Null, "{null}");
        }
        assert_eq!(of("/tmp/../dev/null"), HistoryFilePlace::Null);
        assert_eq!(of("/../../dev/zero"), HistoryFilePlace::Null);
        for special in [
            "/dev/random",
            "/dev/shmem/x",
            "/dev/shm/../x",
            "/dev/pts/0",
            "/dev",
            "/proc/self/fd/1",
            "/proc/x",
            "/sys/kernel/x",
            "/dev/null/x",
            "/home/../proc/1/environ",
            "/dev/",
            "/dev/tcp/1.2.3.4/5",
        ] {
            assert_eq!(of(special), HistoryFilePlace::Special, "{special}");
        }
        for none in ["/tmp/", "/root/.", "/root/..", "/", ".", "..", "x/"] {
            assert_eq!(of(none), HistoryFilePlace::NoFile, "{none}");
        }
        assert_eq!(of(&format!("/tmp/{}", "x".repeat(256))), HistoryFilePlace::NoFile);
        assert_eq!(of(&"/x".repeat(2048)), HistoryFilePlace::NoFile);
        for open in [
            "/root/.bash_history",
            "/tmp/.x",
            "/devices/x",
            "/device",
            "/home/dev/null",
            "x",
            "~/x",
            "dev/null",
            "./x",
            "/dev/../tmp/x",
            "/nonexistent/x",
            "/root/...",
            "/root/.hidden",
            "/dev/shm/x",
            "//dev/./shm/a/x",
        ] {
            assert_eq!(of(open), HistoryFilePlace::Open, "{open}");
        }
        assert_eq!(of(&format!("/tmp/{}", "x".repeat(255))), HistoryFilePlace::Open);
        assert_eq!(of(&"/x".repeat(2047)), HistoryFilePlace::Open);
        // The rest behind the known part of a longer path decides.
        assert_eq!(HistoryFilePlace::of(b"/dev/null", false), HistoryFilePlace::Special);
        assert_eq!(HistoryFilePlace::of(b"/tmp/", false), HistoryFilePlace::Open);
    }
}
