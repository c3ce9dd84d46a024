//! A mount namespace whose `/etc` and `/dev` have only what the table of needs has for tests.
//!
//! Places for mounts are in a folder; each program that starts makes the mounts in a namespace of
//! its own, so nothing is left behind, and the machine's own files stay as they are.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::{env, fs, io};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use panoptes_needs::Kind;
use panoptes_needs::table::seen_by_tests;
use panoptes_rig::cache;

/// The folders below that of the machine: `/etc`, `/dev`, and the root where that is no mount.
const CONFIGURATION: &str = "etc";
const DEVICES: &str = "dev";
const WHOLE: &str = "root";

/// The users and groups of a new Debian (package base-passwd), and where they go.
const USERS: [(&str, &str); 2] = [
    ("/usr/share/base-passwd/passwd.master", "passwd"),
    ("/usr/share/base-passwd/group.master", "group"),
];
/// Users that packages of the table make: tcpdump becomes its own.
const OF_PACKAGES: [&str; 1] = ["tcpdump"];
/// A resolver that answers nothing at once: nobody listens there.
const RESOLVER: &str = "nameserver 127.0.0.1\n";
/// Devices that are made if they are missing, with their major and minor numbers (Linux,
/// Documentation/admin-guide/devices.txt).
const MADE: [(&str, (u64, u64)); 2] = [("net/tun", (10, 200)), ("fuse", (10, 229))];

/// Makes the places for mounts, and the files of a minimal machine.
pub(crate) fn prepare(folder: &Path) -> Result<(), String> {
    for name in [CONFIGURATION, DEVICES, WHOLE] {
        cache::create(&folder.join(name))?;
    }
    for (path, name) in rows(Kind::File, "/etc/") {
        let place = folder.join(CONFIGURATION).join(name);
        match made(name) {
            Some(text) => cache::write(&place, text.as_bytes())?,
            None => make_place(path, &place)?,
        }
    }
    Ok(())
}

/// The rows of files or devices below a folder: their paths, and the rest of these.
fn rows(kind: Kind, folder: &'static str) -> impl Iterator<Item = (&'static Path, &'static str)> {
    let rows = seen_by_tests().filter(move |need| need.kind == kind);
    rows.filter_map(move |need| Some((Path::new(need.name), need.name.strip_prefix(folder)?)))
}

/// The content of a file of a minimal machine, in place of this machine's; `None` if tests see this
/// machine's.
fn made(name: &str) -> Option<String> {
    match name {
        "hosts" => Some(hosts()),
        "resolv.conf" => Some(RESOLVER.to_owned()),
        "argus.conf" => Some(String::new()),
        name => {
            let (path, _) = USERS.iter().find(|(_, of)| *of == name)?;
            // Another system has users of its own.
            let text = fs::read_to_string(path).ok()?;
            // A new machine's passwords are elsewhere (passwd(5)).
            let mut text = text.replace(":*:", ":x:");
            let all = fs::read_to_string(Path::new("/etc").join(name)).ok()?;
            for line in all.lines() {
                let user = line.split(':').next().unwrap_or_default();
                if OF_PACKAGES.contains(&user) {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            Some(text)
        }
    }
}

/// `/etc/hosts` as Debian's installer writes it.
fn hosts() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    format!("127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost ip6-localhost ip6-loopback\n")
}

/// Makes an empty file or folder, or the same link, for what this machine has at a path.
fn make_place(path: &Path, place: &Path) -> Result<(), String> {
    let wrong = |error: io::Error| format!("{}: {error}", place.display());
    let Ok(facts) = fs::metadata(path) else { return Ok(()) };
    fs::create_dir_all(place.parent().unwrap_or(place)).map_err(wrong)?;
    if facts.is_dir() {
        fs::create_dir_all(place).map_err(wrong)
    } else {
        fs::write(place, "").map_err(wrong)
    }
}

/// Enters a namespace with only the table's files and devices.
pub(crate) fn enter(folder: &Path) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("no mount namespace: {e}"))?;
    let all = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    match mount(NONE, "/", NONE, all, NONE) {
        Ok(()) => {}
        // The root is a folder that chroot(2) made the root, and no mount.
        Err(Errno::EINVAL) => make_root_a_mount(&folder.join(WHOLE))?,
        Err(error) => return Err(format!("no private mounts: {error}")),
    }
    hide_configuration(&folder.join(CONFIGURATION))?;
    hide_devices(&folder.join(DEVICES))
}

const NONE: Option<&str> = None;

/// Mounts a tree at another place.
fn bind(from: &Path, to: &Path) -> Result<(), String> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .map_err(|e| format!("cannot mount {} at {}: {e}", from.display(), to.display()))
}

/// Makes a root that is a mount, and enters it: many programs change the root's propagation first.
fn make_root_a_mount(place: &Path) -> Result<(), String> {
    // A mount here may appear on the host: only a trial shows it.
    let wrong = |error: Errno| format!("{}: {error}", place.display());
    if place.to_string_lossy().contains(|c: char| c.is_whitespace() || c == '\\') {
        return Err(format!("lists of mounts have another form of the path {}", place.display()));
    }
    mount(Some("probe"), place, Some("tmpfs"), MsFlags::empty(), NONE).map_err(wrong)?;
    let parent = format!("/proc/{}/mountinfo", nix::unistd::getppid());
    let mounts = fs::read_to_string(&parent).map_err(|e| format!("{parent}: {e}"))?;
    let is_shared = mounts.contains(&format!(" {} ", place.display()));
    umount2(place, MntFlags::MNT_DETACH).map_err(wrong)?;
    if is_shared {
        return Err("the root is no mount, and what is mounted in it is shared".to_owned());
    }
    bind(Path::new("/"), place)?;
    mount(NONE, place, NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(wrong)?;
    let here = env::current_dir().map_err(|e| e.to_string())?;
    nix::unistd::chroot(place).map_err(wrong)?;
    env::set_current_dir(here).map_err(|e| e.to_string())
}

fn hide_configuration(folder: &Path) -> Result<(), String> {
    for (path, name) in rows(Kind::File, "/etc/") {
        let place = folder.join(name);
        if made(name).is_none() && place.exists() {
            bind(path, &place)?;
        }
    }
    bind(folder, Path::new("/etc"))
}

fn hide_devices(folder: &Path) -> Result<(), String> {
    let wrong = |error: Errno| format!("{}: {error}", folder.display());
    let options = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devices"), folder, Some("tmpfs"), options, Some("mode=755")).map_err(wrong)?;
    for (path, name) in rows(Kind::Device, "/dev/") {
        let place = folder.join(name);
        // The terminals' multiplexer, which is mounted below it, whatever it is on this machine.
        let terminals = (name == "ptmx").then(|| "pts/ptmx".into());
        if let Some(target) = terminals.or_else(|| fs::read_link(path).ok()) {
            symlink(&target, &place).map_err(|e| format!("{}: {e}", place.display()))?;
        } else if path.exists() {
            make_place(path, &place)?;
            bind(path, &place)?;
        } else if let Some((_, number)) = MADE.iter().find(|(made, _)| *made == name) {
            // Without the permission, or the driver, what needs it is skipped.
            let _ = make_device(&place, *number);
        }
    }
    mount(Some(folder), "/dev", NONE, MsFlags::MS_MOVE, NONE).map_err(wrong)
}

fn make_device(place: &Path, (major, minor): (u64, u64)) -> io::Result<()> {
    fs::create_dir_all(place.parent().unwrap_or(place))?;
    let mode = Mode::from_bits_truncate(0o600);
    Ok(mknod(place, SFlag::S_IFCHR, mode, makedev(major, minor))?)
}
