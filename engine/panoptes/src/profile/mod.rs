//! `panoptes profile`: the description of a kernel as a file, so that a search in memory is not
//! needed.

mod build;
mod headers;
mod show;
mod source;
mod verify;

use build::{Source, build};

use crate::cli::Profile;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// Carries out a command of `panoptes profile`.
pub fn run(command: Profile, messages: &Messages) -> Result<Exit, Failure> {
    match command {
        Profile::Build { headers: Some(folder), system_map, output, .. } => {
            let source = Source::Headers { folder: &folder, map: system_map.as_deref() };
            build(source, output.as_deref(), messages)
        }
        Profile::Build { source, vmlinux, dwarf, output, .. } => {
            // The command line has one of them.
            let source = source.or(vmlinux).unwrap_or_default();
            build(Source::Kernel { source: &source, dwarf }, output.as_deref(), messages)
        }
        Profile::Show { source, json } => show::show(source.as_deref(), json, messages),
        Profile::Verify { profile, system, json } => {
            verify::verify(&profile, &system, json, messages)
        }
    }
}
