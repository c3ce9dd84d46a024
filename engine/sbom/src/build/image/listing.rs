//! The manifests of images in an index, and in the indexes that it names.

use super::oci::{OciDescriptor, OciIndex, Platform};
use super::{CONTAINERD_NAME, Digest, SbomError, Store, check_name, index, shown};

/// Maximum number of manifests read, and maximum nesting of lists of them.
const MANIFESTS_MAX: usize = 10_000;
/// Maximum number of entries of all lists of manifests.
const LISTED_ENTRIES_MAX: usize = 1 << 20;
const LISTING_DEPTH_MAX: u32 = 8;
/// Maximum number of bytes in all documents that are read before an image is chosen. It is enough
/// for 25 kB of each of as many images as there may be.
const DOCUMENT_BYTES_MAX: usize = 256 << 20;

/// One of the images in a layout.
#[derive(Clone, Debug)]
pub(super) struct ImageCandidate {
    pub(super) digest: Digest,
    pub(super) name: Option<String>,
    pub(super) platform: Option<String>,
}

/// The content of lists of manifests.
pub(super) struct Listing {
    pub(super) candidates: Vec<ImageCandidate>,
    /// Number of entries, and of lists that others name.
    entries: usize,
    lists: usize,
    /// How many more bytes documents may have.
    bytes_left: usize,
}

impl Listing {
    pub(super) const fn new() -> Self {
        Self { candidates: Vec::new(), entries: 0, lists: 0, bytes_left: DOCUMENT_BYTES_MAX }
    }

    /// An error at a digest if there is more than images have. A few lists that name each other may
    /// have any number of entries.
    fn check(&self, digest: &str) -> Result<(), SbomError> {
        for (count, max, what) in [
            (self.candidates.len(), MANIFESTS_MAX, "images"),
            (self.lists, MANIFESTS_MAX, "lists of images"),
            (self.entries, LISTED_ENTRIES_MAX, "entries"),
        ] {
            if count > max {
                let digest = shown(digest.as_bytes());
                return Err(SbomError::content(format!(
                    "lists more than {max} {what}, at {digest}"
                )));
            }
        }
        Ok(())
    }

    /// Reads a JSON blob, as far as there is room for it.
    pub(super) fn read(&mut self, store: &Store, digest: &Digest) -> Result<Vec<u8>, SbomError> {
        let bytes = store.json_blob(digest)?;
        self.bytes_left = self.bytes_left.checked_sub(bytes.len()).ok_or_else(|| {
            SbomError::content(format!(
                "holds more than {DOCUMENT_BYTES_MAX} bytes of lists, manifests and \
                 configurations, at {digest}"
            ))
        })?;
        Ok(bytes)
    }
}

/// Finds the manifests of images in an index, and in the indexes that it names.
pub(super) fn collect(
    store: &Store,
    list: &OciIndex,
    name: Option<&str>,
    depth: u32,
    listing: &mut Listing,
) -> Result<(), SbomError> {
    for descriptor in &list.manifests {
        listing.entries += 1;
        listing.check(&descriptor.digest)?;
        let kind = descriptor.media_type.as_str();
        let own_name = named(descriptor);
        let platform = descriptor.platform.as_ref().map(Platform::name);
        // The entries of a list each get a copy of its name.
        for (what, text) in [("an image's name", own_name), ("a platform", platform.as_deref())] {
            check_name(what, text.unwrap_or_default())?;
        }
        let name = own_name.or(name);
        // Docker lists attestations of an image beside it.
        let is_attestation = platform.as_deref() == Some("unknown/unknown")
            || descriptor.annotation("vnd.docker.reference.type").is_some();
        if is_attestation {
            continue;
        }
        if kind.ends_with(".image.index.v1+json") || kind.ends_with(".manifest.list.v2+json") {
            if depth == LISTING_DEPTH_MAX {
                return Err(SbomError::content(format!(
                    "has more than {LISTING_DEPTH_MAX} lists of images in each other, at {}",
                    shown(descriptor.digest.as_bytes())
                )));
            }
            let digest = Digest::parse(&descriptor.digest)?;
            // An index may name images that only the registry has.
            if store.has(&digest.blob()) {
                listing.lists += 1;
                listing.check(&descriptor.digest)?;
                let list = index(&listing.read(store, &digest)?)?;
                collect(store, &list, name, depth + 1, listing)?;
            }
        } else if kind.ends_with(".image.manifest.v1+json")
            || kind.ends_with(".distribution.manifest.v2+json")
        {
            let digest = Digest::parse(&descriptor.digest)?;
            if store.has(&digest.blob()) {
                let name = name.map(str::to_owned);
                listing.candidates.push(ImageCandidate { digest, name, platform });
                listing.check(&descriptor.digest)?;
            }
        }
    }
    Ok(())
}

/// The name of an image: the full one if containerd or docker wrote it, else the one given by its
/// builder.
fn named(descriptor: &OciDescriptor) -> Option<&str> {
    [CONTAINERD_NAME, "org.opencontainers.image.ref.name"]
        .iter()
        .find_map(|name| descriptor.annotation(name))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::super::{LAYOUT, choose};
    use super::*;
    use crate::build::BuildOptions;
    use crate::digest::hex;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const LIST: &str = "application/vnd.oci.image.index.v1+json";

    /// Adds a blob to a folder; returns its digest.
    fn blob(folder: &std::path::Path, bytes: &[u8]) -> String {
        let digits = hex(&<[u8; 32]>::from(Sha256::digest(bytes)));
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join(&digits), bytes).unwrap();
        format!("sha256:{digits}")
    }

    fn descriptor(media_type: &str, digest: &str, name: Option<&str>) -> OciDescriptor {
        let annotations = name.map(|name| [(CONTAINERD_NAME.to_owned(), name.to_owned())].into());
        let (media_type, digest) = (media_type.to_owned(), digest.to_owned());
        OciDescriptor { media_type, digest, annotations, platform: None }
    }

    /// A folder with the manifest of an image for a system; returns it and the manifest's digest.
    fn image(os: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LAYOUT), "{}").unwrap();
        let config =
            format!(r#"{{"os": "{os}", "architecture": "amd64", "rootfs": {{"diff_ids": []}}}}"#);
        let config = blob(folder.path(), config.as_bytes());
        let manifest =
            format!(r#"{{"config": {{"mediaType": "", "digest": "{config}"}}, "layers": []}}"#);
        let digest = blob(folder.path(), manifest.as_bytes());
        (folder, digest)
    }

    #[test]
    fn a_name_longer_than_people_give_is_an_error_and_not_copied() {
        let (folder, digest) = image("linux");
        let store = Store::Folder(folder.path().to_owned());
        let inner = format!(r#"{{"mediaType": "{MANIFEST}", "digest": "{digest}"}}"#);
        let inner = format!(r#"{{"manifests": [{inner}, {inner}]}}"#);
        let inner = blob(folder.path(), inner.as_bytes());
        for (length, is_good) in [(4096, true), (4097, false)] {
            let name = "n".repeat(length);
            let list = OciIndex { manifests: vec![descriptor(LIST, &inner, Some(&name))] };
            let mut listing = Listing::new();
            let done = collect(&store, &list, None, 0, &mut listing);
            assert_eq!(done.is_ok(), is_good, "{length}");
            assert_eq!(listing.candidates.len(), if is_good { 2 } else { 0 });
            let message = done.err().map(|error| error.message).unwrap_or_default();
            assert!(is_good || message.contains("name of 4097 bytes, more than 4096: nn"));
        }
    }

    #[test]
    fn the_platform_of_an_image_is_read_once_and_short() {
        for (length, is_good) in [(4090, true), (4091, false)] {
            let (folder, digest) = image(&"o".repeat(length));
            let store = Store::Folder(folder.path().to_owned());
            let manifests = (0..9).map(|_| descriptor(MANIFEST, &digest, None)).collect();
            let mut listing = Listing::new();
            // Twice as many would not fit.
            listing.bytes_left = 6000;
            collect(&store, &OciIndex { manifests }, None, 0, &mut listing).unwrap();
            let chosen = choose(&store, listing, &BuildOptions::default());
            assert_eq!(chosen.is_ok(), is_good, "{chosen:?}");
            let message = chosen.err().map(|error| error.message).unwrap_or_default();
            assert!(is_good || message.contains("platform of 4097 bytes, more than 4096"));
        }
    }

    #[test]
    fn all_documents_have_one_bound() {
        let (folder, _) = image("linux");
        let store = Store::Folder(folder.path().to_owned());
        let inner = blob(folder.path(), br#"{"manifests": []}"#);
        let list =
            OciIndex { manifests: (0..10).map(|_| descriptor(LIST, &inner, None)).collect() };
        for (bytes_left, is_good) in [(170, true), (169, false)] {
            let mut listing = Listing::new();
            listing.bytes_left = bytes_left;
            let done = collect(&store, &list, None, 0, &mut listing);
            assert_eq!(done.is_ok(), is_good);
            let message = done.err().map(|error| error.message).unwrap_or_default();
            assert!(is_good || message.contains("more than 268435456 bytes of lists"), "{message}");
        }
    }
}
