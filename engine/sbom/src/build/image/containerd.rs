//! The store of containerd: the blobs of images, and a database with the images' names.
//!
//! Format: core/metadata/buckets.go of containerd. The buckets `v1`, of a namespace and `images`
//! have one bucket for each image, with a bucket `target` that has the digest and the type of its
//! manifest, or of a list of manifests. Of a store without a database, images are chosen by their
//! digests.

use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bolt::{BoltDatabase, BoltValue, Bucket};
use super::oci::{OciDescriptor, OciIndex};
use super::{CONTAINERD_NAME, Digest, Store, build_of_list};
use crate::build::{BuildOptions, BuildProgress, BuildResult};
use crate::error::{SbomError, shown};
use crate::load::{open_if_there, read_bounded, state};

/// The folder with the blobs, and the database, from the store.
const CONTENT: &str = "io.containerd.content.v1.content";
const DATABASE: &str = "io.containerd.metadata.v1.bolt/meta.db";
/// Maximum size of a database: a node with ten thousand images has some 100 MB.
const DATABASE_BYTES_MAX: u64 = 1 << 30;
/// Maximum size of an image's name, type or digest in the database: eight times that of a name with
/// a tag and a digest.
const TEXT_BYTES_MAX: usize = 4096;
/// Types of a manifest and of a list of manifests whose own type is unknown.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LIST: &str = "application/vnd.oci.image.index.v1+json";

/// Whether a folder is a store.
pub(in super::super) fn is_store(folder: &Path) -> bool {
    folder.join(CONTENT).join("blobs/sha256").is_dir()
}

pub(in super::super) fn build(
    folder: &Path,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    let store = Store::Folder(folder.join(CONTENT));
    let path = folder.join(DATABASE);
    let mut manifests = match read(&path)? {
        Some(bytes) => targets(&bytes).map_err(|error| error.within(path.display()))?,
        None => vec![by_digest(&store, options)?],
    };
    // What `ctr images ls` shows: a name, or the digest of a list.
    let mut options = options.clone();
    let is_wanted = |one: &OciDescriptor, wanted: &str| {
        one.annotation(CONTAINERD_NAME) == Some(wanted) || one.digest == wanted
    };
    if let Some(wanted) = &options.image
        && manifests.iter().any(|one| is_wanted(one, wanted))
    {
        manifests.retain(|one| is_wanted(one, wanted));
        options.image = None;
    }
    // A name that people gave comes first among the names of one image.
    manifests.sort_by_cached_key(|one| {
        let name = one.annotation(CONTAINERD_NAME).unwrap_or_default().to_owned();
        (one.digest.clone(), name.starts_with("sha256:"), name.contains('@'), name)
    });
    manifests.dedup_by(|one, first| one.digest == first.digest);
    let source = "an image of containerd's store";
    build_of_list(&store, &OciIndex { manifests }, source, &options, progress)
}

/// Reads the database, if there is one.
fn read(path: &Path) -> Result<Option<Vec<u8>>, SbomError> {
    let before = state(path);
    let Some(file) = open_if_there(path)? else { return Ok(None) };
    let bytes = read_bounded(file, DATABASE_BYTES_MAX).map_err(SbomError::reading(path))?;
    if state(path) != before {
        let message = format!("{} was changed meanwhile; try again", path.display());
        return Err(SbomError::content(message));
    }
    let too_large = || {
        let path = path.display();
        SbomError::content(format!("{path} has more than {DATABASE_BYTES_MAX} bytes"))
    };
    bytes.ok_or_else(too_large).map(Some)
}

/// What the names of all images stand for.
pub(super) fn targets(database: &[u8]) -> Result<Vec<OciDescriptor>, SbomError> {
    let database = &BoltDatabase::open(database)?;
    let mut found = Vec::new();
    let Some(version) = named(database, database.root(), b"v1")? else { return Ok(found) };
    for (_, namespace) in buckets(database, version)? {
        let Some(images) = named(database, namespace, b"images")? else { continue };
        for (name, image) in buckets(database, images)? {
            if let Some(target) = named(database, image, b"target")? {
                found.extend(descriptor(name, &database.items(target)?)?);
            }
        }
    }
    Ok(found)
}

/// The buckets in a bucket, with their names.
fn buckets<'d>(
    database: &BoltDatabase<'d>,
    bucket: Bucket<'d>,
) -> Result<Vec<(&'d [u8], Bucket<'d>)>, SbomError> {
    let items = database.items(bucket)?.into_iter();
    let buckets = items.filter_map(|(name, value)| match value {
        BoltValue::Bucket(bucket) => Some((name, bucket)),
        BoltValue::Bytes(_) => None,
    });
    Ok(buckets.collect())
}

/// The bucket of a name in a bucket.
fn named<'d>(
    database: &BoltDatabase<'d>,
    bucket: Bucket<'d>,
    name: &[u8],
) -> Result<Option<Bucket<'d>>, SbomError> {
    let mut buckets = buckets(database, bucket)?.into_iter();
    Ok(buckets.find(|(found, _)| *found == name).map(|(_, bucket)| bucket))
}

/// The descriptor of a named image, if its target has a digest and a type.
fn descriptor(
    name: &[u8],
    target: &[(&[u8], BoltValue<'_>)],
) -> Result<Option<OciDescriptor>, SbomError> {
    let value = |key: &[u8]| {
        target.iter().find_map(|(found, value)| match value {
            BoltValue::Bytes(bytes) if *found == key => Some(*bytes),
            _ => None,
        })
    };
    let (Some(media_type), Some(digest)) = (value(b"mediatype"), value(b"digest")) else {
        return Ok(None);
    };
    for (what, text) in [("name", name), ("type", media_type), ("digest", digest)] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(SbomError::content(format!(
                "has an image whose {what} has {} bytes, more than {TEXT_BYTES_MAX}: {}",
                text.len(),
                shown(name)
            )));
        }
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let texts = text(name).zip(text(media_type)).zip(text(digest));
    Ok(texts.map(|((name, media_type), digest)| {
        let annotations = Some([(CONTAINERD_NAME.to_owned(), name)].into());
        OciDescriptor { media_type, digest, annotations, platform: None }
    }))
}

/// A manifest, or a list of them.
#[derive(Deserialize)]
struct ManifestDocument {
    manifests: Option<Vec<IgnoredAny>>,
}

/// The image whose digest is requested.
fn by_digest(store: &Store, options: &BuildOptions) -> Result<OciDescriptor, SbomError> {
    let digest = options.image.as_deref().and_then(|image| Digest::parse(image).ok());
    let digest = digest.ok_or_else(|| {
        SbomError::request(format!(
            "has no {DATABASE}, which has the images' names; choose one by --image, and the \
             digest of its manifest: sha256:…"
        ))
    })?;
    let bytes = store.json_blob(&digest)?;
    let document: ManifestDocument = serde_json::from_slice(&bytes).map_err(|error| {
        let digest = digest.to_string();
        SbomError::content(format!("{} is no manifest: {error}", shown(digest.as_bytes())))
    })?;
    let media_type = if document.manifests.is_some() { LIST } else { MANIFEST }.to_owned();
    let digest = digest.to_string();
    Ok(OciDescriptor { media_type, digest, annotations: None, platform: None })
}

#[cfg(test)]
mod tests;
