//! Paths of control groups as runtimes make them, and as other programs do.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const ID: &str = "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";
const OTHER: &str = "00000000a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";
const BUILD: &str = "ki3q3lc4tpw0oqxz0eyxxkw2m";
const UID: &str = "6aa3c8f5-ab1c-4e0a-9c59-2b3f8e3b6a10";
const POD: &str = "kubepods-burstable-pod6aa3c8f5_ab1c_4e0a_9c59_2b3f8e3b6a10.slice";
const PODS: &str = "kubepods.slice/kubepods-burstable.slice";

/// The containers that a path names, innermost first, as `runtime id`, with `?` after a bare name.
fn containers(path: &str) -> Vec<String> {
    let names: Vec<&[u8]> = path.split('/').filter(|n| !n.is_empty()).map(str::as_bytes).collect();
    let mut rest = &names[..];
    let mut all = Vec::new();
    while let Some(found) = container_of(rest) {
        let mut out = [0; CONTAINER_BYTES_MAX];
        let id = if found.is_name {
            let length = unescape(found.id, &mut out);
            &out[..length]
        } else {
            found.id
        };
        let id = core::str::from_utf8(id).unwrap();
        let doubt = if found.maker == Maker::Unknown { "?" } else { "" };
        let runtime = found.runtime.map_or("-", Runtime::name);
        all.push(format!("{runtime} {id}{doubt}"));
        rest = &rest[..found.at];
    }
    all
}

fn uid(path: &str) -> String {
    let names: Vec<&[u8]> = path.split('/').filter(|n| !n.is_empty()).map(str::as_bytes).collect();
    let mut out = [0; POD_UID_BYTES_MAX];
    let length = pod_uid(&names, &mut out);
    core::str::from_utf8(&out[..length]).unwrap().to_string()
}

#[test]
fn paths_of_runtimes_name_their_containers() {
    let fill = |text: &str| {
        let text = text.replace("UUID", UID).replace("PODS", PODS).replace("POD", POD);
        text.replace("OTHER", OTHER).replace("BUILD", BUILD).replace("ID", ID)
    };
    for (path, expected) in [
        // Docker, with cgroupfs and with systemd, and nested control groups.
        ("/docker/ID", &["docker ID"][..]),
        ("/system.slice/docker-ID.scope", &["docker ID"]),
        ("/system.slice/docker-ID.scope/init.scope", &["docker ID"]),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
            &["docker ID"],
        ),
        ("/system.slice:docker:ID", &["docker ID"]),
        ("/docker/ID/docker/OTHER", &["docker OTHER", "docker ID"]),
        ("/system.slice/docker-ID.scope/docker/OTHER", &["docker OTHER", "docker ID"]),
        ("/ecs/0123456789abcdef0123456789abcdef/ID", &["- ID"]),
        // BuildKit.
        ("/docker/buildkit/BUILD", &["buildkit BUILD"]),
        ("/system.slice/docker-BUILD.scope", &["buildkit BUILD"]),
        ("/docker/ID/buildkit/BUILD", &["buildkit BUILD", "docker ID"]),
        ("/system.slice:docker:BUILD", &["buildkit BUILD"]),
        // Kubernetes.
        ("/kubepods/burstable/podUUID/ID", &["- ID"]),
        ("/kubepods/podUUID/crio-ID", &["cri-o ID"]),
        ("/PODS/POD/cri-containerd-ID.scope", &["containerd ID"]),
        ("/PODS/POD/crio-ID.scope", &["cri-o ID"]),
        ("/PODS/POD/crio-ID.scope/container", &["cri-o ID"]),
        ("/PODS/POD/docker-ID.scope", &["docker ID"]),
        ("/system.slice/containerd.service/POD:cri-containerd:ID", &["containerd ID"]),
        (
            "/docker/OTHER/kubelet.slice/kubelet-kubepods.slice/kubelet-POD/\
             cri-containerd-ID.scope",
            &["containerd ID", "docker OTHER"],
        ),
        ("/docker/OTHER/kubelet/kubepods/besteffort/podUUID/ID", &["- ID", "docker OTHER"]),
        // containerd by its own tools.
        ("/k8s.io/ID", &["containerd ID"]),
        ("/default/ID", &["containerd ID"]),
        ("/default/web-1", &["containerd web-1?"]),
        ("/system.slice/nerdctl-ID.scope", &["containerd ID"]),
        // Podman.
        ("/machine.slice/libpod-ID.scope", &["podman ID"]),
        ("/machine.slice/libpod-ID.scope/container", &["podman ID"]),
        ("/machine.slice/machine-libpod_pod_OTHER.slice/libpod-ID.scope", &["podman ID"]),
        ("/machine.slice/libpod-payload-ID", &["podman ID"]),
        ("/libpod_parent/libpod-ID", &["podman ID"]),
        ("/libpod_parent/OTHER/libpod-ID", &["podman ID"]),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            &["podman ID"],
        ),
        // OCI runtimes, called directly.
        ("/system.slice/crun-web.scope", &["crun web"]),
        ("/system.slice/crun-web.scope/container", &["crun web"]),
        ("/user.slice/user-0.slice/runc-a-b.scope", &["runc a-b"]),
        ("/web", &["- web?"]),
        ("/web/system.slice/cron.service", &["- web?"]),
        ("/user.slice/user-1000.slice/web", &["- web?"]),
        // LXC and what is built on it.
        ("/lxc/101/ns/init.scope", &["lxc 101"]),
        ("/lxc.payload.web-1/init.scope", &["lxc web-1"]),
        ("/lxc.payload/db", &["lxc db"]),
        ("/lxc.payload.a/lxc.payload.b", &["lxc b", "lxc a"]),
        // systemd-nspawn and libvirt.
        ("/machine.slice/machine-my\\x2dbox.scope/payload", &["systemd-nspawn my-box"]),
        ("/machine.slice/systemd-nspawn@deb.service/payload/init.scope", &["systemd-nspawn deb"]),
        ("/machine.slice/machine-lxc\\x2d4711\\x2dweb.scope", &["libvirt-lxc web"]),
        (
            "/machine.slice/machine-box.scope/payload/machine.slice/libpod-ID.scope",
            &["podman ID", "systemd-nspawn box"],
        ),
    ] {
        let expected: Vec<String> = expected.iter().map(|text| fill(text)).collect();
        assert_eq!(containers(&fill(path)), expected, "{path}");
    }
}

#[test]
fn paths_of_others_name_none() {
    let fill = |text: &str| text.replace("PODS", PODS).replace("POD", POD).replace("ID", ID);
    for path in [
        "/",
        "/init.scope",
        "/system.slice/ssh.service",
        "/system.slice/system-getty.slice/getty@tty1.service",
        "/system.slice/dev-hugepages.mount",
        "/user.slice/user-1000.slice/session-3.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/\
         app-org.mozilla.firefox-1234.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/snap.firefox.firefox-1.scope",
        "/system.slice/docker.service",
        "/system.slice/containerd.service",
        "/kubepods.slice/POD",
        "/docker",
        "/lxc",
        "/3",
        "/c1",
        "/openrc.sshd",
        "/elogind",
        "/kubepods",
        // Monitors, and virtual machines.
        "/machine.slice/libpod-conmon-ID.scope",
        "/PODS/POD/crio-conmon-ID.scope",
        "/lxc.monitor.web-1",
        "/lxc.monitor/db",
        "/machine.slice/machine-my\\x2dbox.scope/supervisor",
        "/machine.slice/machine-qemu\\x2d1\\x2ddebian.scope/libvirt/emulator",
        // Too many and too few digits.
        "/system.slice/ID0.service",
        "/system.slice/docker-4f1c0de5a7b3.scope",
    ] {
        assert_eq!(containers(&fill(path)), [""; 0], "{path}");
    }
    // The monitor of a nested container is in the outer container.
    let path = fill("/lxc.payload.web/machine.slice/libpod-conmon-ID.scope");
    assert_eq!(containers(&path), ["lxc web"]);
    let path = fill("/lxc.payload.web/machine.slice/machine-a.scope/supervisor");
    assert_eq!(containers(&path), ["lxc web"]);
}

#[test]
fn containers_below_a_users_systemd_are_that_users() {
    let is_users = |path: &str| {
        let names: Vec<&[u8]> = path.split('/').skip(1).map(str::as_bytes).collect();
        container_of(&names).map(|found| found.maker == Maker::User)
    };
    let id = "0123456789abcdef".repeat(4);
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    for (path, expected) in [
        (format!("{manager}/app.slice/docker-{id}.scope"), Some(true)),
        (format!("{manager}/user.slice/libpod-{id}.scope/container"), Some(true)),
        (format!("/system.slice/docker-{id}.scope{manager}/init.scope"), Some(false)),
        (format!("/user.slice/user-0.slice/user@0.service/docker-{id}.scope"), Some(false)),
        (format!("/system.slice/docker-{id}.scope"), Some(false)),
        (format!("{manager}/app.slice/x.scope"), None),
    ] {
        assert_eq!(is_users(&path), expected, "{path}");
    }
}

#[test]
fn pods_have_their_uid_in_the_path() {
    for path in [
        format!("/kubepods/burstable/pod{UID}/{ID}"),
        format!("/kubepods/pod{UID}/crio-{ID}"),
        format!("/{PODS}/{POD}/cri-containerd-{ID}.scope"),
        format!("/system.slice/containerd.service/{POD}:cri-containerd:{ID}"),
        format!("/docker/{OTHER}/kubelet.slice/kubelet-{POD}/cri-containerd-{ID}.scope/x"),
        format!("/docker/{OTHER}/kubelet/kubepods/besteffort/pod{UID}/{ID}"),
    ] {
        assert_eq!(uid(&path), UID, "{path}");
    }
    // A static pod's.
    let hash = "0123456789abcdef0123456789abcdef";
    assert_eq!(uid(&format!("/kubepods/pod{hash}/{ID}")), hash);
    for path in ["/podruntime/kubelet", "/poddeadbeef", "/system.slice/x-poddeadbeef.slice", "/"] {
        assert_eq!(uid(path), "", "{path}");
    }
}

#[test]
fn unescape_stops_where_the_buffer_ends() {
    let mut out = [0; CONTAINER_BYTES_MAX];
    let length = unescape(b"my\\x2dbox\\x5f\\xzz\\x", &mut out);
    assert_eq!(&out[..length], b"my-box_\\xzz\\x");
    assert_eq!(unescape(&[b'a'; 300], &mut out), CONTAINER_BYTES_MAX);
}

/// Concatenated pieces of names, with and without a meaning.
fn name() -> impl Strategy<Value = String> {
    let word = prop::sample::select(
        &[
            "docker",
            "-",
            ".scope",
            ".slice",
            ".service",
            ":",
            "cri-containerd",
            "crio-",
            "conmon-",
            "libpod",
            "_pod_",
            "lxc",
            ".payload",
            ".monitor",
            "kubepods",
            "pod",
            "machine-",
            "\\x2d",
            "supervisor",
            "systemd-nspawn@",
            "qemu",
            "4711",
            "crun-",
            "buildkit",
            "default",
            ID,
            BUILD,
            UID,
            "web",
            "",
            "\u{e9}",
        ][..],
    );
    prop::collection::vec(word, 0..5).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn what_is_found_is_in_the_path(path in prop::collection::vec(name(), 0..8)) {
        let names: Vec<&[u8]> = path.iter().map(String::as_bytes).collect();
        let mut rest = &names[..];
        while let Some(found) = container_of(rest) {
            prop_assert!(!found.id.is_empty());
            prop_assert!(contains(rest[found.at], found.id));
            // A container with the name of LXC's directory: a group below it counts as an LXC
            // container.
            if matches!(rest[found.at], b"lxc" | b"lxc.payload") {
                break;
            }
            // A group below belongs to the container unless its own name has a meaning.
            let below = [&rest[..=found.at], &[&b"payload"[..]][..]].concat();
            let again = container_of(&below).map(|found| (found.at, found.id));
            prop_assert_eq!(again, Some((found.at, found.id)));
            rest = &rest[..found.at];
        }
        let mut out = [0; POD_UID_BYTES_MAX];
        prop_assert!(pod_uid(&names, &mut out) <= out.len());
    }
}
