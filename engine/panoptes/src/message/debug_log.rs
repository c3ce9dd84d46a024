//! The debug log: every message, whatever its level, in files that rotate: §8.2 of the guide of
//! DOCA Argus.
//!
//! What cannot be written is lost and counted, and each further message tries again. A file that
//! was moved or removed is made anew.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use panoptes_sinks::output::file::{FileOptions, LogFiles};
use rustix::fs::{OFlags, fcntl_setfl};

use super::log_thread::LogThreadSink;
use super::now;

#[derive(Debug)]
pub(super) struct DebugLog {
    chain: LogFiles,
    file: File,
    /// Bytes of the file.
    size: u64,
    rotate_size: u64,
    /// Number of messages since the last one that could be written.
    lost: u64,
    /// Whether the last write may have left a part of a line.
    is_torn: bool,
    /// When the file was there under its name.
    seen: Instant,
}

/// How often the file is looked for under its name.
const FILE_NAME_INTERVAL: Duration = Duration::from_secs(1);

/// The file's name in `service.debug_log_folder`.
const NAME: &str = "panoptes.log";

impl DebugLog {
    /// Opens the log at its end, or creates it with its folder. It rotates as the event log does.
    pub(super) fn open(folder: &Path, options: &FileOptions) -> io::Result<Self> {
        let chain = LogFiles::new(&folder.join(NAME), options.max_files);
        let (file, size) = open(&chain)?;
        chain.remove_surplus()?;
        let (rotate_size, seen) = (options.rotate_size, Instant::now());
        Ok(Self { chain, file, size, rotate_size, lost: 0, is_torn: false, seen })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.chain.current().to_owned()
    }

    /// Opens the file again if another one has its name, or none.
    fn look(&mut self) -> io::Result<()> {
        if self.lost == 0 && self.seen.elapsed() < FILE_NAME_INTERVAL {
            return Ok(());
        }
        let opened = self.file.metadata()?;
        let is_it =
            |named: fs::Metadata| (named.dev(), named.ino()) == (opened.dev(), opened.ino());
        if !fs::metadata(self.chain.current()).is_ok_and(is_it) {
            self.reopen()?;
        }
        self.seen = Instant::now();
        Ok(())
    }

    fn report_lost(&mut self) -> io::Result<()> {
        if self.lost == 0 {
            return Ok(());
        }
        let begin = if self.is_torn { "\n" } else { "" };
        let text = format!("{begin}{} warning {} messages were lost here\n", now(), self.lost);
        self.add(text.as_bytes())?;
        self.lost = 0;
        Ok(())
    }

    fn add(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.rotate_size {
            // After a failure, better a file that is too long than messages that are lost.
            if let Ok(file) = self.chain.rotate() {
                append_to(&file)?;
                (self.file, self.size) = (file, 0);
            }
        }
        let written = self.file.write_all(line);
        self.is_torn = written.is_err();
        written?;
        self.size += length;
        Ok(())
    }
}

impl LogThreadSink for DebugLog {
    /// Writes a line. Of consecutive failures, returns only the first.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.look().and_then(|()| self.report_lost()).and_then(|()| self.add(line));
        match written {
            Ok(()) => Ok(()),
            Err(error) => {
                self.lost += 1;
                if self.lost == 1 { Err(error) } else { Ok(()) }
            }
        }
    }

    fn lose(&mut self, lines: u64) {
        self.lost += lines;
    }

    fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.chain)?;
        Ok(())
    }

    fn set_options(&mut self, options: &FileOptions) {
        self.chain = LogFiles::new(self.chain.current(), options.max_files);
        self.rotate_size = options.rotate_size;
    }
}

fn open(chain: &LogFiles) -> io::Result<(File, u64)> {
    let mut file = chain.open()?;
    append_to(&file)?;
    let size = file.seek(SeekFrom::End(0))?;
    Ok((file, size))
}

/// Two programs with the same file write one line after the other.
fn append_to(file: &File) -> io::Result<()> {
    Ok(fcntl_setfl(file, OFlags::APPEND)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_rotates_between_lines_and_others_cannot_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let options = FileOptions { rotate_size: 10, max_files: 1, ..FileOptions::default() };
        let path = folder.path().join("new").join(NAME);
        let mut log = DebugLog::open(path.parent().unwrap(), &options).unwrap();
        for line in [&b"1234\n"[..], b"5678\n", b"9\n", b"a long line\n"] {
            log.write(line).unwrap();
        }
        let old = path.with_extension("log.1");
        assert_eq!(fs::read(&path).unwrap(), b"a long line\n");
        assert_eq!(fs::read(&old).unwrap(), b"9\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        let mut log = DebugLog::open(path.parent().unwrap(), &options).unwrap();
        log.write(b"b\n").unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"a long line\n");
        log.set_options(&FileOptions { rotate_size: 20, max_files: 1, ..options });
        log.write(b"0123456789abcdef\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"b\n0123456789abcdef\n");
    }

    #[test]
    fn what_it_cannot_write_is_counted_and_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        let mut log = DebugLog::open(&inner, &FileOptions::default()).unwrap();
        log.write(b"1\n").unwrap();
        fs::remove_dir_all(&inner).unwrap();
        fs::write(&inner, "").unwrap();
        log.seen = Instant::now().checked_sub(FILE_NAME_INTERVAL).unwrap();
        log.write(b"2\n").unwrap_err();
        log.write(b"3\n").unwrap();
        assert_eq!(log.lost, 2);
        fs::remove_file(&inner).unwrap();
        log.write(b"4\n").unwrap();
        log.write(b"5\n").unwrap();
        let text = fs::read_to_string(log.path()).unwrap();
        let (lost, rest) = text.split_once('\n').unwrap();
        assert!(lost.ends_with("Z warning 2 messages were lost here"), "{text}");
        assert_eq!(rest, "4\n5\n");
    }

    #[test]
    fn two_programs_with_the_same_file_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let open = || DebugLog::open(folder.path(), &FileOptions::default()).unwrap();
        let (mut first, mut second) = (open(), open());
        for log in [&mut first, &mut second] {
            log.write(b"a line\n").unwrap();
        }
        assert_eq!(fs::read(first.path()).unwrap(), b"a line\na line\n");
    }

    #[test]
    fn it_goes_on_in_a_file_of_its_name_after_another_program_has_moved_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = DebugLog::open(folder.path(), &FileOptions::default()).unwrap();
        log.write(b"1\n").unwrap();
        fs::rename(log.path(), folder.path().join("moved")).unwrap();
        log.reopen().unwrap();
        log.write(b"2\n").unwrap();
        assert_eq!(fs::read(log.path()).unwrap(), b"2\n");
        assert_eq!(fs::read(folder.path().join("moved")).unwrap(), b"1\n");
    }
}
