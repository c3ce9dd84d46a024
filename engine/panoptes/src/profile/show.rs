//! `panoptes profile show`: prints a profile, or the list of built-in profiles.

use std::ffi::OsStr;
use std::fmt::Write as _;

use panoptes_profiles::import::TypePreference;
use panoptes_profiles::{ProfileFile, builtin};
use serde_json::json;

use super::source::profile_of;
use crate::exit::{Exit, Failure, print};
use crate::message::Messages;
use crate::system_argument::address;

/// Prints a profile, or the list of built-in profiles.
pub(super) fn show(
    source: Option<&OsStr>,
    as_json: bool,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let Some(source) = source else { return print(built_in(as_json).as_bytes()) };
    let profile = profile_of(&address(source)?, TypePreference::default(), messages)?;
    if as_json { print(&profile.to_bytes()) } else { print(text(&profile).as_bytes()) }
}

fn built_in(as_json: bool) -> String {
    let tables = builtin::tables().iter();
    if as_json {
        let list: Vec<_> = tables
            .map(|table| json!({"release": table.release, "build_id": table.build_id}))
            .collect();
        return format!("{}\n", serde_json::Value::Array(list));
    }
    tables.fold(String::new(), |mut text, table| {
        let _ = writeln!(text, "{:40} {}", table.release, table.build_id);
        text
    })
}

/// A profile for people: symbols by address, structures with their fields in the order of names.
fn text(profile: &ProfileFile) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Linux {}", profile.release);
    let _ = writeln!(text, "build id {}\n", profile.build_id);
    let _ = writeln!(text, "symbols, by offset from the start of the kernel image:");
    let mut absent = Vec::new();
    for (name, distance) in profile.symbols() {
        match distance {
            Some(distance) => {
                let _ = writeln!(text, "  {distance:>#12x}  {name}");
            }
            None => absent.push(name.to_owned()),
        }
    }
    let _ = writeln!(text, "\nfields, by offset and size in bytes:");
    for (structure, path, member) in profile.members().iter() {
        match (path, member) {
            ("", Some(itself)) => {
                let _ = writeln!(text, "  struct {structure}, {} bytes", itself.size);
            }
            ("", None) => absent.push(format!("struct {structure}")),
            (path, Some(member)) => {
                let _ = writeln!(text, "  {:>8} {:>6}  {path}", member.offset, member.size);
            }
            (path, None) => absent.push(format!("{structure}.{path}")),
        }
    }
    let _ = writeln!(text, "\nnot in this kernel: {}", absent.join(", "));
    text
}
