//! SBOMs of every supported format; an SBOM that is written is read as the same.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_sbom::{format, load};

fuzz_target!(|data: &[u8]| {
    let Ok(sbom) = load::parse(data) else { return };
    let mut written = Vec::new();
    format::write(&sbom, &mut written).expect("a vector takes all");
    let again = load::parse(&written).expect("what was written can be read");
    assert_eq!(again, sbom);
});
