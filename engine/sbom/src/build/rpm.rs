//! rpm's digests of the files that it installed: the headers of all packages, which are in the
//! table `Packages` of `rpmdb.sqlite`, or in a database of their own of an older kind.

mod berkeley;
mod header;
mod ndb;
mod sqlite;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::OFlags;

use super::installed::{InstalledFiles, Links, Sum};
use crate::digest::from_hex;
use crate::error::{SbomError, shown};
use crate::load::{open_if_there, open_regular, state};
use crate::model::check_path;

use sqlite::{SqliteDatabase, SqliteValue};

/// Where the database may be, from the root. Where there are both, the second one is a link.
const FOLDERS: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];
/// The kinds of databases by their files' names, the newest first.
const KINDS: [(&str, DatabaseKind); 3] = [
    (SQLITE, DatabaseKind::Sqlite),
    ("Packages.db", DatabaseKind::Ndb),
    ("Packages", DatabaseKind::Berkeley),
];
const SQLITE: &str = "rpmdb.sqlite";

/// First bytes of a journal that is not empty ("Database File Format" §3).
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Maximum number of bytes in the paths of one package.
const PATH_BYTES_MAX: usize = 256 << 20;
/// Maximum size of a database: twenty times that of a large installation. A sparse file may claim
/// any size.
const DATABASE_BYTES_MAX: u64 = 16 << 30;
/// Maximum size of a package's header and what is stored around it (`HEADER_DATA_MAX` of rpm is
/// 256 MiB).
const BLOB_BYTES_MAX: u64 = 257 << 20;

/// A database of rpm's.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct RpmDatabase {
    path: PathBuf,
    kind: DatabaseKind,
}

/// How a database is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DatabaseKind {
    Sqlite,
    /// A kind of rpm's own, on SUSE.
    Ndb,
    /// `BerkeleyDB`, up to RHEL 8.
    Berkeley,
}

/// The database below `root`.
pub(super) fn find(root: &Path) -> Option<RpmDatabase> {
    FOLDERS.iter().map(|folder| root.join(folder)).filter(|folder| is_folder(folder)).find_map(
        |folder| {
            KINDS.into_iter().find_map(|(name, kind)| {
                let path = folder.join(name);
                path.is_file().then_some(RpmDatabase { path, kind })
            })
        },
    )
}

/// A folder that is no link.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Reads rpm's data below `root`.
pub(super) fn read(root: &Path, links: &Links<'_>) -> Result<InstalledFiles, SbomError> {
    let mut installed = InstalledFiles::default();
    let Some(RpmDatabase { path, kind }) = find(root) else { return Ok(installed) };
    let log_path = beside(&path, "-wal");
    let state = || [&path, &log_path].map(|path| state(path));
    let before = state();
    let file = open_regular(&path, OFlags::NOFOLLOW).map_err(SbomError::reading(&path))?;
    let size = file.metadata().map_err(SbomError::reading(&path))?.len();
    if size > DATABASE_BYTES_MAX {
        return Err(SbomError::content(format!(
            "{} has {size} bytes, more than {DATABASE_BYTES_MAX}; is it rpm's database?",
            path.display()
        )));
    }
    let mut reader = RpmReader::new(&mut installed, links);
    let done = match kind {
        DatabaseKind::Sqlite => {
            refuse_journal(&path)?;
            let log = open_if_there(&log_path)?;
            SqliteDatabase::open(file, log)
                .and_then(|mut database| database.rows("Packages", &mut |row| reader.row(&row)))
        }
        DatabaseKind::Ndb => ndb::blobs(&file, &mut |header| reader.package(header)),
        DatabaseKind::Berkeley => berkeley::blobs(&file, &mut |header| reader.package(header)),
    };
    let others = reader.other;
    if state() != before {
        let message = format!("{} was changed meanwhile; try again", path.display());
        return Err(SbomError::content(message));
    }
    done.map_err(|error| error.within(path.display()))?;
    if others > 0 {
        installed.remarks.push(format!(
            "rpm: {others} files have digests of another kind than MD5, SHA-1 and SHA-256"
        ));
    }
    Ok(installed)
}

/// An error if an `SQLite` database has a journal of a change that was not finished.
fn refuse_journal(path: &Path) -> Result<(), SbomError> {
    let Some(journal) = open_if_there(&beside(path, "-journal"))? else { return Ok(()) };
    let mut magic = [0; JOURNAL_MAGIC.len()];
    if journal.read_exact_at(&mut magic, 0).is_ok() && magic == JOURNAL_MAGIC {
        return Err(SbomError::content(format!(
            "{} was not written completely; `rpm -qa` mends it",
            path.display()
        )));
    }
    Ok(())
}

/// The path of a file beside another one: its name is the other's, followed by `end`.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    PathBuf::from(name)
}

/// An error of reading an open database: for `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn reading(error: io::Error) -> SbomError {
    SbomError::content(format!("can't be read: {error}"))
}

/// Adds the files of each package.
struct RpmReader<'a> {
    installed: &'a mut InstalledFiles,
    links: &'a Links<'a>,
    /// Number of files whose digests are of another kind.
    other: u64,
}

impl<'a> RpmReader<'a> {
    fn new(installed: &'a mut InstalledFiles, links: &'a Links<'a>) -> Self {
        Self { installed, links, other: 0 }
    }

    fn row(&mut self, row: &[SqliteValue]) -> Result<(), SbomError> {
        // `CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)`,
        // lib/backend/sqlite.c.
        let [_, SqliteValue::Bytes(bytes)] = row else {
            return Err(SbomError::content("has another table Packages than rpm makes"));
        };
        self.package(bytes)
    }

    /// Adds the files of a package, by its header.
    fn package(&mut self, bytes: &[u8]) -> Result<(), SbomError> {
        let package = header::read(bytes, PATH_BYTES_MAX)?;
        let name: Rc<str> = String::from_utf8_lossy(package.name).into();
        for file in &package.files {
            let bad = |what| {
                let path = shown(&file.path);
                SbomError::content(format!("has a bad {what} of {path} of {}", shown(package.name)))
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
            self.installed.add(&file.path, sum, &name, self.links)?;
        }
        Ok(())
    }
}

/// Reads a database of any kind, and the log of an `SQLite` database, for a fuzz target.
pub(super) fn fuzz(database: File, log: File) -> Result<(), SbomError> {
    let mut installed = InstalledFiles::default();
    let mut reader = RpmReader::new(&mut installed, &|_| None);
    let mut package = |header: &[u8]| reader.package(header);
    let blobs = [ndb::blobs(&database, &mut package), berkeley::blobs(&database, &mut package)];
    if blobs.into_iter().any(|read| read.is_ok()) {
        return Ok(());
    }
    let mut database = SqliteDatabase::open(database, Some(log))?;
    database.rows("Packages", &mut |row| reader.row(&row))
}

#[cfg(test)]
mod tests;
