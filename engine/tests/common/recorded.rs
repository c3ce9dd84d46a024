//! Finds recorded images, and the result of a scan of the memory that each was recorded from.
//!
//! An image is the memory of a real machine, so it is made on demand and never kept with the
//! sources. `NAME.digest` next to `NAME.image` is the result of scanning the whole memory, which a
//! scan of the image must match.
//!
//! One small image is among the sources, for benches and fuzzing in a fresh clone. It shows a test
//! machine. It has the pages that a scan reads, and neither symbols nor types nor code of its
//! kernel: a built-in table describes it.
//!
//! Used by the engine's tests, the example that records, the benches and the fuzz target.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use panoptes_engine::policy::lines::{Kinds, LineCounts, LineWriter, Traits};
use panoptes_engine::state::facts::HeapRule;
use panoptes_engine::walk::{Kernel, Snapshot};

/// Environment variable with an image, or a folder of them, to use instead of the cache folder.
pub(crate) const VARIABLE: &str = "PANOPTES_RECORDED";

/// Command that makes an image.
pub(crate) const MAKE: &str = "cargo run --release -p panoptes-engine --example record -- RAM \
                        ~/.cache/panoptes/recorded/NAME.image";

/// The image among the sources, by its path from the folder of each crate that uses it.
const IN_REPOSITORY: &str = "../benches/images/6.1.image.xz";

/// Name and bytes of the image among the sources. Panics if it cannot be unpacked.
pub(crate) fn in_repository() -> (String, Vec<u8>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(IN_REPOSITORY);
    let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut image = Vec::new();
    lzma_rust2::XzReader::new(packed.as_slice(), false)
        .read_to_end(&mut image)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    ("6.1".to_owned(), image)
}

/// All recorded images, sorted by name. Panics if the path in [`VARIABLE`] does not exist.
pub(crate) fn images() -> Vec<PathBuf> {
    if let Some(given) = std::env::var_os(VARIABLE).filter(|given| !given.is_empty()) {
        let given = PathBuf::from(given);
        assert!(given.exists(), "{VARIABLE}={} is not there", given.display());
        return if given.is_dir() { images_in(&given) } else { vec![given] };
    }
    let cache = panoptes_needs::check::cache_folder();
    cache.map(|cache| images_in(&cache.join("recorded"))).unwrap_or_default()
}

/// The recorded images; if there are none, prints what is skipped and how to make one.
pub(crate) fn images_or_skip(what: &str) -> Option<Vec<PathBuf>> {
    let images = images();
    if images.is_empty() {
        let reason = format_args!("{what} cannot be tried; run: {MAKE}");
        panoptes_needs::skip::test_for("recorded images", reason);
        return None;
    }
    Some(images)
}

fn images_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut images: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "image"))
        .collect();
    images.sort();
    images
}

/// Summary of a scan's lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Number of lines of `panoptes scan`.
    pub(crate) lines: u64,
    /// Hash of all their bytes.
    pub(crate) digest: u128,
}

impl Seen {
    /// Writes the lines of a snapshot; returns their summary and the writer's counts.
    pub(crate) fn of(
        snapshot: &Snapshot,
        kernel: &Kernel,
        writer: &mut LineWriter,
    ) -> (Self, LineCounts) {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        let counts = each_line(snapshot, kernel, writer, |line| hasher.update(line));
        (Self { lines: counts.lines, digest: hasher.digest128() }, counts)
    }

    /// Path of the summary of an image.
    pub(crate) fn path(image: &Path) -> PathBuf {
        image.with_extension("digest")
    }

    /// Reads the summary of the memory that an image was recorded from.
    pub(crate) fn read(image: &Path) -> Result<Self, String> {
        let path = Self::path(image);
        let wrong = |why: &dyn fmt::Display| {
            format!("{}: {why}; record the image again with: {MAKE}", path.display())
        };
        let text = fs::read_to_string(&path).map_err(|error| wrong(&error))?;
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let lines = value("lines").and_then(|lines| lines.parse().ok());
        let digest = value("digest").and_then(|digest| u128::from_str_radix(digest, 16).ok());
        lines
            .zip(digest)
            .map(|(lines, digest)| Self { lines, digest })
            .ok_or_else(|| wrong(&"no digest"))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lines {}\ndigest {:032x}\n", self.lines, self.digest)
    }
}

/// Passes every line of a snapshot to `sink`.
pub(crate) fn each_line(
    snapshot: &Snapshot,
    kernel: &Kernel,
    writer: &mut LineWriter,
    mut sink: impl FnMut(&[u8]),
) -> LineCounts {
    let heap = if kernel.heap_may_touch() { HeapRule::Touches } else { HeapRule::Overlaps };
    let traits = Traits { heap, gate_area: snapshot.machine.gate, contents: None, commands: &[] };
    let written = writer.write(snapshot, Kinds::ALL, &traits, &mut |line| {
        sink(line);
        Ok::<(), std::convert::Infallible>(())
    });
    match written {
        Ok(counts) => counts,
        Err(error) => match error {},
    }
}
