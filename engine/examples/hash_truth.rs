//! Holds the hashes of files in real kernels' page caches against what is true inside:
//! `cargo xtask hashes`.
//!
//!     hash_truth [--count N] [--place NAME]… [--without-modules] [--calm] [KERNEL]…
//!
//! Prints a line for each kernel, place and moment; the last line is the sum.

use std::process::ExitCode;

use panoptes_rig::contents::{Course, Place};
use panoptes_rig::{Flavor, Kernel, setup};

#[path = "../tests/common/contents.rs"]
#[allow(dead_code, reason = "shared with a test")]
mod contents;

use contents::{Shipped, Types};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("hash_truth: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> panoptes_rig::Result<bool> {
    let (mut count, mut places, mut flavors) = (1000, Vec::new(), Vec::new());
    let mut types = Types::OfModules;
    let mut presses = true;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            let missing = || panoptes_rig::Error::new(format!("{word} needs a value after it"));
            words.next().ok_or_else(missing)
        };
        match word.as_str() {
            "--count" => {
                let value = value()?;
                let wrong = |e| panoptes_rig::Error::new(format!("--count {value}: {e}"));
                count = value.parse().map_err(wrong)?;
            }
            "--without-modules" => types = Types::OfKernel,
            "--calm" => presses = false,
            "--place" => places.push(Place::from_name(&value()?)?),
            name => flavors.push(Flavor::from_name(name)?),
        }
    }
    if places.is_empty() {
        places.extend(Place::ALL);
    }
    if flavors.is_empty() {
        flavors.extend([Flavor::V6_1, Flavor::V6_12]);
    }
    setup::ensure()?;
    let mut sum = Sum::default();
    for flavor in flavors {
        if let Err(error) = visit(flavor, &places, count, (types, presses), &mut sum) {
            println!("{}: failed: {error}", flavor.name());
            sum.failed += 1;
        }
    }
    println!("{} looks at {} files, {} of them not exact", sum.looks, sum.files, sum.failed);
    Ok(sum.failed == 0 && sum.looks > 0)
}

#[derive(Default)]
struct Sum {
    looks: u64,
    files: usize,
    failed: u64,
}

/// Goes to all places in a guest of one kernel.
fn visit(
    flavor: Flavor,
    places: &[Place],
    count: u32,
    (types, presses): (Types, bool),
    sum: &mut Sum,
) -> panoptes_rig::Result<()> {
    let kernel = Kernel::obtain(flavor)?;
    let release = kernel.release().to_owned();
    let mut course = Course::boot(kernel, places, count)?;
    if presses {
        course.press()?;
    }
    let shipped = Shipped::new(course.files());
    for &place in places {
        let name = place.name();
        let look = |guest: &_, moment: &_, files: &[_]| {
            contents::look(guest, moment, files, &shipped, types)
        };
        let seen = match course.visit(place, look)? {
            Ok(seen) => seen,
            Err(why) => {
                println!("{release} {name}: skipped: {why}");
                continue;
            }
        };
        for (phase, compared) in seen {
            let how = match (place.is_overlay(), compared.knows_overlays) {
                (false, _) => "",
                (true, true) => " (by its module's types)",
                (true, false) => " (by shape)",
            };
            println!("{release} {name}, {}{how}: {compared}", phase.name());
            sum.looks += 1;
            sum.files += compared.found;
            sum.failed += u64::from(!compared.is_exact());
        }
    }
    Ok(())
}
