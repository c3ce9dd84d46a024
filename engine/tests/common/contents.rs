//! Compares the results of [`Contents`] with the truth about files inside a guest.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use panoptes_decoders::source::MemorySource;
use panoptes_decoders::text::Hex;
use panoptes_engine::limits::Limits;
use panoptes_engine::page_cache::{
    BestMatch, ContentFacts, Contents, FileIdentity, HashOutcome, Hashes, PAGE_BYTES, PageDigest,
    PageMatcher, Partial,
};
use panoptes_engine::path::{PathBuffer, write_path};
use panoptes_engine::system::kernel_of;
use panoptes_engine::walk::{FileRow, Index, Kernel, Scope, Snapshot, Walker};
use panoptes_profiles::{DiscoveryOptions, discover, modules};
use panoptes_rig::contents::{FileTruth, HOLDER, Made, Moment, Phase, Place, made};
use panoptes_rig::{Error, Guest, Result};
use panoptes_sources::FileSource;
use panoptes_tables::HashKey;
use sha2::{Digest as _, Sha256};

/// Any key does: it only spreads the entries of tables.
const KEY: HashKey = HashKey::new(0x5eed_5eed_5eed_5eed);

/// Size of a slice, small enough that a file takes several.
const SLICE_BYTES: usize = 256 << 10;

/// More slices than all files take.
const SLICES_MAX: usize = 100_000;

/// Largest number of problems that are described.
const PROBLEMS_MAX: usize = 12;

/// How the scan reached a file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Way {
    /// Through a descriptor of the process that holds it.
    Descriptor,
    /// Through an area that maps it.
    Area,
}

/// Whether the types of modules are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Types {
    /// Modules' types too, if they are found.
    OfModules,
    /// The kernel's own types only.
    OfKernel,
}

/// Result of a comparison at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compared {
    /// Existing files, once for each way to reach them.
    pub(crate) truth: usize,
    /// Existing files that were found.
    pub(crate) found: usize,
    /// Files with known hashes.
    pub(crate) whole: usize,
    /// Files with some, but not all, pages in memory.
    pub(crate) partial: usize,
    /// Compared pages of partial files, and the number of those that differ.
    pub(crate) pages: (u64, u64),
    /// Files that were found, but do not exist.
    pub(crate) extra: usize,
    /// Files with a wrong result.
    pub(crate) wrong: usize,
    /// Whether overlays were resolved with the types of their module.
    pub(crate) knows_overlays: bool,
    /// Descriptions of the first problems.
    pub(crate) problems: Vec<String>,
}

impl Compared {
    /// Whether everything was found and nothing was wrong.
    pub(crate) fn is_exact(&self) -> bool {
        self.found == self.truth && self.extra == 0 && self.wrong == 0
    }

    fn wrong(&mut self, what: impl fmt::Display) {
        self.wrong += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what.to_string());
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{} found, {} whole, {} partial ({} pages compared, {} differ), {} extra, {} wrong",
            self.found,
            self.truth,
            self.whole,
            self.partial,
            self.pages.0,
            self.pages.1,
            self.extra,
            self.wrong
        )?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n    {problem}"))
    }
}

/// The files as they were made, by size: the content of a reference.
#[derive(Debug)]
pub(crate) struct Shipped {
    by_size: BTreeMap<u64, Vec<(u32, Vec<PageDigest>)>>,
}

impl Shipped {
    pub(crate) fn new(files: &[Made]) -> Self {
        let mut by_size: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            let entry = by_size.entry(file.content.len() as u64).or_default();
            entry.push((index as u32, digests(&file.content)));
        }
        Self { by_size }
    }
}

impl PageMatcher for Shipped {
    fn best_match(&self, size: u64, pages: &[(u32, PageDigest)]) -> Option<BestMatch> {
        let files = self.by_size.get(&size)?;
        let best_match = files.iter().map(|(shipped, own)| {
            let differs = |(index, digest): &&(u32, PageDigest)| {
                own.get(*index as usize).is_none_or(|own| own != digest)
            };
            BestMatch {
                shipped: *shipped,
                compared: pages.len() as u32,
                differing: pages.iter().filter(differs).count() as u32,
            }
        });
        best_match.min_by_key(|best_match| best_match.differing)
    }
}

/// The digests of all pages of a content.
fn digests(content: &[u8]) -> Vec<PageDigest> {
    let digest = |page: &[u8]| {
        let hash = Sha256::digest(page);
        core::array::from_fn(|at| hash[at])
    };
    content.chunks(PAGE_BYTES as usize).map(digest).collect()
}

/// Scans a stopped guest's memory and compares the content of the held files.
pub(crate) fn look(
    guest: &Guest,
    moment: &Moment,
    files: &[Made],
    shipped: &Shipped,
    types: Types,
) -> Result<Compared> {
    let text = |e: &dyn fmt::Display| Error::new(e.to_string());
    let mut source = FileSource::open(guest.ram_path()).map_err(|e| text(&e))?;
    let mut profile =
        discover(&mut source, &DiscoveryOptions::default(), &mut ()).map_err(|e| text(&e))?;
    if types == Types::OfModules {
        modules::bind(&mut source, &mut profile);
    }
    let kernel = kernel_of(&profile);
    let limits = Limits::default();
    let mut walker = Walker::new(&limits, KEY);
    let snapshot = walker.scan(&mut source, &kernel, Scope::ALL).map_err(|e| text(&e))?;
    let mut contents = Contents::new(&limits, KEY);
    let held = held(snapshot);
    let knows_overlays = kernel.layouts.ovl_inode.is_some();
    let mut compared = Compared { knows_overlays, ..Compared::default() };
    let mut truths: BTreeMap<(Way, &str), &FileTruth> = BTreeMap::new();
    for file in &moment.files {
        truths.insert((Way::Descriptor, &file.path), file);
        // An empty file cannot be mapped.
        if !files[file.index].content.is_empty() {
            truths.insert((Way::Area, &file.path), file);
        }
    }
    compared.truth = truths.len();
    for ((way, path), file) in &held {
        let Some(truth) = truths.remove(&(*way, path.as_str())) else {
            compared.extra += 1;
            continue;
        };
        compared.found += 1;
        let identity = FileIdentity::of_file(snapshot, file);
        let Some(identity) = identity else {
            compared.wrong(format_args!("{path}, {way:?}: no identity"));
            continue;
        };
        let known = settle(&mut contents, &mut source, &kernel, &identity, shipped);
        judge(&mut compared, moment, *way, truth, files, shipped, known);
    }
    for (way, path) in truths.keys().take(PROBLEMS_MAX) {
        compared.problems.push(format!("{path}, {way:?}: not found"));
    }
    Ok(compared)
}

/// Requests the content of a file until it is known.
fn settle<S: MemorySource>(
    contents: &mut Contents,
    source: &mut S,
    kernel: &Kernel,
    identity: &FileIdentity,
    shipped: &Shipped,
) -> Option<ContentFacts> {
    contents.ask(identity);
    for _ in 0..SLICES_MAX {
        if !contents.has_work() {
            break;
        }
        contents.work(source, kernel, SLICE_BYTES, shipped);
    }
    contents.get(identity).copied()
}

/// The files of the holder process, by way and path.
fn held(snapshot: &Snapshot) -> BTreeMap<(Way, String), FileRow> {
    let mut held = BTreeMap::new();
    let mut buffer = PathBuffer::default();
    for process in snapshot.processes.iter() {
        let name = snapshot.leader(process).map(|leader| leader.task.comm);
        if !name.is_some_and(|comm| comm.starts_with(HOLDER.as_bytes())) {
            continue;
        }
        let mut add = |way, file: Option<Index<FileRow>>| {
            let Some(file) = snapshot.files.at(file) else { return };
            if write_path(snapshot, file.path, &mut buffer).is_ok() {
                let path = String::from_utf8_lossy(buffer.text()).into_owned();
                if path.starts_with("/mnt/") {
                    held.insert((way, path), *file);
                }
            }
        };
        if let Some(table) = snapshot.files_structs.at(process.files) {
            for descriptor in snapshot.descriptors.range(table.descriptors) {
                add(Way::Descriptor, descriptor.file);
            }
        }
        if let Some(mm) = snapshot.mms.at(process.mm) {
            for area in snapshot.vmas.range(mm.vmas) {
                add(Way::Area, area.file);
            }
        }
    }
    held
}

/// Compares the result for one file with the truth.
fn judge(
    compared: &mut Compared,
    moment: &Moment,
    way: Way,
    truth: &FileTruth,
    files: &[Made],
    shipped: &Shipped,
    known: Option<ContentFacts>,
) {
    let path = &truth.path;
    let Some(known) = known else {
        compared.wrong(format_args!("{path}, {way:?}: no result"));
        return;
    };
    // A mapping made before its file was copied up shows the lower file. Inside the guest nothing
    // shows which pages of that file are in memory.
    let is_below = moment.place.is_overlay() && way == Way::Area && moment.phase == Phase::Changed;
    let made = &files[truth.index].content;
    let content =
        if truth.changed && !is_below { made::changed(made.clone()) } else { made.clone() };
    let pages = digests(&content);
    match known.outcome {
        HashOutcome::Whole { hashes } => {
            compared.whole += 1;
            if let Some(sums) = &truth.sums
                && *sums != hex(&hashes)
            {
                compared.wrong(format_args!("{path}, {way:?}: {:?}, not {sums:?}", hex(&hashes)));
            } else if Sha256::digest(&content)[..] != hashes.sha256 {
                compared.wrong(format_args!("{path}, {way:?}: the hash of something else"));
            }
        }
        HashOutcome::Partial(partial) => {
            compared.partial += 1;
            if let Some(best_match) = partial.best_match {
                compared.pages.0 += u64::from(best_match.compared);
                compared.pages.1 += u64::from(best_match.differing);
            }
        }
        HashOutcome::Nothing => {}
    }
    let Some(resident) = truth.resident.as_ref().filter(|_| !is_below) else {
        let is_all_there = content.is_empty() || moment.phase == Phase::Read;
        if is_all_there && !matches!(known.outcome, HashOutcome::Whole { .. }) {
            compared.wrong(format_args!("{path}, {way:?}: {:?} of a whole file", known.outcome));
        }
        return;
    };
    let unit = moment.page_bytes / PAGE_BYTES;
    let is_in = |ranges: &[Range<u64>], page| ranges.iter().any(|range| range.contains(&page));
    let is_hole = |page| truth.data.as_ref().is_some_and(|data| !is_in(data, page));
    let there: Vec<(u32, PageDigest)> = (0_u64..)
        .zip(&pages)
        .filter(|(page, _)| {
            let page = page / unit;
            is_in(resident, page) || moment.place.is_memory() && is_hole(page)
        })
        .map(|(page, digest)| (page as u32, *digest))
        .collect();
    let expected = match there.len() {
        0 if !pages.is_empty() => HashOutcome::Nothing,
        count if count == pages.len() => match known.outcome {
            HashOutcome::Whole { .. } => known.outcome,
            _ => HashOutcome::Whole {
                hashes: Hashes {
                    sha256: Sha256::digest(&content).into(),
                    sha1: [0; 20],
                    md5: [0; 16],
                },
            },
        },
        count => HashOutcome::Partial(Partial {
            pages: pages.len() as u32,
            resident: count as u32,
            best_match: shipped.best_match(content.len() as u64, &there),
        }),
    };
    // Pages on their way to or from a swap device are resident for `mincore`, but no longer the
    // file's.
    let is_swapped = moment.phase == Phase::Pressed
        && (moment.place.is_memory() || moment.place == Place::Overlay);
    let agrees = match (expected, known.outcome) {
        // A hole of a file that was copied up to a filesystem in memory; the hash was compared
        // above.
        (_, HashOutcome::Whole { .. }) if moment.place.is_overlay() => true,
        (HashOutcome::Partial(one), HashOutcome::Partial(other)) if is_swapped => {
            let differing =
                |partial: Partial| partial.best_match.map(|best_match| best_match.differing);
            one.pages == other.pages
                && other.resident <= one.resident
                && differing(other) <= differing(one)
        }
        (HashOutcome::Whole { .. }, HashOutcome::Partial(other)) if is_swapped => {
            let most = u32::from(truth.changed) * 2;
            other.best_match.is_some_and(|best_match| best_match.differing <= most)
        }
        (HashOutcome::Whole { .. } | HashOutcome::Partial(_), HashOutcome::Nothing)
            if is_swapped =>
        {
            true
        }
        // If several files differ equally, any of them is right.
        (HashOutcome::Partial(one), HashOutcome::Partial(other)) => {
            let counts = |partial: Partial| {
                let best_match = partial
                    .best_match
                    .map(|best_match| (best_match.compared, best_match.differing));
                (partial.pages, partial.resident, best_match)
            };
            counts(one) == counts(other)
        }
        (one, other) => one == other,
    };
    if !agrees {
        let found = known.outcome;
        compared.wrong(format_args!("{path}, {way:?}: {found:?}, not {expected:?}"));
    }
}

fn hex(hashes: &Hashes) -> [String; 3] {
    [text(&hashes.sha256), text(&hashes.sha1), text(&hashes.md5)]
}

/// Bytes as hexadecimal text.
pub(crate) fn text(bytes: &[u8]) -> String {
    Hex(bytes).to_string()
}
