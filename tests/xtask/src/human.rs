//! What the demo adds to the records' lines for people.

use panoptes_records::json::time::Timestamp;
use panoptes_records::people::escape;
use serde_json::Value;

/// A line that announces the guest's next act, at a time in nanoseconds since 1970. Records have
/// the times of this machine's clock, so acts have them, too.
pub(crate) fn act(name: &str, at_ns: i64, colour: bool) -> String {
    let text = Timestamp::from_ns(at_ns).text();
    let time = str::from_utf8(&text).ok().and_then(|text| text.get(11..23)).unwrap_or_default();
    let line = format!("--- {time} {}", escape(name));
    if colour { format!("\x1b[1;36m{line}\x1b[0m") } else { line }
}

/// What an act is called in a line of the guest, which begins with the time of the guest's clock.
pub(crate) fn name_of_act(line: &str) -> &str {
    line.split_once(' ').map_or(line, |(_, name)| name)
}

/// A number with its noun.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Whether a record is about the kernel's own workers, or about the agent that runs the tour.
pub(crate) fn is_housekeeping(record: &Value) -> bool {
    let details = &record["activity_data"]["process_details"];
    let name = details["process_name"].as_str().unwrap_or("");
    name.starts_with("kworker/") || name == "agent"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_has_the_time_of_this_machine() {
        let at_ns = 1_795_159_905_224_659_000;
        let name = name_of_act("21:36:11.184 a process begins");
        assert_eq!(act(name, at_ns, false), "--- 07:31:45.224 a process begins");
        assert_eq!([counted(1, "alert"), counted(2, "alert")], ["1 alert", "2 alerts"]);
    }
}
