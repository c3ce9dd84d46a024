//! The system that an argument of a command names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::config::{Configuration, GuestName, System, SystemAddress, printable};
use crate::exit::{Exit, Failure};
use crate::guests::{Users, find};

/// The system that an argument names: a configured one with its settings, by name or address, or
/// else the system at that address, with the settings of `default`.
pub(crate) fn pick(text: &OsStr, configuration: &Configuration) -> Result<System, Failure> {
    if let Some(system) =
        configuration.systems.iter().find(|system| OsStr::new(&system.name) == text)
    {
        return Ok(system.clone());
    }
    let address = address(text)?;
    let configured = configuration.systems.iter().find(|system| system.address == address);
    Ok(configured.cloned().unwrap_or_else(|| System {
        name: address.default_name(),
        address,
        settings: configuration.default.clone(),
    }))
}

/// Refuses what is neither the name of a configured system nor a file, but looks like a name.
pub(crate) fn check_name(text: &OsStr, configuration: &Configuration) -> Result<(), Failure> {
    let systems = &configuration.systems;
    let is_name = !text.as_bytes().iter().any(|byte| b"/:".contains(byte));
    let path = Path::new(text);
    let is_it = |system: &System| {
        OsStr::new(&system.name) == text || system.address == SystemAddress::File(path.to_owned())
    };
    let has_guest = || is_guest(text, configuration);
    let is_known = systems.is_empty() || systems.iter().any(is_it);
    if !is_name || is_known || path.symlink_metadata().is_ok() || has_guest() {
        return Ok(());
    }
    let names = systems.iter().take(NAMES_SHOWN_MAX).map(|system| printable(&system.name));
    let more = if systems.len() > NAMES_SHOWN_MAX { ", …" } else { "" };
    let message = format!(
        "`{text}` is neither a configured system ({names}{more}) nor a file; for a file that does \
         not exist yet write ./{text}",
        text = printable(&text.to_string_lossy()),
        names = names.collect::<Vec<_>>().join(", "),
    );
    Err(Failure::new(Exit::Source, message))
}

/// Whether a guest that runs has a name, or two have it.
fn is_guest(text: &OsStr, configuration: &Configuration) -> bool {
    let Some(name) = GuestName::bare(text, Path::new(text)) else { return false };
    let users = Users::of(&configuration.service.guest_users);
    find(&users).is_ok_and(|guests| guests.iter().any(|guest| guest.has_name(&name)))
}

/// More names than this are too many for one line.
const NAMES_SHOWN_MAX: usize = 16;

/// The address that an argument names. A bare word that no file has is the name of a guest.
pub(crate) fn address(text: &OsStr) -> Result<SystemAddress, Failure> {
    let address = SystemAddress::from_argument(text).map_err(|why| {
        let message = format!("`{}` {why}", printable(&text.to_string_lossy()));
        Failure::new(Exit::Usage, message)
    })?;
    Ok(address.or_guest(text).or_file())
}
