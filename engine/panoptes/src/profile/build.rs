//! `panoptes profile build`: writes a profile of a kernel.

use std::ffi::OsStr;
use std::path::Path;

use panoptes_profiles::import::Wanted;

use super::source::profile_of;
use crate::exit::{Exit, Failure, print};
use crate::message::Messages;
use crate::system_argument::address;

/// Makes a kernel's profile and writes it to `output`, or to standard output. `dwarf`: whether
/// DWARF is read even if there is BTF.
pub fn build(
    source: &OsStr,
    dwarf: bool,
    output: Option<&Path>,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let profile = profile_of(&address(source)?, Wanted { dwarf }, messages)?;
    let bytes = profile.to_bytes();
    let Some(path) = output else { return print(&bytes) };
    std::fs::write(path, &bytes).map_err(|error| Failure::not_written(path, &error))?;
    messages.info(format_args!(
        "wrote the profile of Linux {} to {}; set os_symbol_path to this file to use it",
        profile.release,
        path.display()
    ));
    Ok(Exit::Done)
}
