//! Compares a scan of a stored image with the truth that was taken with it:
//!
//!     panoptes scan IMAGE | cargo run -p panoptes-rig --example compare -- TRUTH [TRUTH-AFTER]
//!
//! For images on disk; tests against running guests use `panoptes_rig::compare` itself.

use std::process::ExitCode;

use panoptes_rig::{Error, Result, Truth, compare};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let mut paths = std::env::args().skip(1);
    let usage = || Error::new("usage: compare TRUTH [TRUTH-AFTER] < SCAN");
    let before = read_truth(&paths.next().ok_or_else(usage)?)?;
    let after = paths.next().map_or_else(|| Ok(before.clone()), |path| read_truth(&path))?;
    let scan = std::io::read_to_string(std::io::stdin())
        .map_err(|e| Error::new(format!("cannot read the scan: {e}")))?;
    let lines: Vec<&str> = scan.lines().collect();
    let report = compare::compare(&before, &after, &lines)?;
    print!("{report}");
    Ok(report.is_exact())
}

fn read_truth(path: &str) -> Result<Truth> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::io("read", std::path::Path::new(path), &e))?;
    Truth::parse(&text.lines().collect::<Vec<_>>())
}
