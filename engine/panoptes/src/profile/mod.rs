//! `panoptes profile`: the description of a kernel as a file, so that a search in memory is not
//! needed.

mod build;
mod headers;
mod show;
mod source;
mod verify;

use build::{ProfileBuildSource, build};

use crate::cli::ProfileCommand;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// Carries out a command of `panoptes profile`.
pub fn run(command: ProfileCommand, messages: &Messages) -> Result<Exit, Failure> {
    match command {
        ProfileCommand::Build { headers: Some(folder), system_map, output, .. } => {
            let source =
                ProfileBuildSource::Headers { folder: &folder, map: system_map.as_deref() };
            build(source, output.as_deref(), messages)
        }
        ProfileCommand::Build { source, vmlinux, dwarf, output, .. } => {
            // The command line has one of them.
            let source = source.or(vmlinux).unwrap_or_default();
            build(
                ProfileBuildSource::Kernel { source: &source, dwarf },
                output.as_deref(),
                messages,
            )
        }
        ProfileCommand::Show { source, json } => show::show(source.as_deref(), json, messages),
        ProfileCommand::Verify { profile, system, json } => {
            verify::verify(&profile, &system, json, messages)
        }
    }
}
