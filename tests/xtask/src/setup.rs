//! `cargo xtask setup`: prepares this host to run guests, so that later runs need no network.

use panoptes_rig::{Flavor, Kernel, initramfs, setup};

pub(crate) fn run() -> Result<(), String> {
    setup::ensure()?;
    for flavor in Flavor::ALL {
        let kernel = Kernel::obtain(*flavor)?;
        initramfs::build(&kernel)?;
        println!("{:<10} {}", flavor.name(), kernel.release());
    }
    Ok(())
}
