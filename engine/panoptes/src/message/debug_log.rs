//! The debug log: every message, whatever its level, in files that rotate (guide §8.2).

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use panoptes_sinks::output::file::{Chain, FileOptions};

#[derive(Debug)]
pub(super) struct DebugLog {
    chain: Chain,
    file: File,
    /// Bytes of the file.
    size: u64,
    rotate_size: u64,
}

/// The file's name in `service.debug_log_folder`.
const NAME: &str = "panoptes.log";

impl DebugLog {
    /// Opens the log at its end, or creates it with its folder. It rotates as the event log does.
    pub(super) fn open(folder: &Path, options: &FileOptions) -> io::Result<Self> {
        let chain = Chain::new(&folder.join(NAME), options.max_files);
        let (file, size) = open(&chain)?;
        chain.remove_surplus()?;
        Ok(Self { chain, file, size, rotate_size: options.rotate_size })
    }

    /// Rotates by these options from now on.
    pub(super) fn set_options(&mut self, options: &FileOptions) {
        self.chain = Chain::new(self.chain.current(), options.max_files);
        self.rotate_size = options.rotate_size;
    }

    pub(super) fn path(&self) -> PathBuf {
        self.chain.current().to_owned()
    }

    /// Opens the file again: another program has moved it.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.size) = open(&self.chain)?;
        Ok(())
    }

    /// Writes a line, which ends with a line feed.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.rotate_size {
            // After a failure, better a file that is too long than messages that are lost.
            if let Ok(file) = self.chain.rotate() {
                (self.file, self.size) = (file, 0);
            }
        }
        self.file.write_all(line)?;
        self.size += length;
        Ok(())
    }
}

fn open(chain: &Chain) -> io::Result<(File, u64)> {
    let mut file = chain.open()?;
    let size = file.seek(SeekFrom::End(0))?;
    Ok((file, size))
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
