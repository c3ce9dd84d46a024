//! The package managers that are known: by where their programs are, never by what they call
//! themselves.
//!
//! Some are scripts of Python: `/usr/bin/python3 /usr/bin/dnf`. Arguments alone prove nothing. What
//! installs packages from inside Python has mapped librpm, which root alone could have put there.
//!
//! Not here are those whose work other programs do: apt, unattended-upgrades, aptitude and
//! PackageKit on Debian run dpkg, and zypper runs rpm or `zypp-rpm`. Nor is flatpak: nothing in
//! `/var/lib/flatpak` matters.

use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;

use super::START_NS;
use crate::path::{PathBuffer, own_name, write_path};
use crate::walk::{FileRow, MmRow, ProcessRow, Snapshot};

/// The times in which a package manager changes files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum InstallTimes {
    /// The whole time for which it runs: that is one installation.
    AllAlong,
    /// Times at which its processes were seen to have a file open for writing, and
    /// [`super::PAUSE_NS`] before and after. Root alone starts it. It waits for an answer before it
    /// installs anything.
    AroundWrites,
    /// The same for files that it installs: it is a service, and any user may make it write others.
    AroundInstallations,
}

/// An executable that is a package manager.
struct ManagerProgram {
    name: &'static [u8],
    folders: &'static [&'static [u8]],
    times: InstallTimes,
}

const fn of(
    name: &'static str,
    folders: &'static [&'static [u8]],
    times: InstallTimes,
) -> ManagerProgram {
    ManagerProgram { name: name.as_bytes(), folders, times }
}

/// Any one name in a path.
const STAR: u8 = b'*';
/// Where systems keep programs.
const BIN: &[&[u8]] = &[b"/bin/", b"/usr/bin/"];
const SBIN: &[&[u8]] = &[b"/bin/", b"/usr/bin/", b"/sbin/", b"/usr/sbin/"];
const PACKAGEKIT: &[&[u8]] =
    &[b"/usr/libexec/", b"/usr/lib/", b"/usr/lib/packagekit/", b"/usr/lib/PackageKit/"];
/// snapd begins as the distribution's program, and continues as the program of its snap. `*` is the
/// number of a snap. What root writes below it matters by no pattern, so only an image counts.
const SNAPD: &[&[u8]] = &[
    b"/usr/lib/snapd/",
    b"/usr/libexec/snapd/",
    b"/snap/snapd/*/usr/lib/snapd/",
    b"/snap/core/*/usr/lib/snapd/",
    b"/var/lib/snapd/snap/snapd/*/usr/lib/snapd/",
    b"/var/lib/snapd/snap/core/*/usr/lib/snapd/",
];
const PYTHON: &[&[u8]] = &[b"/bin/", b"/usr/bin/", b"/usr/libexec/"];

/// All that are programs of their own.
const PROGRAMS: &[ManagerProgram] = &[
    of("dpkg", BIN, InstallTimes::AllAlong),
    of("rpm", BIN, InstallTimes::AllAlong),
    of("zypp-rpm", &[b"/usr/lib/zypp/", b"/usr/libexec/zypp/"], InstallTimes::AllAlong),
    of("apk", SBIN, InstallTimes::AroundWrites),
    of("dnf5", BIN, InstallTimes::AroundWrites),
    of("dnf5daemon-server", SBIN, InstallTimes::AroundInstallations),
    of("microdnf", BIN, InstallTimes::AroundWrites),
    of("packagekitd", PACKAGEKIT, InstallTimes::AroundInstallations),
    of("pacman", BIN, InstallTimes::AroundWrites),
    of("snapd", SNAPD, InstallTimes::AroundInstallations),
    of("tdnf", BIN, InstallTimes::AroundWrites),
];
/// Scripts of Python that install packages by librpm.
const SCRIPTS: &[&[u8]] = &[
    b"dnf",
    b"dnf-2",
    b"dnf-3",
    b"dnf4",
    b"dnf-automatic",
    b"dnf-automatic-2",
    b"dnf-automatic-3",
    b"yum",
    b"yum-cron",
];
/// Options of Python in the first lines of scripts: none has a value, or replaces the script.
const OPTIONS: &[u8] = b"BEIOPRSbdqstuv";
/// The library by which packages are installed: the beginning of its file's name.
const LIBRPM: &[u8] = b"librpm.so.";
/// Executables that are package managers, too, if process 1 starts them in the first [`START_NS`].
const AT_START: &[&[u8]] = &[b"/sbin/ldconfig", b"/usr/bin/ldconfig", b"/usr/sbin/ldconfig"];

/// Whether a process of root, outside of containers, is a package manager: its executable, and when
/// it changes files. `start_boottime` is when it was created.
pub(super) fn find<'s>(
    snapshot: &'s Snapshot,
    row: &ProcessRow,
    start_boottime: u64,
    buffer: &mut PathBuffer,
) -> Option<(&'s FileRow, InstallTimes)> {
    let mm = snapshot.mms.at(row.mm)?;
    let file = snapshot.files.at(mm.exe_file)?;
    let name = own_name(snapshot, file.path)?;
    let is_at_start = row.parent_pid == 1 && start_boottime < START_NS;
    let program = PROGRAMS.iter().find(|program| program.name == name);
    if program.is_none() && !is_at_start && !is_python(name)
        || row.ids.is_none_or(|ids| (ids.uid, ids.euid) != (0, 0))
        || snapshot.container_of(row).is_some()
        || !snapshot.shares_first_mounts(row)
    {
        return None;
    }
    write_path(snapshot, file.path, buffer).ok()?;
    let folder = buffer.text().strip_suffix(name)?;
    let is_on_image = || snapshot.filesystem_of(file).is_some_and(|it| it.is_read_only_image());
    let is_in = |folders: &[&[u8]]| {
        let of = folders.iter().find(|of| is_folder(folder, of));
        of.is_some_and(|of| !of.contains(&STAR) || is_on_image())
    };
    if let Some(program) = program.filter(|program| is_in(program.folders)) {
        return Some((file, program.times));
    }
    if is_at_start && AT_START.contains(&buffer.text()) {
        return Some((file, InstallTimes::AllAlong));
    }
    let is_script = is_python(name)
        && is_in(PYTHON)
        && mm.has_command_line
        && runs_script(snapshot.text(mm.command_line))
        && maps_librpm(snapshot, mm, buffer);
    is_script.then_some((file, InstallTimes::AroundWrites))
}

/// Whether a folder is this one, in which `*` stands for one name.
fn is_folder(folder: &[u8], of: &[u8]) -> bool {
    let Some(star) = of.iter().position(|byte| *byte == STAR) else { return folder == of };
    let name = folder.strip_prefix(&of[..star]).and_then(|rest| rest.strip_suffix(&of[star + 1..]));
    name.is_some_and(|name| !name.is_empty() && !name.contains(&b'/'))
}

/// Whether an executable's name is that of Python: `python3.12`, `platform-python3.6`.
fn is_python(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"platform-").unwrap_or(name);
    let version = name.strip_prefix(b"python");
    version.is_some_and(|version| version.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.')))
}

/// Whether the arguments of a Python, each of which NUL ends, run a script that installs packages.
fn runs_script(arguments: &[u8]) -> bool {
    let mut arguments = arguments.split(|byte| *byte == 0).skip(1);
    let is_option = |argument: &&[u8]| {
        argument.strip_prefix(b"-").is_some_and(|letters| {
            !letters.is_empty() && letters.iter().all(|letter| OPTIONS.contains(letter))
        })
    };
    let script = arguments.find(|argument| !is_option(argument)).unwrap_or_default();
    let in_folder = SBIN.iter().find_map(|folder| script.strip_prefix(*folder));
    in_folder.is_some_and(|name| SCRIPTS.contains(&name))
}

/// Whether an address space has the code of a librpm that is the system's.
fn maps_librpm(snapshot: &Snapshot, mm: &MmRow, buffer: &mut PathBuffer) -> bool {
    let areas = snapshot.vmas.range(mm.vmas).iter();
    let mut files = areas
        .filter(|area| area.vma.flags & VM_EXEC != 0)
        .filter_map(|area| snapshot.files.at(area.file));
    files.any(|file| {
        own_name(snapshot, file.path).is_some_and(|name| name.starts_with(LIBRPM))
            && snapshot.is_put_by_root(file)
            && write_path(snapshot, file.path, buffer).is_ok()
            && [&b"/lib"[..], b"/usr/lib"].iter().any(|folder| buffer.text().starts_with(folder))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_script_that_python_runs_counts() {
        for line in [
            "/usr/bin/python3\0/usr/bin/dnf\0upgrade\0",
            "/usr/libexec/platform-python\0/usr/bin/dnf\0",
            "/usr/bin/python3\0-sP\0/bin/dnf-automatic\0--timer\0",
            "/usr/bin/python\0-tt\0/usr/sbin/yum-cron\0",
        ] {
            assert!(runs_script(line.as_bytes()), "{line:?}");
        }
        for line in [
            "/usr/bin/dnf\0upgrade\0",
            "dnf\0",
            "",
            "python3\0-c\0pass\0/usr/bin/dnf\0",
            "python3\0-m\0/usr/bin/dnf\0",
            "python3\0-\0/usr/bin/dnf\0",
            "python3\0-Xdev\0/usr/bin/dnf\0",
            "python3\0/tmp/dnf\0",
            "python3\0/tmp/x.py\0/usr/bin/dnf\0",
            "python3\0/usr/bin/../../tmp/dnf\0",
            "python3\0/usr/bin/dnf.py\0",
        ] {
            assert!(!runs_script(line.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn names_of_python_have_a_version_or_none() {
        assert!(
            ["python", "python3.12", "platform-python3.6"]
                .iter()
                .all(|it| is_python(it.as_bytes()))
        );
        assert!(
            !["pythonx", "ipython3", "python3-config", ""]
                .iter()
                .any(|it| is_python(it.as_bytes()))
        );
    }

    #[test]
    fn one_name_stands_for_a_snap() {
        let of = b"/snap/snapd/*/usr/lib/snapd/";
        assert!(is_folder(b"/snap/snapd/2137/usr/lib/snapd/", of));
        for other in [
            "/snap/snapd//usr/lib/snapd/",
            "/snap/snapd/1/x/usr/lib/snapd/",
            "/snap/snapd/usr/lib/snapd/",
        ] {
            assert!(!is_folder(other.as_bytes(), of), "{other}");
        }
    }
}
