//! A record as a line for people: what `panoptes watch` prints on a terminal, or with `--lines`.
//!
//! On a terminal that is too narrow for it, a line continues in further ones, which are indented.
//!
//! Names come from a guest that may be hostile: whatever could move the cursor, change colours or
//! reorder text is escaped. Programs should read the records instead.

use std::fmt::Write as _;

use serde_json::Value;

/// Maximum length of a line without its end.
const WIDTH: usize = 400;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LineStyle {
    /// Whether the severities of alerts and warnings have colours.
    pub has_colours: bool,
    /// Whether each line names the system that it is about.
    pub names_system: bool,
    /// Columns of the terminal; 0: a line may have any length.
    pub columns: u16,
    /// Whether a status line may stand where a line begins: the line erases it.
    pub has_status: bool,
}

/// Erases the line of the cursor, which goes to its beginning (ECMA-48: CR, EL).
pub const ERASE_LINE: &str = "\r\x1b[K";

/// The line of a record as it was written; the text itself if it is no record.
pub fn line_of(record: &[u8], style: LineStyle) -> String {
    let line = match serde_json::from_slice(record) {
        Ok(record) => line(&record, style),
        Err(_) => escape(&String::from_utf8_lossy(record)),
    };
    if style.has_status { format!("{ERASE_LINE}{line}") } else { line }
}

/// One line: time, severity, activity and the object concerned.
pub fn line(record: &Value, style: LineStyle) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let time = text(&record["occurred_message_time_iso_8601_ns"]);
    let time = time.get(11..23).unwrap_or("");
    let severity = text(&record["severity"]);
    let name = text(&record["activity_data"]["name"]);
    let system = match record["workload_information"]["unique_identifier"].as_str() {
        Some(system) if style.names_system => format!("{}: ", escape(system)),
        _ => String::new(),
    };
    let about = cut(&escape(&about(record)));
    let colour = match (record["message_type"].as_str(), severity.as_str()) {
        _ if !style.has_colours => "",
        (Some("ALERT"), severity) => colour_of_alert(severity),
        (_, "WARNING" | "MEDIUM") => "\x1b[33m",
        (_, "ERROR") => "\x1b[31m",
        (Some("SYSTEM_ACTIVITY"), _) => "\x1b[2m",
        _ => "",
    };
    let off = if colour.is_empty() { "" } else { "\x1b[0m" };
    let severity = format!("{colour}{severity:<SEVERITY_WIDTH$}{off}");
    let object = format!("{system}{about}");
    let columns = usize::from(style.columns);
    let wide = TIME_WIDTH + SEVERITY_WIDTH + NAME_WIDTH + object.chars().count();
    if columns == 0 || wide <= columns {
        return format!("{time}  {severity}{name:<NAME_WIDTH$}{object}");
    }
    let mut line = format!("{time}  {severity}{name}");
    let used = TIME_WIDTH + SEVERITY_WIDTH + name.chars().count();
    wrap(&object, used, columns.max(COLUMNS_LEAST), &mut line);
    line
}

/// Widths of the parts of a line, with the blanks behind them.
const TIME_WIDTH: usize = "07:31:46.905  ".len();
const SEVERITY_WIDTH: usize = 8;
const NAME_WIDTH: usize = 40;
/// A terminal with fewer columns breaks lines by itself.
const COLUMNS_LEAST: usize = 40;
/// The beginning of each further line.
const INDENT: &str = "    ";

/// SGR: bold, in red from HIGH on, else in yellow (MEDIUM) or cyan.
fn colour_of_alert(severity: &str) -> &'static str {
    match severity {
        "HIGH" | "ERROR" | "CRITICAL" => "\x1b[1;31m",
        "MEDIUM" | "WARNING" => "\x1b[1;33m",
        _ => "\x1b[1;36m",
    }
}

/// Appends a text behind a line that has `used` columns: the words that have room there, and the
/// others in further lines. A word that has no room in a line is broken.
fn wrap(text: &str, mut used: usize, columns: usize, line: &mut String) {
    // Two blanks separate the text from what is before it.
    used += 1;
    line.push(' ');
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if used + 1 + length <= columns {
            line.push(' ');
            line.push_str(word);
            used += 1 + length;
            continue;
        }
        line.truncate(line.trim_end().len());
        let mut rest = word.chars().peekable();
        while rest.peek().is_some() {
            line.push('\n');
            line.push_str(INDENT);
            let before = line.chars().count();
            line.extend(rest.by_ref().take(columns - INDENT.len()));
            used = INDENT.len() + line.chars().count() - before;
        }
    }
}

/// Escapes control characters and those that reorder text (Unicode's bidirectional formatting).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        let turns = matches!(
            character,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        );
        if character.is_control() || turns {
            let _ = write!(escaped, "\\u{{{:x}}}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn about(record: &Value) -> String {
    let data = &record["activity_data"];
    let mut parts = Vec::new();
    // What an alert is about is in its reason.
    if let Some(reason) = record["detection"]["reason"].as_str() {
        parts.push(reason.to_owned());
    }
    let mut details = |key: &str, describe: fn(&Value) -> String| {
        if data[key].is_object() {
            parts.push(describe(&data[key]));
        }
    };
    details("system_activity_details", system_activity);
    details("thread_details", |thread| format!("thread {}", number(&thread["thread_id"])));
    details("file_descriptor_details", descriptor);
    details("process_memory_details", memory);
    details("network_connection_details", connection);
    details("elf_file_details", |file| text(&file["elf_file_path"]).to_owned());
    details("file_details", |file| text(&file["file_path"]).to_owned());
    details("package_details", package);
    details("reverse_shell_details", reverse_shell);
    details("container_details", |container| text(&container["container_id"]).to_owned());
    details("shell_history_details", shell_history);
    details("kernel_module_details", kernel_module);
    details("kernel_code_details", |code| text(&code["kernel_code_advice"]).to_owned());
    details("ebpf_program_details", ebpf_program);
    details("process_details", process);
    if data["process_executed_details"].is_object() {
        parts.push(executed(data));
    }
    // A reason names what it is about.
    let reason = parts.first().filter(|_| record["detection"]["reason"].is_string()).cloned();
    let is_named = |part: &String| reason.as_ref().is_some_and(|reason| reason.contains(part));
    let mut at = 0;
    parts.retain(|part| {
        at += 1;
        !part.is_empty() && (at == 1 || !is_named(part))
    });
    parts.join("  ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// A number, which records for consumers of another product have as a string.
fn number(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn system_activity(details: &Value) -> String {
    let mut line = text(&details["reason"]).to_owned();
    for key in ["limit", "capacity", "untracked", "output", "dropped"] {
        if !details[key].is_null() {
            let is_text = matches!(key, "limit" | "output");
            let value = if is_text { details[key].to_string() } else { number(&details[key]) };
            let _ = write!(line, ", {key} {value}");
        }
    }
    line
}

fn process(details: &Value) -> String {
    let mut line =
        format!("{} ({})", text(&details["process_name"]), number(&details["process_id"]));
    if let Some(arguments) = details["process_command_line_arguments"].as_str() {
        let _ = write!(line, " `{arguments}`");
    }
    line
}

/// The program that a process runs now, which its name need not show, and the one that it ran
/// before.
fn executed(data: &Value) -> String {
    let now = data["process_details"]["process_executable_path"].as_str();
    let before = data["process_executed_details"]["process_previous_executable_path"].as_str();
    let before = before.map(|before| format!("from {before}"));
    let both: Vec<&str> = now.into_iter().chain(before.as_deref()).collect();
    both.join(" ")
}

/// The processes from the one that holds the connection to the shell.
fn reverse_shell(details: &Value) -> String {
    let list = details["process_list"].as_array().into_iter().flatten();
    let list: Vec<String> = list.map(|item| process(&item["process_details"])).collect();
    list.join(" -> ")
}

fn package(details: &Value) -> String {
    let program = text(&details["package_program"]);
    format!("{program} changed {} files", number(&details["package_file_count"]))
}

fn descriptor(details: &Value) -> String {
    let name = details["file_descriptor_name"].as_str().unwrap_or("?");
    format!("{} -> {name}", number(&details["file_descriptor_index"]))
}

fn memory(details: &Value) -> String {
    let name = details["file_path"].as_str().or_else(|| details["memory_name"].as_str());
    format!(
        "{} {}-{} {}",
        text(&details["memory_permissions"]),
        text(&details["virtual_memory_area_start_address"]),
        text(&details["virtual_memory_area_end_address"]),
        name.unwrap_or("anonymous"),
    )
}

/// A module by its name, its size, and what has changed.
fn kernel_module(details: &Value) -> String {
    let name = text(&details["kernel_module_name"]);
    let mut line = format!("{name}, {} bytes", number(&details["kernel_module_size"]));
    let changed = details["kernel_module_changed"].as_array().into_iter().flatten();
    for (at, attribute) in changed.enumerate() {
        let attribute = text(attribute).trim_start_matches("kernel_module_").replace('_', " ");
        let _ = write!(line, "{} {attribute}", if at == 0 { ", changed:" } else { "," });
    }
    line
}

/// A program by its name or else its type, its number, and where it is attached.
fn ebpf_program(details: &Value) -> String {
    let name = details["ebpf_program_name"].as_str();
    let name = name.unwrap_or_else(|| text(&details["ebpf_program_type"]));
    let mut line = format!("{name} ({})", number(&details["ebpf_program_id"]));
    let target = details["ebpf_program_attach_target"].as_str();
    if let Some(place) = target.or_else(|| details["ebpf_program_attach_type"].as_str()) {
        let _ = write!(line, " at {place}");
    }
    line
}

fn shell_history(details: &Value) -> String {
    let commands = details["shell_command_execution_history"].as_array().into_iter().flatten();
    let commands: Vec<String> =
        commands.map(|command| format!("`{}`", text(&command["command_line"]))).collect();
    commands.join(", ")
}

fn connection(details: &Value) -> String {
    format!(
        "{}:{} -> {}:{} {}",
        text(&details["source_ip_address"]),
        number(&details["source_port"]),
        text(&details["destination_ip_address"]),
        number(&details["destination_port"]),
        text(&details["connection_state"]),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_name_can_move_the_cursor_or_turn_text_around() {
        assert_eq!(
            escape("a\x1b[2Jb\r\n\u{202e}c\u{9b}é"),
            "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{202e}c\\u{9b}é"
        );
        let record = json!({
            "occurred_message_time_iso_8601_ns": "2026-11-20T07:31:46.905224659+00:00",
            "severity": "INFO", "message_type": "EVENT",
            "activity_data": {"name": "process_created",
                "process_details": {"process_name": "x\x1b]0;y", "process_id": 7}},
        });
        let line = line(&record, LineStyle::default());
        assert_eq!(
            line,
            "07:31:46.905  INFO    process_created                         x\\u{1b}]0;y (7)"
        );
    }

    #[test]
    fn a_line_names_its_system_if_there_are_several() {
        let record = json!({
            "occurred_message_time_iso_8601_ns": "2026-11-20T07:31:46.905224659+00:00",
            "severity": "HIGH", "message_type": "ALERT",
            "workload_information": {"unique_identifier": "web\u{202e}-1"},
            "activity_data": {"name": "process_hidden",
                "process_details": {"process_name": "x", "process_id": 7}},
            "detection": {"reason": "no list has it"},
        });
        let style = LineStyle { has_colours: true, names_system: true, ..LineStyle::default() };
        assert_eq!(
            line(&record, style),
            "07:31:46.905  \x1b[1;31mHIGH    \x1b[0mprocess_hidden                          \
             web\\u{202e}-1: no list has it  x (7)"
        );
        assert_eq!(line_of(b"no \x1b[2J record", style), "no \\u{1b}[2J record");
        let style = LineStyle { has_status: true, ..style };
        assert_eq!(line_of(b"no record", style), "\r\x1b[Kno record");
    }

    #[test]
    fn a_line_that_is_too_long_for_the_terminal_goes_on_indented() {
        let record = |reason: &str| {
            json!({
                "occurred_message_time_iso_8601_ns": "2026-11-20T07:31:46.905224659+00:00",
                "severity": "HIGH", "message_type": "ALERT",
                "activity_data": {"name": "process_hidden"},
                "detection": {"reason": reason},
            })
        };
        let style = LineStyle { columns: 80, ..LineStyle::default() };
        let of = |reason: &str| line(&record(reason), style);
        assert_eq!(
            of("it is hidden"),
            "07:31:46.905  HIGH    process_hidden                          it is hidden"
        );
        let reason = "bash (process 714) is not in the task list or its parent's children, but in \
                      the pid IDR, in 2 scans in a row";
        assert_eq!(
            of(reason),
            "07:31:46.905  HIGH    process_hidden  bash (process 714) is not in the task list\n    \
             or its parent's children, but in the pid IDR, in 2 scans in a row"
        );
        let long = "x".repeat(200);
        let lines = of(&format!("see {long} there"));
        let lines: Vec<&str> = lines.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        let indented = |line: &&str| line.starts_with("    ") && !line.starts_with("     ");
        assert!(lines.len() == 4 && lines[1..].iter().all(indented), "{lines:#?}");
        assert!(lines[3].ends_with("x there"), "{lines:#?}");
        assert_eq!(line(&record(reason), LineStyle::default()).lines().count(), 1);
    }

    #[test]
    fn severities_of_alerts_are_told_apart_by_their_colours() {
        let style = LineStyle { has_colours: true, ..LineStyle::default() };
        let colours = ["CRITICAL", "HIGH", "MEDIUM", "LOW"].map(|severity| {
            let record = json!({"severity": severity, "message_type": "ALERT"});
            let line = line(&record, style);
            line.split("\x1b[").nth(1).unwrap().split('m').next().unwrap().to_owned()
        });
        assert_eq!(colours, ["1;31", "1;31", "1;33", "1;36"]);
    }

    #[test]
    fn what_a_reason_names_does_not_come_twice() {
        let record = json!({
            "activity_data": {"file_details": {"file_path": "/etc/passwd"}},
            "detection": {"reason": "/etc/passwd has 3 bytes"},
        });
        assert_eq!(about(&record), "/etc/passwd has 3 bytes");
    }

    #[test]
    fn a_line_has_what_matters_about_its_activity() {
        let named = |name: &str, id: u32| json!({ "process_name": name, "process_id": id });
        let chain = [("nc", 5), ("sh", 6)];
        let chain = chain.map(|(name, id)| json!({ "process_details": named(name, id) }));
        let before = json!({ "process_previous_executable_path": "/bin/sh" });
        let mut program = named("a", 7);
        program["process_executable_path"] = "/usr/bin/ls".into();
        let package = json!({ "package_program": "/usr/bin/dpkg", "package_file_count": 3 });
        let code = json!({ "kernel_code_check": "kprobes", "kernel_code_advice": "dump it" });
        let module = json!({
            "kernel_module_name": "nfs", "kernel_module_size": 9,
            "kernel_module_changed": ["kernel_module_name", "kernel_module_build_id"],
        });
        let program_of = |name: &str| {
            let mut program = json!({
                "ebpf_program_id": 7, "ebpf_program_type": "lsm",
                "ebpf_program_attach_type": "lsm_mac",
            });
            if !name.is_empty() {
                program["ebpf_program_name"] = name.into();
            }
            program
        };
        for (data, expected) in [
            (json!({ "file_details": { "file_path": "/usr/bin/tail" } }), "why  /usr/bin/tail"),
            (
                json!({ "reverse_shell_details": { "process_list": chain } }),
                "why  nc (5) -> sh (6)",
            ),
            (json!({ "package_details": package }), "why  /usr/bin/dpkg changed 3 files"),
            (
                json!({ "process_executed_details": before, "process_details": named("ls", 7) }),
                "why  ls (7)  from /bin/sh",
            ),
            (
                json!({ "process_executed_details": before, "process_details": program }),
                "why  a (7)  /usr/bin/ls from /bin/sh",
            ),
            (
                json!({ "process_executed_details": {}, "process_details": named("ls", 7) }),
                "why  ls (7)",
            ),
            (
                json!({ "kernel_module_details": module }),
                "why  nfs, 9 bytes, changed: name, build id",
            ),
            (json!({ "kernel_code_details": code }), "why  dump it"),
            (
                json!({ "ebpf_program_details": program_of("file_open") }),
                "why  file_open (7) at lsm_mac",
            ),
            (json!({ "ebpf_program_details": program_of("") }), "why  lsm (7) at lsm_mac"),
        ] {
            let record = json!({ "activity_data": data, "detection": { "reason": "why" } });
            assert_eq!(about(&record), expected);
        }
    }

    #[test]
    fn numbers_that_are_strings_look_like_numbers() {
        let process = json!({ "process_name": "sh", "process_id": "714" });
        let full = json!({ "reason": "full", "limit": "threads", "capacity": "9" });
        for (data, expected) in [
            (json!({ "process_details": process }), "sh (714)"),
            (json!({ "thread_details": { "thread_id": "7" } }), "thread 7"),
            (json!({ "system_activity_details": full }), "full, limit \"threads\", capacity 9"),
        ] {
            assert_eq!(about(&json!({ "activity_data": data })), expected);
        }
    }

    #[test]
    fn long_lines_are_cut_between_letters() {
        let long = "é".repeat(WIDTH + 1);
        assert_eq!(cut(&long), format!("{}…", "é".repeat(WIDTH)));
    }
}
