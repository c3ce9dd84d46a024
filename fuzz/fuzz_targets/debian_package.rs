//! Debian packages: an SBOM made from one is sound.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_sbom::build::fuzz_deb;

fuzz_target!(|data: &[u8]| {
    if let Ok(sbom) = fuzz_deb(data) {
        for file in &sbom.files {
            file.check().expect("what is made is sound");
        }
    }
});
