//! What the demo adds to the records' lines for people.

use panoptes_sinks::people::escape;
use serde_json::Value;

/// A line in which the guest announces its next act.
pub(crate) fn act(line: &str, colour: bool) -> String {
    let line = escape(line);
    if colour { format!("\x1b[1;36m--- {line}\x1b[0m") } else { format!("--- {line}") }
}

/// Whether a record is about the kernel's own workers, or about the agent that runs the tour.
pub(crate) fn is_housekeeping(record: &Value) -> bool {
    let details = &record["activity_data"]["process_details"];
    let name = details["process_name"].as_str().unwrap_or("");
    name.starts_with("kworker/") || name == "agent"
}
