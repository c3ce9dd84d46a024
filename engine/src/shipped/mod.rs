//! The index of shipped files: every file that may run, by content, by path and by size.
//!
//! Built once by [`ShippedBuilder`], then immutable and shared. Queries borrow and allocate
//! nothing.
//!
//! A file belongs to a [`ShippedSubject`], which limits where it may run: everywhere, outside of
//! containers, or in the containers of an image. [`ProcessSubjects`] holds the subjects that apply
//! to one process.

mod build;
#[cfg(test)]
mod tests;

use core::ops::Range;

use panoptes_decoders::maybe::{MaybeU32, MaybeU64};

use crate::container_config::{Glob, ImageReference as ImageName};
use crate::page_cache::{BestMatch, Hashes, PageDigest, PageMatcher};

pub use build::{ShippedBuilder, TooMuch};

/// Maximum number of subjects that apply to one process: further images of the same name are
/// ignored.
const APPLIED_MAX: usize = 16;

/// One file as an SBOM describes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShippedFile<'a> {
    /// Absolute inside its root; `None` in lists of hashes.
    pub path: Option<&'a [u8]>,
    /// In bytes.
    pub size: Option<u64>,
    pub sha256: Option<[u8; 32]>,
    pub sha1: Option<[u8; 20]>,
    pub md5: Option<[u8; 16]>,
    /// Digest of each page of 4 KiB, the last one up to the end of the file; may be empty.
    pub pages: &'a [PageDigest],
    /// Argument lists that it is meant to be run with, the program's own name first. If empty, any
    /// arguments are fine.
    pub arguments: &'a [Vec<Vec<u8>>],
}

/// Where files are shipped to.
#[derive(Clone, Copy, Debug)]
pub enum ShippedSubject<'a> {
    /// Approved content, in containers and outside: lists of hashes.
    Everywhere,
    /// Everything outside of containers: a root directory, packages.
    System,
    Image {
        /// Reference with which the image is started, e.g. `web:1.2`.
        name: Option<&'a str>,
        /// `sha256:…`
        digest: Option<&'a str>,
        /// Patterns of ids or names of the image's containers ([`Glob`]).
        containers: &'a [String],
        /// Entrypoint and command: the arguments of a container's first process.
        entrypoint: &'a [Vec<u8>],
    },
}

/// Number of a subject in a [`ShippedFiles`].
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct SubjectId(u16);

/// Number of a file in a [`ShippedFiles`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FileId(u32);

/// Number of a content with page hashes ([`BestMatch::shipped`]). Files with the same pages share
/// one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RunId(u32);

/// In [`BestMatch::shipped`]: other contents match equally well, so the file may have any of them.
const AMBIGUOUS: u32 = 1 << 31;

impl RunId {
    /// The content that a [`PageMatcher`] returned, and whether others match equally well.
    pub fn of(best_match: &BestMatch) -> (Self, bool) {
        (Self(best_match.shipped & !AMBIGUOUS), best_match.shipped & AMBIGUOUS != 0)
    }
}

/// The subjects that apply to one process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ProcessSubjects {
    ids: [SubjectId; APPLIED_MAX],
    count: u8,
}

impl ProcessSubjects {
    /// Whether nothing applies, so that the process is not checked.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = SubjectId> + Clone + '_ {
        self.ids.iter().take(usize::from(self.count)).copied()
    }

    pub fn has(&self, subject: SubjectId) -> bool {
        self.iter().any(|id| id == subject)
    }

    fn add(&mut self, subject: SubjectId) {
        if !self.has(subject)
            && let Some(free) = self.ids.get_mut(usize::from(self.count))
        {
            *free = subject;
            self.count += 1;
        }
    }
}

/// A stored [`ShippedSubject`].
#[derive(Clone, Debug)]
enum KeptSubject {
    Everywhere,
    System,
    Image(ShippedImage),
}

#[derive(Clone, Debug, Default)]
struct ShippedImage {
    name: Option<String>,
    digest: Option<String>,
    containers: Vec<Glob>,
    /// Entrypoints with their commands, each argument terminated by NUL.
    entrypoints: Vec<Vec<u8>>,
}

/// A compact range of a table.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct CompactRange {
    start: u32,
    count: u32,
}

impl CompactRange {
    fn range(self) -> Range<usize> {
        self.start as usize..(self.start as usize).saturating_add(self.count as usize)
    }
}

/// A stored [`ShippedFile`].
#[derive(Clone, Copy, Debug)]
struct KeptFile {
    subject: SubjectId,
    /// In the texts; empty if the file has no path.
    path: CompactRange,
    /// In bytes.
    size: MaybeU64,
    /// Whether a hash of its whole content is known.
    has_hash: bool,
    /// Number of its run of pages.
    run: MaybeU32,
    /// In the table of argument lists.
    arguments: CompactRange,
}

/// Everything that was shipped.
#[derive(Debug, Default)]
pub struct ShippedFiles {
    subjects: Vec<KeptSubject>,
    files: Vec<KeptFile>,
    /// Paths and argument lists.
    texts: Vec<u8>,
    /// Argument lists in the texts, each argument terminated by NUL.
    arguments: Vec<CompactRange>,
    pages: Vec<PageDigest>,
    /// Contents in the pages; files with the same pages share one.
    runs: Vec<CompactRange>,
    /// For each kind of hash, the files for which it is the strongest known, in order.
    by_sha256: Vec<([u8; 32], u32)>,
    by_sha1: Vec<([u8; 20], u32)>,
    by_md5: Vec<([u8; 16], u32)>,
    /// Files with a path, by subject and path.
    by_path: Vec<u32>,
    /// Files with a size, by size and run.
    by_size: Vec<u32>,
    /// Whether each subject has files with neither size nor pages. Partly known content may be that
    /// of such a file.
    has_unsized: Vec<bool>,
}

impl ShippedFiles {
    /// Approximate size of the index in bytes.
    pub fn bytes(&self) -> u64 {
        let lists = [
            size_of_val(self.subjects.as_slice()),
            size_of_val(self.files.as_slice()),
            size_of_val(self.texts.as_slice()),
            size_of_val(self.arguments.as_slice()),
            size_of_val(self.pages.as_slice()),
            size_of_val(self.runs.as_slice()),
            size_of_val(self.by_sha256.as_slice()),
            size_of_val(self.by_sha1.as_slice()),
            size_of_val(self.by_md5.as_slice()),
            size_of_val(self.by_path.as_slice()),
            size_of_val(self.by_size.as_slice()),
            size_of_val(self.has_unsized.as_slice()),
        ];
        lists.iter().map(|&bytes| bytes as u64).sum()
    }

    /// Whether nothing was shipped, so that no process is checked.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    pub fn file(&self, id: FileId) -> Option<ShippedFileView<'_>> {
        let kept = self.files.get(id.0 as usize)?;
        Some(ShippedFileView { shipped: self, id, kept })
    }

    /// The subjects that apply outside of containers.
    pub fn of_system(&self) -> ProcessSubjects {
        self.applied(|kept| matches!(kept, KeptSubject::Everywhere | KeptSubject::System))
    }

    /// The subjects that apply in a container. If its image is unknown or has no SBOM, only content
    /// that is approved everywhere applies. `image` is the image's name or digest according to the
    /// configuration.
    pub fn of_container(
        &self,
        id: &[u8],
        name: Option<&[u8]>,
        image: Option<&str>,
    ) -> ProcessSubjects {
        self.applied(|kept| match kept {
            KeptSubject::Everywhere => true,
            KeptSubject::System => false,
            KeptSubject::Image(kept) => kept.is_of(id, name, image),
        })
    }

    fn applied(&self, applies: impl Fn(&KeptSubject) -> bool) -> ProcessSubjects {
        let mut applied = ProcessSubjects::default();
        for (index, _) in self.subjects.iter().enumerate().filter(|(_, kept)| applies(kept)) {
            applied.add(SubjectId(index as u16));
        }
        applied
    }

    /// The name and digest of the first image that applies.
    pub fn image_of(&self, applied: &ProcessSubjects) -> Option<(Option<&str>, Option<&str>)> {
        applied.iter().find_map(|id| match self.subjects.get(usize::from(id.0)) {
            Some(KeptSubject::Image(image)) => {
                Some((image.name.as_deref(), image.digest.as_deref()))
            }
            _ => None,
        })
    }

    /// The entrypoints, with their commands, of the images that apply. Each argument is terminated
    /// by NUL.
    pub fn entrypoints<'a>(
        &'a self,
        applied: &'a ProcessSubjects,
    ) -> impl Iterator<Item = &'a [u8]> + Clone {
        applied.iter().flat_map(|id| {
            let image = match self.subjects.get(usize::from(id.0)) {
                Some(KeptSubject::Image(image)) => Some(image),
                _ => None,
            };
            image.into_iter().flat_map(|image| image.entrypoints.iter().map(Vec::as_slice))
        })
    }

    /// Files of any subject with this content, by the strongest known hash of each.
    pub fn with_content<'a>(
        &'a self,
        hashes: &'a Hashes,
    ) -> impl Iterator<Item = ShippedFileView<'a>> {
        let numbers = equal(&self.by_sha256, &hashes.sha256)
            .chain(equal(&self.by_sha1, &hashes.sha1))
            .chain(equal(&self.by_md5, &hashes.md5));
        numbers.filter_map(|number| self.file(FileId(number)))
    }

    /// Files of a subject at a path; `/usr/bin` and `/bin` are the same ([`merged`]).
    pub fn at_path<'a>(
        &'a self,
        subject: SubjectId,
        path: &[u8],
    ) -> impl Iterator<Item = ShippedFileView<'a>> + use<'a> {
        let path = merged(path);
        let key = |number: &u32| {
            self.file(FileId(*number)).map(|file| (file.subject(), merged(file.kept_path())))
        };
        let start = self.by_path.partition_point(|number| key(number) < Some((subject, path)));
        let count =
            self.by_path[start..].partition_point(|number| key(number) <= Some((subject, path)));
        self.by_path[start..start + count].iter().filter_map(|&number| self.file(FileId(number)))
    }

    /// Whether an image (`in_container`), or the system, has a file at this path.
    pub fn has_path(&self, in_container: bool, path: &[u8]) -> bool {
        let numbered = (0..).map(SubjectId).zip(&self.subjects);
        let mut at_path = numbered.filter_map(|(id, kept)| {
            let is_image = matches!(kept, KeptSubject::Image(_));
            (is_image == in_container).then(|| self.at_path(id, path).next())?
        });
        at_path.next().is_some()
    }

    /// Files of any subject with this size in bytes.
    pub fn of_size(&self, size: u64) -> impl Iterator<Item = ShippedFileView<'_>> {
        let of = |number: &u32| self.files.get(*number as usize).map(|kept| kept.size);
        let size = Some(MaybeU64::new(Some(size)));
        let start = self.by_size.partition_point(|number| of(number) < size);
        let count = self.by_size[start..].partition_point(|number| of(number) <= size);
        self.by_size[start..start + count].iter().filter_map(|&number| self.file(FileId(number)))
    }

    /// Whether a subject has files without size and pages. Partly known content may be that of such
    /// a file.
    pub fn has_unsized(&self, subject: SubjectId) -> bool {
        self.has_unsized.get(usize::from(subject.0)).is_some_and(|&has| has)
    }

    fn run(&self, id: RunId) -> Option<&[PageDigest]> {
        self.pages.get(self.runs.get(id.0 as usize)?.range())
    }

    fn text(&self, span: CompactRange) -> &[u8] {
        self.texts.get(span.range()).unwrap_or(&[])
    }
}

impl PageMatcher for ShippedFiles {
    fn best_match(&self, size: u64, pages: &[(u32, PageDigest)]) -> Option<BestMatch> {
        let mut best: Option<BestMatch> = None;
        let mut last = None;
        for file in self.of_size(size) {
            // In this order files that share a run are adjacent.
            let Some(id) = file.run().filter(|id| last != Some(*id)) else { continue };
            last = Some(id);
            let Some(run) = self.run(id) else { continue };
            let most = best.map_or(u32::MAX, |best| best.differing);
            let (mut compared, mut differing) = (0, 0);
            for (index, digest) in pages {
                let Some(shipped) = run.get(*index as usize) else { continue };
                compared += 1;
                differing += u32::from(shipped != digest);
                if differing > most {
                    break;
                }
            }
            if compared == 0 || differing > most {
                continue;
            }
            match &mut best {
                Some(best) if best.differing == differing => best.shipped |= AMBIGUOUS,
                _ => best = Some(BestMatch { shipped: id.0, compared, differing }),
            }
        }
        best
    }
}

impl ShippedImage {
    /// Whether a container is of this image: by the image name or digest that the configuration
    /// gives it, or else by the SBOM's own patterns.
    fn is_of(&self, id: &[u8], name: Option<&[u8]>, image: Option<&str>) -> bool {
        let Some(image) = image else {
            return self.containers.iter().any(|pattern| pattern.means(id, name));
        };
        let said = ImageName::new(image);
        let is = |own: &Option<String>, said: Option<&str>| match (own, said) {
            (Some(own), Some(said)) => Some(same_image(own, said)),
            _ => None,
        };
        // If both have a digest, the digest decides, not the name.
        let by_digest = is(&self.digest, said.digest);
        by_digest.or_else(|| is(&self.name, said.name)).unwrap_or(false)
    }
}

/// Whether two image names mean the same image: they are equal, or one has the name of a registry
/// or repository in front (`example/web:1` and `web:1`).
fn same_image(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let rest = long.strip_suffix(short).filter(|_| !short.is_empty());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

/// Removes the `/usr` that merged systems have in front of these folders and others do not.
pub fn merged(path: &[u8]) -> &[u8] {
    let Some(rest) = path.strip_prefix(b"/usr") else { return path };
    let folder = rest.get(1..).unwrap_or(&[]).split(|&byte| byte == b'/').next().unwrap_or(&[]);
    let is_merged =
        matches!(folder, b"bin" | b"sbin" | b"lib" | b"lib32" | b"lib64" | b"libx32" | b"libo32");
    if is_merged && rest.starts_with(b"/") { rest } else { path }
}

fn equal<'a, const N: usize>(
    table: &'a [([u8; N], u32)],
    hash: &'a [u8; N],
) -> impl Iterator<Item = u32> + 'a {
    let start = table.partition_point(|(of, _)| of < hash);
    table[start..].iter().take_while(move |(of, _)| of == hash).map(|&(_, number)| number)
}

/// One shipped file.
#[derive(Clone, Copy, Debug)]
pub struct ShippedFileView<'a> {
    shipped: &'a ShippedFiles,
    id: FileId,
    kept: &'a KeptFile,
}

impl<'a> ShippedFileView<'a> {
    pub fn id(&self) -> FileId {
        self.id
    }

    pub fn subject(&self) -> SubjectId {
        self.kept.subject
    }

    /// Absolute inside its root, if it has one.
    pub fn path(&self) -> Option<&'a [u8]> {
        (self.kept.path.count > 0).then(|| self.kept_path())
    }

    fn kept_path(&self) -> &'a [u8] {
        self.shipped.text(self.kept.path)
    }

    /// Whether it was shipped at that path, or without a path.
    pub fn may_be_at(&self, path: &[u8]) -> bool {
        self.path().is_none_or(|own| merged(own) == merged(path))
    }

    /// In bytes, if known.
    pub fn size(&self) -> Option<u64> {
        self.kept.size.get()
    }

    /// Whether a hash of its whole content is known.
    pub fn has_hash(&self) -> bool {
        self.kept.has_hash
    }

    /// Number of its content, if its page hashes are known.
    pub fn run(&self) -> Option<RunId> {
        self.kept.run.get().map(RunId)
    }

    /// Argument lists that it is meant to be run with. If empty, any arguments are fine.
    pub fn argument_lists(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let shipped = self.shipped;
        let spans = shipped.arguments.get(self.kept.arguments.range()).unwrap_or(&[]);
        spans.iter().map(|&span| shipped.text(span))
    }
}
