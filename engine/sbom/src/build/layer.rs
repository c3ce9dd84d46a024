//! The entries of a tar archive, with their contents hashed while reading: a layer of an image, or
//! a package's files.
//!
//! The archive is read "raw", and the members that hold long names are read here: tar would load
//! them into memory whatever their size.

use std::io::Read;

use tar::EntryType;

use super::room::Room;
use crate::digest::{BLOCK_BYTES, ContentDigests, PageHashes, digest};
use crate::error::{SbomError, shown};
use crate::load::read_bounded;
use crate::model::PATH_BYTES_MAX;

/// Maximum size of a member that holds a name, and of one that holds pax records.
const LAYER_NAME_BYTES_MAX: u64 = 64 << 10;
const PAX_BYTES_MAX: u64 = 1 << 20;

/// An entry of an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LayerEntry {
    /// Names from the root, without slashes around them, `.` or `..`; empty for the root itself.
    pub(super) path: Vec<u8>,
    pub(super) kind: EntryKind,
}

impl LayerEntry {
    /// Takes its room.
    pub(super) fn take(&self, room: &Room) -> Result<(), SbomError> {
        let (target, pages) = match &self.kind {
            EntryKind::Symlink(to) | EntryKind::Link(to) => (to.len(), 0),
            EntryKind::File { content, .. } => (0, content.pages.len()),
            EntryKind::Directory | EntryKind::Special => (0, 0),
        };
        room.add(&self.path, target, pages)
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum EntryKind {
    File {
        mode: u16,
        content: ContentDigests,
    },
    Directory,
    Symlink(Vec<u8>),
    /// Another name of the file at this path.
    Link(Vec<u8>),
    /// A device, a pipe.
    Special,
}

/// The data of the members before an entry that belongs to it.
#[derive(Default)]
struct ExtendedHeader {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl ExtendedHeader {
    /// Reads a member that belongs to the next entry. Returns `false` for an entry.
    fn update(&mut self, member: &mut tar::Entry<'_, impl Read>) -> Result<bool, SbomError> {
        match member.header().entry_type() {
            EntryType::GNULongName => self.path = Some(name(member, LAYER_NAME_BYTES_MAX)?),
            EntryType::GNULongLink => self.link = Some(name(member, LAYER_NAME_BYTES_MAX)?),
            EntryType::XHeader => pax(&bounded(member, PAX_BYTES_MAX)?, self)?,
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Reads a file: its mode and content.
fn file(
    member: &mut tar::Entry<'_, impl Read>,
    path: &[u8],
    pages: PageHashes,
    block: &mut [u8],
) -> Result<(u16, ContentDigests), SbomError> {
    let mode = (member.header().mode().map_err(SbomError::unpacking)? & 0o7777) as u16;
    let length = member.size();
    let content = digest(member, block, pages, path, mode, &mut |_| {})
        .map_err(|error| SbomError::unpacking(error).within(shown(path)))?;
    if content.size != length {
        return Err(SbomError::content(format!("ends within {}", shown(path))));
    }
    Ok((mode, content))
}

/// Reads an archive to its end, as far as there is room for it.
pub(super) fn read(
    archive: &mut dyn Read,
    pages: PageHashes,
    room: &Room,
) -> Result<Vec<LayerEntry>, SbomError> {
    let mut archive = tar::Archive::new(archive);
    let members = archive.entries().map_err(SbomError::unpacking)?.raw(true);
    let mut entries = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut pending = ExtendedHeader::default();
    for member in members {
        let mut member = member.map_err(SbomError::unpacking)?;
        if pending.update(&mut member)? {
            continue;
        }
        let ExtendedHeader { path, link, size } = std::mem::take(&mut pending);
        let raw = path.unwrap_or_else(|| member.path_bytes().into_owned());
        let is_folder_by_name = raw.ends_with(b"/");
        let path = cleaned(&raw)?;
        let link = || {
            let in_header = || member.header().link_name_bytes().map(std::borrow::Cow::into_owned);
            link.or_else(in_header).unwrap_or_default()
        };
        let kind = match member.header().entry_type() {
            EntryType::Directory => EntryKind::Directory,
            EntryType::Symlink => EntryKind::Symlink(link()),
            EntryType::Link => EntryKind::Link(cleaned(&link())?),
            EntryType::Char | EntryType::Block | EntryType::Fifo => EntryKind::Special,
            // As in archives from before 1988.
            EntryType::Regular if is_folder_by_name => EntryKind::Directory,
            EntryType::Regular | EntryType::Continuous => {
                if size.is_some_and(|size| size != member.size()) {
                    let message = format!("{} is larger than 8 GiB", shown(&path));
                    return Err(SbomError::content(message));
                }
                let (mode, content) = file(&mut member, &path, pages, &mut block)?;
                EntryKind::File { mode, content }
            }
            other => {
                return Err(SbomError::content(format!(
                    "{} is a member of type {:?}, which is not read here",
                    shown(&path),
                    char::from(other.as_byte())
                )));
            }
        };
        let entry = LayerEntry { path, kind };
        entry.take(room)?;
        entries.push(entry);
    }
    Ok(entries)
}

fn bounded(member: &mut impl Read, bytes_max: u64) -> Result<Vec<u8>, SbomError> {
    let bytes = read_bounded(member, bytes_max).map_err(SbomError::unpacking)?;
    bytes.ok_or_else(|| {
        SbomError::content(format!("has a name, or pax records, of more than {bytes_max} bytes"))
    })
}

/// A name, which NUL ends.
fn name(member: &mut impl Read, bytes_max: u64) -> Result<Vec<u8>, SbomError> {
    let mut bytes = bounded(member, bytes_max)?;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    Ok(bytes)
}

/// Records of pax(1): values too large for the next member's header.
fn pax(records: &[u8], pending: &mut ExtendedHeader) -> Result<(), SbomError> {
    for record in tar::PaxExtensions::new(records) {
        let record =
            record.map_err(|error| SbomError::content(format!("has a bad pax record: {error}")))?;
        let value = record.value_bytes();
        match record.key_bytes() {
            b"path" => pending.path = Some(value.to_vec()),
            b"linkpath" => pending.link = Some(value.to_vec()),
            b"size" => {
                let size = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                pending.size =
                    Some(size.ok_or_else(|| SbomError::content("has a bad size in a pax record"))?);
            }
            key if key.starts_with(b"GNU.sparse.") => {
                return Err(SbomError::content("has a sparse file in it, which is not read here"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A path from the root in canonical form; `..` cannot lead above the root.
pub(super) fn cleaned(path: &[u8]) -> Result<Vec<u8>, SbomError> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let path = names.join(&b'/');
    if path.len() >= PATH_BYTES_MAX || path.contains(&0) {
        return Err(SbomError::content(format!("{} is no path that a kernel gives", shown(&path))));
    }
    Ok(path)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An archive of files: path, type, link and content.
    pub(in super::super) fn archive(members: &[(&str, EntryType, &str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, kind, link, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            if link.is_empty() {
                tar.append_data(&mut header, path, *content).unwrap();
            } else {
                tar.append_link(&mut header, path, link).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    fn kinds(bytes: &[u8]) -> Result<Vec<(String, String)>, SbomError> {
        let entries = read(&mut &*bytes, PageHashes::None, &Room::new())?;
        let text = |entry: LayerEntry| {
            let kind = match entry.kind {
                EntryKind::File { content, .. } => content.size.to_string(),
                EntryKind::Symlink(to) => format!("-> {}", String::from_utf8_lossy(&to)),
                EntryKind::Link(to) => format!("= {}", String::from_utf8_lossy(&to)),
                other => format!("{other:?}"),
            };
            (String::from_utf8(entry.path).unwrap(), kind)
        };
        Ok(entries.into_iter().map(text).collect())
    }

    #[test]
    fn entries_have_their_long_names() {
        let long = format!("{}/file", ["directory"; 30].join("/"));
        let bytes = archive(&[
            ("./usr/", EntryType::Directory, "", b""),
            (&long, EntryType::Regular, "", b"abc"),
            ("usr/link", EntryType::Symlink, &long, b""),
            ("usr/other", EntryType::Link, &long, b""),
            ("dev/null", EntryType::Char, "", b""),
        ]);
        let expected = [
            ("usr", "Directory".to_owned()),
            (&long, "3".to_owned()),
            ("usr/link", format!("-> {long}")),
            ("usr/other", format!("= {long}")),
            ("dev/null", "Special".to_owned()),
        ];
        let expected = expected.map(|(path, kind)| (path.to_owned(), kind));
        assert_eq!(kinds(&bytes).unwrap(), expected);
    }

    #[test]
    fn names_in_pax_records_count() {
        let mut tar = tar::Builder::new(Vec::new());
        let path = "é/".repeat(200) + "x";
        tar.append_pax_extensions([("path", path.as_bytes()), ("mtime", b"1.5")]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(2);
        tar.append_data(&mut header, "short", &b"ab"[..]).unwrap();
        assert_eq!(kinds(&tar.into_inner().unwrap()).unwrap(), [(path, "2".to_owned())]);
    }

    #[test]
    fn paths_stay_below_the_root() {
        for (path, expected) in
            [("../../etc/x", "etc/x"), ("/a//b/./c/", "a/b/c"), ("a/../../b", "b"), ("./", "")]
        {
            assert_eq!(cleaned(path.as_bytes()).unwrap(), expected.as_bytes());
        }
        assert!(cleaned(&[b'x'; 5000]).is_err());
        assert!(cleaned(b"a\0b").is_err());
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let whole = archive(&[("a", EntryType::Regular, "", &[7; 3000])]);
        assert!(kinds(&whole[..2000]).unwrap_err().message.contains("ends within a"));
        let sparse = archive(&[("a", EntryType::GNUSparse, "", b"")]);
        assert!(kinds(&sparse).is_err());
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_pax_extensions([("size", &b"9999999999"[..])]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(0);
        tar.append_data(&mut header, "a", &b""[..]).unwrap();
        let message = kinds(&tar.into_inner().unwrap()).unwrap_err().message;
        assert!(message.contains("larger than 8 GiB"), "{message}");
        let name = "x".repeat(70_000);
        let long = archive(&[(&name, EntryType::Regular, "", b"")]);
        assert!(kinds(&long).is_err());
    }
}
