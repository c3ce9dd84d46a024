//! The system that an argument of a command names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use panoptes_sources::{FileFormat, FileSource};

use crate::config::{Configuration, GuestName, Problem, System, SystemAddress, printable};
use crate::exit::{Exit, Failure};
use crate::guests::{Guest, Users, find};

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
    guests_of(configuration).iter().any(|guest| guest.has_name(&name))
}

/// The guests that run, or none if they cannot be listed.
pub(crate) fn guests_of(configuration: &Configuration) -> Vec<Guest> {
    find(&Users::of(&configuration.service.guest_users)).unwrap_or_default()
}

/// The file or the guest that an argument may be, if it is a bare word and no configured system.
pub(crate) fn bare_word(text: &OsStr, configuration: &Configuration) -> Option<GuestName> {
    let is_configured = configuration.systems.iter().any(|system| OsStr::new(&system.name) == text);
    if is_configured { None } else { GuestName::bare(text, Path::new(text)) }
}

/// Decides what bare words are if a guest has the name of a file: the file, or the guest if the
/// file holds no memory. Returns a line for each.
pub(crate) fn prefer_memory(
    systems: &mut [System],
    words: &[GuestName],
    guests: impl FnOnce() -> Vec<Guest>,
) -> Vec<Problem> {
    let word_of = |system: &System| {
        let SystemAddress::File(path) = &system.address else { return None };
        let is_it =
            |word: &&GuestName| matches!(word, GuestName::Bare { file, .. } if file == path);
        words.iter().find(is_it).filter(|_| path.symlink_metadata().is_ok()).cloned()
    };
    let named = systems.iter_mut().filter_map(|system| Some((word_of(system)?, system)));
    let named: Vec<_> = named.collect();
    if named.is_empty() {
        return Vec::new();
    }
    let guests = guests();
    let mut notes = Vec::new();
    for (word, system) in named {
        let SystemAddress::File(path) = &system.address else { continue };
        if !guests.iter().any(|guest| guest.has_name(&word)) {
            continue;
        }
        let guest = SystemAddress::Guest(GuestName::Claimed(word.short()));
        let is_detected = system.settings.file_format == FileFormat::Auto;
        notes.push(if is_detected && FileSource::is_no_memory(path) {
            system.address = guest;
            format!(
                "{word} is the guest: the file of this name is no memory (write ./{word} for it)"
            )
        } else {
            format!("{word} is the file; a guest has this name, too (write {guest} for it)")
        });
    }
    notes.into_iter().map(|note| Problem::warning(None, note)).collect()
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Mode;

    #[test]
    fn a_guest_and_a_file_of_one_name_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("web-1"), "a note\n").unwrap();
        fs::write(file("web-2"), vec![7; 8192]).unwrap();
        fs::write(file("web-3"), "a note\n").unwrap();
        fs::create_dir(file("web-4")).unwrap();
        let names = ["web-1", "web-2", "web-3", "web-4", "web-5"];
        let configuration = Configuration::defaults(Mode::Watch);
        let make = |name: &&str| System {
            name: (*name).to_owned(),
            address: SystemAddress::File(file(name)),
            settings: configuration.default.clone(),
        };
        let mut systems: Vec<System> = names.iter().map(make).collect();
        let words = names.map(|name| GuestName::bare(OsStr::new(name), &file(name)).unwrap());
        let guests = ["web-1", "web-2", "web-4", "web-5"]
            .map(|name| Guest { name: Some(name.to_owned()), ..Guest::default() });
        let notes = prefer_memory(&mut systems, &words, || guests.to_vec());
        let notes: Vec<String> = notes.into_iter().map(|note| note.message).collect();
        let is_guest = "is the guest: the file of this name is no memory";
        assert_eq!(
            notes,
            [
                format!("web-1 {is_guest} (write ./web-1 for it)"),
                "web-2 is the file; a guest has this name, too (write qemu:web-2 for it)"
                    .to_owned(),
                format!("web-4 {is_guest} (write ./web-4 for it)"),
            ]
        );
        let addresses = systems.iter().map(|system| system.address.to_string());
        let path = |name| format!("file:{}", file(name).display());
        let expected = ["qemu:web-1".to_owned(), path("web-2"), path("web-3")];
        assert_eq!(addresses.take(3).collect::<Vec<_>>(), expected);
        // Nobody lists guests without need.
        let list = || -> Vec<Guest> { panic!("no word is a file") };
        assert!(prefer_memory(&mut systems, &[], list).is_empty());
        assert!(prefer_memory(&mut systems[4..], &words[4..], list).is_empty());
    }

    #[test]
    fn a_configured_name_is_no_bare_word() {
        let mut configuration = Configuration::defaults(Mode::Watch);
        let word = |text: &str, configuration: &Configuration| {
            bare_word(OsStr::new(text), configuration).is_some()
        };
        assert!(word("web-1", &configuration) && !word("./web-1", &configuration));
        configuration.systems.push(System {
            name: "web-1".to_owned(),
            address: SystemAddress::Host,
            settings: configuration.default.clone(),
        });
        assert!(!word("web-1", &configuration));
    }
}
