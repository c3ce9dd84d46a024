//! Functions of DMA devices that `auto_scan` finds, behind the stand-in for NVIDIA's library.

use std::fmt::Write as _;

use panoptes_profiles::{DiscoveryOptions, discover};
use panoptes_rig::standin::Standin;
use panoptes_sources::FileSource;

use super::super::candidate::Phase;
use super::super::one_machine::{DmaMachine, FunctionInUse};
use super::*;
use crate::watch::finder::Finder;

/// Two machines, the second of which is a clone of the first with another clock. `None` if they
/// cannot be unpacked here.
fn machines(folder: &Path) -> Option<[PathBuf; 2]> {
    let Some(ram) = machine(folder) else {
        panoptes_needs::skip::test("xz");
        return None;
    };
    let clone = folder.join("clone");
    fs::copy(&ram, &clone).unwrap();
    let mut source = FileSource::open(&ram).unwrap();
    let options = DiscoveryOptions { use_builtin: true, ..DiscoveryOptions::default() };
    let profile = discover(&mut source, &options, &mut ()).unwrap();
    let clock = profile.space.linear(profile.timekeeper.unwrap()).unwrap().0 + 16;
    let file = fs::File::options().read(true).write(true).open(&clone).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, clock).unwrap();
    file.write_all_at(&[byte[0] ^ 1], clock).unwrap();
    Some([ram, clone])
}

/// A configuration with `auto_scan`, and the regions of both machines.
fn configure(folder: &Path, ram: &Path, standin: &Standin) -> PathBuf {
    configure_functions(folder, fs::metadata(ram).unwrap().len(), &standin.library())
}

fn configure_functions(folder: &Path, bytes: u64, library: &Path) -> PathBuf {
    let regions =
        format!(r#"{{"allowed_regions": {{"0": {{"length": {}, "start": 0}},}}}}"#, bytes - 1);
    fs::write(folder.join("regions"), regions).unwrap();
    let text = format!(
        "service: {{state_dir: state, doca_library_path: {}}}\n\
         default: {{memory_regions_path: {}}}\n\
         output: {{stdout: false, log_folder: log}}\n",
        library.display(),
        folder.join("regions").display(),
    );
    let file = folder.join("p.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// The guests of this machine have nothing to do with it.
fn without_guests(control: &mut ControlThread, _: &Signals) {
    control.systems.finder = Some(Finder::new(Instant::now() + AGES));
}

/// System, boot and reason of the records of an activity.
fn records(log: &str, activity: &str) -> Vec<[String; 3]> {
    let lines = log.lines().filter(|line| line.contains(&format!("\"{activity}\"")));
    let fields = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let workload = &record["workload_information"];
        let reason = &record["activity_data"]["system_activity_details"]["reason"];
        [&workload["unique_identifier"], &workload["boot_uuid"], reason]
            .map(|value| value.as_str().unwrap_or_default().to_owned())
    };
    lines.map(fields).collect()
}

#[test]
fn functions_of_one_machine_are_one_system_that_goes_on_when_one_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let Some([ram, clone]) = machines(folder.path()) else { return };
    let gone = folder.path().join("gone");
    let [ram_path, clone_path, gone_path] = [&ram, &clone, &gone].map(|path| path.display());
    let standin = Standin::new(&format!(
        "device dma0 0000:03:00.0\nfunction PF0 PF {ram_path}\nfunction VF0 VF {ram_path}\n\
         function VF1 VF {clone_path}\nabsent PF0 {gone_path}\nabsent VF0 {gone_path}0\n"
    ))
    .unwrap();
    // VF0 appears later.
    let late = folder.path().join("gone0");
    fs::write(&late, "").unwrap();
    let file = configure(folder.path(), &ram, &standin);
    let (exit, kept, _) = run_changed(&folder, &file, REAL, without_guests, |driver| {
        driver.wait("is being watched through doca:dma0/PF0", 1);
        driver.wait("is being watched through doca:dma0/VF1", 1);
        assert_eq!(driver.kept.count("VF0"), 0, "{}", driver.kept.text());
        fs::remove_file(&late).unwrap();
        driver.wait("VF0: doca:dma0/VF0 gives the memory of the system PF0", 1);
        fs::write(&gone, "").unwrap();
        driver.wait("PF0: continues through doca:dma0/VF0", 1);
        driver.wait("is being watched through doca:dma0/VF0", 1);
        driver.wait("doca:dma0/PF0 is gone", 1);
        fs::remove_file(&gone).unwrap();
        driver.wait("doca:dma0/PF0 gives the memory of the system PF0", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let started = records(&log, "host_initialization_successful");
    let watched: Vec<_> =
        started.iter().filter(|[_, _, reason]| reason.contains("is being watched")).collect();
    let of = |system: &str| {
        let of_it = watched.iter().filter(|[name, _, _]| name == system);
        of_it.map(|[_, boot, _]| boot.as_str()).collect::<Vec<_>>()
    };
    // The first machine keeps its name and the id of its boot.
    assert_eq!(watched.len(), 3, "{started:#?}");
    let (first, second) = (of("PF0"), of("VF1"));
    assert_eq!((first.len(), second.len()), (2, 1), "{started:#?}");
    assert!(first[0] == first[1] && first[0] != second[0], "{started:#?}");
    // Each spare function is reported once.
    let spare: Vec<_> = started
        .iter()
        .filter(|[_, _, reason]| reason.contains("gives the memory of the system PF0"))
        .map(|[name, _, _]| name.as_str())
        .collect();
    assert_eq!(spare, ["VF0", "doca:dma0/PF0"], "{started:#?}");
}

#[test]
fn a_function_that_fails_is_followed_by_another_of_its_machine() {
    let folder = tempfile::tempdir().unwrap();
    let Some([ram, _]) = machines(folder.path()) else { return };
    let fails = folder.path().join("fails");
    let (ram_path, fails_path) = (ram.display(), fails.display());
    let standin = Standin::new(&format!(
        "device dma0 0000:03:00.0\nfunctions VF 3 {ram_path}\nfailing VF0 {fails_path}0\n\
         failing VF1 {fails_path}1\nfailing VF2 {fails_path}2\n"
    ))
    .unwrap();
    let file = configure(folder.path(), &ram, &standin);
    let (exit, kept, _) = run_changed(&folder, &file, REAL, without_guests, |driver| {
        driver.wait("is being watched through doca:dma0/VF", 1);
        driver.wait("gives the memory of the system", 2);
        let text = driver.kept.text();
        let used = text.split("is being watched through doca:dma0/VF").nth(1).unwrap();
        let number = used.get(..1).unwrap();
        fs::write(format!("{}{number}", fails.display()), "").unwrap();
        driver.wait("continues through", 1);
        driver.wait("is being watched through doca:dma0/VF", 2);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let started = records(&log, "host_initialization_successful");
    let watched: Vec<_> =
        started.iter().filter(|[_, _, reason]| reason.contains("is being watched")).collect();
    assert_eq!(watched.len(), 2, "{started:#?}");
    assert!(watched[0][0] == watched[1][0] && watched[0][1] == watched[1][1], "{started:#?}");
}

/// The machine is watched twice only until the comparison.
#[test]
fn a_named_function_that_fails_at_first_is_used_when_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let Some([ram, _]) = machines(folder.path()) else { return };
    let fails = folder.path().join("fails");
    let (ram_path, fails_path) = (ram.display(), fails.display());
    let standin = Standin::new(&format!(
        "device dma0 0000:03:00.0\nfunction PF0 PF {ram_path}\nfunction VF0 VF {ram_path}\n\
         failing PF0 {fails_path}\n"
    ))
    .unwrap();
    fs::write(&fails, "").unwrap();
    let file = configure(folder.path(), &ram, &standin);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}systems: {{host: {{system: \"doca:dma0/PF0\"}}}}\n")).unwrap();
    let (exit, kept, _) = run_changed(&folder, &file, REAL, without_guests, |driver| {
        driver.wait("is being watched through doca:dma0/VF0", 1);
        fs::remove_file(&fails).unwrap();
        driver.wait("VF0: doca:dma0/VF0 gives the memory of the system host", 1);
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    let ended = records(&log, "details_gathering_failed");
    let yielded = |[name, _, reason]: &&[String; 3]| {
        name == "VF0" && reason.contains("watched through a function that is named")
    };
    assert_eq!(ended.iter().filter(yielded).count(), 1, "{ended:#?}");
}

/// The functions that a device lists.
fn list(vuids: &[&str]) -> dma::DocaFunctionList {
    let function = |vuid: &&str| dma::Function {
        device: "dma0".to_owned(),
        vuid: (*vuid).to_owned(),
        kind: None,
        pci_address: None,
        obstacle: None,
    };
    let functions = vuids.iter().map(function).collect();
    dma::DocaFunctionList {
        functions,
        unlisted: Some(Vec::new()),
        ..dma::DocaFunctionList::default()
    }
}

/// Another machine may have posed as the first one until its memory could not be read any more.
#[test]
fn a_function_whose_memory_cannot_be_compared_is_soon_a_system_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure_functions(folder.path(), 4096, Path::new("/absent"));
    let check = |control: &mut ControlThread, signals: &Signals| {
        without_guests(control, signals);
        control.systems.take_functions(&mut control.cx, &list(&["VF0", "VF1"]));
        let used = control.systems.candidates[0].system.address.clone();
        let keep = |is_compared, control: &mut ControlThread| {
            control.systems.keep_spare(
                &mut control.cx,
                1,
                FunctionInUse { used: used.clone(), is_compared },
            );
            control.systems.candidates[1].spare_of.is_some()
        };
        // An answer begins the count anew.
        let is_compared = [true, false, false, true, false, false, false];
        let kept = is_compared.map(|is_compared| keep(is_compared, control));
        assert_eq!(kept, [true, true, true, true, true, true, false]);
        assert!(control.systems.candidates[1].due().unwrap() < Instant::now() + SOON);
        // The system was removed meanwhile.
        assert!(keep(true, control));
        control.systems.candidates[0].phase = Phase::Gone;
        assert!(!keep(true, control));
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, check, |_| ());
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    assert_eq!(kept.count("VF1 gives the memory of the system VF0"), 2, "{}", kept.text());
}

/// Has a control with this many functions of one machine, which is watched through the first.
fn with_functions(count: usize, check: impl FnOnce(&mut ControlThread)) {
    let folder = tempfile::tempdir().unwrap();
    let file = configure_functions(folder.path(), 4096, Path::new("/absent"));
    let check = |control: &mut ControlThread, signals: &Signals| {
        without_guests(control, signals);
        let vuids = ["VF0", "VF1", "VF2"];
        control.systems.take_functions(&mut control.cx, &list(&vuids[..count]));
        for index in 1..count {
            let used = control.systems.candidates[0].system.address.clone();
            control.systems.keep_spare(
                &mut control.cx,
                index,
                FunctionInUse { used, is_compared: true },
            );
        }
        check(control);
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, check, |_| ());
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}

#[test]
fn a_spare_function_waits_longer_for_a_machine_that_starts_than_for_one_that_is_named() {
    with_functions(2, |control| {
        assert!(control.systems.is_held_back(1) && !control.systems.is_held_back(0));
        let Phase::Waiting(waiting) = &mut control.systems.candidates[1].phase else { panic!() };
        waiting.due = Instant::now().checked_sub(AGES).unwrap();
        assert!(control.systems.is_held_back(1));
        // A system that is named uses no other function.
        control.systems.candidates[0].is_found = false;
        assert!(!control.systems.is_held_back(1));
    });
}

#[test]
fn each_function_of_a_machine_is_tried_before_one_is_tried_again() {
    with_functions(3, |control| {
        let used = std::array::from_fn(|_| {
            assert!(control.systems.use_spare(&mut control.cx, 0));
            control.systems.candidates[0].system.address.to_string()
        });
        assert_eq!(used, ["doca:dma0/VF1", "doca:dma0/VF2", "doca:dma0/VF0", "doca:dma0/VF1"]);
        assert_eq!(control.systems.candidates[0].system.name, "VF0");
    });
}

#[test]
fn a_function_that_is_compared_while_another_takes_over_stays_spare() {
    with_functions(3, |control| {
        let used = control.systems.candidates[0].system.address.clone();
        assert!(control.systems.use_spare(&mut control.cx, 0));
        let now = control.systems.candidates[0].system.address.clone();
        control.systems.keep_spare(&mut control.cx, 2, FunctionInUse { used, is_compared: true });
        assert_eq!(control.systems.candidates[2].spare_of.as_ref(), Some(&now));
        assert!(control.systems.candidates[2].due().unwrap() > Instant::now() + SOON);
    });
}

#[test]
fn a_function_that_gives_another_machine_takes_over_from_none() {
    with_functions(2, |control| {
        let known = DmaMachine::unread(&Arc::new(control.systems.candidates[0].system.clone()));
        assert_eq!(control.systems.functions.machines.add(known, |_| None), None);
        let Phase::Waiting(waiting) = control.systems.candidates[1].phase else { panic!() };
        let failure = Failure::new(Exit::NoKernel, "it has no kernel");
        control.systems.report_failure(&mut control.cx, 1, waiting, failure.into());
        assert_eq!(control.systems.candidates[1].spare_of, None);
        assert!(!control.systems.use_spare(&mut control.cx, 0));
    });
}

#[test]
fn a_changed_configuration_lets_no_spare_function_overtake_its_machine() {
    with_functions(2, |control| {
        let before = control.systems.candidates[1].due();
        let mut settings = control.systems.candidates[1].system.settings.clone();
        settings.limits.processes += 1;
        control.systems.change_settings(1, settings, false);
        assert_eq!(control.systems.candidates[1].due(), before);
    });
}

#[test]
fn physical_functions_are_searched_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = configure_functions(folder.path(), 4096, Path::new("/absent"));
    let check = |control: &mut ControlThread, signals: &Signals| {
        without_guests(control, signals);
        let mut found = list(&["VF0", "PF0", "PF1"]);
        for function in &mut found.functions[1..] {
            function.kind = Some("PF".to_owned());
        }
        control.systems.take_functions(&mut control.cx, &found);
        let names: Vec<_> =
            control.systems.candidates.iter().map(|one| one.system.name.as_str()).collect();
        assert_eq!(names, ["PF0", "PF1", "VF0"]);
        assert_eq!([0, 1, 2].map(|index| control.systems.is_held_back(index)), [false, true, true]);
        control.systems.candidates[0].wait_as_spare();
        assert_eq!([1, 2].map(|index| control.systems.is_held_back(index)), [false, true]);
    };
    let (exit, kept, _) = run_changed(&folder, &file, REAL, check, |_| ());
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
}

#[test]
fn functions_that_fail_delay_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let Some([ram, clone]) = machines(folder.path()) else { return };
    // 32 functions without memory, a device that copies nothing, and one that never answers.
    let mut settings = "device dma0 0000:03:00.0\nfunctions BARE 32\n".to_owned();
    let _ = writeln!(settings, "device dma1 0000:04:00.0\nmute\nfunctions MUTE 4");
    let _ = writeln!(settings, "device dma2 0000:05:00.0\nlost_every 1");
    let _ = writeln!(settings, "function DEAD VF {}", clone.display());
    let _ = writeln!(settings, "device dma3 0000:06:00.0\nfunction GOOD VF {}", ram.display());
    let standin = Standin::new(&settings).unwrap();
    let file = configure(folder.path(), &ram, &standin);
    let begin = Instant::now();
    let (exit, kept, _) = run_changed(&folder, &file, REAL, without_guests, |driver| {
        driver.wait("is being watched through doca:dma3/GOOD", 1);
        assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
        driver.wait("dma1 copies no memory", 1);
        driver.wait_for("failures", || {
            records(&driver.log(), "host_initialization_failed").len() >= 33
        });
    });
    assert_eq!(exit, Ok(Exit::Done), "{}", kept.text());
    let log = fs::read_to_string(folder.path().join("log/events.jsonl")).unwrap();
    // Each failure is reported once, whatever the number of attempts.
    assert_eq!(records(&log, "host_initialization_failed").len(), 33, "{}", kept.text());
    assert_eq!(records(&log, "host_initialization_successful").len(), 1, "{}", kept.text());
}
