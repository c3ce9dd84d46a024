//! A root with the packages of `engine/sbom/tests/rpm/`: rpm 4.18 made their database, while a
//! reader kept it from writing the second package from the log into the database. `db5.3_load -t
//! hash` made `Packages` of the headers in it, with pages of 4 KiB; rpm 4.18 lists its packages.

use std::fs::Permissions;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;
use crate::SbomErrorKind;
use crate::build::{BuildOptions, BuildResult, build};
use crate::digest::hex;

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    panoptes_unpack::all(packed).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

pub(super) fn database() -> Vec<u8> {
    unpacked(include_bytes!("../../../tests/rpm/rpmdb.sqlite.xz"))
}

pub(super) fn log() -> Vec<u8> {
    unpacked(include_bytes!("../../../tests/rpm/rpmdb.sqlite-wal.xz"))
}

fn write(root: &Path, path: &str, content: &[u8]) {
    let place = root.join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, content).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
}

/// The files of the two packages, and the link through which one of them is named.
fn root() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["app", "app3"] {
        write(root, &format!("usr/bin/{name}"), b"#!/bin/sh\necho app\n");
    }
    write(root, "usr/bin/tool", b"tool");
    write(root, "etc/app.conf", b"changed, as a configuration may be\n");
    for index in 1..=60 {
        let name = format!("usr/share/doc/a-long-name-of-a-document-{index}");
        write(root, &name, format!("doc {index}\n").as_bytes());
    }
    symlink("usr/bin", root.join("bin")).unwrap();
    folder
}

fn with_database(root: &Path) {
    let folder = root.join(FOLDERS[0]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(SQLITE), database()).unwrap();
    fs::write(folder.join("rpmdb.sqlite-wal"), log()).unwrap();
    // As the distributions that moved it have it.
    fs::create_dir_all(root.join("var/lib")).unwrap();
    symlink("../../usr/lib/sysimage/rpm", root.join(FOLDERS[1])).unwrap();
}

fn built(root: &Path, trust_rpm: bool) -> Result<BuildResult, SbomError> {
    build(root, &BuildOptions { trust_rpm, ..BuildOptions::default() }, &())
}

#[test]
fn packages_are_compared_with_the_files() {
    let folder = root();
    with_database(folder.path());
    let good = built(folder.path(), false).unwrap();
    // 60 documents, two names of the program, and the tool; neither configuration nor ghost.
    assert_eq!(good.remarks, ["rpm: 63 files are what it installed, 0 differ, 0 are missing"]);
    assert_eq!(good.source, "a root directory with packages");
    write(folder.path(), "usr/bin/tool", b"another tool");
    fs::remove_file(folder.path().join("usr/bin/app3")).unwrap();
    let bad = built(folder.path(), false).unwrap();
    let expected =
        "rpm: 61 files are what it installed, 1 differ, 1 are missing: /usr/bin/tool (tool)";
    assert_eq!(bad.remarks, [expected]);
}

#[test]
fn the_word_of_rpm_can_be_taken() {
    let folder = root();
    with_database(folder.path());
    let built_without_reading = built(folder.path(), true).unwrap();
    assert_eq!(built_without_reading.source, "rpm's database");
    let files = &built_without_reading.sbom.files;
    let of = |path: &str| files.iter().find(|file| file.path.as_deref() == Some(path.as_bytes()));
    let sha256 = of("/usr/bin/app").and_then(|file| file.sha256).map(|sum| hex(&sum));
    let md5 = of("/usr/bin/tool").and_then(|file| file.md5).map(|sum| hex(&sum));
    // printf '#!/bin/sh\necho app\n' | sha256sum; printf tool | md5sum
    let app = "c157672243e95600f30518227e923ff34774aafba350ac9fa33f134d7bde3de6";
    let tool = "39ab32c5aeb56c9f5ae17f073ce31023";
    assert_eq!((sha256.as_deref(), md5.as_deref()), (Some(app), Some(tool)));
    assert_eq!(files.len(), 63);
    assert_eq!(of("/etc/app.conf"), None);
}

#[test]
fn a_log_that_was_written_in_part_counts_up_to_its_last_whole_change() {
    let folder = root();
    with_database(folder.path());
    let path = folder.path().join(FOLDERS[0]).join("rpmdb.sqlite-wal");
    let whole = log().len();
    for (length, is_whole) in [(whole, true), (whole - 1, false), (40, false), (0, false)] {
        fs::write(&path, &log()[..length]).unwrap();
        let files = built(folder.path(), true).unwrap().sbom.files.len();
        assert_eq!(files, if is_whole { 63 } else { 62 }, "{length}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(built(folder.path(), true).unwrap().sbom.files.len(), 62);
    let mut journal = JOURNAL_MAGIC.to_vec();
    journal.resize(512, 0);
    fs::write(path.with_file_name("rpmdb.sqlite-journal"), journal).unwrap();
    let error = built(folder.path(), false).unwrap_err();
    assert!(error.message.contains("`rpm -qa` mends it"), "{error}");
}

/// The headers of both packages.
fn headers() -> Vec<Vec<u8>> {
    let file = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    };
    let mut database =
        SqliteDatabase::open(file(&super::tests::database()), Some(file(&log()))).unwrap();
    let mut headers = Vec::new();
    database
        .rows("Packages", &mut |row| {
            let [_, SqliteValue::Bytes(header)] = &row[..] else { panic!("{row:?}") };
            headers.push(header.clone());
            Ok(())
        })
        .unwrap();
    assert_eq!(headers.len(), 2);
    headers
}

/// Databases of the older kinds with both packages.
fn older() -> [(&'static str, Vec<u8>); 2] {
    let headers = headers();
    let headers: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
    let berkeley = unpacked(include_bytes!("../../../tests/rpm/Packages.xz"));
    [("Packages.db", ndb::tests::database(&headers)), ("Packages", berkeley)]
}

#[test]
fn older_databases_are_read_as_the_newest_one() {
    for (name, bytes) in older() {
        let folder = root();
        write(folder.path(), &format!("var/lib/rpm/{name}"), &bytes);
        let found = built(folder.path(), false).unwrap();
        let expected = ["rpm: 63 files are what it installed, 0 differ, 0 are missing"];
        assert_eq!(found.remarks, expected, "{name}");
        let newest = root();
        with_database(newest.path());
        let expected = built(newest.path(), true).unwrap().sbom;
        assert_eq!(built(folder.path(), true).unwrap().sbom, expected, "{name}");
    }
    let folder = root();
    let error = built(folder.path(), true).unwrap_err();
    assert!(error.message.contains("no database of rpm, which --trust-rpm reads"), "{error}");
}

#[test]
fn damage_of_older_databases_is_an_error() {
    for (name, bytes) in older() {
        for cut in [0, 20, bytes.len() / 2, bytes.len() - 1] {
            let folder = root();
            write(folder.path(), &format!("var/lib/rpm/{name}"), &bytes[..cut]);
            let error = built(folder.path(), false).unwrap_err();
            assert_eq!(error.kind, SbomErrorKind::Content, "{name}, {cut} bytes: {error}");
            assert!(error.message.contains(&format!("{name}: is a damaged")), "{error}");
        }
    }
}

#[test]
fn damage_is_an_error() {
    let folder = root();
    with_database(folder.path());
    let path = folder.path().join(FOLDERS[0]).join(SQLITE);
    fs::write(&path, b"SQLite format 2\0").unwrap();
    let error = built(folder.path(), false).unwrap_err();
    assert_eq!(error.kind, SbomErrorKind::Content);
    assert!(error.message.contains("rpmdb.sqlite: is a damaged SQLite database"), "{error}");
}

/// A sparse file takes no room, and long to be read.
#[test]
fn a_database_of_a_size_that_none_has_is_an_error() {
    for (name, bytes) in older() {
        let folder = root();
        let name = format!("var/lib/rpm/{name}");
        write(folder.path(), &name, &bytes);
        let file = fs::OpenOptions::new().write(true).open(folder.path().join(&name)).unwrap();
        file.set_len(DATABASE_BYTES_MAX + 4096).unwrap();
        let message = built(folder.path(), true).unwrap_err().message;
        let expected = "has 17179873280 bytes, more than 17179869184";
        assert!(message.contains(expected) && message.contains(&name), "{message}");
    }
}
