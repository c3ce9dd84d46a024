//! The container image of the scenarios: an OCI layout on the host, and its files for guests.
//!
//! Two layers: busybox, and above it one program that is in no package. Guests assemble the same
//! files (`image` in `lib/containers.sh`), so the list made from this image is correct for their
//! containers.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cache;
use crate::command;
use crate::error::Result;

/// The image's name in the configuration.
pub(super) const NAME: &str = "shop:1.0";
/// Pattern of the ids of containers whose image the configuration names.
pub(super) const KNOWN: &str = "a1*";
/// Names of busybox in the image.
const APPLETS: &[&str] = &["cat", "sh", "sleep"];

/// Creates the layout in a new folder.
pub(super) fn layout(busybox: &Path, program: &Path, folder: &Path) -> Result<PathBuf> {
    let layout = folder.join("shop");
    cache::create(&layout.join("blobs/sha256"))?;
    let base = layer(&layout, &folder.join("base"), &[("bin/busybox", busybox)])?;
    let own = layer(&layout, &folder.join("own"), &[("app/serve", program)])?;
    let configuration = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Entrypoint": ["/app/serve"], "Cmd": ["600"], "Env": ["PATH=/bin"] },
        // The layers are not compressed, so their digests are those of their contents.
        "rootfs": { "type": "layers", "diff_ids": [base["digest"], own["digest"]] },
    });
    let configuration =
        document(&layout, &configuration, "application/vnd.oci.image.config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configuration,
        "layers": [base, own],
    });
    let mut manifest = document(&layout, &manifest, "application/vnd.oci.image.manifest.v1+json")?;
    manifest["annotations"] = json!({
        "org.opencontainers.image.ref.name": "1.0",
        "io.containerd.image.name": NAME,
    });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    cache::write(&layout.join("index.json"), index.to_string().as_bytes())?;
    cache::write(&layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(layout)
}

/// A layer of a few programs; the names of busybox that containers use are links.
fn layer(layout: &Path, root: &Path, files: &[(&str, &Path)]) -> Result<Value> {
    for (name, source) in files {
        let target = root.join(name);
        cache::copy(source, &target)?;
        if name.ends_with("busybox") {
            for applet in APPLETS {
                cache::symlink("busybox", &target.with_file_name(applet))?;
            }
        }
    }
    let archive = root.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.args(["--create", "--owner=0", "--group=0", "--numeric-owner", "--mode=755", "--file"]);
    command::output(tar.arg(&archive).arg("--directory").arg(root).arg("."))?;
    blob(layout, &cache::read(&archive)?, "application/vnd.oci.image.layer.v1.tar")
}

fn document(layout: &Path, value: &Value, media_type: &str) -> Result<Value> {
    blob(layout, value.to_string().as_bytes(), media_type)
}

/// Stores bytes by their digest and returns their descriptor.
fn blob(layout: &Path, bytes: &[u8], media_type: &str) -> Result<Value> {
    let mut digest = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(digest, "{byte:02x}");
    }
    cache::write(&layout.join("blobs/sha256").join(&digest), bytes)?;
    Ok(json!({
        "mediaType": media_type,
        "digest": format!("sha256:{digest}"),
        "size": bytes.len(),
    }))
}
