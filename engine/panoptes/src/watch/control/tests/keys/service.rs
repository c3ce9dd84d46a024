//! The service itself, and which systems are watched, and how.

use serde_json::json;

use super::super::load::*;
use super::super::reload::reload;
use super::super::*;
use super::{Row, row};

const SERVICE: &str = "each_key_of_the_service_applies_at_once";
const SEARCH: &str = "each_key_of_a_system_applies_to_the_next_search";
const NAMED: &str = "a_system_at_another_address_takes_the_place_of_the_old_one";
const PROFILES: &str = "profiles_that_a_reload_allows_are_used_at_once";
const MADE: &str = "a_search_after_a_reload_makes_profiles_if_it_may";

const ROWS: &[Row] = &[
    row("service.immediate_shutdown", "true", SERVICE),
    row("service.log_level", "40", SERVICE),
    row("service.scan_interval", "\"1h\"", SERVICE),
    row("service.shortcuts", "false", SERVICE),
    row("service.early_scans", "true", SERVICE),
    row("default.log_level", "30", SERVICE),
    row("default.memory_regions_path", "\"/regions\"", SEARCH),
    row("default.sdk_log_level", "70", SEARCH),
    row("default.os_symbol_path", "\"/symbols\"", SEARCH),
    row("default.file_format", "\"raw\"", SEARCH),
    // There is no other system.
    row("default.os_type", "\"linux\"", SEARCH),
    row("default.user_memory.shell_history", "false", SEARCH),
    row("systems.NAME.system", "\"file:copy\"", NAMED),
    row("systems.NAME.dma_device", "\"mlx5_1\"", NAMED),
    row("systems.NAME.representor_id", "\"vuid-2\"", NAMED),
    row("built_in_profiles", "true", PROFILES),
    row("profile_generation", "true", MADE),
];

/// The rows of the table of keys.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    ROWS.iter().copied()
}

fn value(key: &str) -> Value {
    ROWS.iter().find(|row| row.key == key).unwrap().value()
}

#[test]
fn each_key_of_the_service_applies_at_once() {
    let (folder, exit, kept) = watch(&[], REAL, |service| {
        let figures = service.figures.system(LIVE);
        let scans = || figures.scans.load(Ordering::Relaxed);
        service.set(&[("service.scan_interval", value("service.scan_interval"))]);
        // One may be under way, and one may have been due.
        let before = scans();
        sleep(Duration::from_millis(100));
        assert!(scans() - before <= 2, "{} scans", scans() - before);
        service.set(&[("service.scan_interval", json!("5ms"))]);
        service.scan(5);

        let kept = || figures.kept.load(Ordering::Relaxed);
        service.driver.wait_for("a scan that keeps rows", || kept() > 0);
        service.set(&[("service.shortcuts", value("service.shortcuts"))]);
        service.scan(2);
        let before = kept();
        service.scan(20);
        assert_eq!(kept(), before);
        let early = || figures.early.load(Ordering::Relaxed);
        assert_eq!(early(), 0);
        service.set(&[
            ("service.early_scans", value("service.early_scans")),
            ("service.scan_interval", json!("100ms")),
        ]);
        service.live.act(|machine| machine.fork(1));
        service.driver.wait_for("an early scan", || early() > 0);
        service.set(&[]);

        let attach =
            |processes: u32| service.set(&[("default.limits.processes", json!(processes))]);
        let again = "live: the configuration has changed; attaching again";
        let watched = || {
            let is_it = |record: &Value| name(record) == "host_initialization_successful";
            service.records(0, is_it).len()
        };
        attach(500);
        service.driver.wait_for("system", || watched() == 2);
        assert_eq!(service.driver.kept.count(again), 1);
        service.set(&[("default.log_level", value("default.log_level"))]);
        attach(501);
        service.driver.wait_for("system", || watched() == 3);
        assert_eq!(service.driver.kept.count(again), 1, "{}", service.driver.kept.text());
        service.set(&[("default.log_level", Value::Null)]);

        // The record about an earlier reload may still be under way.
        let reload_quietly = |keys: &[(&str, Value)]| {
            let from = service.count();
            service.set_quietly(keys);
            service.record("reload", from, |record| {
                let changed = &record["activity_data"]["system_activity_details"]["keys"];
                name(record) == "configuration_reloaded" && *changed == json!([keys[0].0])
            });
        };
        let messages = || service.driver.kept.count("the configuration was read again");
        let before = messages();
        reload_quietly(&[("service.log_level", value("service.log_level"))]);
        reload_quietly(&[("service.immediate_shutdown", value("service.immediate_shutdown"))]);
        assert!(messages() <= before + 1, "{}", service.driver.kept.text());
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let records = logged(&folder.path().join("log"));
    check_complete(&records);
    let ends = records.iter().filter(|record| name(record) == "service_gracefully_shutdown");
    assert_eq!(ends.count(), 0);
}

/// Searches as usual, and writes with which settings.
fn search_told(
    task: AttachTask,
    is_cancelled: &AtomicBool,
) -> Result<Box<AttachedSystem>, NotAttached> {
    tell(&task);
    search(task, is_cancelled)
}

/// Writes with which settings, and finds nothing.
#[expect(clippy::needless_pass_by_value, reason = "a search has this form")]
fn search_in_vain(task: AttachTask, _: &AtomicBool) -> Result<Box<AttachedSystem>, NotAttached> {
    tell(&task);
    Err(Failure::new(Exit::NoKernel, "a: nothing").into())
}

fn tell(task: &AttachTask) {
    let (system, messages) = (&task.system, &task.messages);
    let settings = &system.settings;
    messages.info(format_args!(
        "searched {} with {:?}, {:?}, {:?}, {:?}, {:?}, {:?}, profiles made: {}",
        system.address,
        settings.memory_regions_path,
        settings.sdk_log_level,
        settings.os_symbol_path,
        settings.file_format,
        settings.os_type,
        settings.user_memory,
        task.configuration.profile_generation,
    ));
}

#[test]
fn each_key_of_a_system_applies_to_the_next_search() {
    let work = WorkerJobs { search: search_told, ..REAL };
    under_load(&[], work, |service| {
        let told = |what: &str| {
            let kept = service.driver.kept.text();
            kept.lines().filter(|line| line.contains("searched ") && line.contains(what)).count()
        };
        for (row, shown) in ROWS.iter().filter(|row| row.test == SEARCH).zip([
            "Given(\"/regions\")",
            "Some(Trace)",
            "Given(\"/symbols\")",
            "Raw",
            "Linux",
            "shell_history: false",
        ]) {
            let before = told(shown);
            service.set(&[(row.key, row.value())]);
            if row.key == "default.os_type" {
                continue;
            }
            service.driver.wait_for(row.key, || told(shown) > before);
            if row.key == "default.os_symbol_path" {
                service.driver.wait("/symbols", 2);
            }
            let count = service.driver.kept.count(" is being watched, found in ");
            service.set(&[(row.key, Value::Null)]);
            service.driver.wait(" is being watched, found in ", count + 1);
        }
    });
}

#[test]
fn a_system_at_another_address_takes_the_place_of_the_old_one() {
    // Without a device, such a system is never attached to.
    let more = [("systems.dma", json!({"dma_device": "mlx5_0", "representor_id": "vuid-1"}))];
    let work = WorkerJobs { search: search_told, ..REAL };
    under_load(&more, work, |service| {
        let [ram, copy] = ["ram", "copy"].map(|name| service.driver.folder.join(name));
        // The machine changes all the time, but not while it acts.
        service.live.act(move |_| fs::copy(ram, copy).unwrap());
        service.set_and_attach(&[("systems.live.system", value("systems.NAME.system"))]);
        let searched = "searched file:";
        assert_eq!(service.driver.kept.count("copy with "), 1, "{searched}");
        service.set_and_attach(&[("systems.live.system", json!("file:ram"))]);
        service.driver.wait("searched doca:mlx5_0/vuid-1 ", 1);
        for (key, address) in
            [("dma_device", "doca:mlx5_1/vuid-1 "), ("representor_id", "doca:mlx5_1/vuid-2 ")]
        {
            let row = format!("systems.NAME.{key}");
            service.set(&[(format!("systems.dma.{key}").as_str(), value(&row))]);
            service.driver.wait(&format!("searched {address}"), 1);
        }
    });
}

/// A system whose kernel has no profile is searched again with what is allowed now.
#[test]
fn profiles_that_a_reload_allows_are_used_at_once() {
    let folder = tempfile::tempdir().unwrap();
    if machine(folder.path()).is_none() {
        panoptes_needs::skip::test("xz");
        return;
    }
    let systems = "systems: {a: {system: ram, file_format: raw}}\nprofile_generation: false";
    let with = |built_in: &Value| format!("{systems}\nbuilt_in_profiles: {built_in}");
    let file = configure(folder.path(), &with(&json!(false)));
    let (exit, kept, _) = run(&folder, &file, REAL, |driver| {
        let failed = "\"no_matching_profile_found\"";
        driver.wait_for("record", || driver.log().contains(failed));
        reload(driver, &with(&value("built_in_profiles")));
        driver.wait(" is being watched, found in ", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}

#[test]
fn a_search_after_a_reload_makes_profiles_if_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let with =
        |made: &Value| format!("systems: {{a: {{system: ram}}}}\nprofile_generation: {made}");
    let file = configure(folder.path(), &with(&json!(false)));
    let work = WorkerJobs { search: search_in_vain, ..REAL };
    let (exit, kept, _) = run(&folder, &file, work, |driver| {
        driver.wait("profiles made: false", 1);
        reload(driver, &with(&value("profile_generation")));
        driver.wait("profiles made: true", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}
