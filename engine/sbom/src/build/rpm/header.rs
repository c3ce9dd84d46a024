//! The header of an installed package, as rpm's database has it (docs/manual/format_header.md of
//! rpm; tags and types: include/rpm/rpmtag.h).
//!
//! It has two counts, an index of 16 bytes an entry, and data; all numbers are big-endian. The
//! first entries are those of the package file, and others follow that the installation added
//! (docs/manual/hregions.md). Of entries with the same tag the last one counts: what was added
//! replaces what was there (`hdrblobImport`, lib/header.c).

use std::collections::HashMap;

use rustix::fs::FileType;

use crate::error::{SbomError, shown};
use crate::model::PATH_BYTES_MAX;

const ENTRY_BYTES: usize = 16;
/// Longest name of a package in bytes. Real ones have fewer than a hundred.
const RPM_NAME_BYTES_MAX: usize = 255;
/// Maximum number of entries of the index, as in rpm (`HEADER_TAGS_MAX`, lib/header.c).
const ENTRIES_MAX: usize = 0xffff;
/// Maximum number of items of one entry, so of a package's files: ten times those of the sources of
/// a kernel. A string takes a byte in the header and sixteen here.
const ITEMS_MAX: usize = 1 << 20;

/// Tags (`rpmTag_e`).
const NAME: u32 = 1000;
const OLD_FILE_NAMES: u32 = 1027;
const FILE_STATES: u32 = 1029;
const FILE_MODES: u32 = 1030;
const FILE_DIGESTS: u32 = 1035;
const FILE_FLAGS: u32 = 1037;
const FILE_DEVICES: u32 = 1095;
const FILE_INODES: u32 = 1096;
const DIRECTORY_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORY_NAMES: u32 = 1118;
const FILE_DIGEST_ALGORITHM: u32 = 5011;

/// Types (`rpmTagType_e`).
const CHAR: u32 = 1;
const INT16: u32 = 3;
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;

/// What a file may be changed to, or need not be there (`rpmfileAttrs_e`, include/rpm/rpmfiles.h).
const CONFIGURATION: u32 = 1 << 0;
const GHOST: u32 = 1 << 6;
/// State of an installed file (`rpmfileState_e`).
const STATE_NORMAL: u8 = 0;

/// An installed package.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Package<'a> {
    pub(super) name: &'a [u8],
    /// The algorithm of its digests (`PGPHASHALGO_*`, include/rpm/rpmpgp.h): 1 is MD5, 2 SHA-1, 8
    /// SHA-256.
    pub(super) algorithm: u32,
    pub(super) files: Vec<PackageFile<'a>>,
}

/// A regular file of a package, which rpm installed and nobody should change.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct PackageFile<'a> {
    pub(super) path: Vec<u8>,
    /// In hexadecimal.
    pub(super) digest: &'a [u8],
}

/// An entry of the index.
struct RpmIndexEntry<'a> {
    kind: u32,
    count: usize,
    /// From its data to the end of all data.
    data: &'a [u8],
}

/// Reads a header. An error if it is damaged, if its paths have more than `path_bytes_max` bytes,
/// or if it has more of anything than headers have.
pub(super) fn read(header: &[u8], path_bytes_max: usize) -> Result<Package<'_>, SbomError> {
    let damaged = || SbomError::content("has a damaged header of a package");
    let count = number(header, 0).ok_or_else(damaged)? as usize;
    if count > ENTRIES_MAX {
        return Err(SbomError::content(format!(
            "has a header of a package with {count} entries, more than {ENTRIES_MAX}"
        )));
    }
    let entries = entries(header).ok_or_else(damaged)?;
    let name = name(&entries).ok_or_else(damaged)?;
    let lists = [BASE_NAMES, DIRECTORY_NAMES, DIRECTORY_INDEXES, OLD_FILE_NAMES, FILE_DIGESTS]
        .into_iter()
        .chain([FILE_FLAGS, FILE_MODES, FILE_STATES, FILE_DEVICES, FILE_INODES])
        .chain([FILE_DIGEST_ALGORITHM]);
    let counts = lists.filter_map(|tag| entries.get(&tag)).map(|entry| entry.count);
    if let Some(count) = counts.max().filter(|count| *count > ITEMS_MAX) {
        return Err(SbomError::content(format!(
            "has {count} files or folders of the package {}, more than {ITEMS_MAX}",
            shown(name)
        )));
    }
    let paths = paths(&entries).ok_or_else(damaged)?;
    let mut bytes_left = path_bytes_max;
    for [folder, file] in &paths {
        let left = bytes_left.checked_sub(folder.len() + file.len());
        bytes_left = left.ok_or_else(|| {
            let (path, name) = (shown(&[*folder, *file].concat()), shown(name));
            let max = path_bytes_max;
            SbomError::content(format!("holds more than {max} bytes of paths, at {path} of {name}"))
        })?;
    }
    package(&entries, name, &paths).ok_or_else(damaged)
}

/// The name of the package.
fn name<'a>(entries: &Entries<'a>) -> Option<&'a [u8]> {
    let entry = entries.get(&NAME).filter(|entry| entry.kind == STRING && entry.count > 0)?;
    let end = entry.data.iter().take(RPM_NAME_BYTES_MAX + 1).position(|byte| *byte == 0)?;
    Some(&entry.data[..end])
}

/// The package of these entries.
fn package<'a>(entries: &Entries<'a>, name: &'a [u8], paths: &[[&[u8]; 2]]) -> Option<Package<'a>> {
    let algorithm = numbers(entries, FILE_DIGEST_ALGORITHM)?.first().copied().unwrap_or(1);
    let digests = strings(entries, FILE_DIGESTS, STRING_ARRAY)?;
    let flags = numbers(entries, FILE_FLAGS)?;
    let modes: Vec<u32> = match entries.get(&FILE_MODES) {
        Some(entry) if entry.kind == INT16 => {
            items::<2>(entry)?.map(|bytes| u32::from(u16::from_be_bytes(*bytes))).collect()
        }
        Some(_) => return None,
        None => Vec::new(),
    };
    let states = match entries.get(&FILE_STATES) {
        Some(entry) if entry.kind == CHAR => entry.data.get(..entry.count)?,
        Some(_) => return None,
        None => &[],
    };
    // A package without files has none of these; another one has all but the states.
    if [digests.len(), flags.len(), modes.len()] != [paths.len(); 3] {
        return None;
    }
    let digests = digests_of_links(entries, digests, &modes)?;
    let mut files = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let is_installed = states.get(index).is_none_or(|state| *state == STATE_NORMAL);
        let is_fixed = flags[index] & (CONFIGURATION | GHOST) == 0;
        let digest = digests[index];
        let is_regular = FileType::from_raw_mode(modes[index]).is_file();
        if is_regular && is_installed && is_fixed && !digest.is_empty() {
            files.push(PackageFile { path: path.concat(), digest });
        }
    }
    Some(Package { name, algorithm, files })
}

/// The digests; a name of a file with several has that of its last name, if it has none itself.
fn digests_of_links<'a>(
    entries: &Entries<'a>,
    mut digests: Vec<&'a [u8]>,
    modes: &[u32],
) -> Option<Vec<&'a [u8]>> {
    let (devices, inodes) = (numbers(entries, FILE_DEVICES)?, numbers(entries, FILE_INODES)?);
    // Packages that were made without them have none.
    if [devices.len(), inodes.len()] != [digests.len(); 2] {
        return Some(digests);
    }
    let is_regular = |at: usize| FileType::from_raw_mode(modes[at]).is_file();
    let key = |at: usize| (devices[at], inodes[at]);
    let known = (0..digests.len()).filter(|at| is_regular(*at) && !digests[*at].is_empty());
    let last: HashMap<(u32, u32), &[u8]> = known.map(|at| (key(at), digests[at])).collect();
    for (at, digest) in digests.iter_mut().enumerate() {
        if is_regular(at)
            && digest.is_empty()
            && let Some(last) = last.get(&key(at))
        {
            *digest = last;
        }
    }
    Some(digests)
}

/// The paths of all files, each in two parts: of folders and names, or, in packages of old, whole
/// after nothing.
fn paths<'a>(entries: &Entries<'a>) -> Option<Vec<[&'a [u8]; 2]>> {
    let names = strings(entries, BASE_NAMES, STRING_ARRAY)?;
    // Whole paths that names were added to are out of date.
    if names.is_empty() {
        let paths = strings(entries, OLD_FILE_NAMES, STRING_ARRAY)?;
        return Some(paths.into_iter().map(|path| [&[][..], path]).collect());
    }
    let folders = strings(entries, DIRECTORY_NAMES, STRING_ARRAY)?;
    let indexes = numbers(entries, DIRECTORY_INDEXES)?;
    if indexes.len() != names.len() {
        return None;
    }
    let mut paths = Vec::with_capacity(names.len());
    for (name, index) in names.into_iter().zip(indexes) {
        let folder = *folders.get(index as usize)?;
        if folder.len() + name.len() > PATH_BYTES_MAX {
            return None;
        }
        paths.push([folder, name]);
    }
    Some(paths)
}

/// The entries by their tags.
type Entries<'a> = HashMap<u32, RpmIndexEntry<'a>>;

fn number(header: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*header.get(at..)?.first_chunk()?))
}

fn entries(header: &[u8]) -> Option<Entries<'_>> {
    let number = |at: usize| number(header, at);
    let (count, data_bytes) = (number(0)? as usize, number(4)? as usize);
    let data_at = count.checked_mul(ENTRY_BYTES)?.checked_add(8)?;
    let data = header.get(data_at..data_at.checked_add(data_bytes)?)?;
    let mut entries = HashMap::new();
    for index in 0..count {
        let at = 8 + index * ENTRY_BYTES;
        let (tag, kind, offset) = (number(at)?, number(at + 4)?, number(at + 8)?);
        // Offsets of regions are negative, and their entries are not read.
        let Some(data) = data.get(offset as usize..) else { continue };
        entries.insert(tag, RpmIndexEntry { kind, count: number(at + 12)? as usize, data });
    }
    Some(entries)
}

/// Items of `N` bytes.
fn items<'a, const N: usize>(
    entry: &RpmIndexEntry<'a>,
) -> Option<impl Iterator<Item = &'a [u8; N]>> {
    let bytes = entry.data.get(..entry.count.checked_mul(N)?)?;
    Some(bytes.as_chunks().0.iter())
}

/// Numbers of 32 bits; none if there is no such entry.
fn numbers(entries: &Entries<'_>, tag: u32) -> Option<Vec<u32>> {
    let Some(entry) = entries.get(&tag) else { return Some(Vec::new()) };
    if entry.kind != INT32 {
        return None;
    }
    Some(items(entry)?.map(|bytes| u32::from_be_bytes(*bytes)).collect())
}

/// Strings, which NUL ends; none if there is no such entry.
fn strings<'a>(entries: &Entries<'a>, tag: u32, kind: u32) -> Option<Vec<&'a [u8]>> {
    let Some(entry) = entries.get(&tag) else { return Some(Vec::new()) };
    if entry.kind != kind || entry.count > entry.data.len() {
        return None;
    }
    let mut strings = Vec::with_capacity(entry.count);
    let mut rest = entry.data;
    for _ in 0..entry.count {
        let end = rest.iter().position(|byte| *byte == 0)?;
        strings.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    Some(strings)
}

#[cfg(test)]
mod tests;
