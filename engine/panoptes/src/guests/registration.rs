//! Which guests a service of this machine has registered, and under which names.
//!
//! A process chooses its arguments, but neither its control group nor what libvirt,
//! systemd-machined and Proxmox write below /run. So what is registered proves a name.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes: it has a number, or a few lines.
const FILE_BYTES_MAX: u64 = 1 << 16;
/// Largest number of machines that are read.
const MACHINES_MAX: usize = 4096;
/// Largest name of a machine in bytes (libvirt: src/util/virsystemd.c).
const MACHINE_NAME_BYTES: usize = 64;

/// A service that registers guests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GuestManager {
    Libvirt,
    Machined,
    Proxmox,
}

/// What a service calls a guest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registration {
    pub manager: GuestManager,
    /// Printable.
    pub name: String,
}

/// The registered guests, as of now.
#[derive(Debug, Default)]
pub(super) struct Registry {
    run: PathBuf,
    /// Virtual machines of systemd-machined, by their leaders.
    machines: BTreeMap<u32, String>,
    /// Whether libvirt has its folder here.
    has_libvirt: bool,
}

impl Registry {
    /// Reads what is registered below a folder, which is /run.
    pub(super) fn read(run: &Path) -> Self {
        let entries = std::fs::read_dir(run.join("systemd/machines")).ok();
        let machines = entries.into_iter().flatten().take(MACHINES_MAX).filter_map(|entry| {
            let path = entry.ok()?.path();
            // Links beside the files lead from units to them.
            machine(&read_of_root(&path)?)
        });
        Self {
            machines: machines.collect(),
            has_libvirt: run.join("libvirt/qemu").is_dir(),
            run: run.to_owned(),
        }
    }

    /// What a process is registered as. It claims `names`; `groups` is its /proc/PID/cgroup.
    pub(super) fn find(&self, pid: u32, names: &[&str], groups: &str) -> Option<Registration> {
        let of = |manager| move |name: &str| Registration { manager, name: name.to_owned() };
        if let Some(name) = names.iter().find(|name| self.is_domain(pid, name, groups)) {
            return Some(of(GuestManager::Libvirt)(name));
        }
        let number = unit_behind(groups, "/qemu.slice/");
        if let Some(number) = number.filter(|number| names.contains(number)) {
            return Some(of(GuestManager::Proxmox)(number));
        }
        self.machines.get(&pid).map(|name| of(GuestManager::Machined)(name))
    }

    /// Whether libvirt has a domain of this name in a process.
    fn is_domain(&self, pid: u32, name: &str, groups: &str) -> bool {
        if name.contains('/') || name.len() > 200 {
            return false;
        }
        if !self.has_libvirt {
            // Its folder is in another container.
            return is_group_of_domain(groups, name);
        }
        // src/qemu/qemu_process.c, `qemuProcessLaunch`.
        let file = self.run.join(format!("libvirt/qemu/{name}.pid"));
        read_of_root(&file).is_some_and(|text| text.trim() == pid.to_string())
    }
}

/// The leader and the name of a virtual machine, from a file of systemd-machined
/// (src/machine/machine.c, `machine_save`). Those of libvirt have a name of their own.
fn machine(text: &str) -> Option<(u32, String)> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.trim_matches('"'))
    };
    let is_other = value("CLASS=") == Some("vm") && value("SERVICE=") != Some("libvirt-qemu");
    let name = super::arguments::shown(value("NAME=")?)?;
    let leader = value("LEADER=")?.parse().ok()?;
    is_other.then_some((leader, name))
}

/// The paths of control groups that systemd manages (systemd's or the only hierarchy).
fn managed(groups: &str) -> impl Iterator<Item = &str> {
    groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then_some(path)
    })
}

/// The name of a scope directly in a slice of the system.
fn unit_behind<'a>(groups: &'a str, slice: &str) -> Option<&'a str> {
    managed(groups).find_map(|path| {
        let rest = path.strip_prefix(slice)?;
        rest.split('/').next()?.strip_suffix(".scope")
    })
}

/// Whether a process is in the control group that libvirt makes for a domain of this name: only
/// root can put it there. A name of which libvirt leaves characters out is not proven: domains with
/// other names may have the same group.
fn is_group_of_domain(groups: &str, name: &str) -> bool {
    let Some(scope) = unit_behind(groups, "/machine.slice/machine-") else { return false };
    let machine = scope.replace("\\x2d", "-");
    let Some(rest) = machine.strip_prefix("qemu-") else { return false };
    let Some((number, rest)) = rest.split_once('-') else { return false };
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && !rest.is_empty() && rest == name && machine == machine_name(number, name)
}

/// The name of a domain's machine (libvirt: src/util/virsystemd.c, `virSystemdMakeMachineName` and
/// src/hypervisor/domain_driver.c): letters, digits and single dots or dashes, cut.
fn machine_name(number: &str, name: &str) -> String {
    let mut machine = format!("qemu-{number}-");
    let mut has_mark = true;
    for character in name.chars() {
        if machine.len() >= MACHINE_NAME_BYTES {
            break;
        }
        let is_mark = matches!(character, '.' | '-');
        if is_mark && !has_mark || character.is_ascii_alphanumeric() {
            machine.push(character);
        }
        has_mark = is_mark;
    }
    machine.trim_end_matches(['.', '-']).to_owned()
}

/// The text of a small regular file that belongs to root. No link is followed.
fn read_of_root(path: &Path) -> Option<String> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let facts = file.metadata().ok()?;
    let is_good = facts.is_file() && facts.uid() == owner() && facts.mode() & 0o022 == 0;
    if !is_good {
        return None;
    }
    text_of(&file)
}

fn text_of(file: &File) -> Option<String> {
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The user whose files are trusted: tests have none of root's.
fn owner() -> u32 {
    if cfg!(test) { nix::unistd::geteuid().as_raw() } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// What libvirt 7 and 11 give the scope of a domain on hosts with systemd.
    fn group(name: &str) -> String {
        format!("0::/machine.slice/machine-qemu\\x2d3\\x2d{name}.scope/libvirt/emulator\n")
    }

    #[test]
    fn a_control_group_proves_the_name_of_a_domain() {
        let registry = Registry::default();
        let find = |name: &str, groups: &str| registry.find(7, &[name], groups);
        let libvirt = |name: &str| {
            Some(Registration { manager: GuestManager::Libvirt, name: name.to_owned() })
        };
        assert_eq!(find("web", &group("web")), libvirt("web"));
        assert_eq!(find("web-1", &group("web\\x2d1")), libvirt("web-1"));
        // Characters that no name of a machine may have are left out, so several names have one
        // group.
        assert_eq!(find("web_1", &group("web1")), None);
        assert_eq!(find(&"a".repeat(100), &group(&"a".repeat(57))), None);
        let old = "11:cpuset:/\n1:name=systemd:/machine.slice/machine-qemu\\x2d3\\x2dweb.scope\n";
        assert_eq!(find("web", old), libvirt("web"));
        // The group of another domain, one that a user made, and a folder in its own group.
        assert_eq!(find("web", &group("db")), None);
        let own = "0::/user.slice/user-1000.slice/machine.slice/machine-qemu\\x2d3\\x2dweb.scope\n";
        assert_eq!(find("web", own), None);
        assert_eq!(find("web", &format!("0::{own}")), None);
        assert_eq!(find("web", "12:pids:/machine.slice/machine-qemu\\x2d3\\x2dweb.scope\n"), None);
        assert_eq!(find("", &group("")), None);
    }

    #[test]
    fn long_names_are_cut_as_libvirt_cuts_them() {
        let name = "a".repeat(100);
        let cut = format!("qemu-3-{}", "a".repeat(57));
        assert_eq!(machine_name("3", &name), cut);
        assert_eq!(machine_name("3", "-a..b-"), "qemu-3-a.b");
    }

    #[test]
    fn files_of_libvirt_name_the_process_of_a_domain() {
        let folder = tempfile::tempdir().unwrap();
        let libvirt = folder.path().join("libvirt/qemu");
        fs::create_dir_all(&libvirt).unwrap();
        fs::write(libvirt.join("web.pid"), "7").unwrap();
        let registry = Registry::read(folder.path());
        let find = |pid, name: &str, groups: &str| registry.find(pid, &[name], groups);
        assert!(find(7, "web", "").is_some());
        // A process that claims the name, even in a group that would prove it.
        assert_eq!(find(9, "web", &group("web")), None);
        assert_eq!(find(7, "../qemu/web", ""), None);
        std::os::unix::fs::symlink(libvirt.join("web.pid"), libvirt.join("db.pid")).unwrap();
        assert_eq!(find(7, "db", ""), None);
    }

    #[test]
    fn machines_and_guests_of_proxmox_are_registered() {
        let folder = tempfile::tempdir().unwrap();
        let machines = folder.path().join("systemd/machines");
        fs::create_dir_all(&machines).unwrap();
        let text = |class: &str, service: &str| {
            format!("# private\nNAME=web-1\nCLASS={class}\nSERVICE={service}\nLEADER=7\n")
        };
        let check = |text: &str, expected| {
            fs::write(machines.join("web-1"), text).unwrap();
            assert_eq!(Registry::read(folder.path()).find(7, &[], ""), expected, "{text}");
        };
        let registration =
            Registration { manager: GuestManager::Machined, name: "web-1".to_owned() };
        check(&text("vm", "systemd-vmspawn"), Some(registration));
        check(&text("container", "systemd-nspawn"), None);
        check(&text("vm", "libvirt-qemu"), None);
        let groups = "0::/qemu.slice/101.scope\n";
        let proxmox = Registration { manager: GuestManager::Proxmox, name: "101".to_owned() };
        assert_eq!(Registry::default().find(9, &["web", "101"], groups), Some(proxmox));
        assert_eq!(Registry::default().find(9, &["web", "102"], groups), None);
    }

    proptest! {
        #[test]
        fn no_names_or_groups_make_looking_panic(
            name in ".{0,80}",
            groups in "[0-9:=/a-z.\\\\-]{0,80}",
        ) {
            let scope = format!("0::/machine.slice/machine-{groups}.scope");
            for groups in [&groups, &scope] {
                let _ = Registry::default().find(7, &[&name], groups);
            }
            let _ = machine(&groups);
        }
    }
}
