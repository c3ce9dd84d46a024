//! What to write in the place of a value of the wrong shape.
//!
//! Each function returns the end of a message, with what the user wrote in its right place.

use super::problem::printable;
use super::tree::{ConfigNode, ConfigValue};

/// An example of a mapping for the key at the end of a path, if it has one.
pub(super) fn of_mapping(path: &str, node: &ConfigNode) -> Option<String> {
    let (_, key) = path.rsplit_once('.').unwrap_or(("", path));
    let is_element = key.ends_with(']');
    let key = key.split('[').next().unwrap_or_default();
    let text = first_text(node);
    let example = match key {
        "systems" => format!("{{web-1: {{system: {}}}}}", of_system(text.unwrap_or("4711"))),
        "telemetry" if is_element => of_receiver(text?),
        "exceptions" if is_element => of_exception(text?),
        "metrics" => format!("{{address: {}}}", of_port(text.unwrap_or("9100"))),
        "service" => "{scan_interval: 10ms}".to_owned(),
        "default" => "{limits: {processes: 8192}}".to_owned(),
        "limits" => "{processes: 8192}".to_owned(),
        "events" => "{process_created: false}".to_owned(),
        "output" => "{log_folder: /var/log/panoptes}".to_owned(),
        "flows" => format!("{{interfaces: [{}]}}", quoted(text.unwrap_or("en0"))),
        _ => return None,
    };
    Some(format!("; write {example}"))
}

/// The list that has a single value.
pub(super) fn of_list(path: &str, text: &str) -> String {
    let (_, key) = path.rsplit_once('.').unwrap_or(("", path));
    let element = match key {
        "telemetry" => of_receiver(text),
        "exceptions" => of_exception(text),
        _ => quoted(text),
    };
    format!("; write [{element}]")
}

/// The whole message about a wrong value that may also be a mapping.
pub(super) fn of_value(path: &str, node: &ConfigNode) -> Option<String> {
    const SWITCHES: [&str; 6] = ["true", "false", "yes", "no", "on", "off"];
    let text = first_text(node).filter(|_| path == "auto_scan")?;
    let is_switch = SWITCHES.iter().any(|word| word.eq_ignore_ascii_case(text));
    (!is_switch).then(|| {
        let pattern = quoted(text);
        format!(
            "`{path}` is true, false or patterns of guests; for patterns write \
             {{include: [{pattern}]}}"
        )
    })
}

/// The address of a system: a number alone is hardly the name of a file.
pub(super) fn of_system(text: &str) -> String {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { format!("qemu:{text}") } else { printable(text) }
}

fn of_receiver(text: &str) -> String {
    format!("{{address: \"{}\"}}", printable(text))
}

fn of_exception(text: &str) -> String {
    format!("{{activity: {}, …}}", printable(text))
}

fn of_port(text: &str) -> String {
    if text.contains(':') { quoted(text) } else { format!("127.0.0.1:{}", printable(text)) }
}

/// The value, or the first element of the list, if it is a single value.
fn first_text(node: &ConfigNode) -> Option<&str> {
    match &node.value {
        ConfigValue::Scalar(text) => Some(text),
        ConfigValue::List(nodes) => match &nodes.first()?.value {
            ConfigValue::Scalar(text) => Some(text),
            _ => None,
        },
        ConfigValue::Map(_) | ConfigValue::Null => None,
    }
}

/// The text as YAML has it: signs such as `*` need quotes.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let begins_plain = text.bytes().next().is_some_and(|byte| byte != b'-' && is_plain(byte));
    if begins_plain && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", printable(text).replace('\'', "''"))
    }
}
