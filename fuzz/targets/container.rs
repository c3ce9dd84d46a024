//! Names of control groups: what they say of containers, and systemd's escapes.
//!
//! Bytes above 0x7f stand for what runtimes write, which chance would not find: identifiers are long.
#![no_main]

use libfuzzer_sys::fuzz_target;
use panoptes_decoders::container::{CONTAINER_BYTES_MAX, ID_DIGITS, Said, said, unescape};

const PARTS: [&str; 16] = [
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
];

fuzz_target!(|data: &[u8]| {
    let mut text = Vec::new();
    for &byte in data {
        match byte.checked_sub(0x80) {
            Some(part) => text.extend(PARTS[usize::from(part) % PARTS.len()].bytes()),
            None => text.push(byte),
        }
    }
    let (name, above) = text.split_at(text.iter().position(|&b| b == b'/').unwrap_or(text.len()));
    match said(name, above.get(1..).unwrap_or(above)) {
        Said::Id(id) => assert_eq!(id.len(), ID_DIGITS),
        Said::Name(name) => {
            let mut out = [0; CONTAINER_BYTES_MAX];
            let length = unescape(name, &mut out);
            assert!(0 < length && length <= name.len().min(CONTAINER_BYTES_MAX));
        }
        Said::Nothing | Said::Outside => {}
    }
});
