//! `cargo bench` at the root runs criterion's benchmarks alone.

use super::files;

/// `cargo bench` compiles and starts the tests of each library and program that does not decline,
/// and finds no benchmark in them.
#[test]
fn cargo_bench_at_the_root_runs_criterions_benchmarks_alone() {
    let manifests = files(&["toml"]);
    let (_, root) = manifests.iter().find(|(path, _)| path == "Cargo.toml").expect("the root");
    let line = root.lines().find(|line| line.starts_with("default-members = ")).expect("members");
    let members: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&"benches"), "the benchmarks are default members");
    let sources = super::sources();
    for member in members {
        let path = format!("{member}/Cargo.toml");
        let (_, manifest) = manifests.iter().find(|(other, _)| *other == path).expect("a member");
        let is_target = |path: &str| {
            let inner = path.strip_prefix(member).and_then(|path| path.strip_prefix("/src/"));
            inner.is_some_and(|inner| {
                let program = inner.strip_prefix("bin/").unwrap_or_default();
                let is_program = program.ends_with("/main.rs") || !program.contains('/');
                matches!(inner, "lib.rs" | "main.rs") || !program.is_empty() && is_program
            })
        };
        let expected = sources.iter().filter(|(path, _)| is_target(path)).count();
        assert_eq!(declining(manifest), expected, "{path}: `bench = false` in [lib] and [[bin]]");
    }
}

/// Number of libraries and programs of a manifest that have no benchmarks.
fn declining(manifest: &str) -> usize {
    let sections = manifest.split("\n[").filter(|section| {
        (section.starts_with("lib]") || section.starts_with("[bin]]"))
            && section.contains("\nbench = false")
    });
    sections.count()
}

#[test]
fn sections_without_benchmarks_are_counted() {
    let manifest = "[package]\nname = \"a\"\n\n[lib]\nbench = false\n\n[[bin]]\nname = \"b\"\n\n\
                    [[bin]]\nname = \"c\"\nbench = false\n\n[[bench]]\nbench = false\n";
    assert_eq!(declining(manifest), 2);
}
