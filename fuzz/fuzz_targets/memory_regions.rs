//! Files with a machine's memory regions.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_profiles::memory_regions::{REGIONS_MAX, parse};

fuzz_target!(|data: &[u8]| {
    let Ok(regions) = parse(data) else { return };
    assert!((1..=REGIONS_MAX).contains(&regions.len()));
    assert!(regions.iter().all(|region| region.start < region.end));
    assert!(regions.is_sorted_by(|one, next| one.end <= next.start));
});
