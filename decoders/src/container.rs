//! Finds containers by the names of control groups.
//!
//! The kernel has no notion of containers, but runtimes name the control groups that they create.
//! The container of a process follows from the path of its control group: the innermost group that
//! names a container decides, and the groups above it name the enclosing containers. [`said`]
//! classifies one name, [`container_of`] reads a whole path.
//!
//! | runtime | control group |
//! |---|---|
//! | Docker | `docker/ID`, `docker-ID.scope`, `…:docker:ID` |
//! | BuildKit (IDs of 25 characters) | `docker/buildkit/ID`, `buildkit/ID`, `docker-ID.scope` |
//! | containerd, in Kubernetes | `kubepods/…/podUID/ID`, `cri-containerd-ID.scope` |
//! | | `…slice:cri-containerd:ID` |
//! | containerd, its own tools | `default/NAME`, `default/ID`, `k8s.io/ID`, `nerdctl-ID.scope` |
//! | CRI-O | `crio-ID`, `crio-ID.scope` |
//! | CRI-O's monitor (outside) | `crio-conmon-ID.scope` |
//! | Podman | `libpod-ID`, `libpod-ID.scope`, `libpod-payload-ID` |
//! | Podman's monitor (outside) | `libpod-conmon-ID.scope` |
//! | crun, runc, youki, with systemd | `crun-NAME.scope` |
//! | crun, runc, youki, without it | `NAME`, at the top or in a slice |
//! | LXC, LXD, Incus | `lxc/NAME`, `lxc.payload/NAME`, `lxc.payload.NAME` |
//! | LXC's monitor (outside) | `lxc.monitor…` |
//! | systemd-nspawn | `machine-NAME.scope`, `systemd-nspawn@NAME.service` |
//! | nspawn itself (outside) | `supervisor`, below these |
//! | libvirt's LXC | `machine-lxc-NUMBER-NAME.scope`; virtual machines have `machine-qemu-…` |
//!
//! A `NAME` alone proves little: anybody can create such a group. It counts as a container only if
//! the process has its own namespaces ([`Maker::Unknown`]); the caller checks that.
//!
//! Control groups of pods: `kubepods[-QOS]-podUID.slice` with `_` for each `-`,
//! `kubepods/QOS/podUID` ([`pod_uid`]).

/// Digits of the identifiers of most runtimes: 32 random bytes in hexadecimal.
const ID_DIGITS: usize = 64;

/// Characters of BuildKit's identifiers: 128 random bits in base 36.
const BUILD_ID_DIGITS: usize = 25;

/// Longest name of a container that is kept, in bytes: the limit of file names.
pub const CONTAINER_BYTES_MAX: usize = 255;

/// Longest UID of a pod that is kept, in bytes: a UUID has 36.
pub const POD_UID_BYTES_MAX: usize = 64;

/// The software that created a container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Runtime {
    /// BuildKit, for one step of a build.
    BuildKit,
    /// containerd, for Kubernetes or with its own tools.
    Containerd,
    CriO,
    /// crun, called directly.
    Crun,
    Docker,
    /// libvirt's LXC driver.
    LibvirtLxc,
    /// LXC, and what builds on it: LXD, Incus, Proxmox.
    Lxc,
    Podman,
    /// runc, called directly.
    Runc,
    /// systemd-nspawn, or another program that registers with systemd-machined.
    SystemdNspawn,
    /// youki, called directly.
    Youki,
}

impl Runtime {
    /// The name that records use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BuildKit => "buildkit",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Crun => "crun",
            Self::Docker => "docker",
            Self::LibvirtLxc => "libvirt-lxc",
            Self::Lxc => "lxc",
            Self::Podman => "podman",
            Self::Runc => "runc",
            Self::SystemdNspawn => "systemd-nspawn",
            Self::Youki => "youki",
        }
    }
}

/// What the name of one control group means for the processes in it and below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CgroupMeaning<'a> {
    /// No information: check the group above.
    Nothing,
    /// The processes are outside the named container: they are part of the runtime.
    Outside,
    /// The processes are in the container with this identifier.
    Id(&'a [u8], Option<Runtime>),
    /// The processes are in the container with this name, in which some bytes may be escaped as
    /// `\x2d` ([`unescape`]).
    Name(&'a [u8], Runtime),
}

/// Classifies the name of a control group; `above` is the name of the group above, empty at the
/// top.
pub fn said<'a>(name: &'a [u8], above: &[u8]) -> CgroupMeaning<'a> {
    // Slices hold groups, never processes. The slice of a Podman pod has an identifier in its name,
    // too.
    if name.ends_with(b".slice") {
        return CgroupMeaning::Nothing;
    }
    if let Some((prefix, id)) = identifier(name) {
        return identified(prefix, id, name, above);
    }
    if name.starts_with(b"lxc.monitor") || above == b"lxc.monitor" {
        return CgroupMeaning::Outside;
    }
    if name == b"supervisor" && nspawn(above).is_some() {
        return CgroupMeaning::Outside;
    }
    if let Some(id) = build_id(name, above) {
        return CgroupMeaning::Id(id, Some(Runtime::BuildKit));
    }
    if let Some(payload) = name.strip_prefix(b"lxc.payload.") {
        return named(payload, Runtime::Lxc);
    }
    if above == b"lxc" || above == b"lxc.payload" {
        return named(name, Runtime::Lxc);
    }
    if let Some(unit) = name.strip_suffix(b".scope") {
        for (prefix, runtime) in
            [(&b"crun-"[..], Runtime::Crun), (b"runc-", Runtime::Runc), (b"youki-", Runtime::Youki)]
        {
            if let Some(own) = unit.strip_prefix(prefix) {
                return named(own, runtime);
            }
        }
    }
    nspawn(name).map_or(CgroupMeaning::Nothing, |(name, runtime)| named(name, runtime))
}

/// Classifies a name that has an identifier in it, after `prefix`.
fn identified<'a>(prefix: &[u8], id: &'a [u8], name: &[u8], above: &[u8]) -> CgroupMeaning<'a> {
    if contains(prefix, b"conmon-") {
        return CgroupMeaning::Outside;
    }
    // A Podman pod's group, without systemd.
    if contains(prefix, b"libpod_pod_") || (above == b"libpod_parent" && id == name) {
        return CgroupMeaning::Nothing;
    }
    let made_by = |words: &[&[u8]]| words.iter().any(|word| prefix.ends_with(word));
    let runtime = if made_by(&[b"cri-containerd-", b":cri-containerd:", b"nerdctl-", b":nerdctl:"])
    {
        Some(Runtime::Containerd)
    } else if made_by(&[b"docker-", b":docker:"]) {
        Some(Runtime::Docker)
    } else if made_by(&[b"crio-", b":crio:"]) {
        Some(Runtime::CriO)
    } else if made_by(&[b"libpod-", b"libpod-payload-", b":libpod:"]) {
        Some(Runtime::Podman)
    } else if made_by(&[b"crun-"]) {
        Some(Runtime::Crun)
    } else if made_by(&[b"runc-", b":runc:"]) {
        Some(Runtime::Runc)
    } else if made_by(&[b"lxc.payload."]) {
        Some(Runtime::Lxc)
    } else if prefix.is_empty() {
        match above {
            b"docker" => Some(Runtime::Docker),
            b"default" | b"k8s.io" => Some(Runtime::Containerd),
            b"libpod_parent" => Some(Runtime::Podman),
            b"lxc" | b"lxc.payload" => Some(Runtime::Lxc),
            _ => None,
        }
    } else {
        None
    };
    CgroupMeaning::Id(id, runtime)
}

fn named(name: &[u8], runtime: Runtime) -> CgroupMeaning<'_> {
    if name.is_empty() { CgroupMeaning::Nothing } else { CgroupMeaning::Name(name, runtime) }
}

/// The container's name in a unit of systemd-machined or in an instance of nspawn's template unit.
fn nspawn(name: &[u8]) -> Option<(&[u8], Runtime)> {
    let unit = name
        .strip_prefix(b"machine-")
        .and_then(|name| name.strip_suffix(b".scope"))
        .or_else(|| name.strip_prefix(b"systemd-nspawn@")?.strip_suffix(b".service"))?;
    // libvirt names its machines by kind, number and name, with `-` written as `\x2d`.
    if unit.starts_with(b"qemu\\x2d") {
        return None;
    }
    let Some(lxc) = unit.strip_prefix(b"lxc\\x2d") else {
        return Some((unit, Runtime::SystemdNspawn));
    };
    let digits = lxc.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match lxc.get(digits..).and_then(|rest| rest.strip_prefix(b"\\x2d")) {
        Some(own) if digits > 0 => Some((own, Runtime::LibvirtLxc)),
        _ => Some((unit, Runtime::SystemdNspawn)),
    }
}

/// The identifier of a step of a BuildKit build.
fn build_id<'a>(name: &'a [u8], above: &[u8]) -> Option<&'a [u8]> {
    let id = if above == b"buildkit" {
        name
    } else if let Some(unit) = name.strip_prefix(b"docker-") {
        unit.strip_suffix(b".scope")?
    } else {
        let mut parts = name.rsplitn(2, |&byte| byte == b':');
        let id = parts.next()?;
        if !parts.next()?.ends_with(b":docker") {
            return None;
        }
        id
    };
    let is_digit = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    (id.len() == BUILD_ID_DIGITS && id.iter().all(is_digit)).then_some(id)
}

/// The first run of exactly [`ID_DIGITS`] hexadecimal digits, and the text before it: (prefix,
/// identifier).
fn identifier(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut start = 0;
    while start < name.len() {
        let digits = name[start..].iter().take_while(|byte| is_hex_digit(**byte)).count();
        if digits == ID_DIGITS {
            return Some((&name[..start], &name[start..start + digits]));
        }
        start += digits + 1;
    }
    None
}

const fn is_hex_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Maker of a container's control group.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Maker {
    /// A runtime with root's rights.
    #[default]
    Runtime,
    /// An unprivileged user, perhaps without a runtime, who could choose any name.
    User,
    /// A bare name is the only evidence: processes without their own namespaces are in no
    /// container.
    Unknown,
}

/// A container that a path of control groups names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CgroupContainer<'a> {
    /// Index of its control group in the path.
    pub at: usize,
    /// Its identifier or name; a name may have escapes ([`unescape`]).
    pub id: &'a [u8],
    /// Whether `id` is a name that a user chose.
    pub is_name: bool,
    /// What created it, if known.
    pub runtime: Option<Runtime>,
    pub maker: Maker,
}

/// The innermost container that the path of a control group names. `path` has the names from the
/// top down, without the root's. The part of the path above [`CgroupContainer::at`] names the
/// enclosing container.
pub fn container_of<'a>(path: &[&'a [u8]]) -> Option<CgroupContainer<'a>> {
    let found = innermost(path)?;
    let is_users = path.iter().take(found.at).any(|name| is_user_manager(name));
    Some(CgroupContainer { maker: if is_users { Maker::User } else { found.maker }, ..found })
}

/// Whether systemd delegates this group to an unprivileged user: `user@UID.service`, where that
/// user's own systemd makes units of any name (`user@.service` of systemd has `Delegate=`).
fn is_user_manager(name: &[u8]) -> bool {
    let uid = name.strip_prefix(b"user@").and_then(|name| name.strip_suffix(b".service"));
    uid.is_some_and(|uid| uid != b"0")
}

fn innermost<'a>(path: &[&'a [u8]]) -> Option<CgroupContainer<'a>> {
    let mut is_outside = false;
    let mut at = path.len();
    while let Some(here) = at.checked_sub(1) {
        let above = here.checked_sub(1).map_or(&[][..], |above| path[above]);
        let found = CgroupContainer {
            at: here,
            id: &[],
            is_name: false,
            runtime: None,
            maker: Maker::Runtime,
        };
        match said(path[here], above) {
            CgroupMeaning::Nothing => at = here,
            CgroupMeaning::Outside => {
                is_outside = true;
                // nspawn itself: outside the container that the group above names.
                at = if path[here] == b"supervisor" { here.saturating_sub(1) } else { here };
            }
            CgroupMeaning::Id(id, runtime) => {
                return Some(CgroupContainer { id, runtime, ..found });
            }
            CgroupMeaning::Name(id, runtime) => {
                return Some(CgroupContainer {
                    id,
                    is_name: true,
                    runtime: Some(runtime),
                    ..found
                });
            }
        }
    }
    if is_outside { None } else { plain(path) }
}

/// The control group that crun and runc create when their configuration names none
/// (`make_cgroup_path` of crun, `defaultDirPath` of runc): one with the container's name, at the
/// top or beside the caller's session. containerd's `ctr` puts a directory with the name of its
/// namespace above.
fn plain<'a>(path: &[&'a [u8]]) -> Option<CgroupContainer<'a>> {
    let mut at = path.iter().position(|name| !name.ends_with(b".slice"))?;
    let mut runtime = None;
    if at == 0 && matches!(path[0], b"default" | b"k8s.io") {
        (at, runtime) = (1, Some(Runtime::Containerd));
    }
    let id = *path.get(at)?;
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(byte);
    let is_session = id.strip_prefix(b"c").unwrap_or(id).iter().all(u8::is_ascii_digit);
    let is_unit = UNITS.iter().any(|suffix| id.ends_with(suffix));
    let is_known = OTHERS.contains(&id) || id.starts_with(b"openrc.");
    if id.is_empty() || !id.iter().all(is_allowed) || is_session || is_unit || is_known {
        return None;
    }
    Some(CgroupContainer { at, id, is_name: true, runtime, maker: Maker::Unknown })
}

/// Suffixes of systemd's units (`unit_type_table` of systemd).
const UNITS: [&[u8]; 11] = [
    b".service",
    b".scope",
    b".slice",
    b".mount",
    b".socket",
    b".swap",
    b".device",
    b".automount",
    b".path",
    b".timer",
    b".target",
];

/// Groups at the top that hold containers or the system itself.
const OTHERS: [&[u8]; 18] = [
    b"docker",
    b"buildkit",
    b"default",
    b"ecs",
    b"elogind",
    b"garden",
    b"init",
    b"k8s.io",
    b"kubelet",
    b"kubepods",
    b"libpod_parent",
    b"lxc",
    b"lxc.payload",
    b"lxc.pivot",
    b"machine",
    b"podruntime",
    b"system",
    b"user",
];

/// Writes the UID of the Kubernetes pod that a path is in to `out` and returns its length, 0 if the
/// path is in no pod.
pub fn pod_uid(path: &[&[u8]], out: &mut [u8; POD_UID_BYTES_MAX]) -> usize {
    for (at, name) in path.iter().enumerate().rev() {
        // `…slice:cri-containerd:ID` contains the slice of its pod.
        let name = name.split(|&byte| byte == b':').next().unwrap_or(name);
        let is_in_pods = || path[..at].iter().any(|above| contains(above, b"kubepods"));
        let uid = match name.strip_suffix(b".slice") {
            Some(unit) => contains(unit, b"kubepods").then(|| after(unit, b"-pod")).flatten(),
            None => name.strip_prefix(b"pod").filter(|_| is_in_pods()),
        };
        let Some(uid) = uid.filter(|uid| is_uid(uid)) else { continue };
        let length = uid.len().min(out.len());
        for (to, &from) in out.iter_mut().zip(uid) {
            *to = if from == b'_' { b'-' } else { from };
        }
        return length;
    }
    0
}

/// The text after the last `mark`.
fn after<'a>(text: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(mark.len()).rposition(|window| window == mark)?;
    text.get(at + mark.len()..)
}

/// Whether `text` can be the UID of a pod: a UUID, or the hash of a static pod's manifest.
fn is_uid(text: &[u8]) -> bool {
    (8..=POD_UID_BYTES_MAX).contains(&text.len())
        && text.iter().all(|&byte| is_hex_digit(byte) || matches!(byte, b'-' | b'_'))
}

/// Writes `name` to `out` with systemd's escapes (`\x2d`) undone, cut where `out` ends, and returns
/// the length.
pub fn unescape(name: &[u8], out: &mut [u8; CONTAINER_BYTES_MAX]) -> usize {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let (mut at, mut length) = (0, 0);
    while let (Some(&byte), Some(place)) = (name.get(at), out.get_mut(length)) {
        let escaped = match name.get(at..at + 4) {
            Some(&[b'\\', b'x', high, low]) => digit(high).zip(digit(low)),
            _ => None,
        };
        (*place, at) = match escaped {
            Some((high, low)) => (high << 4 | low, at + 4),
            None => (byte, at + 1),
        };
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests;
