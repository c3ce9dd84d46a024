//! What the contract names and this version has, in one place.
//!
//! What is `false` here is still parsed and checked, so that its mistakes are found, and then
//! refused with one clear line. Whoever builds a thing flips its constant.

use panoptes_sinks::activities::Activity;

/// Whether an activity is reported by this version at all. One that is not is accepted in a configuration,
/// so that a file can name all of them, and counted as not reported by `panoptes check`.
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

    /// Every activity that the sources in a folder name, tests and this file's list aside.
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

    /// Whoever builds an activity removes it here, or this fails; so does whoever removes it here and has not built it.
    #[test]
    fn what_is_built_is_what_the_code_writes() {
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
    fn the_example_says_what_is_not_built() {
        let example = include_str!("../../panoptes.yaml");
        for &activity in Activity::ALL {
            let key = format!("    {}: ", activity.name());
            let line = example.lines().find(|line| line.starts_with(&key)).expect(&key);
            assert_eq!(line.ends_with("# not built yet"), !reports(activity), "{line}");
        }
    }
}
