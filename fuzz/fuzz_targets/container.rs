//! Names of control groups: the containers in them, and systemd's escapes.
//!
//! Bytes above 0x7f stand for words of runtimes, whose long identifiers chance would not find.
#![cfg_attr(fuzzing, no_main)]

use panoptes_decoders::container::{
    CONTAINER_BYTES_MAX, POD_UID_BYTES_MAX, container_of, pod_uid, unescape,
};
use panoptes_fuzz::fuzz_target;

const PARTS: [&str; 24] = [
    "4f1c0de5a7b3e9d2c8f60a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc",
    "docker-",
    "conmon-",
    ".scope",
    "lxc",
    "lxc.monitor",
    "lxc.payload",
    "lxc.payload.",
    "machine-",
    "systemd-nspawn@",
    ".service",
    "supervisor",
    "qemu\\x2d",
    "lxc\\x2d",
    "\\x2d",
    "/",
    "kubepods",
    "-pod6aa3c8f5_ab1c_4e0a_9c59_2b3f8e3b6a10",
    ".slice",
    ":cri-containerd:",
    "crun-",
    "default/",
    "buildkit/",
    "ki3q3lc4tpw0oqxz0eyxxkw2m",
];

fuzz_target!(|data: &[u8]| {
    let mut text = Vec::new();
    for &byte in data {
        match byte.checked_sub(0x80) {
            Some(part) => text.extend(PARTS[usize::from(part) % PARTS.len()].bytes()),
            None => text.push(byte),
        }
    }
    let path: Vec<&[u8]> = text.split(|&byte| byte == b'/').collect();
    let mut rest = &path[..];
    while let Some(found) = container_of(rest) {
        let mut out = [0; CONTAINER_BYTES_MAX];
        let length = unescape(found.id, &mut out);
        assert!(0 < length && length <= found.id.len().min(CONTAINER_BYTES_MAX));
        assert!(found.at < rest.len());
        rest = &rest[..found.at];
    }
    assert!(pod_uid(&path, &mut [0; POD_UID_BYTES_MAX]) <= POD_UID_BYTES_MAX);
});
