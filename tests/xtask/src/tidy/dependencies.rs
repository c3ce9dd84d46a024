//! Every dependency that is declared is used.

use super::code::{code_of, find_word};
use super::{files, sources};

#[test]
fn dependencies_of_the_workspace_have_a_member() {
    let manifests = files(&["toml"]);
    let (_, workspace) = manifests.iter().find(|(path, _)| path == "Cargo.toml").expect("the root");
    let declared = names(workspace, "[workspace.dependencies]");
    assert!(declared.len() > 30, "too few dependencies: {declared:?}");
    let members = manifests.iter().filter(|(path, _)| path.ends_with("/Cargo.toml"));
    let used: Vec<_> = members.flat_map(|(_, manifest)| dependencies(manifest)).collect();
    let unused: Vec<_> = declared.iter().filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "no member uses {unused:?}");
}

/// Scans and detectors know no outputs, so they need no TLS, no Parquet and no `io_uring`.
#[test]
fn the_engine_depends_on_no_outputs() {
    let manifests = files(&["toml"]);
    let name_of = |manifest: &str| {
        let line = manifest.lines().find(|line| line.starts_with("name = "));
        line.and_then(|line| line.split('"').nth(1)).unwrap_or_default().to_owned()
    };
    let members: Vec<(String, Vec<&str>)> =
        manifests.iter().map(|(_, text)| (name_of(text), names(text, "[dependencies]"))).collect();
    let mut all = vec!["panoptes-engine"];
    let mut next = 0;
    while let Some(name) = all.get(next) {
        let member = members.iter().find(|(member, _)| member == name);
        let new = member.into_iter().flat_map(|(_, needs)| needs).filter(|it| !all.contains(it));
        let new: Vec<&str> = new.copied().collect();
        all.extend(new);
        next += 1;
    }
    assert!(all.contains(&"panoptes-records") && all.contains(&"zerocopy"), "{all:?}");
    for output in ["panoptes-sinks", "rustls", "parquet", "io-uring"] {
        assert!(!all.contains(&output), "the engine depends on {output}: {all:?}");
    }
}

/// A panic must not end the service, and no build for users panics on purpose.
#[test]
fn release_builds_unwind_and_have_no_failpoints() {
    let manifests = files(&["toml"]);
    let sections = manifests
        .iter()
        .flat_map(|(path, manifest)| manifest.split("\n[").map(move |section| (path, section)));
    let mut unwinds = false;
    for (path, section) in sections {
        let name = section.split(']').next().unwrap_or_default();
        unwinds |= name == "profile.release" && section.contains("\npanic = \"unwind\"\n");
        assert!(!section.contains("panic = \"abort\""), "{path}: {name}");
        let mut lines = section.lines();
        let default = lines.find(|line| line.starts_with("default =")).unwrap_or_default();
        assert!(!default.contains("failpoints"), "{path}: {default}");
    }
    assert!(unwinds, "the profile for release");
}

#[test]
fn dependencies_of_a_member_occur_in_its_sources() {
    let (manifests, sources) = (files(&["toml"]), sources());
    let folders: Vec<&str> =
        manifests.iter().filter_map(|(path, _)| path.strip_suffix("Cargo.toml")).collect();
    let mut unused = Vec::new();
    for (path, manifest) in manifests.iter().filter(|(path, _)| path.ends_with("/Cargo.toml")) {
        let folder = path.strip_suffix("Cargo.toml").unwrap_or_default();
        // Members inside of this one have manifests of their own.
        let is_inner = |path: &str| {
            folders.iter().any(|other| other.len() > folder.len() && path.starts_with(other))
        };
        let is_own = |path: &str| path.starts_with(folder) && !is_inner(path);
        // Sources of other members that `#[path = "…"]` includes.
        let own = sources.iter().filter(|(path, _)| is_own(path));
        let included: Vec<&str> = own.flat_map(|(_, text)| included(text)).collect();
        let is_included = |path: &str| {
            included.iter().any(|end| match end.strip_suffix("mod.rs") {
                Some(folder) => path.contains(folder),
                None => path.ends_with(end),
            })
        };
        let read = sources.iter().filter(|(path, _)| is_own(path) || is_included(path));
        let read: Vec<String> = read.map(|(_, text)| code_of(text)).collect();
        for name in dependencies(manifest) {
            let library = if name == "md-5" { "md5".to_owned() } else { name.replace('-', "_") };
            if !read.iter().any(|code| find_word(code, &library, 0).is_some()) {
                unused.push(format!("{folder}: {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "dependencies that no source names: {unused:?}");
}

/// The ends of the paths of included files.
fn included(text: &str) -> impl Iterator<Item = &str> {
    let paths = text.lines().filter_map(|line| line.trim_start().strip_prefix("#[path = \""));
    paths.filter_map(|path| Some(path.split_once('"')?.0.trim_start_matches("../")))
}

/// The names in every table of dependencies of a manifest.
fn dependencies(manifest: &str) -> Vec<&str> {
    let tables = manifest.lines().filter(|line| line.trim_end().ends_with("dependencies]"));
    tables.flat_map(|table| names(manifest, table)).collect()
}

/// The keys of one table.
pub(super) fn names<'a>(manifest: &'a str, table: &str) -> Vec<&'a str> {
    let lines = manifest.lines().skip_while(|line| *line != table).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let keys = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    keys.map(|(key, _)| key.trim().split('.').next().unwrap_or_default()).collect()
}

#[test]
fn names_of_dependencies_are_read() {
    let manifest = "[dependencies]\n# why\na-b.workspace = true\nc = { version = \"1\" }\n\n\
                    [dev-dependencies]\nd = \"1\"\n[features]\ne = []\n";
    assert_eq!(dependencies(manifest), ["a-b", "c", "d"]);
}
