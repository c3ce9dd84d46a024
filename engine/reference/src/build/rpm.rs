//! rpm's digests of the files that it installed: the headers in the table `Packages` of
//! `rpmdb.sqlite`.
//!
//! Older databases of rpm are not read: BerkeleyDB (up to RHEL 8) and ndb (SUSE).

mod header;
mod sqlite;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::installed::{Installed, Links, Sum};
use crate::digest::from_hex;
use crate::error::{Error, shown};
use crate::load::open_regular;
use crate::model::check_path;

use sqlite::{Database, Value};

/// Where the database may be, from the root. Where there are both, the second one is a link.
const FOLDERS: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
const DATABASE: &str = "rpmdb.sqlite";
/// Databases that are not read.
const OTHERS: [(&str, &str); 2] = [("Packages.db", "ndb"), ("Packages", "BerkeleyDB")];

/// First bytes of a journal that is not empty ("Database File Format" §3).
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Maximum number of files of all packages, and of bytes in their paths: ten times those of the
/// largest distributions.
const FILES_MAX: usize = 16 << 20;
const PATH_BYTES_MAX: usize = 2 << 30;

/// A database of rpm's.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Found {
    path: PathBuf,
    /// The name of its kind, if that is not read.
    other: Option<&'static str>,
}

/// The database below `root`.
pub(super) fn find(root: &Path) -> Option<Found> {
    let kinds = [(DATABASE, None)].into_iter().chain(OTHERS.map(|(name, kind)| (name, Some(kind))));
    FOLDERS.iter().map(|folder| root.join(folder)).filter(|folder| is_folder(folder)).find_map(
        |folder| {
            let mut kinds = kinds.clone();
            kinds.find_map(|(name, other)| {
                let path = folder.join(name);
                path.is_file().then_some(Found { path, other })
            })
        },
    )
}

/// A folder that is no link.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Reads rpm's data below `root`. A database that is not read is an error of the request.
pub(super) fn read(root: &Path, links: &Links<'_>) -> Result<Installed, Error> {
    let mut installed = Installed::default();
    let Some(Found { path, other }) = find(root) else { return Ok(installed) };
    if let Some(kind) = other {
        return Err(Error::request(format!(
            "{} is a database of the kind {kind}, which is not read here; `rpmdb --rebuilddb \
             --define '_db_backend sqlite'` in a copy of it makes one that is",
            path.display()
        )));
    }
    let beside = |end: &str| {
        let mut name = path.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    if let Some(journal) = open_beside(&beside("-journal"))? {
        let mut magic = [0; JOURNAL_MAGIC.len()];
        if journal.read_exact_at(&mut magic, 0).is_ok() && magic == JOURNAL_MAGIC {
            return Err(Error::content(format!(
                "{} was not written completely; `rpm -qa` mends it",
                path.display()
            )));
        }
    }
    let log_path = beside("-wal");
    let state = || [&path, &log_path].map(|path| state(path));
    let before = state();
    let file = open_regular(&path, OFlags::NOFOLLOW).map_err(Error::reading(&path))?;
    let log = open_beside(&log_path)?;
    let read = Database::open(file, log).and_then(|mut database| {
        let mut reader = Reader::new(&mut installed, links);
        database.rows("Packages", &mut |row| reader.row(&row))?;
        Ok(reader.other)
    });
    if state() != before {
        let message = format!("{} was changed meanwhile; try again", path.display());
        return Err(Error::content(message));
    }
    match read.map_err(|error| error.within(path.display()))? {
        0 => {}
        others => installed.remarks.push(format!(
            "rpm: {others} files have digests of another kind than MD5, SHA-1 and SHA-256"
        )),
    }
    Ok(installed)
}

fn open_beside(path: &Path) -> Result<Option<File>, Error> {
    match open_regular(path, OFlags::NOFOLLOW) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::reading(path)(error)),
    }
}

/// What changes if a file is written; `None` if it is missing.
fn state(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Adds the files of each package.
struct Reader<'a> {
    installed: &'a mut Installed,
    links: &'a Links<'a>,
    /// How many files and bytes of paths there may still be.
    files_left: usize,
    path_bytes_left: usize,
    /// Number of files whose digests are of another kind.
    other: u64,
}

impl<'a> Reader<'a> {
    fn new(installed: &'a mut Installed, links: &'a Links<'a>) -> Self {
        let (files_left, path_bytes_left) = (FILES_MAX, PATH_BYTES_MAX);
        Self { installed, links, files_left, path_bytes_left, other: 0 }
    }

    fn row(&mut self, row: &[Value]) -> Result<(), Error> {
        // `CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)`,
        // lib/backend/sqlite.c.
        let [_, Value::Bytes(bytes)] = row else {
            return Err(Error::content("has another table Packages than rpm makes"));
        };
        let package = header::read(bytes, self.path_bytes_left)
            .ok_or_else(|| Error::content("has a damaged header of a package"))?;
        let name = String::from_utf8_lossy(package.name).into_owned();
        let too_much = || Error::content("holds more files than any system has");
        self.files_left = self.files_left.checked_sub(package.files.len()).ok_or_else(too_much)?;
        for file in &package.files {
            let left = self.path_bytes_left.checked_sub(file.path.len());
            self.path_bytes_left = left.ok_or_else(too_much)?;
            let bad = |what| {
                let path = shown(&file.path);
                Error::content(format!("has a bad {what} of {path} of {}", shown(package.name)))
            };
            check_path(&file.path).map_err(|_| bad("path"))?;
            let sum = match package.algorithm {
                1 => from_hex(file.digest).map(Sum::Md5),
                2 => from_hex(file.digest).map(Sum::Sha1),
                8 => from_hex(file.digest).map(Sum::Sha256),
                _ => {
                    self.other += 1;
                    continue;
                }
            };
            let sum = sum.ok_or_else(|| bad("digest"))?;
            self.installed.add(&file.path, sum, &name, self.links);
        }
        Ok(())
    }
}

/// Reads a database and its log, for a fuzz target.
pub(super) fn fuzz(database: File, log: File) -> Result<(), Error> {
    let mut installed = Installed::default();
    let mut reader = Reader::new(&mut installed, &|_| None);
    let mut database = Database::open(database, Some(log))?;
    database.rows("Packages", &mut |row| reader.row(&row))
}

#[cfg(test)]
mod tests;
