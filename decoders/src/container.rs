//! What the names of control groups say of containers.
//!
//! The kernel knows no containers. Runtimes leave their names in the control groups that they make, so a
//! process's container is read off the way from its control group up to the root: the innermost group that
//! says something decides. [`said`] has what is known of runtimes, one name at a time.
//!
//! | runtime | control group |
//! |---|---|
//! | Docker | `docker/ID`, `docker-ID.scope` |
//! | containerd, under Kubernetes | `kubepods/…/podUID/ID`, `cri-containerd-ID.scope`, `…slice:cri-containerd:ID` |
//! | CRI-O | `crio-ID`, `crio-ID.scope`; its monitor, outside, in `crio-conmon-ID.scope` |
//! | Podman | `libpod-ID`, `libpod-ID.scope`; its monitor, outside, in `libpod-conmon-ID.scope` |
//! | LXC, LXD, Incus | `lxc/NAME`, `lxc.payload/NAME`, `lxc.payload.NAME`; its monitor, outside, in `lxc.monitor…` |
//! | systemd-nspawn | `machine-NAME.scope`, `systemd-nspawn@NAME.service`; itself, outside, in `supervisor` below |
//! | libvirt's LXC | `machine-lxc-NUMBER-NAME.scope`; a virtual machine is in `machine-qemu-…` |

/// Digits of an identifier that most runtimes give: 32 random bytes in hexadecimal.
pub const ID_DIGITS: usize = 64;

/// Longest name of a container that is kept, in bytes: as long as any file name.
pub const CONTAINER_BYTES_MAX: usize = 255;

/// What the name of one control group says of the processes in it and below.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said<'a> {
    /// Nothing: ask the group above.
    Nothing,
    /// They are outside: part of the runtime, though named after a container.
    Outside,
    /// They are in the container of this identifier.
    Id(&'a [u8]),
    /// They are in the container of this name, of which some bytes may be written as `\x2d`
    /// ([`unescape`] undoes that).
    Name(&'a [u8]),
}

/// What a control group's name says, given that of the group above (empty at the top).
pub fn said<'a>(name: &'a [u8], above: &[u8]) -> Said<'a> {
    if let Some(id) = identifier(name) {
        let is_monitor = contains(name, b"conmon-");
        return if is_monitor { Said::Outside } else { Said::Id(id) };
    }
    if name.starts_with(b"lxc.monitor") || above == b"lxc.monitor" {
        return Said::Outside;
    }
    if name == b"supervisor" && nspawn(above).is_some() {
        return Said::Outside;
    }
    if let Some(payload) = name.strip_prefix(b"lxc.payload.") {
        return named(payload);
    }
    if above == b"lxc" || above == b"lxc.payload" {
        return named(name);
    }
    nspawn(name).map_or(Said::Nothing, named)
}

fn named(name: &[u8]) -> Said<'_> {
    if name.is_empty() { Said::Nothing } else { Said::Name(name) }
}

/// The name of what systemd's machined or nspawn's template unit keeps here.
fn nspawn(name: &[u8]) -> Option<&[u8]> {
    let unit = name
        .strip_prefix(b"machine-")
        .and_then(|name| name.strip_suffix(b".scope"))
        .or_else(|| name.strip_prefix(b"systemd-nspawn@")?.strip_suffix(b".service"))?;
    // libvirt calls its own machines by kind, number and name; `-` is written as `\x2d`.
    if unit.starts_with(b"qemu\\x2d") {
        return None;
    }
    let Some(lxc) = unit.strip_prefix(b"lxc\\x2d") else { return Some(unit) };
    let digits = lxc.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match lxc.get(digits..).and_then(|rest| rest.strip_prefix(b"\\x2d")) {
        Some(own) if digits > 0 => Some(own),
        _ => Some(unit),
    }
}

/// The first run of hexadecimal digits that is exactly as long as an identifier.
fn identifier(name: &[u8]) -> Option<&[u8]> {
    name.split(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')).find(|run| run.len() == ID_DIGITS)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Writes `name` with systemd's escapes (`\x2d`) undone, as much as fits, and gives the length.
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
mod tests {
    use std::borrow::ToOwned;
    use std::format;

    use super::*;

    const ID: &str = "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";

    #[test]
    fn runtimes_with_identifiers_are_understood() {
        let pod = "kubepods-besteffort-pod6aa3c8f5_ab1c_4e0a_9c59_2b3f8e3b6a10.slice";
        for name in [
            ID.to_owned(),
            format!("docker-{ID}.scope"),
            format!("cri-containerd-{ID}.scope"),
            format!("{pod}:cri-containerd:{ID}"),
            format!("crio-{ID}.scope"),
            format!("libpod-{ID}.scope"),
            format!("libpod-payload-{ID}"),
            format!("nerdctl-{ID}.scope"),
        ] {
            assert_eq!(said(name.as_bytes(), b"x.slice"), Said::Id(ID.as_bytes()), "{name}");
        }
        for name in [format!("libpod-conmon-{ID}.scope"), format!("crio-conmon-{ID}.scope")] {
            assert_eq!(said(name.as_bytes(), b"machine.slice"), Said::Outside, "{name}");
        }
        assert_eq!(said(format!("{ID}0").as_bytes(), b"docker"), Said::Nothing);
        assert_eq!(said(&ID.as_bytes()[1..], b"docker"), Said::Nothing);
        assert_eq!(said(pod.as_bytes(), b"kubepods.slice"), Said::Nothing);
    }

    #[test]
    fn runtimes_with_names_are_understood() {
        assert_eq!(said(b"lxc.payload.web-1", b""), Said::Name(b"web-1"));
        assert_eq!(said(b"101", b"lxc"), Said::Name(b"101"));
        assert_eq!(said(b"db", b"lxc.payload"), Said::Name(b"db"));
        assert_eq!(said(b"lxc.monitor.web-1", b""), Said::Outside);
        assert_eq!(said(b"db", b"lxc.monitor"), Said::Outside);
        assert_eq!(said(b"machine-deb.scope", b"machine.slice"), Said::Name(b"deb"));
        assert_eq!(said(b"systemd-nspawn@deb.service", b""), Said::Name(b"deb"));
        assert_eq!(said(b"supervisor", b"machine-deb.scope"), Said::Outside);
        assert_eq!(said(b"payload", b"machine-deb.scope"), Said::Nothing);
        assert_eq!(said(b"machine-lxc\\x2d4711\\x2dweb.scope", b""), Said::Name(b"web"));
        assert_eq!(said(b"machine-qemu\\x2d1\\x2ddebian.scope", b""), Said::Nothing);
        for name in [&b"supervisor"[..], b"ssh.service", b"user.slice", b"lxc", b"lxc.payload", b""]
        {
            assert_eq!(said(name, b"system.slice"), Said::Nothing);
        }
    }

    #[test]
    fn escapes_are_undone_within_the_room_there_is() {
        let mut out = [0; CONTAINER_BYTES_MAX];
        let length = unescape(b"my\\x2dbox\\x5f\\xzz\\x", &mut out);
        assert_eq!(&out[..length], b"my-box_\\xzz\\x");
        assert_eq!(unescape(&[b'a'; 300], &mut out), CONTAINER_BYTES_MAX);
    }
}
