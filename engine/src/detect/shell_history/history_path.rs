//! What a path shows of the file in which bash would save its history.
//!
//! At its end bash opens the value as a path, without expansions, to append or to create a regular
//! file (`maybe_save_shell_history`, bashhist.c; `history_do_write`, lib/readline/histfile.c). If
//! that fails, the history is lost without a word. A device takes the history and keeps nothing.

/// `PATH_MAX` with the NUL, and `NAME_MAX` (include/uapi/linux/limits.h).
const PATH_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 255;

/// What is known of the place that `HISTFILE` names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Place {
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
    /// It is below a folder of devices or of the kernel's own files.
    Special,
    /// A device that drops or refuses all data.
    Null,
}

impl Place {
    /// What the path alone shows. `is_whole` is whether `path` is all of it.
    pub(super) fn of(path: &[u8], is_whole: bool) -> Self {
        const NULLS: [&[u8]; 3] = [b"dev/null", b"dev/zero", b"dev/full"];
        const FOLDERS: [&[u8]; 3] = [b"dev", b"proc", b"sys"];
        let is_too_long =
            path.len() >= PATH_BYTES_MAX || names(path).any(|name| name.len() > NAME_BYTES_MAX);
        let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
        let mut room = [0; PATH_BYTES_MAX];
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
        } else if FOLDERS.iter().any(is_below) {
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

/// Whether `path` is in the folder of the file `first`, or below it. Of files in the root folder,
/// only those are. A relative path is elsewhere if it is another one: it depends on the folder in
/// which the shell ends.
pub(super) fn is_in_folder_of(first: &[u8], path: &[u8]) -> bool {
    let (mut one, mut other) = ([0; PATH_BYTES_MAX], [0; PATH_BYTES_MAX]);
    if !first.starts_with(b"/") || !path.starts_with(b"/") {
        return first == path;
    }
    let (first, path) = (normalize(first, &mut one), normalize(path, &mut other));
    match first.iter().rposition(|&byte| byte == b'/') {
        Some(end) => path.starts_with(&first[..=end]),
        None => !path.contains(&b'/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Place {
        Place::of(path.as_bytes(), true)
    }

    #[test]
    fn a_path_shows_that_no_file_can_be_there() {
        for null in ["/dev/null", "/dev/zero", "/dev/full", "//dev//null", "/dev/./null"] {
            assert_eq!(of(null), Place::Null, "{null}");
        }
        assert_eq!(of("/tmp/../dev/null"), Place::Null);
        assert_eq!(of("/../../dev/zero"), Place::Null);
        for special in [
            "/dev/random",
            "/dev/shm/x",
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
            assert_eq!(of(special), Place::Special, "{special}");
        }
        for none in ["/tmp/", "/root/.", "/root/..", "/", ".", "..", "x/"] {
            assert_eq!(of(none), Place::NoFile, "{none}");
        }
        assert_eq!(of(&format!("/tmp/{}", "x".repeat(256))), Place::NoFile);
        assert_eq!(of(&"/x".repeat(2048)), Place::NoFile);
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
        ] {
            assert_eq!(of(open), Place::Open, "{open}");
        }
        assert_eq!(of(&format!("/tmp/{}", "x".repeat(255))), Place::Open);
        assert_eq!(of(&"/x".repeat(2047)), Place::Open);
        // Of a longer path, what is behind the part that is known decides.
        assert_eq!(Place::of(b"/dev/null", false), Place::Special);
        assert_eq!(Place::of(b"/tmp/", false), Place::Open);
    }
}
