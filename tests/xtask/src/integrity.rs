//! `cargo xtask integrity`: hooks the kernel in every way that the rig knows, while Panoptes
//! watches.

use clap::Args;
use panoptes_rig::Flavor;
use panoptes_rig::hooks::{self, Choice, Kind};

use crate::{program, tamper};

/// Hooks guests' kernels and hides modules in them: each kind must be reported, and nothing else
///
/// Prints for each kind the check that must report it, and how long that took. Modules are built
/// with each kernel's headers.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// List the kinds instead
    #[arg(long)]
    list: bool,
    /// A kernel of the guests; may be repeated
    #[arg(long = "kernel", value_name = "NAME", value_parser = Flavor::from_name)]
    #[arg(default_values = ["5.10", "6.1", "6.12", "7"])]
    kernels: Vec<Flavor>,
    /// A kind; may be repeated. All by default
    #[arg(long = "kind", value_name = "NAME")]
    kinds: Vec<String>,
    /// Number of kinds that are done at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    together: usize,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let kinds = Kind::named(&options.kinds)?;
    if options.list {
        for kind in kinds {
            println!("{:<20} {}", kind.name, kind.check);
        }
        return Ok(());
    }
    if let Some(again) = tamper::AGAIN {
        return again();
    }
    let choice = Choice { kinds, together: options.together, host: tamper::ACT };
    let program = program::obtain()?;
    let mut is_good = true;
    for &flavor in &options.kernels {
        eprintln!("integrity: booting {} …", flavor.name());
        let report = hooks::run(flavor, &choice, &program, |line| eprintln!("{line}"))?;
        println!("{}", report.table());
        is_good &= report.is_good();
    }
    if is_good {
        Ok(())
    } else {
        Err("a kind was missed, or there were other alerts; see the table".into())
    }
}
