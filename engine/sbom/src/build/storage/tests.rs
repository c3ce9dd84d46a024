//! A store as skopeo 1.9 makes it, with every mark of removed files.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::{FileType, XattrFlags};
use tempfile::TempDir;

use super::*;
use crate::SbomErrorKind;
use crate::build::build;
use crate::digest::hex;

const LOWER: &str = "b753cfb52b494bf97dd52ce7445549d92adf5581f5e335ed154a8fdb90ffbcae";
const UPPER: &str = "d80f8799be88e3853ac81330c6008d49b134164d2b9304c726e9aa4f070858c8";
const CONFIGURATION: &str = r#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":
    ["/usr/bin/app"],"Cmd":["go"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;

fn write(store: &Path, path: &str, content: &[u8]) {
    let place = store.join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, content).unwrap();
    fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    hex(&<[u8; 32]>::from(Sha256::digest(bytes)))
}

/// The mark of a removed file, as overlayfs has it.
fn remove(store: &Path, path: &str) {
    let place = store.join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &place, FileType::CharacterDevice, 0o600.into(), 0)
        .expect("anybody may make a mark of a removed file");
}

/// A store with the image `localhost/app:1` of two layers.
fn store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path();
    let diff = |layer: &str, path: &str| format!("overlay/{layer}/diff/{path}");
    write(store, &diff(LOWER, "usr/bin/app"), b"app\n");
    write(store, &diff(LOWER, "usr/bin/gone"), b"gone\n");
    write(store, &diff(LOWER, "etc/folder/x"), b"x\n");
    write(store, &diff(LOWER, "opt/old/y"), b"y\n");
    write(store, &diff(LOWER, "srv/fuse"), b"removed by fuse-overlayfs\n");
    symlink("usr/bin", store.join(diff(LOWER, "bin"))).unwrap();
    write(store, &diff(UPPER, "usr/bin/new"), b"new\n");
    let link = store.join(diff(UPPER, "usr/bin/same"));
    fs::hard_link(store.join(diff(UPPER, "usr/bin/new")), link).unwrap();
    remove(store, &diff(UPPER, "usr/bin/gone"));
    remove(store, &diff(UPPER, "etc/folder/x"));
    write(store, &diff(UPPER, "etc/folder/z"), b"z\n");
    write(store, &diff(UPPER, "srv/.wh.fuse"), b"");
    write(store, &diff(UPPER, "opt/old/now"), b"now\n");
    let opaque = store.join(diff(UPPER, "opt/old"));
    let is_marked = rustix::fs::setxattr(&opaque, OPAQUE_ATTRIBUTES[1], b"y", XattrFlags::empty());
    if is_marked.is_err() {
        // A filesystem without attributes.
        fs::write(opaque.join(".wh..wh..opq"), b"").unwrap();
    }

    let config = sha256(CONFIGURATION.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json",
           "digest":"sha256:{config}","size":1}},"layers":[]}}"#
    );
    let images = format!(
        r#"[{{"id":"{config}","digest":"sha256:00","names":["localhost/app:1"],
             "layer":"{UPPER}"}}]"#
    );
    let layers = format!(r#"[{{"id":"{LOWER}"}},{{"id":"{UPPER}","parent":"{LOWER}"}}]"#);
    write(store, &format!("overlay-images/{config}/manifest"), manifest.as_bytes());
    let data = name_of_data(&format!("sha256:{config}"));
    write(store, &format!("overlay-images/{config}/{data}"), CONFIGURATION.as_bytes());
    write(store, IMAGES, images.as_bytes());
    write(store, LAYERS, layers.as_bytes());
    folder
}

fn built(store: &Path, image: Option<&str>) -> Result<BuildResult, SbomError> {
    let image = image.map(str::to_owned);
    build(store, &BuildOptions { image, ..BuildOptions::default() }, &())
}

/// Replaces text in a file of the store.
fn change(store: &Path, path: &str, from: &str, to: &str) {
    let text = fs::read_to_string(store.join(path)).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(store.join(path), text.replace(from, to)).unwrap();
}

#[test]
fn the_name_of_data_is_as_in_a_real_store() {
    let id = "sha256:ea07ea83ae9940e14f64096a4a6a0c2dbfcc87702fefa3a308e2af82661e7c0c";
    let expected = "=c2hhMjU2OmVhMDdlYTgzYWU5OTQwZTE0ZjY0MDk2YTRhNmEwYzJkYmZjYzg3NzAyZmVmYTNhMzA4Z\
                    TJhZjgyNjYxZTdjMGM=";
    assert_eq!(name_of_data(id), expected);
}

#[test]
fn the_layers_of_an_image_are_merged() {
    let folder = store();
    let config = sha256(CONFIGURATION.as_bytes());
    for image in [None, Some("localhost/app:1"), Some(&*config)] {
        let built = built(folder.path(), image).unwrap();
        let paths: Vec<String> = built
            .sbom
            .files
            .iter()
            .map(|file| String::from_utf8(file.path.clone().unwrap()).unwrap())
            .collect();
        let expected =
            ["/etc/folder/z", "/opt/old/now", "/usr/bin/app", "/usr/bin/new", "/usr/bin/same"];
        assert_eq!(paths, expected);
        assert_eq!(built.sbom.files[2].sha256, Some(Sha256::digest(b"app\n").into()));
        let SbomSubject::Image(image) = &built.sbom.subject else { panic!("it is an image") };
        assert_eq!(image.name.as_deref(), Some("localhost/app:1"));
        assert_eq!((&*image.entrypoint[0], &*image.cmd[0]), ("/usr/bin/app", "go"));
        let manifest = folder.path().join(format!("overlay-images/{config}/manifest"));
        let digest = format!("sha256:{}", sha256(&fs::read(manifest).unwrap()));
        assert_eq!(image.digest, Some(digest));
    }
}

#[test]
fn another_image_is_not_there() {
    let folder = store();
    let error = built(folder.path(), Some("other")).unwrap_err();
    assert_eq!(error.kind, SbomErrorKind::Request);
    assert!(error.message.contains("there are: localhost/app:1"), "{error}");
    change(folder.path(), IMAGES, "}]", r#"},{"id":"12"}]"#);
    let error = built(folder.path(), None).unwrap_err();
    assert!(error.message.contains("holds 2 images; choose one by --image"), "{error}");
    assert!(error.message.contains("localhost/app:1, 12"), "{error}");
    let options =
        BuildOptions { platform: Some("linux/arm64".to_owned()), ..BuildOptions::default() };
    let folder = store();
    let error = build(folder.path(), &options, &()).unwrap_err();
    assert!(error.message.contains("is of linux/amd64, not of linux/arm64"), "{error}");
}

#[test]
fn a_store_that_leads_astray_is_an_error() {
    let error = |path: &str, from: &str, to: &str| {
        let folder = store();
        change(folder.path(), path, from, to);
        built(folder.path(), None).unwrap_err().message
    };
    let circle = format!(r#""id":"{LOWER}","parent":"{UPPER}""#);
    let found = error(LAYERS, &format!(r#""id":"{LOWER}""#), &circle);
    assert!(found.contains("more than 1000 layers"), "{found}");
    assert!(error(LAYERS, LOWER, "../../etc").contains("bad id"));
    assert!(error(LAYERS, LOWER, "12").contains("12"));
    assert!(error(IMAGES, UPPER, "12").contains("has no layer 12"));
    assert!(error(IMAGES, &sha256(CONFIGURATION.as_bytes()), "..").contains("bad id"));
    let config = sha256(CONFIGURATION.as_bytes());
    let data = format!("overlay-images/{config}/{}", name_of_data(&format!("sha256:{config}")));
    assert!(error(&data, "go", "no").contains("is damaged"));
    let folder = store();
    fs::create_dir(folder.path().join(format!("overlay/{UPPER}/composefs-data"))).unwrap();
    assert!(built(folder.path(), None).unwrap_err().message.contains("composefs"));
}
