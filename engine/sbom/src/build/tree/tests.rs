//! Merged layers, compared with a model that knows only paths.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::build::layer::tests::archive;
use crate::build::room::Room;
use crate::digest::PageHashes;
use tar::EntryType;

/// A layer of (path, kind): with `/` at the end a directory, `a->b` a link, `a=b` a hard link, else
/// a file with the content after `:`.
fn layer(words: &str) -> Vec<LayerEntry> {
    let members: Vec<_> = words
        .split_whitespace()
        .map(|word| {
            if let Some((path, to)) = word.split_once("->") {
                (path, EntryType::Symlink, to, &b""[..])
            } else if let Some((path, to)) = word.split_once('=') {
                (path, EntryType::Link, to, &b""[..])
            } else if word.ends_with('/') {
                (word, EntryType::Directory, "", &b""[..])
            } else {
                let (path, content) = word.split_once(':').unwrap_or((word, ""));
                (path, EntryType::Regular, "", content.as_bytes())
            }
        })
        .collect();
    let room = Room::new();
    super::super::layer::read(&mut archive(&members).as_slice(), PageHashes::None, &room).unwrap()
}

/// The files of some layers, `path:size`.
fn files(layers: &[&str]) -> String {
    let mut tree = ImageTree::new();
    for words in layers {
        tree.apply(layer(words)).unwrap();
    }
    let mut files: Vec<String> = tree
        .files()
        .unwrap()
        .0
        .iter()
        .map(|file| {
            let path = String::from_utf8(file.path.clone().unwrap()).unwrap();
            format!("{path}:{}", file.size.unwrap())
        })
        .collect();
    files.sort();
    files.join(" ")
}

/// Links lead to places deeper than any path of an archive.
#[test]
fn paths_longer_than_any_that_a_kernel_gives_are_an_error() {
    let deep = vec!["d".repeat(250); 15].join("/");
    let one = format!("{deep}/ one->/{deep}");
    let file = |folder: &str| format!("{one} one/{folder}/f:1");
    assert_eq!(files(&[&file("e")]), format!("/{deep}/e/f:1"));
    let mut tree = ImageTree::new();
    tree.apply(layer(&file(&"e".repeat(255)))).unwrap();
    tree.apply(layer(&format!("one/{}/{}/f:1", "e".repeat(255), "g".repeat(90)))).unwrap();
    let message = tree.files().unwrap_err().message;
    assert!(message.contains("has a path of more than 4096 bytes"), "{message}");
}

#[test]
fn whiteouts_take_away_what_lower_layers_have() {
    assert_eq!(files(&["a:1 b:1 d/x:1", ".wh.a d/.wh.x"]), "/b:1");
    assert_eq!(files(&["d/x:1 d/e/y:1", ".wh.d"]), "");
    // Wherever the whiteout is, it removes nothing of its own layer.
    assert_eq!(files(&["d/x:1 d/y:1", "d/z:22 .wh.d"]), "/d/z:2");
    assert_eq!(files(&["d/x:1 d/y:1", ".wh.d d/z:22"]), "/d/z:2");
    assert_eq!(files(&["a:1", "a:22 .wh.a"]), "/a:2");
    assert_eq!(files(&["a:1", ".wh.a", "a:333"]), "/a:3");
    assert_eq!(files(&["a:1", ".wh.b .wh..wh.plnk/x:1 .wh..wh.aufs:1"]), "/a:1");
}

#[test]
fn opaque_directories_hide_what_is_below() {
    assert_eq!(files(&["d/x:1 d/e/y:1 k:1", "d/ d/.wh..wh..opq d/z:22"]), "/d/z:2 /k:1");
    assert_eq!(files(&["d/x:1 d/e/y:1", "d/e/z:22 d/.wh..wh..opq"]), "/d/e/z:2");
    assert_eq!(files(&["d/x:1", "d/x:22 d/.wh..wh..opq"]), "/d/x:2");
    assert_eq!(files(&["a:1 d/x:1", ".wh..wh..opq"]), "");
}

#[test]
fn kinds_replace_each_other() {
    assert_eq!(files(&["a/x:1 b:1", "a:22 b/ b/y:1"]), "/a:2 /b/y:1");
    assert_eq!(files(&["d/ d/x:1", "d/ d/y:1"]), "/d/x:1 /d/y:1");
    assert_eq!(files(&["d/x:1", "d->e e/z:1"]), "/e/z:1");
    assert_eq!(files(&["e/x:1 d->e", "d/ d/y:1"]), "/d/y:1 /e/x:1");
}

#[test]
fn links_on_the_way_are_followed_inside() {
    assert_eq!(files(&["usr/bin/ bin->usr/bin", "bin/sh:22"]), "/usr/bin/sh:2");
    assert_eq!(files(&["usr/bin/sh:1 bin->usr/bin", "bin/.wh.sh"]), "");
    assert_eq!(files(&["out->/../../../etc", "out/x:1"]), "/etc/x:1");
    let mut tree = ImageTree::new();
    assert!(tree.apply(layer("a->b b->a a/x:1")).is_err());
    assert!(tree.apply(layer("f:1 f/x:1")).unwrap_err().message.contains("/f is no directory"));
}

#[test]
fn hard_links_share_what_they_name() {
    assert_eq!(files(&["a:1 d/b=a"]), "/a:1 /d/b:1");
    assert_eq!(files(&["a:1", "b=a a:22"]), "/a:2 /b:1");
    assert_eq!(files(&["a:1 b=a", ".wh.a"]), "/b:1");
    let mut tree = ImageTree::new();
    assert!(tree.apply(layer("b=a")).unwrap_err().message.contains("not there"));
    assert!(tree.apply(layer("d/ b=d")).is_err());
}

/// What one layer does at one path, for the model.
#[derive(Clone, Debug)]
enum Act {
    File(u8),
    Directory,
    TakeAway,
    Opaque,
}

/// A layer: distinct paths of up to three of four names.
fn acts() -> impl Strategy<Value = Vec<(String, Act)>> {
    let path = prop::collection::vec("[a-d]", 1..4).prop_map(|names| names.join("/"));
    let act = prop_oneof![
        4 => (0_u8..9).prop_map(Act::File),
        2 => Just(Act::Directory),
        2 => Just(Act::TakeAway),
        1 => Just(Act::Opaque),
    ];
    prop::collection::btree_map(path, act, 0..8).prop_map(|acts| acts.into_iter().collect())
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Merges a layer over a map of files and directories: first everything that it removes, then
/// everything that it adds.
fn model(below: &mut BTreeMap<String, Option<u8>>, acts: &[(String, Act)]) {
    for (path, act) in acts {
        match act {
            Act::TakeAway => below.retain(|one, _| one != path && !is_below(one, path)),
            Act::Opaque => below.retain(|one, _| !is_below(one, path)),
            _ => {}
        }
    }
    for (path, act) in acts {
        let kind = match act {
            Act::File(size) => Some(*size),
            Act::Directory | Act::Opaque => None,
            Act::TakeAway => continue,
        };
        for (at, _) in path.match_indices('/') {
            below.insert(path[..at].to_owned(), None);
        }
        if kind.is_some() || below.get(path).is_some_and(Option::is_some) {
            below.retain(|one, _| !is_below(one, path));
        }
        below.insert(path.clone(), kind);
    }
}

/// Whether a layer is consistent: nothing is below a file of its own.
fn is_sound(acts: &[(String, Act)]) -> bool {
    acts.iter().all(|(path, act)| {
        !matches!(act, Act::File(_))
            || !acts
                .iter()
                .any(|(other, what)| is_below(other, path) && !matches!(what, Act::TakeAway))
    })
}

proptest! {
    #[test]
    fn layers_are_as_a_model_has_them(
        layers in prop::collection::vec(acts(), 1..5),
        order in any::<u64>(),
    ) {
        let mut below = BTreeMap::new();
        let mut tree = ImageTree::new();
        for mut acts in layers {
            // A file is replaced by a directory only where the layer names it.
            acts.retain(|(path, _)| {
                !below.iter().any(|(one, kind): (&String, &Option<u8>)| {
                    kind.is_some() && is_below(path, one)
                })
            });
            if !is_sound(&acts) {
                continue;
            }
            model(&mut below, &acts);
            let mut words: Vec<String> = acts
                .iter()
                .map(|(path, act)| {
                    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                    let slash = if folder.is_empty() { "" } else { "/" };
                    match act {
                        Act::File(size) => format!("{path}:{}", "x".repeat(usize::from(*size))),
                        Act::Directory => format!("{path}/"),
                        Act::TakeAway => format!("{folder}{slash}.wh.{name}"),
                        Act::Opaque => format!("{path}/ {path}/.wh..wh..opq"),
                    }
                })
                .flat_map(|words: String| words.split(' ').map(str::to_owned).collect::<Vec<_>>())
                .collect();
            // In any order, even with directories before their entries.
            if order % 2 == 1 {
                words.sort_by_key(|word| word.contains(".wh."));
            } else {
                words.sort_by_key(|word| !word.contains(".wh."));
            }
            let applied = tree.apply(layer(&words.join(" ")));
            prop_assert!(applied.is_ok(), "{applied:?} {words:?}");
        }
        let mut found: Vec<(String, u8)> = tree
            .files()
            .unwrap()
            .0
            .into_iter()
            .map(|file| {
                let path = String::from_utf8(file.path.unwrap()).unwrap();
                (path[1..].to_owned(), file.size.unwrap() as u8)
            })
            .collect();
        found.sort();
        let expected: Vec<(String, u8)> =
            below.into_iter().filter_map(|(path, kind)| Some((path, kind?))).collect();
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn all_names_of_a_file_count_for_the_bound_of_its_pages() {
    let (size, pages) = (0, vec![[0; 16]; 8]);
    let content = ContentDigests { size, sha256: [0; 32], sha1: [0; 20], md5: [0; 16], pages };
    let entry = |path: &str, kind| LayerEntry { path: path.into(), kind };
    let link = || EntryKind::Link(b"a".to_vec());
    let mut tree = ImageTree::new();
    let file = EntryKind::File { mode: 0, content };
    tree.apply(vec![entry("a", file), entry("b", link()), entry("c", link())]).unwrap();
    let files = |max| tree.files_up_to(max, |path| SbomError::content(shown(path)));
    assert_eq!(files(24).unwrap().0.len(), 3);
    assert_eq!(files(23).unwrap_err().message, "/a", "the last one that is listed");
}

fn directories(paths: &[&str]) -> Vec<LayerEntry> {
    paths
        .iter()
        .map(|path| LayerEntry { path: (*path).into(), kind: EntryKind::Directory })
        .collect()
}

/// One entry can imply two thousand directories.
#[test]
fn directories_that_no_entry_names_have_a_bound_of_their_own() {
    let mut tree = ImageTree::new();
    tree.implied_left = 3;
    tree.apply(directories(&["a/b/c/d", "e", "e/f"])).unwrap();
    let message = tree.apply(directories(&["g", "g/h/i"])).unwrap_err().message;
    assert_eq!(message, "holds more than 1048576 directories that no entry names, at g/h");
    let deep = |at: u32| LayerEntry {
        path: format!("{at}{}", "/a".repeat(2000)).into(),
        kind: EntryKind::Directory,
    };
    let mut tree = ImageTree::new();
    assert!(tree.apply((0..524).map(deep).collect()).is_ok());
    assert!(tree.apply(vec![deep(524)]).is_err());
}

/// Each link on the way may lead through thousands of names.
#[test]
fn the_steps_of_all_entries_have_one_bound() {
    let link = |path: &str, to: String| LayerEntry {
        path: path.into(),
        kind: EntryKind::Symlink(to.into_bytes()),
    };
    let mut tree = ImageTree::new();
    tree.apply(vec![link("l", "./".repeat(2000)), link("m", "l".into())]).unwrap();
    tree.steps_left = 5000;
    tree.apply(directories(&["m/a", "m/b"])).unwrap();
    let message = tree.apply(directories(&["m/c"])).unwrap_err().message;
    assert_eq!(message, "holds more than 100000000 steps through directories and links, at m");
    // A long name takes its time, too.
    let mut tree = ImageTree::new();
    tree.steps_left = 10;
    assert!(tree.apply(directories(&[&format!("{}/a", "n".repeat(1000))])).is_err());
}

/// An opaque directory is searched as often as its layer marks it.
#[test]
fn the_steps_of_marks_count() {
    let names: Vec<String> = (0..100).map(|at| format!("d/{at}")).collect();
    for mark in ["d/.wh..wh..opq", ".wh.d"] {
        let done = |marks| {
            let mut tree = ImageTree::new();
            tree.steps_left = 1500;
            let paths = names.iter().map(String::as_str);
            tree.apply(directories(&paths.chain(vec![mark; marks]).collect::<Vec<_>>()))
        };
        assert!(done(3).is_ok(), "{mark}");
        assert!(done(9).is_err(), "{mark}");
    }
}
