//! Layers of container images: compressed in every way, merged, cut where the input chooses.
//!
//! The first byte chooses the number of layers into which the rest is cut.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_sbom::build::fuzz_layers;

fuzz_target!(|data: &[u8]| {
    let Some((count, rest)) = data.split_first() else { return };
    // Archives consist of whole blocks.
    let size = (rest.len() / 512 / usize::from(count % 4 + 1)).max(1) * 512;
    let layers: Vec<&[u8]> = rest.chunks(size).collect();
    if let Ok(sbom) = fuzz_layers(&layers) {
        for file in &sbom.files {
            file.check().expect("what is made is sound");
        }
    }
});
