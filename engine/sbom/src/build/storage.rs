//! The store of podman and CRI-O: images in `overlay-images`, layers unpacked in `overlay`.
//!
//! Formats: `images.go`, `layers.go` and `drivers/overlay` of containers/storage; marks of
//! overlayfs: Documentation/filesystems/overlayfs.rst, of fuse-overlayfs its manual. The layers are
//! as the kernel sees them, so their digests can't be checked: the store is trusted as it is.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::image::{LAYERS_MAX, NAMED_MAX, configuration, configuration_digest, fits, image};
use super::layer::{EntryKind, LayerEntry};
use super::room::Room;
use super::store::Digest;
use super::tree::{ImageTree, OPAQUE, WHITEOUT};
use super::{BuildOptions, BuildProgress, BuildResult, on_all_processors};
use crate::digest::{BLOCK_BYTES, PageHashes, digest};
use crate::error::{SbomError, shown};
use crate::load::{open_regular, read_bounded};
use crate::model::{PATH_BYTES_MAX, Sbom, SbomSubject};

/// The list of images, from the store.
pub(super) const IMAGES: &str = "overlay-images/images.json";
const LAYERS: &str = "overlay-layers/layers.json";
const MANIFEST: &str = "manifest";

/// Maximum size of a JSON file: ten thousand images have some 20 MB. Read, it may be ten times as
/// large.
const JSON_BYTES_MAX: u64 = 64 << 20;

/// Attributes of a directory that hides what is below it, with the value `y`.
const OPAQUE_ATTRIBUTES: [&str; 3] =
    ["trusted.overlay.opaque", "user.overlay.opaque", "user.fuseoverlayfs.opaque"];
/// Attributes of a file or directory whose content is elsewhere.
const MOVED_ATTRIBUTES: [&str; 4] = [
    "trusted.overlay.metacopy",
    "trusted.overlay.redirect",
    "user.overlay.metacopy",
    "user.overlay.redirect",
];

/// An image of the list.
#[derive(Debug, Deserialize)]
struct StoredImage {
    id: String,
    names: Option<Vec<String>>,
    /// The highest layer; none if the image is empty.
    layer: Option<String>,
}

/// A layer of the list.
#[derive(Debug, Deserialize)]
struct StoredLayer {
    id: String,
    /// The next lower layer.
    parent: Option<String>,
}

/// `store` has [`IMAGES`].
pub(super) fn build(
    store: &Path,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    let images: Vec<StoredImage> = list(&store.join(IMAGES))?;
    let chosen = choose(&images, options)?;
    let folder = store.join("overlay-images").join(checked(&chosen.id)?);
    let manifest_bytes = bounded(&folder.join(MANIFEST))?;
    let config = configuration_digest(&manifest_bytes)?;
    let config_path = folder.join(name_of_data(&config.to_string()));
    let config_bytes = bounded(&config_path)?;
    let found: [u8; 32] = Sha256::digest(&config_bytes).into();
    config.check(&found, &config_path.display().to_string())?;
    let mut image = image(&configuration(&config_bytes)?);
    image.name = chosen.names.iter().flatten().next().cloned();
    image.digest = Some(Digest::of(&manifest_bytes).to_string());
    if let Some(wanted) = &options.platform
        && !image.platform.as_deref().is_some_and(|found| fits(found, wanted))
    {
        let found = image.platform.as_deref().unwrap_or("an unknown platform");
        return Err(SbomError::request(format!(
            "is of {found}, not of {}",
            shown(wanted.as_bytes())
        )));
    }
    let layers = layers(store, chosen.layer.as_deref())?;
    let room = Room::new();
    let read = |block: &mut Vec<u8>, index: usize| {
        let read = read_layer(&layers[index], (options.page_hashes, &room), block, progress);
        read.map_err(|error| error.within(layers[index].display()))
    };
    let mut tree = ImageTree::new();
    for entries in on_all_processors(layers.len(), || vec![0; BLOCK_BYTES], read) {
        tree.apply(entries?)?;
    }
    let (files, special) = tree.files()?;
    let bytes = files.iter().filter_map(|file| file.size).sum();
    let sbom = Sbom { subject: SbomSubject::Image(image), files };
    let remarks =
        vec!["the layers are unpacked in the store: their digests can't be checked".into()];
    let source = "an image of podman's or CRI-O's store";
    Ok(BuildResult { sbom, source, problems: Vec::new(), remarks, bytes, special })
}

/// Chooses the one requested image, by one of its names or by its id.
fn choose<'i>(
    images: &'i [StoredImage],
    options: &BuildOptions,
) -> Result<&'i StoredImage, SbomError> {
    let is_wanted = |image: &&StoredImage| {
        options.image.as_ref().is_none_or(|wanted| {
            image.names.iter().flatten().any(|name| name == wanted)
                || wanted.strip_prefix("sha256:").unwrap_or(wanted) == image.id
        })
    };
    let wanted: Vec<&StoredImage> = images.iter().filter(is_wanted).collect();
    if let [one] = wanted.as_slice() {
        return Ok(one);
    }
    let label = |image: &StoredImage| {
        let name = image.names.iter().flatten().next();
        shown(name.unwrap_or(&image.id).as_bytes())
    };
    let listed: Vec<String> = images.iter().take(NAMED_MAX).map(label).collect();
    let more = if images.len() > NAMED_MAX { ", …" } else { "" };
    let (what, listed) = match wanted.len() {
        0 => ("has no such image".to_owned(), listed),
        count => (format!("holds {count} images; choose one by --image"), listed),
    };
    Err(SbomError::request(format!("{what}; there are: {}{more}", listed.join(", "))))
}

/// The folders of an image's layers, from the lowest one to the highest one.
fn layers(store: &Path, highest: Option<&str>) -> Result<Vec<PathBuf>, SbomError> {
    let all: Vec<StoredLayer> = list(&store.join(LAYERS))?;
    let all: HashMap<&str, &StoredLayer> =
        all.iter().map(|layer| (layer.id.as_str(), layer)).collect();
    let mut folders = Vec::new();
    let mut next = highest.filter(|id| !id.is_empty());
    while let Some(id) = next {
        let missing = || SbomError::content(format!("has no layer {}", shown(id.as_bytes())));
        let layer = all.get(id).ok_or_else(missing)?;
        let folder = store.join("overlay").join(checked(id)?);
        if folder.join("composefs-data").exists() {
            let message = format!("{id} is a layer of composefs, which is not read here");
            return Err(SbomError::content(message));
        }
        folders.push(folder.join("diff"));
        if folders.len() > LAYERS_MAX {
            return Err(SbomError::content(format!("has more than {LAYERS_MAX} layers")));
        }
        next = layer.parent.as_deref().filter(|id| !id.is_empty());
    }
    folders.reverse();
    Ok(folders)
}

/// An id that is a name of a folder: hexadecimal digits.
fn checked(id: &str) -> Result<&str, SbomError> {
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bad = || SbomError::content(format!("has the bad id {:?}", shown(id.as_bytes())));
    if is_id { Ok(id) } else { Err(bad()) }
}

/// The file of an image's data with a name other than digits, small letters and dots
/// (`makeBigDataBaseName`, store.go).
fn name_of_data(name: &str) -> String {
    format!("={}", STANDARD.encode(name))
}

fn list<T: DeserializeOwned>(path: &Path) -> Result<T, SbomError> {
    serde_json::from_slice(&bounded(path)?)
        .map_err(|error| SbomError::content(format!("{}: {error}", path.display())))
}

fn bounded(path: &Path) -> Result<Vec<u8>, SbomError> {
    let file = open_regular(path, OFlags::NOFOLLOW).map_err(SbomError::reading(path))?;
    let bytes = read_bounded(file, JSON_BYTES_MAX).map_err(SbomError::reading(path))?;
    bytes.ok_or_else(|| {
        let path = path.display();
        SbomError::content(format!("{path} has more than {JSON_BYTES_MAX} bytes"))
    })
}

/// Reads an unpacked layer; its marks of removed files become those that archives have.
fn read_layer(
    layer: &Path,
    (pages, room): (PageHashes, &Room),
    block: &mut [u8],
    progress: &dyn BuildProgress,
) -> Result<Vec<LayerEntry>, SbomError> {
    let mut entries = Vec::new();
    let mut add = |path, kind| {
        let entry = LayerEntry { path, kind };
        entry.take(room).map(|()| entries.push(entry))
    };
    // The first name of each file that has several.
    let mut shared = HashMap::new();
    let mut waiting = vec![(layer.to_owned(), Vec::new())];
    while let Some((folder, path)) = waiting.pop() {
        if is_opaque(&folder)? && !path.is_empty() {
            let path = [&path[..], OPAQUE].join(&b'/');
            add(path, EntryKind::Special)?;
        }
        for entry in fs::read_dir(&folder).map_err(SbomError::reading(&folder))? {
            let entry = entry.map_err(SbomError::reading(&folder))?;
            let (place, name) = (entry.path(), entry.file_name());
            let path = match path.as_slice() {
                b"" => name.as_bytes().to_vec(),
                path => [path, name.as_bytes()].join(&b'/'),
            };
            let metadata = place.symlink_metadata().map_err(SbomError::reading(&place))?;
            let kind = if path.len() >= PATH_BYTES_MAX {
                return Err(SbomError::content(format!(
                    "{} is no path that a kernel gives",
                    shown(&path)
                )));
            } else if metadata.is_dir() {
                unmoved(&place)?;
                waiting.push((place, path.clone()));
                EntryKind::Directory
            } else if metadata.is_symlink() {
                let to = fs::read_link(&place).map_err(SbomError::reading(&place))?;
                EntryKind::Symlink(to.as_os_str().as_bytes().to_vec())
            } else if metadata.is_file() {
                unmoved(&place)?;
                let key = (metadata.dev(), metadata.ino());
                match shared.get(&key) {
                    Some(first) if metadata.nlink() > 1 => EntryKind::Link(Vec::clone(first)),
                    _ => {
                        shared.insert(key, path.clone());
                        file(&place, &path, &metadata, pages, block, progress)?
                    }
                }
            } else if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                let folder = path.len() - name.len();
                let path = [&path[..folder], WHITEOUT, name.as_bytes()].concat();
                add(path, EntryKind::Special)?;
                continue;
            } else {
                EntryKind::Special
            };
            add(path, kind)?;
        }
    }
    Ok(entries)
}

fn file(
    place: &Path,
    path: &[u8],
    metadata: &Metadata,
    pages: PageHashes,
    block: &mut [u8],
    progress: &dyn BuildProgress,
) -> Result<EntryKind, SbomError> {
    progress.expect(metadata.size());
    let mode = (metadata.mode() & 0o7777) as u16;
    let mut advance = |bytes| progress.advance(bytes);
    let content = open_regular(place, OFlags::NOFOLLOW)
        .and_then(|mut file| digest(&mut file, block, pages, path, mode, &mut advance))
        .map_err(SbomError::reading(place))?;
    if content.size != metadata.size() {
        return Err(SbomError::content(format!("{} was changed meanwhile", place.display())));
    }
    Ok(EntryKind::File { mode, content })
}

/// An error if the content of a file or directory is in another layer.
fn unmoved(place: &Path) -> Result<(), SbomError> {
    for name in MOVED_ATTRIBUTES {
        if attribute(place, name)?.is_some() {
            let message = format!("{} has its content in another layer ({name})", place.display());
            return Err(SbomError::content(message));
        }
    }
    Ok(())
}

fn is_opaque(folder: &Path) -> Result<bool, SbomError> {
    for name in OPAQUE_ATTRIBUTES {
        if attribute(folder, name)? == Some(b'y') {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first byte of an extended attribute.
fn attribute(place: &Path, name: &str) -> Result<Option<u8>, SbomError> {
    use rustix::io::Errno;
    let mut value = [0; 4096];
    match rustix::fs::lgetxattr(place, name, &mut value) {
        Ok(_) => Ok(Some(value[0])),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        // A longer value.
        Err(Errno::RANGE) => Ok(Some(0)),
        Err(error) => Err(SbomError::reading(place)(io::Error::from(error))),
    }
}

#[cfg(test)]
mod tests;
