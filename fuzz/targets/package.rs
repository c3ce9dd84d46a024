//! Packages of distributions: what is taken out of one is no longer than it may be.
#![cfg_attr(fuzzing, no_main)]

use std::io;

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::import::package;

fuzz_target!(|data: &[u8]| {
    let _ = package::unpack(data, &mut io::sink());
});
