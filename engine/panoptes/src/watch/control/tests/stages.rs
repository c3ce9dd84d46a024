//! The records of a search for a kernel (§10.10 of the guide of DOCA Argus), with the memory of a
//! recorded machine.

use super::*;

/// The names of a log's records about systems, in their order.
fn names(folder: &TempDir) -> Vec<String> {
    let all = lines(&folder.path().join("log/events.jsonl"));
    let about_systems = all.iter().filter(|(system, _)| !system.is_empty());
    let name = |(_, line): &(String, String)| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["activity_data"]["name"].as_str().unwrap().to_owned()
    };
    about_systems.map(name).filter(|name| !name.starts_with("coverage_")).collect()
}

/// Runs until the log has this text; returns the names of the records about systems.
fn names_until(folder: &TempDir, more: &str, text: &str) -> Vec<String> {
    let system = format!("systems: {{a: {{system: ram, file_format: raw}}}}\n{more}");
    let file = configure(folder.path(), &system);
    let (exit, kept, _) = run(folder, &file, REAL, |driver| {
        driver.wait_for("record", || driver.log().contains(text));
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    names(folder)
}

#[test]
fn each_step_of_a_search_that_succeeds_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    if machine(folder.path()).is_none() {
        panoptes_needs::skip::test("xz");
        return;
    }
    let names = names_until(&folder, "", "\"service_initialization_successful\"");
    let expected = [
        "host_initialization_started",
        "os_identifier_found",
        "loading_profile_candidate",
        "profile_verification_successful",
        "host_initialization_successful",
    ];
    assert_eq!(names[..5], expected);
}

#[test]
fn memory_without_a_kernel_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ram"), vec![0; 4 << 20]).unwrap();
    let mut names = names_until(&folder, "", "\"host_initialization_failed\"");
    // The search is extended more than once.
    names.dedup();
    let expected = [
        "host_initialization_started",
        "os_identifier_discovery_extended",
        "unable_to_determine_target_os",
        "host_initialization_failed",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_kernel_without_a_profile_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    if machine(folder.path()).is_none() {
        panoptes_needs::skip::test("xz");
        return;
    }
    let more = "profile_generation: false\nbuilt_in_profiles: false";
    let names = names_until(&folder, more, "\"host_initialization_failed\"");
    for name in ["no_matching_profile_found", "host_initialization_failed"] {
        assert_eq!(names.iter().filter(|one| *one == name).count(), 1, "{names:?}");
    }
}

#[test]
fn a_profile_that_does_not_fit_the_memory_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    // `init_task` has this name in every kernel.
    rename(&ram, b"swapper/0\0", b"changed/0\0");
    let names = names_until(&folder, "", "\"host_initialization_failed\"");
    for name in ["profile_verification_failed", "host_initialization_failed"] {
        assert_eq!(names.iter().filter(|one| *one == name).count(), 1, "{names:?}");
    }
}

/// Replaces every occurrence of a text in a file.
fn rename(path: &Path, from: &[u8; 10], to: &[u8; 10]) {
    let bytes = fs::read(path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let mut count = 0;
    for at in places(&bytes, from) {
        file.write_all_at(to, at as u64).unwrap();
        count += 1;
    }
    assert!(count > 0);
}

fn places<'a>(bytes: &'a [u8], text: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = text[0];
    let starts = (0..bytes.len() - text.len()).filter(move |&at| bytes[at] == first);
    starts.filter(move |&at| &bytes[at..at + text.len()] == text)
}
