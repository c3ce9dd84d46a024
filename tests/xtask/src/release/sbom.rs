//! The software bill of materials of the program itself, in CycloneDX's JSON: the crates that it is
//! built of, with their versions, licences and sums.

use std::fs;
use std::path::Path;
use std::process::Command;

use panoptes_rig::cache;
use serde_json::{Value, json};

use super::sources::{ReleaseSources, SOURCES};
use super::static_programs::copy;
use super::step::{ReleaseStep, VERSION};
use super::tools;
use crate::cargo;
use crate::platform::Platform;

/// The file that cargo-cyclonedx writes for the program.
const WRITTEN: &str = "engine/panoptes/panoptes.cdx.json";

pub(super) fn make(sources: &ReleaseSources) -> Result<(), String> {
    // It writes a file beside each manifest. The sources stay as they are.
    let copied = sources.scratch("sbom")?.join("sources");
    copy(&sources.folder, &copied)?;
    let mut list = Command::new(tools::CYCLONEDX.obtain()?);
    list.current_dir(&copied).args(["cyclonedx", "--manifest-path", "engine/panoptes/Cargo.toml"]);
    list.args(["--format", "json", "--spec-version", "1.5", "--all"]);
    list.args(["--target", "x86_64-unknown-linux-gnu"]);
    sources.platform(Platform::default(), &[]).equip(&mut list);
    cargo::must(&mut list, "cargo-cyclonedx")?;
    let path = copied.join(WRITTEN);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let text = without_folder(&text, &copied)?;
    println!("the SBOM has {} components", count(&text)?);
    let text = with_commit(&text, &sources.commit)?;
    let name = ReleaseStep::Sbom.files().concat();
    Ok(cache::write(&sources.page.join(name), text.as_bytes())?)
}

/// The text with the same path for the sources, wherever they are: cargo's names of packages have
/// it.
fn without_folder(text: &str, folder: &Path) -> Result<String, String> {
    let folder = folder.to_str().ok_or("the folder has no name in UTF-8")?;
    let text = text.replace(&format!("file://{folder}"), &format!("file://{SOURCES}"));
    if text.contains(folder) {
        return Err(format!("the SBOM names {folder}"));
    }
    Ok(text)
}

/// The text with a property that names the commit of the release. Nothing else on the page does.
fn with_commit(text: &str, commit: &str) -> Result<String, String> {
    let wrong = |error| format!("the SBOM: {error}");
    let mut whole: Value = serde_json::from_str(text).map_err(wrong)?;
    let metadata = whole["metadata"].as_object_mut().ok_or("the SBOM has no metadata")?;
    let properties = metadata.entry("properties").or_insert_with(|| Value::Array(Vec::new()));
    let properties = properties.as_array_mut().ok_or("the SBOM's properties are no list")?;
    properties.push(json!({"name": "panoptes:commit", "value": commit}));
    serde_json::to_string_pretty(&whole).map(|text| text + "\n").map_err(wrong)
}

/// Number of components of an SBOM of this program.
fn count(text: &str) -> Result<usize, String> {
    let whole: Value = serde_json::from_str(text).map_err(|error| format!("the SBOM: {error}"))?;
    let program = &whole["metadata"]["component"];
    let is_ours = whole["bomFormat"] == "CycloneDX"
        && program["name"] == "panoptes"
        && program["version"] == VERSION;
    // A random number.
    let is_repeatable = whole["serialNumber"].is_null();
    match whole["components"].as_array() {
        Some(components) if is_ours && is_repeatable && !components.is_empty() => {
            Ok(components.len())
        }
        _ => Err("this is no repeatable SBOM of the program".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sbom(more: (&str, Value)) -> String {
        let mut whole = json!({
            "bomFormat": "CycloneDX",
            "metadata": {"component": {"name": "panoptes", "version": VERSION}},
            "components": [{"name": "libc"}, {"name": "ring"}],
        });
        whole[more.0] = more.1;
        whole.to_string()
    }

    #[test]
    fn components_of_the_program_are_counted() {
        assert_eq!(count(&sbom(("version", 1.into()))), Ok(2));
        assert!(count(&sbom(("serialNumber", "urn:uuid:1".into()))).is_err());
        assert!(count(&sbom(("components", json!([])))).is_err());
        assert!(count(&sbom(("bomFormat", "SPDX".into()))).is_err());
        assert!(count("no JSON").is_err());
    }

    #[test]
    fn the_commit_is_a_property() {
        let target = json!({"name": "target", "value": "x86_64"});
        let commit = json!({"name": "panoptes:commit", "value": "abc"});
        for (before, after) in [
            (json!({}), json!([&commit])),
            (json!({"properties": [&target]}), json!([&target, &commit])),
        ] {
            let text = with_commit(&sbom(("metadata", before)), "abc").expect("it is an SBOM");
            let whole: Value = serde_json::from_str(&text).expect("it is JSON");
            assert_eq!(whole["metadata"]["properties"], after);
            assert_eq!(whole["components"][1]["name"], "ring");
        }
        assert!(with_commit("{}", "abc").is_err());
        assert!(with_commit("no JSON", "abc").is_err());
    }

    #[test]
    fn the_folder_of_the_sources_is_not_named() {
        let text = "path+file:///t/a/engine#0.1.0 path+file:///t/a/sinks#0.1.0";
        let expected = "path+file:///usr/src/panoptes/engine#0.1.0 \
                        path+file:///usr/src/panoptes/sinks#0.1.0";
        assert_eq!(without_folder(text, Path::new("/t/a")), Ok(expected.to_owned()));
        assert!(without_folder("in /t/a", Path::new("/t/a")).is_err());
    }
}
