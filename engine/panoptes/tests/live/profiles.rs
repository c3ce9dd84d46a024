//! Profiles: made from a running kernel, used for that kernel, and for no other.

use std::collections::BTreeMap;
use std::path::Path;

use panoptes_rig::{Flavor, Guest, Kernel, headers};
use serde_json::Value;

use crate::record::{Record, count, only};
use crate::watcher::{Ended, Watch, panoptes};
use crate::{barrier, inside, laws};

/// Writes a profile of a guest's kernel.
fn build(guest: &Guest, path: &Path) {
    let ram = guest.ram_path().display().to_string();
    let output = panoptes(&["profile", "build", &ram, "-o", &path.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The whole output of a scan of a paused guest.
fn scan(guest: &Guest, options: &[&str]) -> String {
    scan_with_messages(guest, options).0
}

/// The same, and the messages.
fn scan_with_messages(guest: &Guest, options: &[&str]) -> (String, String) {
    let ram = guest.ram_path().display().to_string();
    let arguments = [&["scan", &ram][..], options].concat();
    let output = panoptes(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stderr).unwrap();
    (String::from_utf8(output.stdout).unwrap(), said)
}

fn of_profile(path: &Path) -> String {
    format!("default.os_symbol_path={}", path.display())
}

/// Watches a guest until one of its activities is reported.
fn watch(guest: &mut Guest, settings: &[&str]) -> Ended {
    let watch = settings.iter().fold(Watch::of(guest), |watch, setting| watch.set(setting));
    let watcher = watch.attached();
    barrier::passed(guest, &watcher);
    watcher.stop()
}

/// The origin of the layouts in a run.
fn origin(ended: &Ended) -> &str {
    laws::hold(&ended.records);
    only(&ended.records, "a candidate", |record| record.is("loading_profile_candidate")).reason()
}

/// Checks that the profile from a kernel's image file equals the profile from memory.
fn is_the_same_offline(own: &Path, offline: &Path) {
    let kernel = Kernel::obtain(Flavor::V6_1).unwrap();
    let image = kernel.image().display().to_string();
    let output = panoptes(&["profile", "build", &image, "-o", &offline.display().to_string()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read(offline).unwrap(), std::fs::read(own).unwrap());
}

/// The members of a profile by structure and path, without those that the kernel lacks. Sizes of
/// structures are left out: of some, the probe declares only what is read.
fn members(path: &Path) -> BTreeMap<(String, String), Value> {
    let profile: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let structures = profile["members"].as_object().expect("members");
    let all = structures.iter().flat_map(|(structure, paths)| {
        paths
            .as_object()
            .into_iter()
            .flatten()
            .map(move |(path, member)| ((structure.clone(), path.clone()), member.clone()))
    });
    all.filter(|((_, path), member)| !path.is_empty() && !member.is_null()).collect()
}

#[test]
#[ignore = "boots a guest"]
fn a_profile_of_headers_has_the_layouts_of_the_kernels_own_types() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for flavor in headers::FLAVORS {
        let kernel = Kernel::obtain(flavor).unwrap();
        // A mirror has the headers of its newest kernels alone.
        let from = match headers::unpack(&kernel, &path(kernel.release())) {
            Ok(from) => from.display().to_string(),
            Err(error) => return panoptes_needs::skip::test_for("/etc/apt", error),
        };
        let (by_headers, by_image) = (path("headers.json"), path("image.json"));
        let image = kernel.image().display().to_string();
        for (source, output) in
            [(&["--headers", &from][..], &by_headers), (&[image.as_str()][..], &by_image)]
        {
            let output = output.display().to_string();
            let made = panoptes(&[&["profile", "build"], source, &["-o", &output]].concat());
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let own = members(&by_image);
        let found = members(&by_headers);
        assert!(found.len() > 200, "{}: {} members", kernel.release(), found.len());
        for (at, member) in &found {
            assert_eq!(Some(member), own.get(at), "{}: {at:?}", kernel.release());
        }
    }
    // The profile of the second kernel, with symbols from its memory.
    let kernel = Kernel::obtain(Flavor::V6_1).unwrap();
    let from = headers::unpack(&kernel, &path("again")).unwrap().display().to_string();
    let profile = path("headers.json");
    let output = profile.display().to_string();
    let made = panoptes(&["profile", "build", "--headers", &from, "-o", &output]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut guest = inside::boot(Flavor::V6_1);
    guest.pause().unwrap();
    let by_memory = scan(&guest, &["--set", "built_in_profiles=false"]);
    assert!(HIDDEN_IN_HEADERS.iter().all(|attribute| by_memory.contains(attribute)));
    let only_file = ["built_in_profiles=false", "profile_generation=false", &of_profile(&profile)];
    let options: Vec<&str> = only_file.iter().flat_map(|setting| ["--set", setting]).collect();
    let by_headers = scan(&guest, &options);
    for (of_memory, of_headers) in by_memory.lines().zip(by_headers.lines()) {
        assert_eq!(without_hidden(of_headers), without_hidden(of_memory));
    }
    assert_eq!(by_headers.lines().count(), by_memory.lines().count());
}

/// Attributes of modules that need `struct module_sect_attrs` and `struct module_notes_attrs`,
/// which are in no header (kernel/module/sysfs.c).
const HIDDEN_IN_HEADERS: [&str; 2] = ["kernel_module_sections", "kernel_module_build_id"];

/// A line of a scan without these attributes.
fn without_hidden(line: &str) -> Value {
    let mut line: Value = serde_json::from_str(line).unwrap();
    let object = line.as_object_mut().expect("an object");
    for attribute in HIDDEN_IN_HEADERS {
        object.remove(attribute);
    }
    line
}

#[test]
#[ignore = "boots a guest"]
fn a_profile_serves_its_kernel_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (own, foreign) = (path("6.1.json"), path("6.12.json"));
    build(&inside::boot(Flavor::V6_12), &foreign);
    let mut guest = inside::boot(Flavor::V6_1);
    build(&guest, &own);

    // The same memory gives the same lines with each profile. A folder is searched for the right
    // profile.
    guest.pause().unwrap();
    let by_memory = scan(&guest, &["--set", "built_in_profiles=false"]);
    for by in [&own, folder.path()] {
        let by_file =
            scan(&guest, &["--set", &of_profile(by), "--set", "profile_generation=false"]);
        assert!(by_memory == by_file, "{} gives something else", by.display());
    }
    // The built-in table of this kernel gives the same lines, without a search for its types.
    let (by_table, said) = scan_with_messages(&guest, &["--set", "profile_generation=false"]);
    assert!(by_memory == by_table, "the built-in table gives something else");
    assert!(said.contains("by the built-in table"), "{said}");
    let ram = guest.ram_path().display().to_string();
    for (profile, code, word) in [
        (&own, 0, "tasks of the list point to each other: yes"),
        (&foreign, 65, "the profile is for"),
    ] {
        let output = panoptes(&["profile", "verify", &profile.display().to_string(), &ram]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(word), "{said}");
    }
    // The right build, but a field with a wrong offset: a check fails.
    let text = std::fs::read_to_string(&own).unwrap().replacen("\"comm\":[", "\"comm\":[1", 1);
    std::fs::write(path("wrong"), text).unwrap();
    let wrong = path("wrong").display().to_string();
    let output = panoptes(&["profile", "verify", &wrong, &ram, "--json"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("\"fits\":false"), "{said}");
    guest.resume().unwrap();

    is_the_same_offline(&own, &path("vmlinuz.json"));

    let ended = watch(&mut guest, &[&of_profile(&own), "profile_generation=false"]);
    println!("{}", origin(&ended));
    assert!(origin(&ended).contains("profile file for build id"), "{}", origin(&ended));
    // A profile of another kernel is not used.
    let ended = watch(&mut guest, &[&of_profile(&foreign), "built_in_profiles=false"]);
    println!("{}", origin(&ended));
    assert!(origin(&ended).contains("BTF in memory"), "{}", origin(&ended));

    let watcher = Watch::of(&guest)
        .set(&of_profile(&foreign))
        .set("profile_generation=false")
        .set("built_in_profiles=false");
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
