//! Which documented features this version has.
//!
//! The configuration of a feature that is `false` here is still parsed and checked, so that its
//! mistakes are found, and then refused with one line. The commit that builds a feature sets its
//! constant to `true`.

use panoptes_sinks::activities::Activity;

/// Whether this version reports an activity at all. A configuration may name activities that are
/// not reported, so that a file can list all of them; `panoptes check` does not count them.
pub const fn reports(activity: Activity) -> bool {
    !matches!(activity, Activity::ServiceRuntimeFailure)
}

/// `host:`.
pub const SYSTEM_HOST: bool = true;
/// `output.telemetry`.
pub const TELEMETRY: bool = false;
/// `output.metrics`.
pub const METRICS: bool = false;
/// `service.compatibility: doca_argus`.
pub const COMPATIBILITY: bool = false;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Collects the activities that the sources in a folder name, except in tests and in `config`.
    fn named_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !matches!(name, "config" | "tests") {
                named_in(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") && name != "tests.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                for after in text.split("Activity::").skip(1) {
                    let end = after.find(|letter: char| !letter.is_ascii_alphanumeric());
                    found.insert(after[..end.unwrap_or(after.len())].to_owned());
                }
            }
        }
    }

    /// Fails if [`reports`] excludes an activity that the code names, or includes one that it
    /// does not.
    #[test]
    fn reported_activities_are_those_that_the_code_names() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut named = BTreeSet::new();
        named_in(&here.join("../src/policy"), &mut named);
        named_in(&here.join("src"), &mut named);
        for &activity in Activity::ALL {
            let is_named = named.contains(&format!("{activity:?}"));
            assert_eq!(reports(activity), is_named, "{}", activity.name());
        }
    }

    #[test]
    fn the_example_marks_what_is_not_built() {
        let example = include_str!("../../panoptes.yaml");
        for &activity in Activity::ALL {
            let key = format!("    {}: ", activity.name());
            let line = example.lines().find(|line| line.starts_with(&key)).expect(&key);
            assert_eq!(line.ends_with("# not built yet"), !reports(activity), "{line}");
        }
    }
}
