//! The files of a log: the current one and its old ones, by name.
//!
//! `events.jsonl.1` is the youngest old file, and of `x.json.log` it is `x.json.1.log`: who follows
//! files with that ending keeps reading what was rotated. A new file is created under a name of its
//! own before an old one is touched: a file system without room for it costs no old file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::output::folder::{self, FILE_MODE};
use crate::output::links;

/// The files of one log.
#[derive(Debug)]
pub struct LogFiles {
    /// The current file, then the old ones, youngest first.
    paths: Vec<PathBuf>,
    /// The next current file, until it has its name.
    next: PathBuf,
}

/// Old files with higher numbers are not ours: others name files by date.
const NUMBER_MAX: u32 = 100_000;

impl LogFiles {
    /// The log of this name, with at most so many old files.
    pub fn new(path: &Path, max_files: u32) -> Self {
        let paths = (0..=max_files).map(|number| numbered(path, number)).collect();
        Self { paths, next: with_suffix(path, "new") }
    }

    /// The file that is written.
    pub fn current(&self) -> &Path {
        &self.paths[0]
    }

    fn folder(&self) -> &Path {
        let folder = self.current().parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    /// Opens the current file, or creates it, with its folder.
    pub fn open(&self) -> io::Result<File> {
        let mut options = file_options();
        options.create(true).truncate(false);
        let open = || links::open(&options, self.current());
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                folder::create(self.folder())?;
                open()
            }
            opened => opened,
        }
    }

    /// Makes an empty file the current one, and the current one an old one. After a failure every
    /// file is still there, but for an oldest one that had to go.
    pub fn rotate(&self) -> io::Result<File> {
        let created = match file_options().create_new(true).open(&self.next) {
            // The program ended amid a rotation: nothing was written to it yet.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&self.next)?;
                file_options().create_new(true).open(&self.next)
            }
            created => created,
        };
        let file = created?;
        if let Err(error) = self.shift().and_then(|()| fs::rename(&self.next, self.current())) {
            // It is empty.
            let _ = fs::remove_file(&self.next);
            return Err(error);
        }
        Ok(file)
    }

    /// Moves each file one place up, oldest first, up to the first free place. Files behind that
    /// place need not move. If no old files are kept, nothing moves.
    fn shift(&self) -> io::Result<()> {
        let row = self.paths.iter().take_while(|path| !is_missing(path)).count();
        let pairs = row.min(self.paths.len() - 1);
        for pair in self.paths[..=pairs].windows(2).rev() {
            fs::rename(&pair[0], &pair[1])?;
        }
        Ok(())
    }

    /// Removes the old files beyond the number that is kept; an earlier run may have kept more.
    pub fn remove_surplus(&self) -> io::Result<()> {
        let (name, end) = name_and_end(self.current());
        let (folder, Some(name)) = (self.folder(), name.file_name()) else {
            return Ok(());
        };
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let found = entry.file_name();
            let found = found.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
            let number = found.and_then(|found| found.strip_prefix(b"."));
            let number = number.and_then(|number| number.strip_suffix(end.as_bytes()));
            let number = number.and_then(number_of);
            if number.is_some_and(|number| self.paths.len() <= number as usize) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

fn file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}

fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// `events.jsonl`, `events.jsonl.1`, …; `x.json.log`, `x.json.1.log`, …
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let (name, end) = name_and_end(path);
    with_suffix(&name, &format!("{number}{end}"))
}

/// Where the number goes: between these two. A log of records keeps the ending `.log`.
fn name_and_end(path: &Path) -> (PathBuf, &'static str) {
    if path.as_os_str().as_encoded_bytes().ends_with(b".json.log") {
        (path.with_extension(""), ".log")
    } else {
        (path.to_owned(), "")
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The number that [`numbered`] writes so.
fn number_of(digits: &[u8]) -> Option<u32> {
    let is_plain = digits.first() != Some(&b'0') && digits.iter().all(u8::is_ascii_digit);
    let number = str::from_utf8(digits).ok().filter(|_| is_plain)?.parse().ok()?;
    (number <= NUMBER_MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with files of these names, each with its name as content.
    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    /// The files of a folder in alphabetical order, and their contents.
    fn files(folder: &tempfile::TempDir) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        let file = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap_or_default())
        };
        let mut files: Vec<_> = entries.map(file).collect();
        files.sort();
        files
    }

    #[track_caller]
    fn check(folder: &tempfile::TempDir, expected: &[(&str, &str)]) {
        let owned = |&(name, content): &(&str, &str)| (name.to_owned(), content.to_owned());
        assert_eq!(files(folder), expected.iter().map(owned).collect::<Vec<_>>());
    }

    fn chain(folder: &tempfile::TempDir, max_files: u32) -> LogFiles {
        LogFiles::new(&folder.path().join("log"), max_files)
    }

    #[test]
    fn a_rotation_that_cannot_create_its_file_moves_nothing() {
        let folder = folder(&["log", "log.1", "log.2"]);
        fs::create_dir_all(folder.path().join("log.new/x")).unwrap();
        for max_files in [0, 1, 2] {
            chain(&folder, max_files).rotate().unwrap_err();
        }
        check(&folder, &[("log", "log"), ("log.1", "log.1"), ("log.2", "log.2"), ("log.new", "")]);
    }

    #[test]
    fn a_rotation_that_cannot_move_its_files_loses_none_however_often_it_is_tried() {
        let folder = folder(&["log", "log.1", "log.3", "log.4"]);
        // A file takes no folder's place.
        fs::create_dir_all(folder.path().join("log.2/x")).unwrap();
        fs::remove_file(folder.path().join("log.3")).unwrap();
        fs::create_dir_all(folder.path().join("log.3/x")).unwrap();
        for _ in 0..3 {
            chain(&folder, 3).rotate().unwrap_err();
        }
        let expected = [("log", "log"), ("log.1", "log.1"), ("log.2", ""), ("log.3", "")];
        check(&folder, &[&expected[..], &[("log.4", "log.4")]].concat());
    }

    #[test]
    fn only_the_files_before_a_free_place_move() {
        let folder = folder(&["log", "log.1", "log.3", "log.4"]);
        chain(&folder, 4).rotate().unwrap();
        let moved = [("log", ""), ("log.1", "log"), ("log.2", "log.1")];
        check(&folder, &[&moved[..], &[("log.3", "log.3"), ("log.4", "log.4")]].concat());
    }

    #[test]
    fn an_only_file_is_replaced_and_what_an_interrupted_rotation_left_is_not_in_the_way() {
        let folder = folder(&["log", "log.new"]);
        chain(&folder, 0).rotate().unwrap();
        check(&folder, &[("log", "")]);
    }

    #[test]
    fn rotated_files_keep_the_ending_log() {
        let folder = folder(&["x.json.log", "x.json.1.log", "x.json.7.log", "x.json.log.1"]);
        let chain = LogFiles::new(&folder.path().join("x.json.log"), 2);
        chain.rotate().unwrap();
        chain.remove_surplus().unwrap();
        check(
            &folder,
            &[
                ("x.json.1.log", "x.json.log"),
                ("x.json.2.log", "x.json.1.log"),
                ("x.json.log", ""),
                ("x.json.log.1", "x.json.log.1"),
            ],
        );
    }

    #[test]
    fn old_files_beyond_a_lowered_number_are_removed_and_those_of_others_stay() {
        let others = ["log.02", "log.20261123", "log.3.gz", "log.x", "logs.7", "og.3"];
        let folder = folder(&others);
        for name in ["log", "log.1", "log.2", "log.3", "log.9", "log.100000"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        chain(&folder, 1).remove_surplus().unwrap();
        let left: Vec<_> = files(&folder).into_iter().map(|(name, _)| name).collect();
        let mut expected = [&others[..], &["log", "log.1"]].concat();
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
