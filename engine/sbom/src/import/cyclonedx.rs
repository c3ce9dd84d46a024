//! CycloneDX, JSON (ECMA-424, versions 1.2 and later): the hashes of all components, also nested.
//!
//! A few structs instead of a crate for the format: only three of its keys matter here.

use serde::Deserialize;

use super::{approved, file_of};
use crate::error::{SbomError, shown};
use crate::format::at;
use crate::model::Sbom;

#[derive(Deserialize)]
struct CycloneDxDocument {
    metadata: Option<Metadata>,
    #[serde(default)]
    components: Vec<Component>,
}

#[derive(Deserialize)]
struct Metadata {
    component: Option<Component>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Component {
    name: String,
    hashes: Vec<Hash>,
    components: Vec<Self>,
}

#[derive(Deserialize)]
struct Hash {
    alg: String,
    content: String,
}

/// Reads a document.
pub fn read(text: &[u8]) -> Result<Sbom, SbomError> {
    let document: CycloneDxDocument = serde_json::from_slice(text).map_err(|error| at(&error))?;
    let of = document.metadata.and_then(|metadata| metadata.component);
    let name = of.as_ref().map(|component| component.name.clone()).filter(|name| !name.is_empty());
    let mut files = Vec::new();
    // Not recursive: the parser bounds the nesting, but the free stack is unknown.
    let mut waiting: Vec<Component> = of.into_iter().chain(document.components).collect();
    while let Some(component) = waiting.pop() {
        let hashes = component.hashes.iter().map(|hash| (&*hash.alg, &*hash.content));
        files.extend(file_of(&shown(component.name.as_bytes()), hashes)?);
        waiting.extend(component.components);
    }
    approved(name, files, "have the tool that made it list files with their hashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_components_count() {
        let text = r#"{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:x",
            "metadata":{"component":{"type":"container","name":"app"}},
            "components":[
              {"type":"library","name":"a","components":[{"type":"file","name":"/bin/a","hashes":[
                {"alg":"MD5","content":"00000000000000000000000000000001"},
                {"alg":"SHA-1","content":"0000000000000000000000000000000000000002"},
                {"alg":"SHA-512","content":"ignored"}]}]},
              {"type":"file","name":"b","hashes":[{"alg":"SHA-256","content":
                "000000000000000000000000000000000000000000000000000000000000000A"}]}]}"#;
        let sbom = read(text.as_bytes()).unwrap();
        assert_eq!(sbom.subject.name(), Some("app"));
        assert_eq!(sbom.files.len(), 2);
        assert!(sbom.files.iter().any(|file| file.md5.is_some_and(|md5| md5[15] == 1)
            && file.sha1.is_some_and(|sha1| sha1[19] == 2)
            && file.sha256.is_none()));
        assert!(sbom.files.iter().any(|file| file.sha256.is_some_and(|sha256| sha256[31] == 10)));
    }

    #[test]
    fn mistakes_are_reported() {
        let none = r#"{"bomFormat":"CycloneDX","components":[{"name":"a"}]}"#;
        assert!(read(none.as_bytes()).unwrap_err().message.contains("holds no SHA-256"));
        let short = r#"{"components":[{"name":"a","hashes":[{"alg":"SHA-1","content":"00"}]}]}"#;
        let message = read(short.as_bytes()).unwrap_err().message;
        assert!(message.contains("the SHA-1 of `a` is not 40"), "{message}");
        let deep = format!("{}{}", r#"{"components":["#.repeat(5000), "]}".repeat(5000));
        assert!(read(deep.as_bytes()).is_err());
    }
}
