//! `panoptes profile build`: writes a profile of a kernel.

use std::ffi::OsStr;
use std::path::Path;

use panoptes_profiles::import::TypePreference;

use super::headers;
use super::source::profile_of;
use crate::exit::{Exit, Failure, print};
use crate::message::Messages;
use crate::system_argument::address;

/// What a profile is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProfileBuildSource<'a> {
    /// A machine's memory or a kernel's file. `dwarf`: whether DWARF is read even if there is BTF.
    Kernel { source: &'a OsStr, dwarf: bool },
    /// A folder with a kernel's headers, and a `System.map` of the same build.
    Headers { folder: &'a Path, map: Option<&'a Path> },
}

/// Makes a kernel's profile and writes it to `output`, or to standard output.
pub(super) fn build(
    source: ProfileBuildSource<'_>,
    output: Option<&Path>,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let profile = match source {
        ProfileBuildSource::Kernel { source, dwarf } => {
            profile_of(&address(source)?, TypePreference { dwarf }, messages)?
        }
        ProfileBuildSource::Headers { folder, map } => headers::profile(folder, map, messages)?,
    };
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
