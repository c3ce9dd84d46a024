//! Any source of an SBOM that is a file: archives of container images, packages, lists.
#![cfg_attr(fuzzing, no_main)]

use std::io::Write;

use panoptes_fuzz::fuzz_target;
use panoptes_sbom::build::{BuildOptions, build};

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("there is room");
    file.write_all(data).expect("there is room");
    let _ = build(file.path(), &BuildOptions::default(), &());
});
