//! Roots of every kind, compared with their known content.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::digest::hex;
use crate::format;

fn write(root: &Path, path: &str, content: &[u8], mode: u32) {
    let place = root.join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, content).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(mode)).unwrap();
}

fn paths(built: &BuildResult) -> Vec<String> {
    let text = |file: &crate::model::SbomFile| {
        String::from_utf8(file.path.clone().unwrap_or_default()).unwrap()
    };
    built.sbom.files.iter().map(text).collect()
}

fn built(root: &Path) -> BuildResult {
    build(root, &BuildOptions::default(), &()).unwrap()
}

/// A root with a file of each kind.
fn root() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "usr/bin/app", b"\x7fELF app", 0o4755);
    write(root, "usr/lib/a.txt", b"text", 0o644);
    write(root, "usr/lib/empty", b"", 0o644);
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/etc/passwd", root.join("outside")).unwrap();
    symlink("/etc", root.join("usr/etc")).unwrap();
    fs::hard_link(root.join("usr/bin/app"), root.join("usr/bin/app2")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), 0o600.into()).unwrap();
    folder
}

#[test]
fn a_root_is_its_own_files_and_nothing_else() {
    let folder = root();
    let built = built(folder.path());
    assert_eq!(
        paths(&built),
        ["/usr/bin/app", "/usr/bin/app2", "/usr/lib/a.txt", "/usr/lib/empty"]
    );
    assert_eq!((built.special, built.problems.len()), (1, 0));
    // Hard links are read once.
    assert_eq!(built.bytes, 8 + 4);
    let app = &built.sbom.files[0];
    assert_eq!((app.size, app.mode, app.pages.len()), (Some(8), Some(0o4755), 1));
    // printf '\x7fELF app' | sha256sum
    let expected = "142a4b93b3058a0f22da12c8a004cc7563bf20fc39aa2fb7c0e2fc9c0f8c8cd9";
    assert_eq!(hex(&app.sha256.unwrap()), expected);
    assert!(built.sbom.files[2].pages.is_empty());
    assert_eq!(built.sbom.files[3].size, Some(0));
}

#[test]
fn the_same_root_gives_the_same_bytes() {
    let folder = root();
    let text = |built: &BuildResult| {
        let mut bytes = Vec::new();
        format::write(&built.sbom, &mut bytes).unwrap();
        bytes
    };
    let first = text(&built(folder.path()));
    // A copy, made in another order.
    let copy = tempfile::tempdir().unwrap();
    write(copy.path(), "usr/lib/empty", b"", 0o644);
    write(copy.path(), "usr/lib/a.txt", b"text", 0o644);
    write(copy.path(), "usr/bin/app2", b"\x7fELF app", 0o4755);
    write(copy.path(), "usr/bin/app", b"\x7fELF app", 0o4755);
    assert_eq!(String::from_utf8(text(&built(copy.path()))), String::from_utf8(first.clone()));
    assert_eq!(format::read(&first).unwrap(), built(folder.path()).sbom);
}

#[test]
fn names_and_containers_are_set() {
    let folder = root();
    let options = BuildOptions {
        name: Some("web".to_owned()),
        containers: vec!["b*".to_owned(), "a".to_owned()],
        page_hashes: PageHashes::None,
        excluded: vec!["/usr/lib".into()],
        ..BuildOptions::default()
    };
    let built = build(folder.path(), &options, &()).unwrap();
    let SbomSubject::Image(image) = &built.sbom.subject else { panic!("it is an image now") };
    assert_eq!(image.name.as_deref(), Some("web"));
    assert_eq!(image.containers, ["a", "b*"]);
    assert_eq!(paths(&built), ["/usr/bin/app", "/usr/bin/app2"]);
    assert!(built.sbom.files.iter().all(|file| file.pages.is_empty()));
}

/// A root with two packages, one of which diverted a file of the other.
fn dpkg_root() -> TempDir {
    let folder = root();
    let root = folder.path();
    write(root, "usr/bin/other", b"other", 0o755);
    write(root, "usr/bin/tool.distrib", b"tool", 0o755);
    write(root, "usr/bin/tool", b"new tool", 0o755);
    let info = "var/lib/dpkg/info";
    // printf … | md5sum
    write(
        root,
        &format!("{info}/a.md5sums"),
        b"1cb251ec0d568de6a929b520c4aed8d1  usr/lib/a.txt\n\
          00000000000000000000000000000000  bin/other\n\
          39ab32c5aeb56c9f5ae17f073ce31023  bin/tool\n\
          00000000000000000000000000000001  usr/lib/gone\n\
          00000000000000000000000000000002  usr/lib/replaced\n",
        0o644,
    );
    let list = b"/.\n/usr/lib/a.txt\n/bin/other\n/bin/tool\n/usr/lib/gone\n";
    write(root, &format!("{info}/a.list"), list, 0o644);
    write(root, &format!("{info}/b:amd64.md5sums"), b"", 0o644);
    write(root, &format!("{info}/b:amd64.list"), b"", 0o644);
    let diversions = b"/bin/tool\n/bin/tool.distrib\nb\n";
    write(root, "var/lib/dpkg/diversions", diversions, 0o644);
    folder
}

#[test]
fn packages_are_compared_with_the_files() {
    let folder = dpkg_root();
    let built = built(folder.path());
    assert_eq!(
        built.remarks,
        ["dpkg: 2 files are what it installed, 1 differ, 1 are missing: /usr/bin/other (a)"]
    );
    assert_eq!(built.problems.len(), 0);
    assert!(paths(&built).contains(&"/usr/bin/tool.distrib".to_owned()));
}

#[test]
fn the_word_of_dpkg_can_be_taken() {
    let folder = dpkg_root();
    let options = BuildOptions { trust_dpkg: true, ..BuildOptions::default() };
    let built = build(folder.path(), &options, &()).unwrap();
    assert_eq!(
        paths(&built),
        ["/usr/bin/other", "/usr/bin/tool.distrib", "/usr/lib/a.txt", "/usr/lib/gone"]
    );
    assert!(built.sbom.files.iter().all(|file| file.md5.is_some() && file.sha256.is_none()));
    let plain = root();
    let error = build(plain.path(), &options, &()).unwrap_err();
    assert!(error.message.contains("--trust-dpkg"), "{error}");
}

#[test]
fn a_list_becomes_an_sbom() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    fs::write(&list, format!("{}  a\n", "1".repeat(64))).unwrap();
    let built = build(&list, &BuildOptions::default(), &()).unwrap();
    assert_eq!(built.sbom.files.len(), 1);
    assert!(matches!(built.sbom.subject, SbomSubject::Hashes { .. }));
    let missing = build(&folder.path().join("none"), &BuildOptions::default(), &()).unwrap_err();
    assert_eq!(missing.kind, crate::SbomErrorKind::Source);
}
