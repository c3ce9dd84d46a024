//! Profiles: written down from a running kernel, used for that kernel, and for no other.

use std::path::Path;

use panoptes_rig::{Flavor, Guest, enabled};

use crate::record::{Record, count, only};
use crate::watcher::{Ended, Watch, panoptes};
use crate::{inside, laws};

/// Writes a profile of a guest's kernel.
fn build(guest: &Guest, path: &Path) {
    let ram = guest.ram_path().display().to_string();
    let output = panoptes(&["profile", "build", &ram, "-o", &path.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Everything that a scan of a paused guest prints.
fn scan(guest: &Guest, options: &[&str]) -> String {
    let ram = guest.ram_path().display().to_string();
    let arguments = [&["scan", &ram][..], options].concat();
    let output = panoptes(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn of_profile(path: &Path) -> String {
    format!("default.os_symbol_path={}", path.display())
}

/// Where the layouts of a run came from.
fn origin(ended: &Ended) -> &str {
    laws::hold(&ended.records);
    only(&ended.records, "a candidate", |record| record.is("loading_profile_candidate")).reason()
}

#[test]
fn a_profile_serves_its_kernel_and_no_other() {
    if !enabled("a_profile_serves_its_kernel_and_no_other") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (own, foreign) = (path("6.1.json"), path("6.12.json"));
    build(&inside::boot(Flavor::V6_12), &foreign);
    let mut guest = inside::boot(Flavor::V6_1);
    build(&guest, &own);

    // The same memory gives the same lines, by whichever profile; a folder is searched for the right one.
    guest.pause().unwrap();
    let by_memory = scan(&guest, &[]);
    for by in [&own, folder.path()] {
        let by_file =
            scan(&guest, &["--set", &of_profile(by), "--set", "profile_generation=false"]);
        assert!(by_memory == by_file, "{} gives something else", by.display());
    }
    guest.resume().unwrap();

    let watch = |settings: &[&str]| -> Ended {
        let watch = settings.iter().fold(Watch::of(&guest), |watch, setting| watch.set(setting));
        let watcher = watch.attached();
        std::thread::sleep(std::time::Duration::from_millis(300));
        watcher.stop()
    };
    let ended = watch(&[&of_profile(&own), "profile_generation=false"]);
    println!("{}", origin(&ended));
    assert!(origin(&ended).contains("profile file for build id"), "{}", origin(&ended));
    // Another boot of the same kernel is the same for it, another kernel is not.
    let ended = watch(&[&of_profile(&foreign)]);
    println!("{}", origin(&ended));
    assert!(origin(&ended).contains("BTF in memory"), "{}", origin(&ended));

    let watcher = Watch::of(&guest).set(&of_profile(&foreign)).set("profile_generation=false");
    let ended = watcher.start().ended();
    assert_eq!(ended.code, Some(65), "{:?}", ended.said);
    laws::hold(&ended.records);
    let names: Vec<&str> = ended.records.iter().map(Record::name).collect();
    println!("{names:?}");
    for name in
        ["no_matching_profile_found", "host_initialization_failed", "service_initialization_failed"]
    {
        assert_eq!(count(&ended.records, name), 1, "{name} of {names:?}");
    }
    assert_eq!(count(&ended.records, "loading_profile_candidate"), 0);
}
