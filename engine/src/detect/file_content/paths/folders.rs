//! In which folders files may matter: only these are swept.
//!
//! The patterns are those of [`important`](super::super::important) and of the configuration.
//! Patterns that begin with `*` (`*/.ssh/*`) are followed in the homes of users only.

use super::super::important::{HISTORIES, IMPORTANT, IMPORTANT_IF_RUN, is_never};
use crate::container_config::Glob;

/// The folder of root, and the folder of all others' folders.
const HOME_OF_ROOT: &[u8] = b"/root/";
const HOMES: &[u8] = b"/home/";

/// Folders in which very much may be, and no program of the system.
const WITHOUT_PROGRAMS: &[&[u8]] = &[
    b"/usr/include/",
    b"/usr/share/doc/",
    b"/usr/share/icons/",
    b"/usr/share/info/",
    b"/usr/share/locale/",
    b"/usr/share/man/",
    b"/usr/share/zoneinfo/",
    b"/usr/src/",
];

/// Which files of a folder matter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in super::super) enum Matter {
    /// Nearly all.
    All,
    /// Those that may be executed, or have the name of a library or script.
    IfRun,
    /// Those that a pattern names.
    ByName,
}

/// Which files of a folder matter; `None` if nothing in it or below does. `folder` ends with a
/// slash.
pub(in super::super) fn matter(folder: &[u8], include: &[Glob]) -> Option<Matter> {
    let leads_to = |beginning: &[u8]| {
        !beginning.is_empty() && (beginning.starts_with(folder) || folder.starts_with(beginning))
    };
    if WITHOUT_PROGRAMS.contains(&folder) || is_never(folder) {
        return None;
    }
    let is_in = |pattern: &&str| {
        let is_folder = pattern.starts_with('/') && pattern.ends_with("/*");
        is_folder && folder.starts_with(beginning(pattern))
    };
    if IMPORTANT.iter().any(&is_in) {
        return Some(Matter::All);
    }
    if include.iter().any(|glob| leads_to(glob.beginning())) {
        return Some(Matter::ByName);
    }
    if IMPORTANT_IF_RUN.iter().any(is_in) {
        return Some(Matter::IfRun);
    }
    let mut patterns = IMPORTANT.iter().chain(IMPORTANT_IF_RUN);
    (patterns.any(|pattern| leads_to(beginning(pattern))) || is_of_home(folder))
        .then_some(Matter::ByName)
}

/// Whether a folder is one of the system: what is in it or below it decides what runs, or who may
/// enter. `folder` ends with a slash.
pub(super) fn is_of_system(folder: &[u8]) -> bool {
    let is_on_way = |pattern: &&str| {
        let beginning = beginning(pattern);
        pattern.starts_with('/') && (beginning.starts_with(folder) || folder.starts_with(beginning))
    };
    !is_never(folder) && (folder.starts_with(HOME_OF_ROOT) || IMPORTANT.iter().any(is_on_way))
}

/// Whether a path is in the home of a user who is not root: others must not lose anything to it.
pub(super) fn is_in_homes(path: &[u8]) -> bool {
    path.starts_with(HOMES)
}

/// What a pattern begins with before its first wildcard.
fn beginning(pattern: &str) -> &[u8] {
    pattern.split(['*', '?']).next().unwrap_or_default().as_bytes()
}

/// Whether a folder is a home, leads to homes, or has, in a home, something that matters.
fn is_of_home(folder: &[u8]) -> bool {
    if HOMES == folder || HOME_OF_ROOT == folder {
        return true;
    }
    let below = if let Some(below) = folder.strip_prefix(HOME_OF_ROOT) {
        below
    } else {
        let Some(below) = folder.strip_prefix(HOMES) else { return false };
        let Some(end) = below.iter().position(|&byte| byte == b'/') else { return false };
        below.get(end + 1..).unwrap_or_default()
    };
    let in_homes =
        IMPORTANT.iter().chain(HISTORIES).filter_map(|pattern| pattern.strip_prefix("*/"));
    let mut folders = in_homes.map(beginning).filter(|beginning| beginning.contains(&b'/'));
    below.is_empty() || folders.any(|it| it.starts_with(below) || below.starts_with(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_in_which_files_matter_are_swept() {
        for (folder, matters) in [
            ("/", Some(Matter::ByName)),
            ("/bin/", Some(Matter::All)),
            ("/usr/", Some(Matter::IfRun)),
            ("/usr/bin/", Some(Matter::All)),
            ("/usr/lib/python3/dist-packages/", Some(Matter::All)),
            ("/usr/lib/python3/__pycache__/", None),
            ("/usr/share/", Some(Matter::IfRun)),
            ("/usr/share/perl5/", Some(Matter::IfRun)),
            ("/usr/share/polkit-1/rules.d/", Some(Matter::All)),
            ("/usr/share/doc/", None),
            ("/etc/lvm/archive/", None),
            ("/etc/systemd/system/", Some(Matter::All)),
            ("/opt/app/bin/", Some(Matter::IfRun)),
            ("/var/", Some(Matter::ByName)),
            ("/var/spool/cron/crontabs/", Some(Matter::All)),
            ("/var/log/", None),
            ("/var/lib/dpkg/", Some(Matter::ByName)),
            ("/var/lib/docker/", None),
            ("/run/", Some(Matter::ByName)),
            ("/run/user/", None),
            ("/proc/", None),
            ("/tmp/", None),
            ("/srv/", None),
            ("/root/", Some(Matter::ByName)),
            ("/home/", Some(Matter::ByName)),
            ("/home/ann/", Some(Matter::ByName)),
            ("/home/ann/.ssh/", Some(Matter::ByName)),
            ("/home/ann/.config/systemd/", Some(Matter::ByName)),
            ("/home/ann/.local/share/fish/", Some(Matter::ByName)),
            ("/home/ann/.local/share/Trash/", None),
            ("/root/.config/fish/conf.d/", Some(Matter::ByName)),
            ("/home/ann/.config/google-chrome/", None),
            ("/home/ann/.cache/", None),
            ("/home/ann/src/", None),
        ] {
            assert_eq!(matter(folder.as_bytes(), &[]), matters, "{folder}");
        }
    }

    #[test]
    fn folders_of_the_configuration_are_swept() {
        let include = [Glob::new("/srv/app/*.php"), Glob::new("*")];
        for (folder, is_swept) in
            [("/srv/", true), ("/srv/app/", true), ("/srv/app/lib/", true), ("/srv/data/", false)]
        {
            assert_eq!(matter(folder.as_bytes(), &include).is_some(), is_swept, "{folder}");
        }
    }
}
