//! `panoptes profile build`: a profile of the kernel that a system runs, written down.

use std::io::Write;

use crate::attach::{discovery_failure, find_kernel, open, tell};
use crate::config::{Configuration, Mode, System};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::ProfileBuildRequest;

/// Finds the kernel and writes its profile to the file that was asked for, or to `out`.
pub fn build(
    request: &ProfileBuildRequest,
    out: &mut dyn Write,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let system = System {
        name: request.system.default_name(),
        address: request.system.clone(),
        settings: Configuration::defaults(Mode::Scan).default,
    };
    let mut source = open(&system.address)?;
    let profile =
        find_kernel(&mut source, &[], true, &mut |event: panoptes_profiles::Event<'_>| {
            tell(&event, &system.name, messages);
        })
        .map_err(|error| discovery_failure(&system, &error))?;
    let Some(file) = profile.to_file() else {
        let message = format!(
            "{}: Linux {} says no build id, so nothing could tell later which kernel a profile is for",
            system.name, profile.release
        );
        return Err(Failure::new(Exit::NoKernel, message));
    };
    let bytes = file.to_bytes();
    let written = match &request.output {
        Some(path) => {
            std::fs::write(path, &bytes).map_err(|error| (path.display().to_string(), error))
        }
        None => out
            .write_all(&bytes)
            .and_then(|()| out.flush())
            .map_err(|error| ("standard output".to_owned(), error)),
    };
    match written {
        Ok(()) => {}
        Err((_, error)) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
        Err((place, error)) => {
            let exit = Exit::from_io(&error, Exit::Output);
            return Err(Failure::new(exit, format!("cannot write to {place}: {error}")));
        }
    }
    if let Some(path) = &request.output {
        messages.info(format_args!(
            "wrote the profile of Linux {} to {}; name it as os_symbol_path to use it",
            profile.release,
            path.display()
        ));
    }
    Ok(Exit::Done)
}
