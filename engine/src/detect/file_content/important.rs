//! The files that matter: those that change what will run, or who may enter.
//!
//! This file has the default list, and nothing else decides by a path. The documentation shows the
//! same lists (`docs/detectors/file_content.md`); a test compares them.
//!
//! In a pattern `*` matches any characters, slashes too, and `?` matches one. A path is that of the
//! process's mount namespace.

use panoptes_decoders::text::matches_glob;

/// Files that matter whatever they are.
pub(super) const IMPORTANT: &[&str] = &[
    // programs and libraries of the system
    "/bin/*",
    "/sbin/*",
    "/lib/*",
    "/lib32/*",
    "/lib64/*",
    "/libx32/*",
    "/usr/bin/*",
    "/usr/sbin/*",
    "/usr/lib/*",
    "/usr/lib32/*",
    "/usr/lib64/*",
    "/usr/libx32/*",
    "/usr/libexec/*",
    "/usr/local/bin/*",
    "/usr/local/sbin/*",
    "/usr/local/lib/*",
    "/usr/local/lib64/*",
    "/usr/local/libexec/*",
    // settings: accounts, sudo, PAM, the loader, units, crontabs, start files of shells
    "/etc/*",
    "/usr/share/bash-completion/*",
    "/usr/share/dbus-1/*",
    "/usr/share/pam-configs/*",
    "/usr/share/polkit-1/*",
    // the start of the machine
    "/boot/*",
    "/efi/*",
    // what runs at a time, for an event or at an upgrade
    "/run/systemd/system/*",
    "/run/udev/rules.d/*",
    "/var/lib/dpkg/info/*",
    "/var/spool/at/*",
    "/var/spool/cron/*",
    "*/.config/autostart/*",
    "*/.config/systemd/user/*",
    "*/.local/share/systemd/user/*",
    // who may enter
    "*/.k5login",
    "*/.rhosts",
    "*/.shosts",
    "*/.ssh/*",
    // what runs at a login
    "*/.bash_aliases",
    "*/.bash_login",
    "*/.bash_logout",
    "*/.bash_profile",
    "*/.bashrc",
    "*/.config/fish/config.fish",
    "*/.config/fish/conf.d/*",
    "*/.cshrc",
    "*/.kshrc",
    "*/.login",
    "*/.mkshrc",
    "*/.pam_environment",
    "*/.profile",
    "*/.tcshrc",
    "*/.xinitrc",
    "*/.xprofile",
    "*/.xsession",
    "*/.xsessionrc",
    "*/.zlogin",
    "*/.zlogout",
    "*/.zprofile",
    "*/.zshenv",
    "*/.zshrc",
];

/// Those of them that decide who may enter, and what runs for whom. One act that changes many files
/// of one pattern is one cause; what it changes by another pattern is another one ([`rule_of`]).
const ACCESS: &[&str] = &[
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/sudoers.d/*",
    "/etc/sudo.conf",
    "/etc/doas.conf",
    "/etc/subuid",
    "/etc/subgid",
    "/etc/hosts.equiv",
    "/etc/pam.conf",
    "/etc/pam.d/*",
    "/etc/security/*",
    "/etc/ssh/*",
    "/etc/polkit-1/*",
    "/etc/nsswitch.conf",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d/*",
    "/etc/ld.so.cache",
    "/etc/crontab",
    "/etc/cron.*",
    "/etc/anacrontab",
    "/etc/environment",
    "/etc/profile",
    "/etc/profile.d/*",
    "/etc/bash.bashrc",
    "/etc/bashrc",
    "/etc/csh.*",
    "/etc/zsh*",
    "/etc/rc.local",
    "/etc/rc.d/*",
    "/etc/init.d/*",
    "/etc/systemd/*",
    "/etc/dbus-1/*",
    "/etc/udev/*",
    "/etc/modules",
    "/etc/modules-load.d/*",
    "/etc/modprobe.d/*",
    "/etc/network/*",
    "/etc/NetworkManager/dispatcher.d/*",
    "/etc/apt/apt.conf.d/*",
    "/etc/update-motd.d/*",
    "/etc/X11/*",
    "/etc/xdg/autostart/*",
    "*/.ssh/authorized_keys*",
];

/// Files that matter if they may be executed, or have the name of a library or script.
pub(super) const IMPORTANT_IF_RUN: &[&str] = &["/opt/*", "/usr/*"];

/// Histories of shells, in homes. They matter only if they lose their content.
pub(super) const HISTORIES: &[&str] = &[
    "*/.ash_history",
    "*/.bash_history",
    "*/.histfile",
    "*/.local/share/fish/fish_history",
    "*/.python_history",
    "*/.zsh_history",
];

/// Names of libraries and scripts.
const RUN_BY_NAME: &[&str] = &[
    "*.bash", "*.jar", "*.js", "*.ko", "*.lua", "*.php", "*.pl", "*.pm", "*.py", "*.rb", "*.sh",
    "*.so", "*.so.*", "*.tcl",
];

/// Files among these that do not matter: the system writes them by itself.
const UNIMPORTANT: &[&str] = &[
    // copies and locks that editors and account tools make beside a file
    "/etc/.#*",
    "/etc/*/.#*",
    "/etc/#*#",
    "/etc/*/#*#",
    "/etc/*~",
    "/etc/.*.sw?",
    "/etc/*/.*.sw?",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/subgid-",
    "/etc/subuid-",
    "/etc/sudoers.d/*.tmp",
    "/etc/sudoers.tmp",
    // what systemd notes at a machine's first start, or at the first one after an update
    "/etc/.updated",
    "/etc/machine-id",
    // what git keeps of the files in `/etc`, but not its settings and hooks (etckeeper)
    "/etc/.git/*HEAD",
    "/etc/.git/COMMIT_EDITMSG",
    "/etc/.git/index*",
    "/etc/.git/logs/*",
    "/etc/.git/objects/*",
    "/etc/.git/packed-refs*",
    "/etc/.git/refs/*",
    // clocks, leases, mounts, states of services
    "/etc/.pwd.lock",
    "/etc/adjtime",
    "/etc/blkid.tab*",
    "/etc/cups/subscriptions.conf*",
    "/etc/fake-hwclock.data",
    "/etc/lvm/archive/*",
    "/etc/lvm/backup/*",
    "/etc/lvm/cache/*",
    "/etc/mtab*",
    "/etc/network/run/*",
    "/etc/resolv.conf*",
    // states of boot loaders
    "/boot/*/grubenv",
    "/boot/*/random-seed",
    "/efi/*/random-seed",
    // counters and outputs of jobs, keys of hosts that a user has met
    "/var/spool/cron/atjobs/.SEQ",
    "/var/spool/cron/atspool/*",
    "*/.ssh/known_hosts*",
    // what Python writes when it first runs a module
    "*/__pycache__/*",
];

/// The files of accounts. Tools lock each by a file that they link, and write a copy that they edit
/// (lib/commonio.c and src/vipw.c of shadow 4.13): neither is read by anyone else.
const ACCOUNTS: &[&str] =
    &["/etc/group", "/etc/gshadow", "/etc/passwd", "/etc/shadow", "/etc/subgid", "/etc/subuid"];

/// Folders of package managers' databases and locks, where files matter. They are open for writing
/// although nothing is installed (rpm, libdnf5 and libsolv; apk).
const DATABASES: &[&str] = &["/lib/apk/db/", "/usr/lib/apk/db/", "/usr/lib/sysimage/"];

/// Folders in which runtimes keep the file systems of containers, and the folder below which the
/// root of one begins.
const CONTAINER_ROOTS: &[(&str, &str)] = &[
    ("/containers/storage/overlay/", "/diff/"),
    ("/containers/storage/overlay/", "/merged/"),
    ("/docker/overlay2/", "/diff/"),
    ("/docker/overlay2/", "/merged/"),
    ("/io.containerd.runtime.v2.task/", "/rootfs/"),
    ("/io.containerd.snapshotter.v1.overlayfs/snapshots/", "/fs/"),
];

/// Whether a file matters by its path, by default. `may_execute`: whether its mode lets someone
/// execute it.
pub fn is_important(path: &[u8], may_execute: bool) -> bool {
    let path = in_container_root(path).unwrap_or(path);
    let matters = any(IMPORTANT, path) || any(IMPORTANT_IF_RUN, path) && is_run(path, may_execute);
    matters && !is_unimportant(path)
}

/// Whether a package manager that writes a file installs something: the file matters by its path,
/// and is no database. snapd renames `a.service.Ab12~` to `a.service`.
pub(super) fn is_installed(path: &[u8], may_execute: bool) -> bool {
    let last = path.strip_suffix(b"~").unwrap_or(path);
    is_important(last, may_execute)
        && !DATABASES.iter().any(|folder| path.starts_with(folder.as_bytes()))
}

/// A number for the pattern by which a file matters, by default; `None` if it matters otherwise, or
/// if the pattern is that of one file. The files of containers' roots on a host have patterns of
/// their own.
pub fn rule_of(path: &[u8]) -> Option<u32> {
    pattern_of(path).filter(|(pattern, _)| pattern.contains('*')).map(|(_, number)| number)
}

/// The pattern by which a file matters, by default, with its number.
fn pattern_of(path: &[u8]) -> Option<(&'static str, u32)> {
    let inside = in_container_root(path);
    let path = inside.unwrap_or(path);
    let mut patterns = ACCESS.iter().chain(IMPORTANT).zip(0..);
    let (pattern, number) = patterns.find(|(pattern, _)| matches_glob(pattern.as_bytes(), path))?;
    Some((*pattern, 2 * number + u32::from(inside.is_some())))
}

/// A number for the pattern by which a file matters, by default; 0 if there is none.
pub(super) fn pattern_number(path: &[u8]) -> u16 {
    pattern_of(path).map_or(0, |(_, number)| 1 + number as u16)
}

/// Whether a file is one of those that do not matter, although they are in a folder where files do.
pub(super) fn is_unimportant(path: &[u8]) -> bool {
    any(UNIMPORTANT, path) || is_beside_accounts(path)
}

/// Whether it is the lock of a file of accounts, the file that becomes it, or the copy that is
/// edited: `/etc/passwd.lock`, `/etc/passwd.2477`, `/etc/passwd.edit`.
fn is_beside_accounts(path: &[u8]) -> bool {
    let end_of = |file: &&str| path.strip_prefix(file.as_bytes())?.strip_prefix(b".");
    let mut ends = ACCOUNTS.iter().filter_map(end_of);
    ends.any(|end| match end {
        b"lock" | b"edit" => true,
        number => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
    })
}

/// Whether a file is the history of a shell.
pub(super) fn is_history(path: &[u8]) -> bool {
    let mut endings = HISTORIES.iter().filter_map(|pattern| pattern.strip_prefix('*'));
    endings.any(|ending| path.ends_with(ending.as_bytes()))
}

/// Whether a file is one that runs, by its mode or its name.
pub fn is_run(path: &[u8], may_execute: bool) -> bool {
    may_execute || any(RUN_BY_NAME, path)
}

/// Whether no file of a folder matters, since the system writes all of them by itself. `folder`
/// ends with a slash.
pub(super) fn is_never(folder: &[u8]) -> bool {
    let mut folders = UNIMPORTANT.iter().filter_map(|pattern| pattern.strip_suffix('*'));
    folders.any(|pattern| pattern.ends_with('/') && matches_glob(pattern.as_bytes(), folder))
}

fn any(patterns: &[&str], path: &[u8]) -> bool {
    patterns.iter().any(|pattern| matches_glob(pattern.as_bytes(), path))
}

/// The path of a file inside of a container's root, if a runtime keeps it there.
fn in_container_root(path: &[u8]) -> Option<&[u8]> {
    CONTAINER_ROOTS.iter().find_map(|(folder, root)| {
        let below = after(path, folder.as_bytes())?;
        let inside = after(below, root.as_bytes())?;
        // With its first slash.
        Some(&path[path.len() - inside.len() - 1..])
    })
}

/// What follows the first place of `part` in `path`.
fn after<'a>(path: &'a [u8], part: &[u8]) -> Option<&'a [u8]> {
    let at = path.windows(part.len()).position(|window| window == part)?;
    path.get(at + part.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../../docs/detectors/file_content.md");

    /// The lines of the page's block of code below a heading.
    fn block(heading: &str) -> Vec<&'static str> {
        let (_, below) = PAGE.split_once(heading).expect(heading);
        let (_, code) = below.split_once("```text\n").expect(heading);
        let (code, _) = code.split_once("```").expect(heading);
        code.split_whitespace().collect()
    }

    #[test]
    fn the_page_shows_the_same_lists() {
        for (heading, list) in [
            ("\n### Always", IMPORTANT),
            ("\n## One act", ACCESS),
            ("\n### If they may be executed", IMPORTANT_IF_RUN),
            ("\nor scripts:\n", RUN_BY_NAME),
            ("\n### Never", UNIMPORTANT),
            ("\n### Histories of shells", HISTORIES),
            ("\nprocess id:\n", ACCOUNTS),
        ] {
            assert_eq!(block(heading), list, "{heading}");
        }
        let roots: Vec<String> = CONTAINER_ROOTS
            .iter()
            .map(|(folder, root)| format!("*{folder}*{}", root.trim_end_matches('/')))
            .collect();
        assert_eq!(block("\n### Roots of containers"), roots);
    }

    /// Otherwise, each lock of `useradd` would raise an alert.
    #[test]
    fn locks_and_edited_copies_of_accounts_do_not_matter() {
        for (path, matters) in [
            ("/etc/passwd.2477", false),
            ("/etc/gshadow.lock", false),
            ("/etc/shadow.edit", false),
            ("/etc/sudoers.tmp", false),
            ("/etc/sudoers.d/ann.tmp", false),
            ("/etc/.#motd", false),
            ("/etc/systemd/system/.#ssh.service", false),
            ("/etc/#motd#", false),
            ("/etc/ssh/#sshd_config#", false),
            ("/etc/fstab~", false),
            ("/etc/ssh/sshd_config.~3~", false),
            ("/etc/ssh/.sshd_config.swo", false),
            ("/etc/.git/index.lock", false),
            ("/etc/.git/objects/4f/tmp_obj_Ab12cd", false),
            ("/etc/.git/FETCH_HEAD", false),
            ("/etc/.git/refs/heads/master.lock", false),
            ("/var/lib/docker/overlay2/4f1c/diff/etc/subuid.7", false),
            ("/etc/passwd", true),
            ("/etc/passwd+", true),
            ("/etc/.git/config", true),
            ("/etc/.git/hooks/post-commit", true),
            ("/usr/bin/tail~", true),
            ("/etc/motd#", true),
            ("/etc/fstab.bak", true),
            ("/etc/init.d/a.swpd", true),
            ("/etc/passwd.", true),
            ("/etc/passwd.2477x", true),
            ("/etc/passwd.lock.conf", true),
            ("/etc/sudoers.2477", true),
            ("/etc/sudoers.d/ann", true),
            ("/etc/profile.d/a.#b.sh", true),
            ("/usr/lib/.#libc.so", true),
        ] {
            assert_eq!(is_important(path.as_bytes(), false), matters, "{path}");
        }
    }

    #[test]
    fn what_decides_who_may_enter_has_rules_of_its_own() {
        let rule = |path: &str| rule_of(path.as_bytes());
        let [libraries, keys, pam, other] =
            ["/etc/ld.so.conf.d/a.conf", "/etc/ssh/sshd_config", "/etc/pam.d/sshd", "/etc/motd"]
                .map(rule);
        assert!([libraries, keys, pam, other].iter().all(Option::is_some));
        assert!(libraries != keys && keys != pam && pam != other && libraries != other);
        // One file is no act. What a container's root on the host has is another one.
        assert_eq!(["/etc/ld.so.preload", "/etc/shadow"].map(rule), [None; 2]);
        let numbers = ["/etc/ld.so.preload", "/etc/shadow", "/etc/motd", "/srv/x"]
            .map(|path| pattern_number(path.as_bytes()));
        assert!((1..4).all(|at| !numbers[..at].contains(&numbers[at])), "{numbers:?}");
        let inside = rule("/var/lib/docker/overlay2/4f1c/diff/etc/pam.d/sshd");
        assert!(inside.is_some() && inside != pam);
        assert_eq!(rule("/etc/pam.d/login"), pam);
        assert_eq!(rule("/etc/apt/sources.list"), other);
        assert_ne!(rule("/usr/bin/tail"), other);
        assert_ne!(rule("/root/.ssh/authorized_keys"), rule("/root/.ssh/config"));
        assert_eq!(rule("/srv/app/x.php"), None);
        for pattern in ACCESS {
            let path = pattern.replace('*', "x");
            assert!(is_important(path.as_bytes(), false), "{pattern}");
        }
    }

    #[test]
    fn paths_below_the_roots_of_containers_are_those_of_the_containers() {
        for (path, inside) in [
            ("/var/lib/docker/overlay2/4f1c/diff/etc/passwd", Some("/etc/passwd")),
            ("/var/lib/docker/overlay2/4f1c/merged/etc/passwd", Some("/etc/passwd")),
            ("/home/ann/.local/share/containers/storage/overlay/9e/diff/bin/sh", Some("/bin/sh")),
            (
                "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/7/fs/bin/sh",
                Some("/bin/sh"),
            ),
            (
                "/run/containerd/io.containerd.runtime.v2.task/k8s.io/4f1c/rootfs/bin/sh",
                Some("/bin/sh"),
            ),
            ("/var/lib/docker/overlay2/4f1c/link", None),
            ("/var/lib/docker/overlay2/diff", None),
            ("/etc/passwd", None),
            ("", None),
        ] {
            assert_eq!(in_container_root(path.as_bytes()), inside.map(str::as_bytes), "{path}");
        }
    }
}
