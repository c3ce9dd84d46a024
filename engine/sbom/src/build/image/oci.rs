//! The documents of an OCI image: only what a bill of materials needs of each.
//!
//! Names and types: the OCI image specification 1.1 (`image-index.md`, `manifest.md`,
//! `descriptor.md`, `config.md`). Docker's manifests, lists and configurations have the same ones.
//! A document may have `null` in place of an optional field, as Go writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A list of images, or of lists of images.
#[derive(Debug, Deserialize)]
pub(super) struct OciIndex {
    pub(super) manifests: Vec<OciDescriptor>,
}

/// What an image consists of.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: OciDescriptor,
    /// From the lowest one to the highest one.
    pub(super) layers: Vec<OciDescriptor>,
}

/// Names a blob.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OciDescriptor {
    pub(super) media_type: String,
    /// An algorithm, a colon and hexadecimal digits. Not checked here.
    pub(super) digest: String,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Debug, Deserialize)]
pub(super) struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// How containers of an image start, and what its layers are.
#[derive(Debug, Deserialize)]
pub(in super::super) struct OciConfiguration {
    #[serde(flatten)]
    pub(super) platform: Platform,
    pub(super) config: Option<OciSettings>,
    pub(super) rootfs: RootFolder,
}

/// Settings for containers of an image.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OciSettings {
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) working_dir: Option<String>,
}

/// The content of an image's layers.
#[derive(Debug, Deserialize)]
pub(super) struct RootFolder {
    /// The digest of each unpacked layer, from the lowest one to the highest one.
    pub(super) diff_ids: Vec<String>,
}

impl OciDescriptor {
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }
}

impl Platform {
    /// As `--platform` has it: the system, the architecture and its variant.
    pub(super) fn name(&self) -> String {
        let Self { os, architecture, variant } = self;
        match variant {
            Some(variant) => format!("{os}/{architecture}/{variant}"),
            None => format!("{os}/{architecture}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_leaves_out_may_be_null() {
        let text = r#"{
            "os": "linux", "architecture": "arm", "variant": "v7", "created": "2026-01-01T00:00Z",
            "config": {"Entrypoint": null, "Cmd": ["sh"], "Env": null, "WorkingDir": ""},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:00"]}
        }"#;
        let configuration: OciConfiguration = serde_json::from_str(text).unwrap();
        assert_eq!(configuration.platform.name(), "linux/arm/v7");
        for variant in ["", "\"variant\": null,"] {
            let text = format!(
                "{{\"os\": \"linux\", {variant} \"architecture\": \"amd64\",
                   \"rootfs\": {{\"diff_ids\": []}}}}"
            );
            let configuration: OciConfiguration = serde_json::from_str(&text).unwrap();
            assert_eq!(configuration.platform.name(), "linux/amd64");
        }
        let settings = configuration.config.unwrap();
        assert_eq!((settings.entrypoint, settings.env), (None, None));
        assert_eq!(settings.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        let text = r#"{"mediaType": "a", "digest": "b", "size": 1, "annotations": null}"#;
        let descriptor: OciDescriptor = serde_json::from_str(text).unwrap();
        assert!(descriptor.annotation("c").is_none() && descriptor.platform.is_none());
    }
}
