//! `panoptes profile build`: writes a profile of a kernel.

use std::io::Write;

use panoptes_profiles::import::Wanted;

use super::print;
use super::source::profile_of;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::ProfileBuildRequest;

/// Makes a kernel's profile and writes it to the requested file, or to `out`.
pub fn build(
    request: &ProfileBuildRequest,
    out: &mut dyn Write,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let profile = profile_of(&request.source, Wanted { dwarf: request.dwarf }, messages)?;
    let bytes = profile.to_bytes();
    let Some(path) = &request.output else { return print(out, &bytes) };
    std::fs::write(path, &bytes).map_err(|error| {
        let exit = Exit::from_io(&error, Exit::Output);
        Failure::new(exit, format!("cannot write to {}: {error}", path.display()))
    })?;
    messages.info(format_args!(
        "wrote the profile of Linux {} to {}; set os_symbol_path to this file to use it",
        profile.release,
        path.display()
    ));
    Ok(Exit::Done)
}
