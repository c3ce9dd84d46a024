//! Container images: OCI layouts, in a folder or an archive, archives of `docker save`, and the
//! store of containerd.
//!
//! Every blob is checked against its digest, the layers both compressed and unpacked. Formats: the
//! OCI image specification; docker's "image-spec v1.2" for `manifest.json`.

mod bolt;
pub(super) mod containerd;
mod listing;
mod oci;

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use listing::{ImageCandidate, Listing, collect};
use oci::{Manifest, OciConfiguration, OciIndex};

use super::layer::{self, LayerEntry};
use super::room::Room;
use super::store::{Digest, HashingReader, Store};
use super::tree::ImageTree;
use super::{BuildOptions, BuildProgress, BuildResult, ProgressReader, on_all_processors};
use crate::digest::PageHashes;
use crate::error::{SbomError, shown};
use crate::model::{Sbom, SbomImage, SbomSubject};

/// The files by which an image is recognised.
pub(super) const LAYOUT: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";
pub(super) const DOCKER: &str = "manifest.json";

/// Maximum number of layers; overlayfs allows 500.
pub(super) const LAYERS_MAX: usize = 1000;
/// The annotation with the full name of an image.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Maximum number of bytes in the name of an image and in that of a platform: eight times those of
/// a name with a tag and a digest.
const MEMBER_NAME_BYTES_MAX: usize = 4096;
/// Maximum number of choices named in a message.
pub(super) const NAMED_MAX: usize = 20;

/// The parts of an image.
struct ImageParts {
    image: SbomImage,
    /// Each layer's blob, and its digests compressed and unpacked.
    layers: Vec<Layer>,
}

struct Layer {
    piece: String,
    packed: Option<Digest>,
    unpacked: Digest,
}

/// An archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(super) fn build(
    store: &Store,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    if store.has(INDEX) {
        let index = index(&store.json(INDEX)?)?;
        return build_of_list(store, &index, "an OCI image", options, progress);
    }
    build_of_parts(store, of_docker(store, options)?, "an image of docker's", options, progress)
}

/// Builds an SBOM of an image in a list.
fn build_of_list(
    store: &Store,
    index: &OciIndex,
    source: &'static str,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    build_of_parts(store, of_list(store, index, options)?, source, options, progress)
}

fn build_of_parts(
    store: &Store,
    parts: ImageParts,
    source: &'static str,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    if parts.layers.len() > LAYERS_MAX {
        return Err(SbomError::content(format!("has more than {LAYERS_MAX} layers")));
    }
    let layers = read_layers(store, &parts.layers, options.page_hashes, progress)?;
    let mut tree = ImageTree::new();
    for (index, entries) in layers.into_iter().enumerate() {
        tree.apply(entries).map_err(|error| error.within(format_args!("layer {}", index + 1)))?;
    }
    let (files, special) = tree.files()?;
    let bytes = files.iter().filter_map(|file| file.size).sum();
    let sbom = Sbom { subject: SbomSubject::Image(parts.image), files };
    Ok(BuildResult { sbom, source, problems: Vec::new(), remarks: Vec::new(), bytes, special })
}

fn of_list(
    store: &Store,
    index: &OciIndex,
    options: &BuildOptions,
) -> Result<ImageParts, SbomError> {
    let mut listing = Listing::new();
    collect(store, index, None, 0, &mut listing)?;
    let chosen = choose(store, listing, options)?;
    let (manifest, configuration) = manifest(store, &chosen.digest, &mut Listing::new())?;
    let unpacked = &configuration.rootfs.diff_ids;
    same_count(manifest.layers.len(), unpacked.len())?;
    let mut layers = Vec::new();
    for (descriptor, unpacked) in manifest.layers.iter().zip(unpacked) {
        if descriptor.media_type.ends_with("+encrypted") {
            return Err(SbomError::content("has encrypted layers, which are not read here"));
        }
        let packed = Digest::parse(&descriptor.digest)?;
        let unpacked = Digest::parse(unpacked)?;
        layers.push(Layer { piece: packed.blob(), packed: Some(packed), unpacked });
    }
    let mut image = image(&configuration);
    image.name = chosen.name;
    image.digest = Some(chosen.digest.to_string());
    Ok(ImageParts { image, layers })
}

/// The manifest of an image, and the configuration that it names.
fn manifest(
    store: &Store,
    digest: &Digest,
    listing: &mut Listing,
) -> Result<(Manifest, OciConfiguration), SbomError> {
    let bytes = listing.read(store, digest)?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|error| SbomError::content(format!("{digest} is no manifest: {error}")))?;
    let config = Digest::parse(&manifest.config.digest)?;
    let configuration = configuration(&listing.read(store, &config)?)?;
    Ok((manifest, configuration))
}

/// The digest of the configuration that a manifest names.
pub(super) fn configuration_digest(manifest: &[u8]) -> Result<Digest, SbomError> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| SbomError::content(format!("its manifest can't be read: {error}")))?;
    Digest::parse(&manifest.config.digest)
}

pub(super) fn configuration(bytes: &[u8]) -> Result<OciConfiguration, SbomError> {
    let configuration: OciConfiguration = serde_json::from_slice(bytes)
        .map_err(|error| SbomError::content(format!("its configuration can't be read: {error}")))?;
    check_name("a platform", &configuration.platform.name())?;
    Ok(configuration)
}

/// An error if a name is longer than any that people give. `what` has it.
fn check_name(what: &str, name: &str) -> Result<(), SbomError> {
    let (bytes, beginning) = (name.len(), shown(name.as_bytes()));
    if bytes > MEMBER_NAME_BYTES_MAX {
        let message =
            format!("has {what} of {bytes} bytes, more than {MEMBER_NAME_BYTES_MAX}: {beginning}");
        return Err(SbomError::content(message));
    }
    Ok(())
}

fn same_count(layers: usize, unpacked: usize) -> Result<(), SbomError> {
    if layers == unpacked {
        return Ok(());
    }
    let message = format!("has {layers} layers, and digests of {unpacked} in its configuration");
    Err(SbomError::content(message))
}

fn index(bytes: &[u8]) -> Result<OciIndex, SbomError> {
    serde_json::from_slice(bytes)
        .map_err(|error| SbomError::content(format!("its index can't be read: {error}")))
}

/// Chooses the one requested image.
fn choose(
    store: &Store,
    mut listing: Listing,
    options: &BuildOptions,
) -> Result<ImageCandidate, SbomError> {
    let mut candidates = std::mem::take(&mut listing.candidates);
    if candidates.is_empty() {
        return Err(SbomError::content("holds no image"));
    }
    if candidates.len() > 1 || options.platform.is_some() {
        let mut platforms = HashMap::new();
        for candidate in candidates.iter_mut().filter(|one| one.platform.is_none()) {
            candidate.platform = if let Some(known) = platforms.get(&candidate.digest) {
                Option::clone(known)
            } else {
                let (_, configuration) = manifest(store, &candidate.digest, &mut listing)?;
                let platform = image(&configuration).platform;
                platforms.insert(candidate.digest, platform.clone());
                platform
            };
        }
    }
    let all = candidates.clone();
    if let Some(wanted) = &options.image {
        candidates
            .retain(|one| one.name.as_ref() == Some(wanted) || one.digest.to_string() == *wanted);
    }
    if let Some(wanted) = &options.platform {
        candidates.retain(|one| one.platform.as_deref().is_some_and(|found| fits(found, wanted)));
    }
    candidates.dedup_by_key(|one| one.digest.to_string());
    match candidates.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(SbomError::request(format!("has no such image; there are: {}", listed(&all)))),
        several => Err(SbomError::request(format!(
            "holds {} images; choose one by --platform, or by --image: {}",
            several.len(),
            listed(several)
        ))),
    }
}

/// Whether a platform is the requested one; any variant if none is requested.
pub(super) fn fits(found: &str, wanted: &str) -> bool {
    found == wanted || found.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('/'))
}

fn listed(candidates: &[ImageCandidate]) -> String {
    let one = |candidate: &ImageCandidate| {
        let name = candidate.name.as_deref().unwrap_or("without a name");
        let platform = candidate.platform.as_deref().unwrap_or("for an unknown platform");
        format!("{} {platform} {}", shown(name.as_bytes()), candidate.digest)
    };
    let shown: Vec<String> = candidates.iter().take(NAMED_MAX).map(one).collect();
    let more = if candidates.len() > NAMED_MAX { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

fn of_docker(store: &Store, options: &BuildOptions) -> Result<ImageParts, SbomError> {
    let bytes = store.json(DOCKER)?;
    let manifests: Vec<DockerManifest> = serde_json::from_slice(&bytes)
        .map_err(|error| SbomError::content(format!("{DOCKER}: {error}")))?;
    let tags = |manifest: &DockerManifest| manifest.repo_tags.clone().unwrap_or_default();
    let wanted: Vec<&DockerManifest> = manifests
        .iter()
        .filter(|one| options.image.as_ref().is_none_or(|name| tags(one).contains(name)))
        .collect();
    let [manifest] = wanted.as_slice() else {
        let names: Vec<String> = manifests.iter().flat_map(tags).take(NAMED_MAX).collect();
        let message = format!(
            "holds {} images; choose one by --image: {}",
            manifests.len(),
            shown(names.join(", ").as_bytes())
        );
        return Err(SbomError::request(message));
    };
    let config = store.json(&manifest.config)?;
    let digest = Digest::from_name(Path::new(&manifest.config)).ok_or_else(|| {
        SbomError::content(format!("{DOCKER} names no configuration by its digest"))
    })?;
    let found: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&config).into();
    digest.check(&found, &manifest.config)?;
    let configuration = configuration(&config)?;
    let unpacked = &configuration.rootfs.diff_ids;
    same_count(manifest.layers.len(), unpacked.len())?;
    let mut layers = Vec::new();
    for (piece, unpacked) in manifest.layers.iter().zip(unpacked) {
        let unpacked = Digest::parse(unpacked)?;
        layers.push(Layer { piece: piece.clone(), packed: None, unpacked });
    }
    let mut image = image(&configuration);
    image.name = tags(manifest).into_iter().next();
    image.digest = Some(digest.to_string());
    if let Some(wanted) = &options.platform
        && !image.platform.as_deref().is_some_and(|found| fits(found, wanted))
    {
        let found = image.platform.as_deref().unwrap_or("an unknown platform");
        return Err(SbomError::request(format!(
            "is of {found}, not of {}",
            shown(wanted.as_bytes())
        )));
    }
    Ok(ImageParts { image, layers })
}

/// The configuration's settings for containers of the image.
pub(super) fn image(configuration: &OciConfiguration) -> SbomImage {
    let platform = Some(configuration.platform.name());
    let mut image = SbomImage { platform, ..SbomImage::default() };
    if let Some(config) = &configuration.config {
        image.entrypoint = config.entrypoint.clone().unwrap_or_default();
        image.cmd = config.cmd.clone().unwrap_or_default();
        image.env = config.env.clone().unwrap_or_default();
        image.working_directory = config.working_dir.clone().filter(|folder| !folder.is_empty());
    }
    image
}

/// Reads all layers, several at a time.
fn read_layers(
    store: &Store,
    layers: &[Layer],
    pages: PageHashes,
    progress: &dyn BuildProgress,
) -> Result<Vec<Vec<LayerEntry>>, SbomError> {
    for layer in layers {
        progress.expect(store.open(&layer.piece)?.1);
    }
    let room = Room::new();
    let read = |(): &mut (), index: usize| {
        let read = read_layer(store, &layers[index], (pages, &room), progress);
        read.map_err(|error| error.within(format_args!("layer {}", index + 1)))
    };
    on_all_processors(layers.len(), || (), read).into_iter().collect()
}

fn read_layer(
    store: &Store,
    layer: &Layer,
    (pages, room): (PageHashes, &Room),
    progress: &dyn BuildProgress,
) -> Result<Vec<LayerEntry>, SbomError> {
    let (input, size) = store.open(&layer.piece)?;
    let mut packed = HashingReader::new(ProgressReader { input: input.take(size), progress });
    let plain = panoptes_unpack::all(&mut packed).map_err(SbomError::unpacking)?;
    let mut plain = HashingReader::new(room.reader(plain));
    let entries = layer::read(&mut plain, pages, room)?;
    layer.unpacked.check(&plain.finish().map_err(SbomError::unpacking)?, "what is in it")?;
    if let Some(digest) = &layer.packed {
        digest.check(&packed.finish().map_err(SbomError::unpacking)?, "it")?;
    }
    Ok(entries)
}

/// Reads the names of images in a database of containerd's, for a fuzz target.
pub(super) fn fuzz_names(database: &[u8]) -> Result<usize, SbomError> {
    containerd::targets(database).map(|found| found.len())
}

#[cfg(test)]
mod tests;
