//! Records about a system name its machine as soon as it is known, and logs are as consumers of
//! another product look for them.

use super::*;

/// `workload_information` of the first record of an activity.
fn workload(all: &[(String, String)], activity: &str) -> Value {
    let of_it = all.iter().find(|(_, line)| line.contains(&format!("\"name\":\"{activity}\"")));
    let (_, line) = of_it.unwrap_or_else(|| panic!("no {activity} in {all:?}"));
    let record: Value = serde_json::from_str(line).unwrap();
    record["workload_information"].clone()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn user_data_is_in_every_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure(folder.path(), "systems: {a: {system: /a}}");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("log_folder: log", "log_folder: log, user_data: 'rack 7, \"east\"'");
    fs::write(&file, text).unwrap();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| driver.wait("a: ", 1));
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let of = |line: &str| serde_json::from_str::<Value>(line).unwrap()["user_data"].clone();
    assert!(log.lines().count() >= 3, "{log}");
    assert!(log.lines().all(|line| of(line) == "rack 7, \"east\""), "{log}");
}

#[test]
fn logs_for_consumers_of_doca_argus_have_their_names_and_say_what_is_known_of_a_machine() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ram) = machine(folder.path()) else {
        panoptes_needs::skip::test("xz");
        return;
    };
    let systems = format!("systems: {{ram: {{system: {}, file_format: raw}}}}", ram.display());
    let file = configure(folder.path(), &systems);
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("log_folder: log", "log_folder: log, log_per_system: true");
    let text = text.replace("state_dir: state", "state_dir: state, compatibility: doca_argus");
    fs::write(&file, text).unwrap();
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        driver.wait(" is being watched, found in ", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = folder.path().join("log");
    let mut files: Vec<_> = fs::read_dir(&log).unwrap().map(|it| it.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, [".lock", "alerts.jsonl", "doca_argus_log.json.log", "systems"]);
    let all = lines(&log.join("doca_argus_log.json.log"));
    let own = lines(&log.join("systems/ram/doca_argus_log.json.log"));
    assert_eq!(own, all.iter().filter(|(system, _)| system == "ram").cloned().collect::<Vec<_>>());
    let begin = "{\"vendor_name\":\"NVIDIA\",\"product_name\":\"DOCA_ARGUS\",";
    assert!(all.iter().all(|(_, line)| line.starts_with(begin)), "{all:?}");

    assert_eq!(keys(&workload(&all, "service_initialization_started")), [""; 0]);
    assert_eq!(keys(&workload(&all, "host_initialization_started")), ["unique_identifier"]);
    for activity in ["os_identifier_found", "profile_verification_successful"] {
        let workload = workload(&all, activity);
        assert_eq!(keys(&workload), ["os_version", "unique_identifier"], "{activity}");
        assert_eq!(workload["os_version"], "Linux Kernel 6.1");
    }
    let workload = workload(&all, "host_initialization_successful");
    for key in ["unique_identifier", "os_version", "boot_uuid", "hostname"] {
        assert!(workload[key].is_string(), "{key} in {workload}");
    }
}
