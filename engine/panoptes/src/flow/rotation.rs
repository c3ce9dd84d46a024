//! The captures of a folder, in the order of their packets: what `tcpdump -C`, `-G`, `-W` and `-z`
//! write, whatever the names. A ring of files is read once around for each of its turns.
//!
//! A capture is known by its first packet, under any name and compressed or not, so each is read
//! once. A wrong time of its first packet changes neither that nor its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use panoptes_packet_files::{CaptureError, CaptureFile, CaptureOptions};

use crate::message::Messages;

/// Files of a folder that are looked at.
const FILES_MAX: usize = 65_536;
/// Captures that are remembered when they were read. Those of the folder are never forgotten.
const REMEMBERED_MAX: usize = 2 * FILES_MAX;
/// A shorter file may be the beginning of a capture: the header of pcap has so many bytes.
const PCAP_HEADER_BYTES: u64 = 24;
/// The first packets whose times are compared: one of them may be wrong.
const TIMES: usize = 3;
/// A first packet that is further from their median has a wrong time, in nanoseconds.
const WRONG_NS: u64 = 86_400 * 1_000_000_000;

/// A capture: the time of its first packet, and a hash of all of that.
type CaptureIdentity = (i64, u64);

/// What a file has.
#[derive(Clone, Copy, Debug)]
struct CaptureContent {
    identity: CaptureIdentity,
    /// When it begins.
    begin_ns: i64,
}

/// Facts about a file, which hold until it changes.
#[derive(Debug)]
struct RotationFile {
    /// Its number, its length, and when it was changed.
    state: (u64, u64, i64, i64),
    is_capture: bool,
    /// `None` without a packet.
    content: Option<CaptureContent>,
    /// It was named as a file that is left out.
    is_reported: bool,
}

/// The captures of a folder.
#[derive(Debug)]
pub(super) struct Rotation {
    folder: PathBuf,
    known: BTreeMap<PathBuf, RotationFile>,
    /// The captures that were returned.
    read: BTreeSet<CaptureIdentity>,
    messages: Messages,
}

impl Rotation {
    pub(super) fn new(folder: PathBuf, messages: &Messages) -> Self {
        let (known, messages) = (BTreeMap::new(), messages.clone());
        Self { folder, known, read: BTreeSet::new(), messages }
    }

    /// Whether there was a capture at the last look, with packets or without.
    pub(super) fn has_captures(&self) -> bool {
        self.known.values().any(|known| known.is_capture)
    }

    /// Whether there is a capture that was not returned.
    pub(super) fn has_next(&mut self) -> bool {
        self.look().is_ok() && self.first().is_some()
    }

    /// Opens the first of the captures that were not returned. Of files with the same capture, it
    /// is the first one by name: `cap0.gz` is `cap0`, compressed.
    pub(super) fn next(&mut self) -> io::Result<Option<(PathBuf, io::Result<File>)>> {
        self.look()?;
        while let Some((path, identity)) = self.first() {
            // A FIFO that has taken its name delays nothing.
            let mut options = File::options();
            let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(&path);
            if opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                // It may be compressed by now, or have another name.
                self.known.remove(&path);
                continue;
            }
            self.remember(identity);
            return Ok(Some((path, opened)));
        }
        Ok(None)
    }

    /// The capture that comes next.
    fn first(&self) -> Option<(PathBuf, CaptureIdentity)> {
        let all = self.known.iter().filter_map(|(path, known)| Some((known.content?, path)));
        let left = all.filter(|(content, _)| !self.read.contains(&content.identity));
        let (content, path) = left.min_by_key(|(content, path)| (content.begin_ns, *path))?;
        Some((path.clone(), content.identity))
    }

    fn remember(&mut self, identity: CaptureIdentity) {
        self.read.insert(identity);
        if self.read.len() > REMEMBERED_MAX {
            let contents = self.known.values().filter_map(|known| known.content);
            let present: BTreeSet<_> = contents.map(|content| content.identity).collect();
            self.read.retain(|identity| present.contains(identity));
        }
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
            let (number, length) = (metadata.ino(), metadata.len());
            let state = (number, length, metadata.mtime(), metadata.mtime_nsec());
            let file = match known.remove(&path) {
                Some(file) if file.state == state => file,
                before => {
                    let is_reported = before.is_some_and(|before| before.is_reported);
                    let mut file =
                        RotationFile { state, is_capture: false, content: None, is_reported };
                    self.read_file(&path, &mut file);
                    file
                }
            };
            self.known.insert(path, file);
        }
        Ok(())
    }

    /// Finds out what a file has. What is no capture is named once.
    fn read_file(&self, path: &Path, known: &mut RotationFile) {
        match read_content(path) {
            Ok(content) => {
                known.is_capture = true;
                known.content = content;
            }
            // It may have been written in part, or be gone.
            Err(CaptureError::Empty { .. } | CaptureError::Damaged { .. }) => {}
            Err(CaptureError::Open { error, .. } | CaptureError::Read { error, .. })
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {}
            Err(error) => {
                let (_, length, ..) = known.state;
                if !known.is_reported && length >= PCAP_HEADER_BYTES {
                    self.messages.warning(format_args!("left out: {error}"));
                    known.is_reported = true;
                }
            }
        }
    }
}

/// Reads the first packets of a file.
fn read_content(path: &Path) -> Result<Option<CaptureContent>, CaptureError> {
    let mut file = CaptureFile::open(path, &CaptureOptions::default())?;
    let Some(first) = file.next()? else { return Ok(None) };
    let mut hasher = DefaultHasher::new();
    (first.link, first.wire_length, first.bytes).hash(&mut hasher);
    let identity = (first.time_ns, hasher.finish());
    let first_ns = first.time_ns;
    let mut times = vec![first_ns];
    // The file may be damaged behind the first packet, or not be written yet.
    while let Ok(Some(frame)) = file.next() {
        times.push(frame.time_ns);
        if times.len() == TIMES {
            break;
        }
    }
    Ok(Some(CaptureContent { identity, begin_ns: begin_of(first_ns, times) }))
}

/// When a capture begins whose first packets have these times.
fn begin_of(first_ns: i64, mut times: Vec<i64>) -> i64 {
    times.sort_unstable();
    let median_ns = times[(times.len() - 1) / 2];
    if first_ns.abs_diff(median_ns) > WRONG_NS { median_ns } else { first_ns }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

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
            let name = next.as_ref().and_then(|(path, _)| path.file_name());
            name.map(|name| name.to_string_lossy().into_owned())
        }
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).expect("memory");
        out.finish().expect("memory")
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
                // The length differs: a clock may be too coarse for the time of its change.
                folder.write(name, &capture(&vec![second; 4 - turn]));
                assert_eq!(folder.next().as_deref(), Some(name), "{turn}");
                assert_eq!(folder.next(), None, "{turn}");
            }
        }
    }

    /// Years after 1970, so that other times are far from them.
    const T: u32 = 1_700_000_000;

    #[test]
    fn a_wrong_time_hides_no_capture() {
        for (wrong, order) in [(0, ["cap1", "cap0"]), (u32::MAX, ["cap0", "cap1"])] {
            let mut folder = Folder::new();
            folder.write("cap0", &capture(&[T, T + 1, T + 2]));
            // The wrong one is the first packet, and the only one so far.
            folder.write("cap1", &capture(&[wrong]));
            assert_eq!([folder.next(), folder.next()], order.map(|name| Some(name.to_owned())));
            folder.write("cap1", &capture(&[wrong, T + 11, T + 12]));
            folder.write("cap2", &capture(&[T + 20, T + 21]));
            assert_eq!(folder.next().as_deref(), Some("cap2"), "{wrong}");
            folder.write("cap3", &capture(&[T + 30]));
            assert_eq!(folder.next().as_deref(), Some("cap3"), "{wrong}");
            assert_eq!(folder.next(), None, "{wrong}");
        }
    }

    #[test]
    fn a_wrong_first_time_changes_no_order() {
        for wrong in [0, u32::MAX] {
            let mut folder = Folder::new();
            folder.write("c", &capture(&[T, T + 1, T + 2]));
            folder.write("b", &capture(&[wrong, T + 11, T + 12]));
            folder.write("a", &capture(&[T + 20, wrong, T + 22]));
            let names: Vec<_> = std::iter::from_fn(|| folder.next()).collect();
            assert_eq!(names, ["c", "b", "a"], "{wrong}");
        }
    }

    #[test]
    fn captures_that_begin_at_the_same_time_are_all_read() {
        let mut folder = Folder::new();
        let mut other = capture(&[10]);
        *other.last_mut().expect("a packet") = 1;
        folder.write("eth0", &capture(&[10]));
        folder.write("eth1", &other);
        let names: Vec<_> = std::iter::from_fn(|| folder.next()).collect();
        assert_eq!(names, ["eth0", "eth1"]);
    }

    #[test]
    fn a_capture_with_another_name_is_read_once() {
        let mut folder = Folder::new();
        let path = folder.folder.path().to_owned();
        folder.write("cap", &capture(&[10, 11]));
        assert_eq!(folder.next().as_deref(), Some("cap"));
        fs::rename(path.join("cap"), path.join("cap-2026")).expect("renamed");
        folder.write("cap", &capture(&[20]));
        assert_eq!(folder.next().as_deref(), Some("cap"));
        assert_eq!(folder.next(), None);
        // Between two looks, it was compressed and removed.
        folder.write("cap.gz", &gzip(&capture(&[20])));
        fs::remove_file(path.join("cap")).expect("removed");
        assert_eq!(folder.next(), None);
        folder.write("cap3.gz", &gzip(&capture(&[30])));
        assert_eq!(folder.next().as_deref(), Some("cap3.gz"));
    }

    /// `gzip` has made its file, and then removes the other one.
    #[test]
    fn a_capture_that_is_compressed_before_it_was_read_is_read_compressed() {
        let mut folder = Folder::new();
        folder.write("cap", &capture(&[10]));
        folder.write("cap.gz", &gzip(&capture(&[10])));
        assert!(folder.rotation.has_next());
        fs::remove_file(folder.folder.path().join("cap")).expect("removed");
        assert_eq!(folder.next().as_deref(), Some("cap.gz"));
        assert_eq!(folder.next(), None);
    }

    #[test]
    fn a_compressed_capture_may_be_written_in_part() {
        let mut folder = Folder::new();
        let whole = gzip(&capture(&[10]));
        for length in 0..whole.len() - 8 {
            folder.write("cap.gz", &whole[..length]);
            folder.rotation.look().expect("a folder");
        }
        assert!(!folder.rotation.known.values().any(|known| known.is_reported));
        folder.write("cap.gz", &whole);
        assert_eq!(folder.next().as_deref(), Some("cap.gz"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut folder = Folder::new();
        folder.write("cap", &capture(&[10]));
        assert_eq!(folder.next().as_deref(), Some("cap"));
        for number in 0..=REMEMBERED_MAX as i64 {
            folder.rotation.remember((number, 0));
            assert!(folder.rotation.read.len() <= REMEMBERED_MAX);
        }
        assert_eq!(folder.next(), None, "a capture of the folder is never forgotten");
    }
}
