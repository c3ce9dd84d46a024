//! `cargo xtask setup`: prepares this host to run guests, so that later runs need no network.

use panoptes_rig::{Flavor, Kernel, initramfs, setup};

pub(crate) const USAGE: &str = "\
  setup
        installs what guests need and fetches every kernel; later runs need no network
";

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(argument) = arguments.first() {
        return Err(format!("setup takes no arguments, not {argument:?}"));
    }
    setup::ensure().map_err(|e| e.to_string())?;
    for flavor in Flavor::ALL {
        let kernel = Kernel::obtain(*flavor).map_err(|e| e.to_string())?;
        initramfs::build(&kernel).map_err(|e| e.to_string())?;
        println!("{:<10} {}", flavor.name(), kernel.release());
    }
    Ok(())
}
