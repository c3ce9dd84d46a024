//! Packages of distributions: an extracted file is no longer than its limit.
#![cfg_attr(fuzzing, no_main)]

use std::io;

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::import::package;

fuzz_target!(|data: &[u8]| {
    let _ = package::unpack(data, &mut io::sink());
});
