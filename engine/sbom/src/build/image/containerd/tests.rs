//! A store that containerd 1.6 made: `ctr -n default image import` and `ctr -n k8s.io image import`
//! of two images, `one:1` and `two:2`, and thirty further names of the second one.

use std::path::PathBuf;

use tempfile::TempDir;

use super::super::bolt::tests::{Item, database, leaf};
use super::*;
use crate::SbomErrorKind;
use crate::build::build;
use crate::model::SbomSubject;

const ONE: &str = "sha256:f8f16e13c0838178a226038a1d4902b16b8fcd4b411053f4c6b75ddec05865b5";
const TWO: &str = "sha256:71e7d0b7026b15fd776a721a2ae29a223d9e4fe990e6ce01527833f8d4bb6218";

fn store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let packed: &[u8] = include_bytes!("../../../../tests/containerd/store.tar.xz");
    tar::Archive::new(panoptes_unpack::all(packed).unwrap()).unpack(folder.path()).unwrap();
    folder
}

/// The paths of the files of an image, and its name.
fn built(store: &Path, image: Option<&str>) -> Result<(Vec<String>, Option<String>), SbomError> {
    let image = image.map(str::to_owned);
    let built = build(store, &BuildOptions { image, ..BuildOptions::default() }, &())?;
    assert_eq!(built.source, "an image of containerd's store");
    let path = |file: &crate::model::SbomFile| shown(file.path.as_deref().unwrap_or_default());
    let paths = built.sbom.files.iter().map(path).collect();
    let SbomSubject::Image(image) = built.sbom.subject else { panic!("it is an image") };
    Ok((paths, image.name))
}

fn database_of(store: &TempDir) -> PathBuf {
    store.path().join(DATABASE)
}

#[test]
fn an_image_is_chosen_by_any_of_its_names_or_by_its_digest() {
    let store = store();
    let one = vec!["/bin/app".to_owned()];
    let two = vec!["/bin/app".to_owned(), "/bin/tool".to_owned()];
    for (image, expected, name) in [
        ("docker.io/library/one:1", &one, "docker.io/library/one:1"),
        ("docker.io/library/two:2", &two, "docker.io/library/two:2"),
        ("docker.io/library/two:tag-30", &two, "docker.io/library/two:tag-30"),
        (ONE, &one, "docker.io/library/one:1"),
        (TWO, &two, "docker.io/library/two:2"),
    ] {
        let (paths, found) = built(store.path(), Some(image)).unwrap();
        assert_eq!((&paths, found.as_deref()), (expected, Some(name)), "{image}");
    }
    let error = built(store.path(), None).unwrap_err();
    assert_eq!(error.kind, SbomErrorKind::Request);
    assert!(error.message.contains("holds 2 images"), "{error}");
    let error = built(store.path(), Some("docker.io/library/three:3")).unwrap_err();
    assert!(error.message.contains("docker.io/library/one:1 linux/amd64"), "{error}");
}

#[test]
fn all_names_of_a_real_database_are_read() {
    let store = store();
    let mut names: Vec<String> = targets(&std::fs::read(database_of(&store)).unwrap())
        .unwrap()
        .iter()
        .map(|one| format!("{} {}", one.annotation(CONTAINERD_NAME).unwrap(), one.digest))
        .collect();
    names.sort();
    // In two namespaces.
    let mut expected = vec![format!("docker.io/library/one:1 {ONE}"); 2];
    expected.extend(vec![format!("docker.io/library/two:2 {TWO}"); 2]);
    expected.extend((1..=30).map(|tag| format!("docker.io/library/two:tag-{tag} {TWO}")));
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn without_names_an_image_is_chosen_by_its_digest() {
    let store = store();
    std::fs::remove_file(database_of(&store)).unwrap();
    assert_eq!(
        built(store.path(), Some(TWO)).unwrap(),
        (vec!["/bin/app".into(), "/bin/tool".into()], None)
    );
    for image in [None, Some("docker.io/library/one:1")] {
        let error = built(store.path(), image).unwrap_err();
        assert_eq!(error.kind, SbomErrorKind::Request);
        assert!(error.message.contains("meta.db") && error.message.contains("sha256:"), "{error}");
    }
    let missing = format!("sha256:{}", "0".repeat(64));
    assert!(built(store.path(), Some(&missing)).is_err());
}

#[test]
fn damage_is_an_error() {
    let store = store();
    let path = database_of(&store);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 100, 5000, whole.len() / 4] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = built(store.path(), Some(ONE)).unwrap_err();
        assert_eq!(error.kind, SbomErrorKind::Content, "{length}: {error}");
        assert!(error.message.contains("meta.db: is a damaged bbolt database"), "{error}");
    }
    std::fs::write(&path, &whole).unwrap();
    let blob = store.path().join(CONTENT).join("blobs/sha256").join(&ONE[7..]);
    let text = std::fs::read_to_string(&blob).unwrap();
    std::fs::write(&blob, text.replace("amd64", "arm64") + " ").unwrap();
    let error = built(store.path(), Some(ONE)).unwrap_err();
    assert!(error.message.contains("is damaged"), "{error}");
}

/// The items of an image's target.
fn target(digest: &[u8]) -> Vec<Item<'_>> {
    let kind = Item::Bytes(b"mediatype", b"application/vnd.oci.image.manifest.v1+json");
    vec![Item::Bytes(b"digest", digest), kind, Item::Bytes(b"size", b"\x02")]
}

#[test]
fn texts_longer_than_any_of_an_image_are_an_error() {
    let error = |name: &[u8], digest: &[u8]| {
        let target = vec![Item::Small(b"target", target(digest))];
        let images = vec![Item::Small(b"images", vec![Item::Small(name, target)])];
        let version = vec![Item::Small(b"moby", images)];
        let mut page = leaf(3, &[Item::Small(b"v1", version)]);
        page[12..16].copy_from_slice(&1_u32.to_le_bytes());
        let (first, rest) = page.split_at(page.len().min(4096));
        targets(&database(&[first.to_vec(), rest.to_vec()])).map(|found| found.len())
    };
    let longest = [b'x'; TEXT_BYTES_MAX];
    assert_eq!(error(&longest, b"sha256:11").unwrap(), 1);
    let longer = [b'x'; TEXT_BYTES_MAX + 1];
    let message = error(&longer, b"sha256:11").unwrap_err().message;
    assert!(message.contains("whose name has 4097 bytes, more than 4096: xxx"), "{message}");
    let message = error(b"a:1", &longer).unwrap_err().message;
    assert!(message.contains("whose digest has 4097 bytes, more than 4096: a:1"), "{message}");
}

#[test]
fn what_is_no_image_is_passed_over() {
    let images = vec![
        Item::Small(b"a:1", vec![Item::Small(b"target", target(b"sha256:11"))]),
        Item::Small(b"b:1", vec![Item::Small(b"labels", Vec::new())]),
        Item::Small(b"c:1", vec![Item::Small(b"target", Vec::new())]),
        Item::Small(b"d\xff", vec![Item::Small(b"target", target(b"sha256:11"))]),
        Item::Bytes(b"e:1", b"no bucket"),
    ];
    let namespace = vec![Item::Small(b"content", Vec::new()), Item::Small(b"images", images)];
    let version = vec![Item::Bytes(b"version", b"\x08"), Item::Small(b"moby", namespace)];
    let bytes =
        database(&[leaf(3, &[Item::Small(b"v0", Vec::new()), Item::Small(b"v1", version)])]);
    let found = targets(&bytes).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].annotation(CONTAINERD_NAME), Some("a:1"));
}
