//! The names of images in databases of containerd's.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_sbom::build::fuzz_image_names;

fuzz_target!(|data: &[u8]| {
    let _ = fuzz_image_names(data);
});
