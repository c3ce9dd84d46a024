//! An initramfs: cpio archives of format "newc", one after the other, each packed or not, with
//! zeros between them (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel;
//! `unpack_to_rootfs`, init/initramfs.c). A packed part has whole archives, and no packed ones.
//!
//! A file with several names has its data at one of them, often the last one. Names belong together
//! within one archive: the next one counts its inodes anew (`free_hash`). A name that comes again
//! gets the new data in place of the old, under all names that it has (`do_name`).

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

use panoptes_unpack::{Compression, unsupported};
use rustix::fs::FileType;

use super::layer::{EntryKind, LayerEntry, cleaned};
use super::room::too_many;
use super::tree::ImageTree;
use super::{BuildOptions, BuildProgress, BuildResult, ProgressReader};
use crate::digest::{BLOCK_BYTES, ContentDigests, digest};
use crate::error::{SbomError, shown};
use crate::model::{PATH_BYTES_MAX, Sbom, SbomSubject};

/// "newc", without and with a checksum.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// The fields behind the magic, eight hexadecimal digits each.
const FIELDS: usize = 13;
const HEADER_BYTES: usize = 6 + 8 * FIELDS;
/// Entries, and the parts between archives, begin at multiples of this.
const ENTRY_ALIGNMENT: u64 = 4;
/// The name of an archive's last entry.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Maximum number of entries: a hundred times as many as a distribution's.
const ENTRIES_MAX: usize = 1 << 20;
/// Maximum number of bytes in their names and in the names that links lead to: a hundred times
/// those of a distribution's.
const NAMES_BYTES_MAX: usize = 64 << 20;
/// Maximum number of page digests, each counted once for each name of its file: enough for 4 GiB.
const PAGES_MAX: usize = 1 << 20;
/// Maximum number of unpacked bytes of all packed parts: more than the memory of a machine that
/// boots so.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;
/// How many bytes are read at once.
const ARCHIVE_READ_BYTES: usize = 64 << 10;
/// Bytes by which a part is recognised.
const BEGINNING_BYTES: usize = 8;

/// Whether a file is an initramfs, packed or not. A packed one is read up to its first data: that
/// of a block, which has 128 KiB for zstd and more for xz.
pub(super) fn is_one(file: impl Read) -> Result<bool, SbomError> {
    let mut file = PeekReader::new(file);
    let beginning = file.peek(BEGINNING_BYTES).map_err(SbomError::unpacking)?.to_vec();
    let Some(way) = Compression::of(&beginning) else { return Ok(is_archive(&beginning)) };
    let mut unpacked = Vec::new();
    way.reader(&mut file)
        .and_then(|plain| plain.take(BEGINNING_BYTES as u64).read_to_end(&mut unpacked))
        .map_err(SbomError::unpacking)?;
    Ok(is_archive(&unpacked))
}

/// Whether a cpio archive begins like this.
pub(super) fn is_archive(beginning: &[u8]) -> bool {
    MAGICS.iter().any(|magic| beginning.starts_with(magic))
}

/// Builds an SBOM from an initramfs: of what may run before the root file system does.
pub(super) fn build(
    file: impl Read,
    options: &BuildOptions,
    progress: &dyn BuildProgress,
) -> Result<BuildResult, SbomError> {
    let (entries, links) = (Vec::new(), HashMap::new());
    let (names_left, pages_left, bytes_left) = (NAMES_BYTES_MAX, PAGES_MAX, UNPACKED_BYTES_MAX);
    let count = 0;
    let mut reader =
        Archives { options, entries, links, count, names_left, pages_left, bytes_left };
    reader.read(ProgressReader { input: file, progress })?;
    if reader.count == 0 {
        return Err(SbomError::content("holds no cpio archive, so is no initramfs"));
    }
    let mut tree = ImageTree::new();
    tree.write_over(reader.entries)?;
    let (mut files, special) = tree.files_up_to(PAGES_MAX, too_many_pages)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let bytes = files.iter().filter_map(|file| file.size).sum();
    let sbom = Sbom { subject: SbomSubject::Root { name: None }, files };
    let (problems, remarks) = (Vec::new(), Vec::new());
    Ok(BuildResult { sbom, source: "an initramfs", problems, remarks, bytes, special })
}

fn too_many_pages(path: &[u8]) -> SbomError {
    SbomError::request(format!(
        "holds more than {PAGES_MAX} pages of executable files, with all names of each, at {}; \
         `--page-hashes none` makes an SBOM without hashes of pages",
        shown(path)
    ))
}

/// Reads all archives of an initramfs.
struct Archives<'a> {
    options: &'a BuildOptions,
    entries: Vec<LayerEntry>,
    /// The first name in this archive of each file that has several, by device and inode number.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Number of entries so far.
    count: usize,
    /// How many more bytes the names of entries and links may have.
    names_left: usize,
    /// How many more page digests the contents may have.
    pages_left: usize,
    /// How many more bytes packed parts may have.
    bytes_left: u64,
}

/// The header of an entry.
struct CpioHeader {
    inode: u64,
    mode: u32,
    names: u64,
    size: u64,
    device: u64,
    name_bytes: u64,
}

impl Archives<'_> {
    fn read(&mut self, input: impl Read) -> Result<(), SbomError> {
        let mut input = OffsetReader::new(input);
        while let Some(beginning) = input.next_part()? {
            if is_archive(&beginning) {
                self.archive(&mut input)?;
            } else if let Some(way) = Compression::of(&beginning) {
                self.packed(way, &mut input.input)?;
            } else if let Some(name) = unsupported(&beginning) {
                return Err(SbomError::content(format!(
                    "has a part that is packed with {name}, which is not read here; unpack it first"
                )));
            } else {
                return Err(SbomError::content(
                    "has a part that is no cpio archive and not packed with gzip, xz, zstd, lz4 \
                     or lzma",
                ));
            }
        }
        Ok(())
    }

    /// Reads a packed part.
    fn packed(
        &mut self,
        way: Compression,
        input: &mut PeekReader<impl Read>,
    ) -> Result<(), SbomError> {
        let plain = way.reader(input).map_err(SbomError::unpacking)?;
        let mut plain = OffsetReader::new(plain.take(self.bytes_left));
        let read = loop {
            match plain.next_part() {
                Ok(Some(beginning)) if is_archive(&beginning) => {
                    if let Err(error) = self.archive(&mut plain) {
                        break Err(error);
                    }
                }
                Ok(Some(_)) => {
                    let message = format!(
                        "has something else than cpio archives, packed with {}",
                        way.name()
                    );
                    break Err(SbomError::content(message));
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.bytes_left = plain.input.input.limit();
        if self.bytes_left == 0 {
            let last = self.entries.last().map_or(&b""[..], |entry| &entry.path);
            return Err(SbomError::content(format!(
                "holds more than {UNPACKED_BYTES_MAX} unpacked bytes, at or after /{}",
                shown(last)
            )));
        }
        read
    }

    /// Reads an archive to its last entry.
    fn archive(&mut self, input: &mut OffsetReader<impl Read>) -> Result<(), SbomError> {
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let header = header(input)?;
            let mut name = input.bytes(header.name_bytes)?;
            input.align()?;
            if name.pop() != Some(0) || name.contains(&0) {
                return Err(SbomError::content("has a name that NUL does not end"));
            }
            if name == TRAILER {
                self.links.clear();
                return Ok(());
            }
            let path = cleaned(&name)?;
            self.count += 1;
            if self.count > ENTRIES_MAX {
                return Err(too_many(ENTRIES_MAX, "entries", &path));
            }
            self.take_names(path.len(), &path)?;
            let file_type = FileType::from_raw_mode(header.mode);
            let kind = match file_type {
                FileType::RegularFile => self.file(input, &header, &path, &mut block)?,
                FileType::Directory => Some(EntryKind::Directory),
                FileType::Symlink => {
                    let to = input.bytes(header.size);
                    let to = to.map_err(|error| error.within(shown(&path)))?;
                    self.take_names(to.len(), &path)?;
                    Some(EntryKind::Symlink(to))
                }
                _ => Some(EntryKind::Special),
            };
            if !matches!(file_type, FileType::RegularFile | FileType::Symlink) {
                input.skip(header.size)?;
            }
            input.align()?;
            self.entries.extend(kind.map(|kind| LayerEntry { path, kind }));
        }
    }

    /// Takes the room of names.
    fn take_names(&mut self, bytes: usize, path: &[u8]) -> Result<(), SbomError> {
        let left = self.names_left.checked_sub(bytes);
        self.names_left = left.ok_or_else(|| too_many(NAMES_BYTES_MAX, "bytes of names", path))?;
        Ok(())
    }

    /// Reads a file; `None` if it is another name of an earlier one, and has no data.
    fn file(
        &mut self,
        input: &mut OffsetReader<impl Read>,
        header: &CpioHeader,
        path: &[u8],
        block: &mut [u8],
    ) -> Result<Option<EntryKind>, SbomError> {
        let mode = (header.mode & 0o7777) as u16;
        if header.names > 1 {
            let key = (header.device, header.inode);
            if let Some(first) = self.links.get(&key).cloned() {
                // It has two entries then: the name and its own content.
                self.take_names(path.len() + first.len(), path)?;
                let kind = EntryKind::Link(first);
                self.entries.push(LayerEntry { path: path.to_vec(), kind });
                if header.size == 0 {
                    return Ok(None);
                }
            } else {
                self.take_names(path.len(), path)?;
                self.links.insert(key, path.to_vec());
            }
        }
        let content = input.content(header.size, self.options, path, mode, block)?;
        let left = self.pages_left.checked_sub(content.pages.len());
        self.pages_left = left.ok_or_else(|| too_many_pages(path))?;
        Ok(Some(EntryKind::File { mode, content }))
    }
}

fn header(input: &mut OffsetReader<impl Read>) -> Result<CpioHeader, SbomError> {
    let bytes = input.bytes(HEADER_BYTES as u64)?;
    let (magic, fields) = bytes.split_at(6);
    if !MAGICS.contains(&magic) {
        return Err(SbomError::content("has an entry without the magic of cpio"));
    }
    let mut values = [0; FIELDS];
    for (value, digits) in values.iter_mut().zip(fields.chunks(8)) {
        let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        *value = number.ok_or_else(|| SbomError::content("has an entry with a bad number"))?.into();
    }
    let [inode, mode, _, _, names, _, size, major, minor, _, _, name_bytes, _] = values;
    let device = major << 32 | minor;
    Ok(CpioHeader { inode, mode: mode as u32, names, size, device, name_bytes })
}

/// Input whose next bytes can be seen before they are read.
struct PeekReader<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
}

impl<R: Read> PeekReader<R> {
    fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), at: 0 }
    }

    /// The next `count` bytes or more; fewer at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        self.buffer.drain(..self.at);
        self.at = 0;
        let missing = count.saturating_sub(self.buffer.len()) as u64;
        (&mut self.input).take(missing).read_to_end(&mut self.buffer)?;
        Ok(&self.buffer)
    }
}

impl<R: Read> BufRead for PeekReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.at = 0;
            self.buffer.resize(ARCHIVE_READ_BYTES, 0);
            let read = self.input.read(&mut self.buffer);
            self.buffer.truncate(read.as_ref().map_or(0, |count| *count));
            read?;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.buffer.len());
    }
}

impl<R: Read> Read for PeekReader<R> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(target)?;
        self.consume(count);
        Ok(count)
    }
}

/// Input that knows how much of it was read.
struct OffsetReader<R> {
    input: PeekReader<R>,
    at: u64,
}

impl<R: Read> OffsetReader<R> {
    fn new(input: R) -> Self {
        Self { input: PeekReader::new(input), at: 0 }
    }

    /// Skips zeros; returns the beginning of what follows, if anything does.
    fn next_part(&mut self) -> Result<Option<Vec<u8>>, SbomError> {
        // Parts begin at multiples of four of themselves.
        self.at = 0;
        loop {
            let bytes = self.input.fill_buf().map_err(SbomError::unpacking)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let is_part = zeros < bytes.len();
            self.input.consume(zeros);
            if is_part {
                let bytes = self.input.peek(BEGINNING_BYTES).map_err(SbomError::unpacking)?;
                return Ok(Some(bytes[..bytes.len().min(BEGINNING_BYTES)].to_vec()));
            }
        }
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, SbomError> {
        if count > PATH_BYTES_MAX as u64 {
            let message = format!("has a name of {count} bytes, more than {PATH_BYTES_MAX}");
            return Err(SbomError::content(message));
        }
        let mut bytes = vec![0; count as usize];
        self.input.read_exact(&mut bytes).map_err(SbomError::unpacking)?;
        self.at += count;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<(), SbomError> {
        let mut rest = (&mut self.input).take(count);
        let skipped =
            std::io::copy(&mut rest, &mut std::io::sink()).map_err(SbomError::unpacking)?;
        self.at += skipped;
        if skipped == count { Ok(()) } else { Err(SbomError::content("ends within an entry")) }
    }

    fn align(&mut self) -> Result<(), SbomError> {
        self.skip(self.at.next_multiple_of(ENTRY_ALIGNMENT) - self.at)
    }

    fn content(
        &mut self,
        size: u64,
        options: &BuildOptions,
        path: &[u8],
        mode: u16,
        block: &mut [u8],
    ) -> Result<ContentDigests, SbomError> {
        let mut data = (&mut self.input).take(size);
        let content = digest(&mut data, block, options.page_hashes, path, mode, &mut |_| {})
            .map_err(|error| SbomError::unpacking(error).within(shown(path)))?;
        if content.size != size {
            return Err(SbomError::content(format!("ends within {}", shown(path))));
        }
        self.at += size;
        Ok(content)
    }
}

#[cfg(test)]
mod tests;
