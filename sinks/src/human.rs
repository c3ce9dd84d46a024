//! One line per record for people at a terminal: time, severity, system, activity and the most
//! important details.
//!
//! Names come from the watched machine and may contain terminal escapes. Everything that moves,
//! hides or reorders text is escaped (`\x1b`, `\u{202e}`), and so are bytes that are not UTF-8.
//! Only Panoptes emits colour, and only on request. Programs should read the JSON records instead.

use std::net::IpAddr;

use crate::activities::Severity;
use crate::json::text::{Character, CommandLine, Text};
use crate::json::time::Timestamp;
use crate::json::{Full, HEX, JsonWriter, Limits, fit};
use crate::record::detection::Detection;
use crate::record::file_descriptor::FileDescriptorDetails;
use crate::record::network_connection::NetworkConnectionDetails;
use crate::record::process::ProcessDetails;
use crate::record::process_memory::ProcessMemoryDetails;
use crate::record::value::Scalar;
use crate::record::{Details, Record};

/// Writes records for people.
#[derive(Clone, Copy, Debug)]
pub struct HumanWriter {
    has_colour: bool,
}

/// Longer names are cut to this many bytes.
const NAME_BYTES_MAX: usize = 200;
/// The columns after severity and activity begin here.
const SEVERITY_WIDTH: usize = 9;
const ACTIVITY_WIDTH: usize = 28;

type Written = Result<(), Full>;

impl HumanWriter {
    /// `has_colour` should be false where the output is no terminal, or `NO_COLOR` is set.
    pub const fn new(has_colour: bool) -> Self {
        Self { has_colour }
    }

    /// Writes one line without its line feed and returns its length.
    ///
    /// An empty `system` leaves the name out: for records about the service, or where only one
    /// system is watched.
    pub fn write(
        &self,
        out: &mut [u8],
        severity: Severity,
        system: &Text<'_>,
        record: &Record<'_>,
        now_ns: i64,
    ) -> Result<usize, Full> {
        fit(out, Limits::new(NAME_BYTES_MAX), usize::MAX, |out| {
            out.raw(&Timestamp::from_ns(now_ns).text()[11..23])?;
            out.raw(b" ")?;
            self.coloured(severity, out, |out| padded(severity.name(), SEVERITY_WIDTH, out))?;
            let before = out.length();
            shown(system, out)?;
            if out.length() > before {
                out.raw(b"  ")?;
            }
            padded(record.activity.name(), ACTIVITY_WIDTH, out)?;
            details(&record.own, out)?;
            owner(record, out)?;
            if let Some(reason) = record.detection.map(Detection::reason) {
                out.raw(b": ")?;
                shown(&reason, out)?;
            }
            Ok(())
        })
    }

    fn coloured(
        self,
        severity: Severity,
        out: &mut JsonWriter<'_>,
        write: impl FnOnce(&mut JsonWriter<'_>) -> Written,
    ) -> Written {
        if !self.has_colour {
            return write(out);
        }
        out.raw(match severity {
            Severity::Info => b"\x1b[2m",
            Severity::Low | Severity::Warning => b"\x1b[36m",
            Severity::Medium => b"\x1b[33m",
            Severity::High | Severity::Error | Severity::Critical => b"\x1b[1;31m",
        })?;
        write(out)?;
        out.raw(b"\x1b[0m")
    }
}

/// A fixed word, padded with spaces.
fn padded(word: &str, width: usize, out: &mut JsonWriter<'_>) -> Written {
    out.raw(word.as_bytes())?;
    for _ in word.len()..width {
        out.raw(b" ")?;
    }
    if word.len() >= width { out.raw(b" ") } else { Ok(()) }
}

fn details(details: &Details<'_>, out: &mut JsonWriter<'_>) -> Written {
    match details {
        Details::Process(process) => process_line(process, out),
        Details::Thread(thread) => {
            out.raw(b"thread ")?;
            out.number(thread.thread_id.into())
        }
        Details::FileDescriptor(descriptor) => descriptor_line(descriptor, out),
        Details::NetworkConnection(connection) => connection_line(connection, out),
        Details::ProcessMemory(memory) => memory_line(memory, out),
        Details::ElfFile(file) => shown_if(file.elf_file_path.or(file.elf_file_name).as_ref(), out),
        Details::Container(container) => shown(&container.container_id, out),
        Details::ShellHistory(history) => {
            let last = history.shell_command_execution_history.0.last();
            shown_if(last.map(|command| &command.command_line), out)
        }
        Details::ReverseShell(shell) => {
            for (index, process) in shell.process_list.items().iter().enumerate() {
                if index > 0 {
                    out.raw(b" <- ")?;
                }
                name_and_id(&process.process.0, out)?;
            }
            Ok(())
        }
        Details::SystemActivity(activity) => shown(&activity.reason, out),
    }
}

fn process_line(process: &ProcessDetails<'_>, out: &mut JsonWriter<'_>) -> Written {
    name_and_id(process, out)?;
    if let Some(parent) = process.process_parent_process_id {
        out.raw(b" of ")?;
        out.number(parent.into())?;
    }
    if let Some(user) = process.process_effective_user_id {
        out.raw(b", uid ")?;
        out.number(user.into())?;
    }
    let mut arguments =
        process.process_command_line_arguments.iter().flat_map(CommandLine::arguments);
    match (arguments.next(), process.process_executable_path) {
        (Some(first), _) => {
            out.raw(b", ")?;
            shown(&Text::new(first), out)?;
            for argument in arguments.take(ARGUMENTS_MAX) {
                out.raw(b" ")?;
                shown(&Text::new(argument), out)?;
            }
            Ok(())
        }
        (None, Some(path)) => {
            out.raw(b", ")?;
            shown(&path, out)
        }
        (None, None) => Ok(()),
    }
}

/// A line shows no more arguments than this.
const ARGUMENTS_MAX: usize = 15;

fn name_and_id(process: &ProcessDetails<'_>, out: &mut JsonWriter<'_>) -> Written {
    shown(&process.process_name, out)?;
    out.raw(b"[")?;
    out.number(process.process_id.into())?;
    out.raw(b"]")
}

fn descriptor_line(descriptor: &FileDescriptorDetails<'_>, out: &mut JsonWriter<'_>) -> Written {
    out.raw(b"fd ")?;
    out.number(descriptor.file_descriptor_index.into())?;
    if let Some(name) = &descriptor.file_descriptor_name {
        out.raw(b" ")?;
        shown(name, out)?;
    }
    if let Some(mode) = descriptor.file_descriptor_file_mode {
        out.raw(b" ")?;
        mode.write(out)?; // a quoted word that Panoptes made, to separate it from the name
    }
    Ok(())
}

fn connection_line(connection: &NetworkConnectionDetails<'_>, out: &mut JsonWriter<'_>) -> Written {
    let endpoint = |address: IpAddr, port, out: &mut JsonWriter<'_>| out.endpoint(address, port);
    endpoint(connection.source_ip_address.0, connection.source_port, out)?;
    out.raw(b" -> ")?;
    endpoint(connection.destination_ip_address.0, connection.destination_port, out)?;
    out.raw(b" ")?;
    out.raw(connection.connection_state.word().as_bytes())?;
    if let (Some(bytes_in), Some(bytes_out)) = (connection.tcp_bytes_in, connection.tcp_bytes_out) {
        out.raw(b", in ")?;
        out.number(bytes_in)?;
        out.raw(b" out ")?;
        out.number(bytes_out)?;
    }
    Ok(())
}

fn memory_line(memory: &ProcessMemoryDetails<'_>, out: &mut JsonWriter<'_>) -> Written {
    out.hex_number(memory.virtual_memory_area_start_address.0)?;
    out.raw(b"-")?;
    out.hex_number(memory.virtual_memory_area_end_address.0)?;
    out.raw(b" ")?;
    out.raw(&memory.memory_permissions.text())?;
    if let Some(name) = memory.file_path.or(memory.memory_name) {
        out.raw(b" ")?;
        shown(&name, out)?;
    }
    Ok(())
}

/// The process that the object belongs to, and its container.
fn owner(record: &Record<'_>, out: &mut JsonWriter<'_>) -> Written {
    for parent in record.parents {
        if let Details::Process(process) = parent {
            out.raw(b" in ")?;
            name_and_id(process, out)?;
        }
    }
    let pod = record.container.and_then(|container| container.pod_name.or(container.container_id));
    if let Some(pod) = pod {
        out.raw(b" @")?;
        shown(&pod, out)?;
    }
    Ok(())
}

fn shown_if(text: Option<&Text<'_>>, out: &mut JsonWriter<'_>) -> Written {
    text.map_or(Ok(()), |text| shown(text, out))
}

/// Writes text with everything escaped that could affect the terminal.
fn shown(text: &Text<'_>, out: &mut JsonWriter<'_>) -> Written {
    let end = out.length() + out.limits().string_length;
    let mut result = Ok(());
    text.for_each_piece(|piece| {
        let mut rest = piece;
        while !rest.is_empty() && result.is_ok() {
            if out.length() >= end {
                result = out.raw("…".as_bytes());
                return false;
            }
            let length;
            (length, result) = character(Character::at(rest), rest[0], out);
            rest = &rest[length..];
        }
        result.is_ok()
    });
    result
}

/// Writes one character and returns how many input bytes it used.
fn character(character: Character<'_>, byte: u8, out: &mut JsonWriter<'_>) -> (usize, Written) {
    match character {
        Character::Ascii(b' '..=b'~') => (1, out.raw(&[byte])),
        Character::Ascii(_) | Character::Invalid => (1, hex_escape(byte, out)),
        Character::Valid(sequence) => {
            let plays = std::str::from_utf8(sequence)
                .ok()
                .and_then(|text| text.chars().next())
                .filter(|&character| is_playful(character));
            let written = match plays {
                None => out.raw(sequence),
                Some(character) => unicode_escape(character, out),
            };
            (sequence.len(), written)
        }
    }
}

/// Line separators, and other characters that reorder or hide text.
const fn is_playful(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

fn hex_escape(byte: u8, out: &mut JsonWriter<'_>) -> Written {
    out.raw(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
}

fn unicode_escape(character: char, out: &mut JsonWriter<'_>) -> Written {
    out.raw(b"\\u{")?;
    out.hex_number(u64::from(u32::from(character)))?;
    out.raw(b"}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activities::Activity;
    use crate::record::detection::Confidence;
    use crate::record::value::{MemoryAddress, MemoryPermissions};

    /// 2026-11-20T07:31:46.905224659Z
    const NOW_NS: i64 = 1_795_159_906_905_224_659;

    fn line(record: &Record<'_>) -> String {
        let mut out = [0; 4096];
        let severity = record.activity.info().severity;
        let length = HumanWriter::new(false)
            .write(&mut out, severity, &"web-1".into(), record, NOW_NS)
            .unwrap();
        String::from_utf8(out[..length].to_vec()).unwrap()
    }

    fn bash() -> ProcessDetails<'static> {
        ProcessDetails {
            process_name: "bash".into(),
            process_id: 714,
            process_parent_process_id: Some(702),
            process_effective_user_id: Some(0),
            process_command_line_arguments: Some(CommandLine::new(b"bash\0-i\0")),
            ..ProcessDetails::default()
        }
    }

    #[test]
    fn lines_say_what_matters() {
        let process = bash();
        assert_eq!(
            line(&Record::new(Activity::ProcessCreated, Details::Process(&process))),
            "07:31:46.905 INFO     web-1  process_created             \
             bash[714] of 702, uid 0, bash -i"
        );
        let connection = NetworkConnectionDetails {
            source_ip_address: [10, 0, 2, 15].into(),
            source_port: 58_848,
            destination_ip_address: [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into(),
            destination_port: 443,
            ..NetworkConnectionDetails::default()
        };
        let parents = [Details::Process(&process)];
        let since = Timestamp::from_ns(0);
        let detection = Detection::new("too much".into(), &["T1041"], Confidence::High, since, 1);
        let own = Details::NetworkConnection(&connection);
        let record = Record {
            detection: Some(&detection),
            ..Record::new(Activity::TcpConnectionExcessiveData, own).with_parents(&parents)
        };
        assert_eq!(
            line(&record),
            "07:31:46.905 LOW      web-1  tcp_connection_excessive_data \
             10.0.2.15:58848 -> [2001:db8::7]:443 CLOSED in bash[714]: too much"
        );
        let memory = ProcessMemoryDetails {
            virtual_memory_area_start_address: MemoryAddress(0x1000),
            virtual_memory_area_end_address: MemoryAddress(0x2000),
            memory_permissions: MemoryPermissions { execute: true, ..MemoryPermissions::default() },
            memory_name: Some("[heap]".into()),
            ..ProcessMemoryDetails::default()
        };
        let own = Details::ProcessMemory(&memory);
        let record = Record::new(Activity::ExecutablePermissionsAdded, own).with_parents(&parents);
        assert_eq!(
            line(&record),
            "07:31:46.905 MEDIUM   web-1  executable_permissions_added \
             1000-2000 --xp [heap] in bash[714]"
        );
    }

    #[test]
    fn names_that_play_with_the_terminal_are_written_out() {
        let process = ProcessDetails {
            process_name: Text::new(b"\x1b[2J\xff\xe2\x80\xae\xc2\x9b\na\xc3\xa4"),
            ..ProcessDetails::default()
        };
        let line = line(&Record::new(Activity::ProcessCreated, Details::Process(&process)));
        assert!(line.contains("\\x1b[2J\\xff\\u{202e}\\u{9b}\\x0aaä[0]"), "{line}");
    }

    #[test]
    fn colour_comes_only_from_panoptes_and_only_on_request() {
        let process = bash();
        let record = Record::new(Activity::ProcessHidden, Details::Process(&process));
        assert!(!line(&record).contains('\x1b'));
        let mut out = [0; 256];
        let length = HumanWriter::new(true)
            .write(&mut out, Severity::High, &Text::default(), &record, NOW_NS)
            .unwrap();
        let line = std::str::from_utf8(&out[..length]).unwrap();
        assert!(
            line.starts_with("07:31:46.905 \x1b[1;31mHIGH     \x1b[0mprocess_hidden"),
            "{line}"
        );
    }

    proptest! {
        #[test]
        fn any_name_gives_one_line_without_control_characters(
            name in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let process = ProcessDetails {
                process_name: Text::new(&name),
                process_command_line_arguments: Some(CommandLine::new(&name)),
                ..ProcessDetails::default()
            };
            let line = line(&Record::new(Activity::ProcessCreated, Details::Process(&process)));
            prop_assert!(!line.chars().any(|c| c.is_control() || is_playful(c)), "{}", line);
        }
    }
}
