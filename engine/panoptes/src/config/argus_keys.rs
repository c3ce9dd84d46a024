//! Keys of DOCA Argus' configuration, so that each is refused with the key to write instead.
//!
//! `apsh_config`, `dma_device_name`, `log_threshold_size` and `log_max_files_count` are in
//! published configurations of DOCA Argus. The others are named as §7 of its guide calls them
//! (`docs/compatibility.md`, "The guide").

use super::problem::{Problem, printable};
use super::tree::{ConfigEntry, ConfigValue};

/// Each key, and what to write instead.
const KEYS: [(&str, &str); 14] = [
    ("apsh_config", "remove it, and write what is in it one level higher"),
    ("dma_device_name", "write `dma_device`"),
    ("container_filter", "write `containers`, beside `events`"),
    ("service_log_level", "write `log_level`"),
    ("sleep_time", "write `service.scan_interval`, from the start of one scan to that of the next"),
    (
        "system_scanner_sleep_time",
        "write `service.scan_interval`, from the start of one scan to that of the next",
    ),
    ("log_events_to_stdout", "write `output.stdout`"),
    ("log_folder_path", "write `output.log_folder`"),
    ("log_threshold_size", "write `output.rotate_size`"),
    ("log_max_files_count", "write `output.max_files`"),
    ("telemetry_address", "write `output.telemetry: [{address: …}]`"),
    ("telemetry_format", "write `format` in an entry of `output.telemetry`"),
    ("telemetry_tag", "write `tag` in an entry of `output.telemetry`"),
    ("telemetry_user_data", "write `output.user_data`"),
];

/// What to write instead of a key of DOCA Argus.
pub(super) fn advice(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(name, _)| *name == key).map(|(_, advice)| *advice)
}

/// Refuses the keys of DOCA Argus in an entry that is refused itself, at any depth: nothing else
/// reads what is in it.
pub(super) fn refuse_within(entry: &ConfigEntry, push: &impl Fn(Problem)) {
    let ConfigValue::Map(entries) = &entry.value.value else { return };
    for entry in entries {
        if let Some(advice) = advice(&entry.key) {
            let message = format!("`{}` is a key of DOCA Argus; {advice}", printable(&entry.key));
            push(Problem::error(Some(entry.place.clone()), message));
        }
        refuse_within(entry, push);
    }
}
