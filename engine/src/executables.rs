//! The programs and libraries that processes have mapped, with their contents from the page cache:
//! what an SBOM of a machine that runs now is made of.
//!
//! [`Executables::new`] finds the files of a scan, [`outcomes`] hashes them, and [`CachedFile`]
//! reads one from its beginning to its end. All of it allocates: nothing here is for scans of a
//! watch.
//!
//! Not here: the format of an SBOM (`panoptes-sbom`), and what may run (`detect`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use panoptes_decoders::kernel::vm_area_struct::VM_EXEC;
use panoptes_decoders::source::MemorySource;
use panoptes_tables::HashKey;

use crate::container_config::Glob;
use crate::limits::Limits;
use crate::page_cache::{
    Contents, FileIdentity, FileReader, HashOutcome, MachineMemory, MissingPage, PAGE_BYTES,
};
use crate::path::{PathBuffer, write_file_name};
use crate::state::facts::is_floating;
use crate::walk::{FileRow, Index, Kernel, ProcessRow, Snapshot, VmaRow};

/// Number of files that are hashed in one go.
const BATCH_FILES: usize = 128;
/// Number of pages that are read before they are checked: for as many a [`FileReader`] has room.
const CHECKED_PAGES: u64 = 128;
/// Maximum number of pages of a file's code that are looked for one by one, 4 GiB.
const CODE_PAGES_MAX: u64 = 1 << 20;
/// Approximate number of bytes of memory that are read in one go.
const SLICE_BYTES: usize = 1 << 20;

/// The processes whose files count.
#[derive(Clone, Copy, Debug)]
pub enum Processes<'a> {
    /// Those outside of containers.
    System,
    /// Those in containers whose id or name matches one of these patterns.
    Containers(&'a [Glob]),
}

/// A file that is mapped as executable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Executable {
    /// Inside the root of the processes that have it mapped.
    pub path: Vec<u8>,
    pub identity: FileIdentity,
    /// Permission bits.
    pub mode: u16,
    /// Its parts that are mapped as executable: first page, and the page behind the last one, in
    /// pages of [`PAGE_BYTES`].
    code: Vec<(u64, u64)>,
    file: Option<Index<FileRow>>,
}

/// The executable files of a scan, and what is not among them.
#[derive(Clone, Debug, Default)]
pub struct Executables {
    /// In the order of their paths. Two may have one path, in two mount namespaces.
    pub files: Vec<Executable>,
    /// Paths of files that were removed or replaced since they were mapped, with ` (deleted)`.
    pub removed: Vec<Vec<u8>>,
    /// Number of areas whose file has no path, or none that could be read.
    pub unnamed: u64,
    /// Number of processes whose areas are not all known.
    pub incomplete: u64,
    /// Number of processes that do not count, because they are inside or outside of containers.
    pub elsewhere: u64,
}

impl Executables {
    /// Finds the files in a scan.
    pub fn new(snapshot: &Snapshot, processes: Processes<'_>) -> Self {
        let mut found = Self::default();
        let mut files = BTreeMap::new();
        let mut removed = BTreeSet::new();
        let mut buffer = PathBuffer::default();
        for process in snapshot.processes.iter() {
            let Some(mm) = snapshot.mms.at(process.mm) else { continue };
            if !processes.include(snapshot, process) {
                found.elsewhere += 1;
                continue;
            }
            found.incomplete += u64::from(!mm.complete || !process.stable);
            for area in snapshot.vmas.range(mm.vmas) {
                if area.vma.flags & VM_EXEC == 0 || area.vma.file.is_null() {
                    continue;
                }
                let Some((file, identity)) = regular(snapshot, area) else {
                    found.unnamed += 1;
                    continue;
                };
                match write_file_name(snapshot, file, &mut buffer) {
                    Ok(named) if named.deleted => {
                        removed.insert(buffer.text().to_vec());
                    }
                    Ok(_) if !is_floating(snapshot, file) && buffer.text().starts_with(b"/") => {
                        let key = (buffer.text().to_vec(), identity.inode, identity.number);
                        let known = files.entry(key).or_insert_with_key(|(path, ..)| Executable {
                            path: path.clone(),
                            identity,
                            mode: mode_of(snapshot, file),
                            code: Vec::new(),
                            file: area.file,
                        });
                        known.add_code(area);
                    }
                    _ => found.unnamed += 1,
                }
            }
        }
        found.files = files.into_values().collect();
        found.removed = removed.into_iter().collect();
        found
    }
}

impl Processes<'_> {
    fn include(&self, snapshot: &Snapshot, process: &ProcessRow) -> bool {
        let container = snapshot.attested_container_of(process);
        match self {
            Self::System => container.is_none(),
            Self::Containers(globs) => {
                container.is_some_and(|id| globs.iter().any(|glob| glob.means(id, None)))
            }
        }
    }
}

/// The file of an area, if it is a regular one that could be read.
fn regular<'s>(snapshot: &'s Snapshot, area: &VmaRow) -> Option<(&'s FileRow, FileIdentity)> {
    let file = snapshot.files.at(area.file)?;
    Some((file, FileIdentity::of_file(snapshot, file)?))
}

fn mode_of(snapshot: &Snapshot, file: &FileRow) -> u16 {
    snapshot.inodes.at(file.inode).map_or(0, |inode| inode.attributes.mode & 0o7777)
}

impl Executable {
    /// Number of its pages.
    const fn pages(&self) -> u64 {
        self.identity.size.div_ceil(PAGE_BYTES)
    }

    /// Adds the part of it that an area maps.
    fn add_code(&mut self, area: &VmaRow) {
        let first = area.vma.page_offset;
        let count = area.vma.end.saturating_sub(area.vma.start).div_ceil(PAGE_BYTES);
        let part = (first.min(self.pages()), first.saturating_add(count).min(self.pages()));
        if part.0 < part.1 && !self.code.contains(&part) {
            self.code.push(part);
        }
    }

    /// The pages of its parts that are mapped as executable, each once, ascending.
    fn code_pages(&self) -> impl Iterator<Item = u64> {
        let mut parts = self.code.clone();
        parts.sort_unstable();
        let mut next = 0;
        let pages = parts.into_iter().flat_map(move |(begin, end)| {
            let begin = begin.max(next);
            next = next.max(end);
            begin..end
        });
        pages.take(CODE_PAGES_MAX as usize)
    }

    /// Counts its pages that are mapped as executable and not in memory.
    pub fn missing_code(&self, memory: &mut MachineMemory<'_>, snapshot: &Snapshot) -> u64 {
        let mut files = FileReader::new();
        let mut missing = 0;
        let (mut is_open, mut left) = (false, 0);
        for page in self.code_pages() {
            if left == 0 {
                (is_open, left) = (files.begin(memory, snapshot, self.file), CHECKED_PAGES);
            }
            left -= 1;
            let is_there = is_open && files.read(memory, page * PAGE_BYTES, 1).is_some();
            missing += u64::from(!is_there);
        }
        missing
    }
}

/// Hashes the files, and calls `found` with each and what is known of its content.
pub fn outcomes(
    files: &[Executable],
    (source, kernel): (&mut dyn MemorySource, &Kernel),
    (limits, key): (&Limits, HashKey),
    found: &mut dyn FnMut(&Executable, HashOutcome),
) {
    let mut contents = Contents::new(limits, key);
    // Twice as many fit, whatever the limits are.
    debug_assert!(limits.contents_max() >= 2 * BATCH_FILES);
    for batch in files.chunks(BATCH_FILES) {
        contents.forget();
        for file in batch {
            contents.ask(&file.identity);
        }
        while contents.has_work() {
            contents.work(source, kernel, SLICE_BYTES, &());
        }
        for file in batch {
            let known = contents.get(&file.identity);
            found(file, known.map_or(HashOutcome::Nothing, |content| content.outcome));
        }
    }
}

/// Reads a file out of its pages. It ends with an error at a page that is not in memory, or that
/// was reused meanwhile.
#[expect(missing_debug_implementations, reason = "a source need not have one")]
pub struct CachedFile<'a, 'm> {
    files: FileReader,
    memory: &'a mut MachineMemory<'m>,
    snapshot: &'a Snapshot,
    executable: &'a Executable,
    at: u64,
    /// Where the pages that were read are checked next.
    check_at: u64,
}

impl<'a, 'm> CachedFile<'a, 'm> {
    pub fn new(
        memory: &'a mut MachineMemory<'m>,
        snapshot: &'a Snapshot,
        executable: &'a Executable,
    ) -> Self {
        Self { files: FileReader::new(), memory, snapshot, executable, at: 0, check_at: 0 }
    }

    /// Checks the pages that were read since the last check, and begins anew.
    fn check(&mut self) -> Result<(), MissingPage> {
        if self.at > 0 && !self.files.holds(self.memory) {
            return Err(MissingPage);
        }
        self.check_at = self.at + CHECKED_PAGES * PAGE_BYTES;
        let is_open = self.files.begin(self.memory, self.snapshot, self.executable.file);
        if is_open { Ok(()) } else { Err(MissingPage) }
    }
}

impl Read for CachedFile<'_, '_> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let unread = |MissingPage| io::Error::other("a page is not in memory, or was reused");
        let size = self.executable.identity.size;
        if self.at == self.check_at || self.at == size {
            self.check().map_err(unread)?;
        }
        let in_page = PAGE_BYTES - self.at % PAGE_BYTES;
        let count = in_page.min(size - self.at).min(target.len() as u64);
        if count == 0 {
            return Ok(0);
        }
        let bytes = self.files.read(self.memory, self.at, count);
        let bytes = bytes.ok_or(MissingPage).map_err(unread)?;
        target[..bytes.len()].copy_from_slice(bytes);
        self.at += count;
        Ok(count as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(size: u64, code: &[(u64, u64)]) -> Executable {
        let identity = FileIdentity { size, ..FileIdentity::default() };
        Executable { path: b"/a".to_vec(), identity, mode: 0, code: code.to_vec(), file: None }
    }

    fn area(page_offset: u64, pages: u64) -> VmaRow {
        let mut row = VmaRow::default();
        (row.vma.start, row.vma.end) = (1 << 20, (1 << 20) + pages * PAGE_BYTES);
        row.vma.page_offset = page_offset;
        row
    }

    #[test]
    fn parts_that_overlap_have_each_page_once() {
        let pages =
            |code: &[(u64, u64)]| executable(1 << 30, code).code_pages().collect::<Vec<_>>();
        assert_eq!(pages(&[(4, 6), (1, 3)]), [1, 2, 4, 5]);
        assert_eq!(pages(&[(1, 5), (2, 3), (4, 7)]), [1, 2, 3, 4, 5, 6]);
        assert!(pages(&[]).is_empty());
        assert_eq!(pages(&[(0, u64::MAX)]).len() as u64, CODE_PAGES_MAX);
    }

    #[test]
    fn parts_end_with_the_file() {
        let mut file = executable(5 * PAGE_BYTES + 1, &[]);
        for (page_offset, pages) in [(1, 2), (1, 2), (4, 100), (6, 1), (u64::MAX, 3)] {
            file.add_code(&area(page_offset, pages));
        }
        assert_eq!(file.code, [(1, 3), (4, 6)]);
    }
}
