//! Volatility 3's symbols and every look-up of the layouts.
#![cfg_attr(fuzzing, no_main)]

use std::io::Cursor;

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::import::{TypePreference, from_kernel};

fuzz_target!(|data: &[u8]| {
    let _ = from_kernel(&mut Cursor::new(data), TypePreference::default());
});
