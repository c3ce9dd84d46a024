//! The data of a segment or datagram, read by each decoder of an application protocol: nothing
//! panics, names and iterations have an end.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;

#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../decoders/tests/application/properties.rs"]
mod properties;

macro_rules! readers {
    ($($name:ident: $protocol:ident($facts:ty),)+) => { &[$(properties::$name),+] };
}

/// The functions of all protocols.
const READERS: &[fn(&[u8]) -> usize] = panoptes_records::applications!(readers);

fuzz_target!(|data: &[u8]| {
    for read in READERS {
        read(data);
    }
});
