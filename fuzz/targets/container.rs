//! Names of control groups: what they say of containers, and systemd's escapes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use panoptes_decoders::container::{CONTAINER_BYTES_MAX, ID_DIGITS, Said, said, unescape};

fuzz_target!(|data: &[u8]| {
    let (name, above) = data.split_at(data.iter().position(|&b| b == b'/').unwrap_or(data.len()));
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
