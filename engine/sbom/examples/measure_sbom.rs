//! Measures the cost of an SBOM:
//! `cargo run --release -p panoptes-sbom --example measure_sbom -- SOURCE`.

use std::path::PathBuf;
use std::time::Instant;

use panoptes_sbom::build::{BuildOptions, build};
use panoptes_sbom::{SbomError, format, load};

fn main() -> Result<(), SbomError> {
    let source = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("/usr"), PathBuf::from);
    let begin = Instant::now();
    let built = build(&source, &BuildOptions::default(), &())?;
    let took = begin.elapsed();
    let mut text = Vec::new();
    format::write(&built.sbom, &mut text).map_err(|error| SbomError::content(error.to_string()))?;
    let begin = Instant::now();
    let read = load::parse(&text)?;
    let loaded = begin.elapsed();
    let pages: usize = read.files.iter().map(|file| file.pages.len()).sum();
    println!(
        "{} files with {pages} pages hashed, {} MiB of content: made in {:.2} s; {} MiB written, \
         read and checked in {:.0} ms",
        read.files.len(),
        built.bytes >> 20,
        took.as_secs_f64(),
        text.len() >> 20,
        loaded.as_secs_f64() * 1e3,
    );
    Ok(())
}
