//! Images made by these tests, in every form; `tests/images.rs` compares those of real tools.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::Digest as _;
use tar::EntryType;
use tempfile::TempDir;

use super::super::layer::tests::archive;
use crate::build::{BuildOptions, BuildResult, build};
use crate::digest::hex;
use crate::error::SbomErrorKind;
use crate::model::SbomSubject;

fn sha256(bytes: &[u8]) -> String {
    let hash: [u8; 32] = sha2::Sha256::digest(bytes).into();
    hex(&hash)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A layout under construction.
struct Layout(TempDir);

impl Layout {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn blob(&self, kind: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = sha256(bytes);
        fs::write(self.path().join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// An image of two layers; its descriptor.
    fn image(&self, architecture: &str) -> serde_json::Value {
        let one = archive(&[
            ("bin/app", EntryType::Regular, "", b"old"),
            ("bin/gone", EntryType::Regular, "", b"x"),
        ]);
        let two = archive(&[
            ("bin/.wh.gone", EntryType::Regular, "", b""),
            ("bin/app", EntryType::Regular, "", architecture.as_bytes()),
        ]);
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {
                "Entrypoint": ["/bin/app"], "Cmd": ["-x"], "Env": ["A=b"], "WorkingDir": "/srv",
            },
            "rootfs": {"type": "layers", "diff_ids":
                [format!("sha256:{}", sha256(&one)), format!("sha256:{}", sha256(&two))]},
        });
        let zstd =
            ruzstd::encoding::compress_to_vec(&*two, ruzstd::encoding::CompressionLevel::Fastest);
        let layer = "application/vnd.oci.image.layer.v1.tar";
        let manifest = json!({
            "schemaVersion": 2,
            "config": self.blob("application/vnd.oci.image.config.v1+json",
                config.to_string().as_bytes()),
            "layers": [self.blob(&format!("{layer}+gzip"), &gzip(&one)),
                self.blob(&format!("{layer}+zstd"), &zstd)],
        });
        self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
    }

    fn index(&self, manifests: &[serde_json::Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    /// The same as an archive.
    fn packed(&self) -> PathBuf {
        let place = self.path().join("image.tar");
        let mut tar = tar::Builder::new(fs::File::create(&place).unwrap());
        for name in ["oci-layout", "index.json"] {
            tar.append_path_with_name(self.path().join(name), name).unwrap();
        }
        tar.append_dir_all("blobs", self.path().join("blobs")).unwrap();
        tar.finish().unwrap();
        place
    }
}

fn refused(source: &Path, options: &BuildOptions) -> (SbomErrorKind, String) {
    let error = build(source, options, &()).unwrap_err();
    (error.kind, error.message)
}

fn sizes(built: &BuildResult) -> Vec<(String, u64)> {
    let files = built.sbom.files.iter();
    files
        .map(|file| {
            let path = String::from_utf8(file.path.clone().unwrap()).unwrap();
            (path, file.size.unwrap())
        })
        .collect()
}

#[test]
fn a_layout_is_read_from_a_folder_and_an_archive() {
    let layout = Layout::new();
    let mut image = layout.image("amd64");
    image["annotations"] = json!({"org.opencontainers.image.ref.name": "app:1"});
    layout.index(&[image.clone()]);
    let built = build(layout.path(), &BuildOptions::default(), &()).unwrap();
    assert_eq!(sizes(&built), [("/bin/app".to_owned(), 5)]);
    let SbomSubject::Image(found) = &built.sbom.subject else { panic!("it is an image") };
    assert_eq!(found.name.as_deref(), Some("app:1"));
    assert_eq!(found.digest.as_deref(), image["digest"].as_str());
    assert_eq!(found.platform.as_deref(), Some("linux/amd64"));
    assert_eq!(
        (&found.entrypoint[..], &found.cmd[..]),
        (&["/bin/app".to_owned()][..], &["-x".to_owned()][..])
    );
    assert_eq!(found.env, ["A=b"]);
    assert_eq!(found.working_directory.as_deref(), Some("/srv"));
    let packed = build(&layout.packed(), &BuildOptions::default(), &()).unwrap();
    assert_eq!(packed.sbom, built.sbom);
}

#[test]
fn one_of_several_is_chosen() {
    let layout = Layout::new();
    let (amd64, mut arm64) = (layout.image("amd64"), layout.image("arm64"));
    arm64["platform"] = json!({"architecture": "arm64", "os": "linux", "variant": "v8"});
    let mut attestation = layout.image("s390x");
    attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    // As buildx makes it: an index in the index.
    let inner = json!({"schemaVersion": 2, "manifests": [amd64, arm64, attestation]});
    let mut outer =
        layout.blob("application/vnd.oci.image.index.v1+json", inner.to_string().as_bytes());
    outer["annotations"] = json!({"io.containerd.image.name": "docker.io/a:1"});
    layout.index(&[outer]);
    let (kind, message) = refused(layout.path(), &BuildOptions::default());
    assert_eq!(kind, SbomErrorKind::Request);
    assert!(message.contains("holds 2 images; choose one by --platform"), "{message}");
    assert!(message.contains("linux/arm64/v8") && message.contains("linux/amd64"), "{message}");
    let of = |platform: &str| BuildOptions {
        platform: Some(platform.to_owned()),
        ..BuildOptions::default()
    };
    for (platform, size) in [("linux/arm64", 5), ("linux/arm64/v8", 5), ("linux/amd64", 5)] {
        let built = build(layout.path(), &of(platform), &()).unwrap();
        assert_eq!(sizes(&built), [("/bin/app".to_owned(), size)]);
        assert_eq!(built.sbom.subject.name(), Some("docker.io/a:1"));
    }
    assert!(refused(layout.path(), &of("linux/arm")).1.contains("has no such image"));
    let digest = amd64["digest"].as_str().map(str::to_owned);
    let options = BuildOptions { image: digest, ..BuildOptions::default() };
    assert!(build(layout.path(), &options, &()).is_ok());
}

#[test]
fn damage_is_found() {
    let layout = Layout::new();
    let image = layout.image("amd64");
    layout.index(std::slice::from_ref(&image));
    let blobs: Vec<PathBuf> = fs::read_dir(layout.path().join("blobs/sha256"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(blobs.len(), 4);
    for blob in blobs {
        let good = fs::read(&blob).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&blob, bad).unwrap();
            let (kind, message) = refused(layout.path(), &BuildOptions::default());
            assert_eq!(kind, SbomErrorKind::Content, "{message}");
        }
        fs::remove_file(&blob).unwrap();
        let (kind, message) = refused(layout.path(), &BuildOptions::default());
        assert!(matches!(kind, SbomErrorKind::Source | SbomErrorKind::Content), "{message}");
        fs::write(&blob, good).unwrap();
    }
    assert!(build(layout.path(), &BuildOptions::default(), &()).is_ok());
    layout
        .index(&[json!({"mediaType": image["mediaType"], "size": 1, "digest": "sha256:../../x"})]);
    assert_eq!(refused(layout.path(), &BuildOptions::default()).0, SbomErrorKind::Content);
}

#[test]
fn archives_of_docker_are_read() {
    let layer = archive(&[("bin/app", EntryType::Regular, "", b"abc")]);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer)),
            format!("sha256:{}", sha256(&layer))]}})
    .to_string();
    let name = format!("{}.json", sha256(config.as_bytes()));
    let manifest =
        json!([{"Config": name, "RepoTags": ["app:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("save.tar");
    let save = |config: &str| {
        // As in older versions of docker, a repeated layer is a link.
        let bytes = archive(&[
            (&name, EntryType::Regular, "", config.as_bytes()),
            ("a/layer.tar", EntryType::Regular, "", &layer),
            ("b/layer.tar", EntryType::Symlink, "../a/layer.tar", b""),
            ("manifest.json", EntryType::Regular, "", manifest.to_string().as_bytes()),
        ]);
        fs::write(&place, bytes).unwrap();
    };
    save(&config);
    let built = build(&place, &BuildOptions::default(), &()).unwrap();
    assert_eq!(sizes(&built), [("/bin/app".to_owned(), 3)]);
    assert_eq!(built.sbom.subject.name(), Some("app:1"));
    let options = BuildOptions { image: Some("b".to_owned()), ..BuildOptions::default() };
    assert!(refused(&place, &options).1.contains("--image: app:1"));
    save(&config.replace("amd64", "arm64"));
    assert!(refused(&place, &BuildOptions::default()).1.contains("is damaged"));
    fs::write(&place, gzip(b"x")).unwrap();
    assert!(
        refused(&place, &BuildOptions::default())
            .1
            .contains("is packed with gzip; unpack it first")
    );
    fs::write(&place, archive(&[("a", EntryType::Regular, "", b"")])).unwrap();
    assert!(refused(&place, &BuildOptions::default()).1.contains("an archive of no image"));
}

/// A few lists that name each other have any number of entries.
#[test]
fn lists_that_name_lists_again_and_again_are_an_error() {
    let layout = Layout::new();
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut list = json!([]);
    for _ in 0..7 {
        let text = json!({"schemaVersion": 2, "manifests": list}).to_string();
        list = json!(vec![layout.blob(kind, text.as_bytes()); 10]);
    }
    layout.index(list.as_array().unwrap());
    let error = build(layout.path(), &BuildOptions::default(), &()).unwrap_err();
    assert_eq!(error.kind, SbomErrorKind::Content);
    assert!(error.message.contains("more than 10000 lists of images, at sha256:"), "{error}");
}
