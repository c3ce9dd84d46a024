//! The captures of a folder, in the order of their first packets: what `tcpdump -C`, `-G` and `-W`
//! write, whatever the names. A ring of files is read once around for each of its turns.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use panoptes_capture::{CaptureError, CaptureFile, Options};

use crate::message::Messages;

/// Files of a folder that are looked at.
const FILES_MAX: usize = 65_536;
/// A shorter file may be the beginning of a capture: the header of pcap has so many bytes.
const HEADER_BYTES: u64 = 24;

/// What is known of a file while it stays as it is.
#[derive(Debug)]
struct Known {
    /// Its number, its length, and when it was changed.
    state: (u64, u64, i64, i64),
    /// The time of its first packet, if it is a capture and has one.
    first_ns: Option<i64>,
}

/// The captures of a folder.
#[derive(Debug)]
pub(super) struct Rotation {
    folder: PathBuf,
    known: BTreeMap<PathBuf, Known>,
    /// When the capture begins that was returned last.
    last_ns: i64,
    messages: Messages,
}

impl Rotation {
    pub(super) fn new(folder: PathBuf, messages: &Messages) -> Self {
        let (known, messages) = (BTreeMap::new(), messages.clone());
        Self { folder, known, last_ns: i64::MIN, messages }
    }

    /// Whether a capture has begun after the last one.
    pub(super) fn has_next(&mut self) -> bool {
        self.find().is_ok_and(|next| next.is_some())
    }

    /// The capture that begins next after the last one. Of those that begin at the same time, it is
    /// the first one by name: `cap0.gz` is `cap0`, compressed.
    pub(super) fn next(&mut self) -> io::Result<Option<PathBuf>> {
        let Some((first_ns, path)) = self.find()? else { return Ok(None) };
        self.last_ns = first_ns;
        Ok(Some(path))
    }

    fn find(&mut self) -> io::Result<Option<(i64, PathBuf)>> {
        self.look()?;
        let begun = self.known.iter().filter_map(|(path, known)| Some((known.first_ns?, path)));
        let next = begun.filter(|(first_ns, _)| *first_ns > self.last_ns).min();
        Ok(next.map(|(first_ns, path)| (first_ns, path.clone())))
    }

    /// Looks at the files that are new or have changed.
    fn look(&mut self) -> io::Result<()> {
        let mut known = std::mem::take(&mut self.known);
        for entry in std::fs::read_dir(&self.folder)?.take(FILES_MAX) {
            let path = entry?.path();
            // One that is gone by now is left out.
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let length = metadata.len();
            let state = (metadata.ino(), length, metadata.mtime(), metadata.mtime_nsec());
            let before = known.remove(&path);
            let file = match before {
                Some(file) if file.state == state => file,
                before => Known { state, first_ns: self.first(&path, length, before.is_none()) },
            };
            self.known.insert(path, file);
        }
        Ok(())
    }

    /// When a capture begins. What is no capture is named once.
    fn first(&self, path: &Path, length: u64, is_new: bool) -> Option<i64> {
        let opened = CaptureFile::open(path, &Options::default());
        let first = opened.and_then(|mut file| Ok(file.next()?.map(|frame| frame.time_ns)));
        match first {
            Ok(first_ns) => first_ns,
            // It may have been written in part.
            Err(CaptureError::Empty { .. } | CaptureError::Damaged { .. }) => None,
            Err(error) => {
                if is_new && length >= HEADER_BYTES {
                    self.messages.warning(format_args!("left out: {error}"));
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::LogLevel;

    /// A pcap whose packets have these times in seconds.
    fn capture(seconds: &[u32]) -> Vec<u8> {
        let words = [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 1];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for second in seconds {
            bytes.extend([*second, 0, 4, 4].iter().flat_map(|word| word.to_le_bytes()));
            bytes.extend([0; 4]);
        }
        bytes
    }

    struct Folder {
        folder: tempfile::TempDir,
        rotation: Rotation,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let messages = Messages::new(Box::new(io::sink()), false, LogLevel::Info);
            let rotation = Rotation::new(folder.path().to_owned(), &messages);
            Self { folder, rotation }
        }

        fn write(&self, name: &str, bytes: &[u8]) {
            fs::write(self.folder.path().join(name), bytes).expect("there is room");
        }

        /// The name of the next capture.
        fn next(&mut self) -> Option<String> {
            let has_next = self.rotation.has_next();
            let next = self.rotation.next().expect("a folder");
            assert_eq!(has_next, next.is_some());
            let name = next.as_ref().and_then(|path| path.file_name());
            name.map(|name| name.to_string_lossy().into_owned())
        }
    }

    #[test]
    fn captures_follow_by_their_first_packets() {
        let mut folder = Folder::new();
        assert_eq!(folder.next(), None);
        folder.write("cap10", &capture(&[30, 31]));
        folder.write("cap9", &capture(&[20, 40]));
        folder.write("readme", b"a text that is longer than the header of a capture");
        folder.write("empty", b"");
        folder.write("cap8.gz", &capture(&[10]));
        folder.write("cap8", &capture(&[10]));
        fs::create_dir(folder.folder.path().join("cap7")).expect("a folder");
        let names: Vec<_> = std::iter::from_fn(|| folder.next()).collect();
        assert_eq!(names, ["cap8", "cap9", "cap10"]);
    }

    #[test]
    fn a_capture_that_has_begun_follows() {
        let mut folder = Folder::new();
        folder.write("cap0", &capture(&[10]));
        assert_eq!(folder.next().as_deref(), Some("cap0"));
        let whole = capture(&[20]);
        // Its header, half a packet, all of it.
        for length in [10, 24, 30] {
            folder.write("cap1", &whole[..length]);
            assert_eq!(folder.next(), None, "{length}");
        }
        folder.write("cap1", &whole);
        assert_eq!(folder.next().as_deref(), Some("cap1"));
        folder.write("cap1", &capture(&[20, 25]));
        assert_eq!(folder.next(), None, "it only grows");
    }

    #[test]
    fn a_ring_of_files_goes_round() {
        let mut folder = Folder::new();
        let mut second = 0;
        for turn in 0..3 {
            for name in ["cap0", "cap1", "cap2"] {
                second += 10;
                // Of another length: a clock may be too coarse for the time of its change.
                folder.write(name, &capture(&vec![second; 4 - turn]));
                assert_eq!(folder.next().as_deref(), Some(name), "{turn}");
                assert_eq!(folder.next(), None, "{turn}");
            }
        }
    }
}
