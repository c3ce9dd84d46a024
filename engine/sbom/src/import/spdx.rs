//! SPDX, JSON: the checksums of files (versions 2.2 and 2.3), or of `software_File` elements (3.0).
//!
//! Checksums of packages are ignored: they are those of archives, which never run. A few structs
//! instead of a crate for the format: the existing one has not been maintained since 2023, and only
//! four keys matter here.

use serde::Deserialize;
use serde_json::Value;

use super::{approved, file_of};
use crate::error::{SbomError, shown};
use crate::format::at;
use crate::model::Sbom;

const ADVICE: &str = "have the tool that made it list files with their checksums";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpdxDocument {
    name: Option<String>,
    #[serde(default)]
    files: Vec<SpdxFile>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SpdxFile {
    file_name: String,
    checksums: Vec<Checksum>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: String,
    checksum_value: String,
}

/// Reads a document of version 2.
pub fn read_2(text: &[u8]) -> Result<Sbom, SbomError> {
    let document: SpdxDocument = serde_json::from_slice(text).map_err(|error| at(&error))?;
    let mut files = Vec::new();
    for file in &document.files {
        let hashes = file.checksums.iter().map(|it| (&*it.algorithm, &*it.checksum_value));
        files.extend(file_of(&shown(file.file_name.as_bytes()), hashes)?);
    }
    approved(document.name.filter(|name| !name.is_empty()), files, ADVICE)
}

#[derive(Deserialize)]
struct Graph {
    #[serde(rename = "@graph")]
    graph: Vec<Element>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Element {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    /// Elements of other kinds have other values here.
    verified_using: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Method {
    algorithm: String,
    hash_value: String,
}

/// Reads a document of version 3.
pub fn read_3(text: &[u8]) -> Result<Sbom, SbomError> {
    let document: Graph = serde_json::from_slice(text).map_err(|error| at(&error))?;
    let mut files = Vec::new();
    let mut name = None;
    for element in document.graph {
        if element.kind == "SpdxDocument" {
            name = element.name;
            continue;
        }
        if element.kind != "software_File" {
            continue;
        }
        let whose = shown(element.name.as_deref().unwrap_or_default().as_bytes());
        let is_hash = |method: &Value| method.get("type").is_some_and(|kind| kind == "Hash");
        let methods = element.verified_using.into_iter().filter(is_hash);
        let methods: Result<Vec<Method>, _> = methods.map(serde_json::from_value).collect();
        let methods =
            methods.map_err(|error| SbomError::content(format!("a hash of `{whose}`: {error}")))?;
        let hashes = methods.iter().map(|it| (&*it.algorithm, &*it.hash_value));
        files.extend(file_of(&whose, hashes)?);
    }
    approved(name, files, ADVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_and_packages_do_not() {
        let text = r#"{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT","name":"debian",
            "packages":[{"name":"x","checksums":[{"algorithm":"SHA1",
              "checksumValue":"0000000000000000000000000000000000000009"}]}],
            "files":[{"fileName":"./bin/a","SPDXID":"SPDXRef-1","checksums":[
              {"algorithm":"SHA1","checksumValue":"0000000000000000000000000000000000000002"},
              {"algorithm":"SHA256","checksumValue":
                "000000000000000000000000000000000000000000000000000000000000000a"}]},
              {"fileName":"./etc/none","checksums":[]}]}"#;
        let sbom = read_2(text.as_bytes()).unwrap();
        assert_eq!((sbom.subject.name(), sbom.files.len()), (Some("debian"), 1));
        assert_eq!(sbom.files[0].sha1.unwrap()[19], 2);
        assert_eq!(sbom.files[0].sha256.unwrap()[31], 10);
        assert!(read_2(br#"{"files":[]}"#).unwrap_err().message.contains("holds no SHA-256"));
    }

    #[test]
    fn version_3_has_elements() {
        let text = r#"{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[
            {"type":"SpdxDocument","name":"app","spdxId":"x"},
            {"type":"software_Package","name":"p","verifiedUsing":[{"type":"Hash",
              "algorithm":"md5","hashValue":"00000000000000000000000000000009"}]},
            {"type":"software_File","name":"a","verifiedUsing":[{"type":"Other"},{"type":"Hash",
              "algorithm":"md5","hashValue":"00000000000000000000000000000001"}]}]}"#;
        let sbom = read_3(text.as_bytes()).unwrap();
        assert_eq!((sbom.subject.name(), sbom.files.len()), (Some("app"), 1));
        assert_eq!(sbom.files[0].md5.unwrap()[15], 1);
    }
}
