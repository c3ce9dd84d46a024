//! A folder of logs, and its lock: two programs that write the same file tear each other's lines.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use super::links;

/// Keeps other programs from writing logs into a folder, or a file there, until it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    /// It has the process id of the program that holds the lock.
    path: PathBuf,
    held: Mutex<File>,
}

/// Begins the message that says who has a folder.
pub const TAKEN: &str = "another panoptes";
/// The name of the lock of a whole folder, and its end if it is of one file.
const NAME: &str = ".lock";
/// Records contain command lines and paths, so neither folder nor files are readable by everyone.
const FOLDER_MODE: u32 = 0o750;
pub(crate) const FILE_MODE: u32 = 0o640;
/// How often a lock is taken on a file that somebody removes meanwhile.
const TRIES: usize = 10;

impl FolderLock {
    /// Takes the folder, which is created if it is missing. The error names the process that has
    /// it.
    pub fn take(folder: &Path) -> io::Result<Arc<Self>> {
        Self::take_at(folder, folder.join(NAME))
    }

    /// Takes one file of a folder that several programs may use.
    pub fn take_file(file: &Path) -> io::Result<Arc<Self>> {
        let mut name = OsString::from(".");
        name.push(file.file_name().unwrap_or_default());
        name.push(NAME);
        Self::take_at(file.parent().unwrap_or(Path::new(".")), file.with_file_name(name))
    }

    fn take_at(folder: &Path, path: PathBuf) -> io::Result<Arc<Self>> {
        create(folder)?;
        let held = Mutex::new(take(&path)?);
        Ok(Arc::new(Self { path, held }))
    }

    /// Takes the folder again if it, or the file that is locked, was removed.
    pub(crate) fn hold(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_name(&held.metadata()?, &self.path) {
            if let Some(folder) = self.path.parent() {
                create(folder)?;
            }
            *held = take(&self.path)?;
        }
        Ok(())
    }
}

fn take(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    for _ in 0..TRIES {
        let mut file = links::open(&options, path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(path)),
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) if has_no_locks(&error) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if has_name(&file.metadata()?, path) {
            file.set_len(0)?;
            // A full disk must not keep the folder from being taken.
            let _ = writeln!(file, "{}", process::id());
            return Ok(file);
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::ENOLCK)
}

fn taken(path: &Path) -> io::Error {
    let owner = fs::read_to_string(path).unwrap_or_default();
    let owner = owner.trim().parse().map(|pid: u32| format!(" (process {pid})"));
    let owner = owner.unwrap_or_default();
    let message = format!("{TAKEN}{owner} writes its logs there");
    io::Error::new(io::ErrorKind::ResourceBusy, message)
}

/// Creates a folder of logs if it is missing.
pub(crate) fn create(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)
}

/// Whether this file is the one of that name.
pub(crate) fn has_name(file: &Metadata, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (file.dev(), file.ino()))
}
