//! An initramfs: cpio archives of format "newc", one after the other, each packed or not
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).
//!
//! A packed archive is read to the end of the file: boot loaders append nothing to it. Of a file
//! with several names, the last one has the data.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use super::layer::{Entry, EntryKind, cleaned};
use super::tree::Tree;
use super::unpack::{compression, unpack};
use super::{Built, Counted, Options, Progress};
use crate::digest::{BLOCK_BYTES, Content, digest};
use crate::error::{Error, shown};
use crate::model::{PATH_BYTES_MAX, Sbom, Subject};

/// "newc", without and with a checksum.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// The fields behind the magic, eight hexadecimal digits each.
const FIELDS: usize = 13;
const HEADER_BYTES: usize = 6 + 8 * FIELDS;
/// Entries, and the parts between archives, begin at multiples of this.
const ALIGNMENT: u64 = 4;
/// The name of an archive's last entry.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Maximum number of entries: a hundred times as many as a distribution's.
const ENTRIES_MAX: usize = 1 << 20;
/// Maximum number of page digests: enough for 4 GiB.
const PAGES_MAX: usize = 1 << 20;
/// Maximum number of archives that are packed into each other.
const DEPTH_MAX: u32 = 2;

/// File types (include/uapi/linux/stat.h).
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFLNK: u32 = 0o120_000;

/// Whether a file is an initramfs, packed or not. A packed one is read up to its first data: that of
/// a block, which has 128 KiB for zstd and more for xz.
pub(super) fn is_one(file: impl Read) -> Result<bool, Error> {
    let mut beginning = Vec::new();
    let mut plain = unpack(file).map_err(Error::unpacking)?;
    (&mut plain).take(6).read_to_end(&mut beginning).map_err(Error::unpacking)?;
    Ok(is_archive(&beginning))
}

/// Whether a cpio archive begins like this.
pub(super) fn is_archive(beginning: &[u8]) -> bool {
    MAGICS.iter().any(|magic| beginning.starts_with(magic))
}

/// Builds an SBOM from an initramfs: of what may run before the root file system does.
pub(super) fn build(
    file: impl Read,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Built, Error> {
    let (entries, links) = (Vec::new(), HashMap::new());
    let mut reader = Archives { options, entries, links, count: 0, pages: 0 };
    reader.read(&mut Counted { input: file, progress }, 0)?;
    if reader.count == 0 {
        return Err(Error::content("holds no cpio archive, so is no initramfs"));
    }
    reader.add_empty()?;
    let mut tree = Tree::new();
    tree.unpack(reader.entries)?;
    let (mut files, special) = tree.files();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let bytes = files.iter().filter_map(|file| file.size).sum();
    let sbom = Sbom { subject: Subject::Root { name: None }, files };
    let (problems, remarks) = (Vec::new(), Vec::new());
    Ok(Built { sbom, source: "an initramfs", problems, remarks, bytes, special })
}

/// Reads all archives of an initramfs.
struct Archives<'a> {
    options: &'a Options,
    entries: Vec<Entry>,
    /// Names of the files that have several, by device and inode number, until one has data.
    links: HashMap<(u64, u64), Vec<Name>>,
    /// Number of entries so far.
    count: usize,
    /// Number of page digests so far.
    pages: usize,
}

/// A path, and a file's permission bits.
type Name = (Vec<u8>, u16);

/// The header of an entry.
struct Header {
    inode: u64,
    mode: u32,
    names: u64,
    size: u64,
    device: u64,
    name_bytes: u64,
}

impl Archives<'_> {
    fn read(&mut self, input: &mut dyn Read, depth: u32) -> Result<(), Error> {
        let mut input = Places { input: BufReader::new(input), at: 0 };
        while let Some(beginning) = input.next_part()? {
            if is_archive(&beginning) {
                self.archive(&mut input)?;
            } else if compression(&beginning).is_some() && depth < DEPTH_MAX {
                let mut plain = unpack(&mut input.input).map_err(Error::unpacking)?;
                return self.read(&mut plain, depth + 1);
            } else {
                return Err(Error::content(
                    "has a part that is no cpio archive and not packed with \
                                           gzip, xz or zstd",
                ));
            }
        }
        Ok(())
    }

    /// Reads an archive to its last entry.
    fn archive(&mut self, input: &mut Places<impl Read>) -> Result<(), Error> {
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let header = header(input)?;
            let mut name = input.bytes(header.name_bytes)?;
            input.align()?;
            if name.pop() != Some(0) || name.contains(&0) {
                return Err(Error::content("has a name that NUL does not end"));
            }
            if name == TRAILER {
                return Ok(());
            }
            self.count += 1;
            if self.count > ENTRIES_MAX || self.pages > PAGES_MAX {
                return Err(Error::content("holds more than any initramfs does"));
            }
            let path = cleaned(&name)?;
            let kind = match header.mode & S_IFMT {
                S_IFREG => self.file(input, &header, &path, &mut block)?,
                S_IFDIR => Some(EntryKind::Directory),
                S_IFLNK => Some(EntryKind::Symlink(input.bytes(header.size)?)),
                _ => Some(EntryKind::Special),
            };
            if !matches!(header.mode & S_IFMT, S_IFREG | S_IFLNK) {
                input.skip(header.size)?;
            }
            input.align()?;
            self.entries.extend(kind.map(|kind| Entry { path, kind }));
        }
    }

    /// Reads a file; `None` if a later entry has the data of all its names.
    fn file(
        &mut self,
        input: &mut Places<impl Read>,
        header: &Header,
        path: &[u8],
        block: &mut [u8],
    ) -> Result<Option<EntryKind>, Error> {
        let key = (header.device, header.inode);
        let mode = (header.mode & 0o7777) as u16;
        if header.names > 1 && header.size == 0 {
            self.links.entry(key).or_default().push((path.to_vec(), mode));
            return Ok(None);
        }
        let content = input.content(header.size, self.options, path, mode, block)?;
        let others = if header.names > 1 { self.links.remove(&key) } else { None };
        for (other, mode) in others.unwrap_or_default() {
            self.pages += content.pages.len();
            if self.pages > PAGES_MAX {
                break;
            }
            let kind = EntryKind::File { mode, content: content.clone() };
            self.entries.push(Entry { path: other, kind });
        }
        self.pages += content.pages.len();
        Ok(Some(EntryKind::File { mode, content }))
    }

    /// Adds the files with several names of which none has data: they are empty.
    fn add_empty(&mut self) -> Result<(), Error> {
        let mut block = vec![0; BLOCK_BYTES];
        for (path, mode) in self.links.drain().flat_map(|(_, names)| names) {
            let content = digest(
                &mut &b""[..],
                &mut block,
                self.options.page_hashes,
                &path,
                mode,
                &mut |_| {},
            )
            .map_err(Error::unpacking)?;
            self.entries.push(Entry { path, kind: EntryKind::File { mode, content } });
        }
        Ok(())
    }
}

fn header(input: &mut Places<impl Read>) -> Result<Header, Error> {
    let bytes = input.bytes(HEADER_BYTES as u64)?;
    let (magic, fields) = bytes.split_at(6);
    if !MAGICS.contains(&magic) {
        return Err(Error::content("has an entry without the magic of cpio"));
    }
    let mut values = [0; FIELDS];
    for (value, digits) in values.iter_mut().zip(fields.chunks(8)) {
        let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        *value = number.ok_or_else(|| Error::content("has an entry with a bad number"))?.into();
    }
    let [inode, mode, _, _, names, _, size, major, minor, _, _, name_bytes, _] = values;
    let device = major << 32 | minor;
    Ok(Header { inode, mode: mode as u32, names, size, device, name_bytes })
}

/// Input that knows how much of it was read.
struct Places<R> {
    input: BufReader<R>,
    at: u64,
}

impl<R: Read> Places<R> {
    /// Skips zeros; returns the beginning of what follows, if anything does.
    fn next_part(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let bytes = self.input.fill_buf().map_err(Error::unpacking)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            if zeros < bytes.len() {
                let beginning = bytes[zeros..].iter().take(8).copied().collect();
                self.input.consume(zeros);
                // Parts begin at multiples of four of themselves.
                self.at = 0;
                return Ok(Some(beginning));
            }
            self.input.consume(zeros);
        }
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, Error> {
        if count > PATH_BYTES_MAX as u64 {
            return Err(Error::content("has a name that is longer than any kernel gives"));
        }
        let mut bytes = vec![0; count as usize];
        self.input.read_exact(&mut bytes).map_err(Error::unpacking)?;
        self.at += count;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<(), Error> {
        let mut rest = (&mut self.input).take(count);
        let skipped = std::io::copy(&mut rest, &mut std::io::sink()).map_err(Error::unpacking)?;
        self.at += skipped;
        if skipped == count { Ok(()) } else { Err(Error::content("ends within an entry")) }
    }

    fn align(&mut self) -> Result<(), Error> {
        self.skip(self.at.next_multiple_of(ALIGNMENT) - self.at)
    }

    fn content(
        &mut self,
        size: u64,
        options: &Options,
        path: &[u8],
        mode: u16,
        block: &mut [u8],
    ) -> Result<Content, Error> {
        let mut data = (&mut self.input).take(size);
        let content = digest(&mut data, block, options.page_hashes, path, mode, &mut |_| {})
            .map_err(|error| Error::unpacking(error).within(shown(path)))?;
        if content.size != size {
            return Err(Error::content(format!("ends within {}", shown(path))));
        }
        self.at += size;
        Ok(content)
    }
}

#[cfg(test)]
mod tests;
