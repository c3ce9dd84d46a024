//! Modules depend on each other in one direction.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{is_test, product_code_of};
use super::{assert_list, sources};

/// The engine's modules by rank, in the order in which bytes travel. A module uses only its own
/// rank and lower ones.
const ENGINE_RANKS: &[(&str, u32)] = &[
    ("limits", 0),
    ("container_config", 0),
    ("loss", 0),
    ("time", 0),
    ("address", 2),
    ("system", 3),
    ("walk", 3),
    ("path", 3),
    ("page_cache", 4),
    ("kernel_code", 4),
    ("shipped", 5),
    ("state", 5),
    ("detect", 6),
    ("executables", 6),
    ("policy", 7),
    ("watch", 8),
];

/// Folders with the sources of a crate.
const CRATES: &[&str] = &[
    "decoders/src",
    "engine/flow/src",
    "engine/packet-files/src",
    "engine/packet-filter/src",
    "engine/packet-rings/src",
    "engine/panoptes/src",
    "engine/records/src",
    "engine/sbom/src",
    "engine/sources/src",
    "engine/src",
    "engine/tables/src",
    "engine/unpack/src",
    "profiles/src",
    "sinks/src",
    "tests/rig/src",
    "tests/xtask/src",
];

/// Modules of one folder that use each other in a circle. The list may only shrink.
const CIRCLES: &[&str] = &[
    "engine/src/walk: container_rows snapshot sockets",
    "tests/rig/src/scenarios: load twins",
    "tests/rig/src/scenarios: outcome watcher",
    "tests/rig/src/scenarios: pace run",
    "tests/rig/src: disk setup",
    "tests/rig/src: guest machine snapshot",
];

#[test]
fn modules_of_a_folder_use_each_other_in_one_direction() {
    let sources = sources();
    let mut found = Vec::new();
    for root in CRATES {
        let files: Vec<(Vec<&str>, String)> = sources
            .iter()
            .filter(|(path, _)| !is_test(path))
            .filter_map(|(path, text)| {
                let path = path.strip_prefix(root)?.strip_prefix('/')?;
                Some((module_of(path), product_code_of(text)))
            })
            .collect();
        for (parent, circle) in circles(&files) {
            found.push(format!("{}: {}", folder(root, &parent), circle.join(" ")));
        }
    }
    found.sort();
    assert_list("circles of modules", &found, CIRCLES);
}

fn folder(root: &str, parent: &[&str]) -> String {
    let mut path = vec![root];
    path.extend(parent);
    path.join("/")
}

/// `a/mod.rs` and `a.rs` are `[a]`, `a/b.rs` is `[a, b]`, `lib.rs` is `[]`.
fn module_of(path: &str) -> Vec<&str> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut module: Vec<_> = path.split('/').collect();
    if module.last() == Some(&"mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

/// The circles among the children of each module.
fn circles<'a>(files: &[(Vec<&'a str>, String)]) -> Vec<(Vec<&'a str>, Vec<&'a str>)> {
    let modules: BTreeSet<&[&str]> = files.iter().map(|(module, _)| &module[..]).collect();
    // The uses among the children of each parent.
    let mut uses: BTreeMap<&[&str], BTreeSet<(&str, &str)>> = BTreeMap::new();
    for (module, code) in files {
        for path in used_paths(module, code) {
            let shared = module.iter().zip(&path).take_while(|(a, b)| *a == *b).count();
            let (Some(user), Some(used)) = (module.get(shared), path.get(shared)) else { continue };
            let mut used_module = module[..shared].to_vec();
            used_module.push(used);
            if let Some(known) = modules.get(&used_module[..]) {
                uses.entry(&module[..shared]).or_default().insert((*user, known[shared]));
            }
        }
    }
    let mut all = Vec::new();
    for (parent, uses) in &uses {
        let children: BTreeSet<&str> = uses.iter().map(|(user, _)| *user).collect();
        let mut done = BTreeSet::new();
        for &child in &children {
            let circle: Vec<&str> = children
                .iter()
                .copied()
                .filter(|&other| reaches(uses, child, other) && reaches(uses, other, child))
                .collect();
            if circle.len() > 1 && done.insert(circle.clone()) {
                all.push((parent.to_vec(), circle));
            }
        }
    }
    all
}

fn reaches(uses: &BTreeSet<(&str, &str)>, from: &str, to: &str) -> bool {
    let (mut open, mut seen) = (vec![from], BTreeSet::new());
    while let Some(module) = open.pop() {
        for &(_, used) in uses.iter().filter(|(user, _)| *user == module) {
            if used == to {
                return true;
            }
            if seen.insert(used) {
                open.push(used);
            }
        }
    }
    false
}

/// The paths in a module that begin with `crate`, `super` or `self`, from the crate's root.
fn used_paths<'a>(module: &[&'a str], code: &'a str) -> Vec<Vec<&'a str>> {
    let mut all = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | ':')) {
                continue;
            }
            let mut base = if start == "crate::" { Vec::new() } else { module.to_vec() };
            if start == "super::" {
                base.pop();
            }
            tree(&code[at + start.len()..], &mut base, &mut all);
        }
    }
    all
}

/// Adds the paths of a tree of uses (`a::{b, c::d}`) and returns what follows.
fn tree<'a>(code: &'a str, base: &mut Vec<&'a str>, all: &mut Vec<Vec<&'a str>>) -> &'a str {
    let depth = base.len();
    let mut rest = code.trim_start();
    loop {
        if let Some(list) = rest.strip_prefix('{') {
            rest = list.trim_start();
            while !rest.starts_with('}') && !rest.is_empty() {
                let before = rest.len();
                rest = tree(rest, &mut base.clone(), all).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
                if rest.len() == before {
                    return rest;
                }
            }
            base.truncate(depth);
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match word {
            "super" => _ = base.pop(),
            "" | "self" => {}
            word => base.push(word),
        }
        if let Some(more) = after.strip_prefix("::") {
            rest = more;
            continue;
        }
        all.push(base.clone());
        // `as name`
        let after = after.trim_start();
        let after = after.strip_prefix("as ").map_or(after, |named| {
            named.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
        });
        base.truncate(depth);
        return after.strip_prefix('*').unwrap_or(after);
    }
}

#[test]
fn circles_are_found() {
    let file = |module: &[&'static str], code: &str| (module.to_vec(), code.to_owned());
    let one_way = [
        file(&[], "use a::X;"),
        file(&["a"], "use crate::b::{self, Y as Z}; use super::c::d;"),
        file(&["b"], "use crate::c::*;"),
        file(&["c"], ""),
    ];
    assert_eq!(circles(&one_way), []);
    let circle = [
        file(&["a"], "use crate::{c, b::inner::Y};"),
        file(&["b"], ""),
        file(&["b", "inner"], "use super::other::X; fn f() { super::super::a::g() }"),
        file(&["b", "other"], "use super::inner;"),
        file(&["c"], "use self::d::X;"),
    ];
    let found = circles(&circle);
    assert_eq!(found, [(vec![], vec!["a", "b"]), (vec!["b"], vec!["inner", "other"])]);
}

fn engine_rank(module: &str) -> u32 {
    let known = ENGINE_RANKS.iter().find(|(name, _)| *name == module);
    known.unwrap_or_else(|| panic!("engine/src/{module} has no rank in {}", file!())).1
}

#[test]
fn the_engine_depends_only_downwards() {
    let mut upwards = Vec::new();
    let mut seen = 0;
    for (name, text) in sources() {
        let Some(rest) = name.strip_prefix("engine/src/") else { continue };
        let module = rest.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        for line in text.lines() {
            let Some((_, used)) = line.split_once("crate::") else { continue };
            if line.trim_start().starts_with("//") || used.starts_with('{') {
                continue;
            }
            let used: String =
                used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if line.contains("$crate") && !ENGINE_RANKS.iter().any(|(name, _)| *name == used) {
                continue;
            }
            seen += 1;
            if engine_rank(&used) > engine_rank(module) {
                upwards.push(format!("{name}: {}", line.trim()));
            }
        }
    }
    assert!(seen > 50, "the search for `crate::` found too few uses");
    assert!(upwards.is_empty(), "modules that use a higher rank: {upwards:#?}");
}
