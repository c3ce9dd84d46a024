//! Compares what arrived with what was sent.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// A record: its `message_id`, and a hash of its bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Record {
    id: u128,
    hash: u64,
}

/// The records that were sent, in their order.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// The place and the hash of each.
    places: HashMap<u128, (usize, u64)>,
    /// Where each run of the program begins.
    begins: HashSet<usize>,
}

/// What became of them in one place.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Received {
    pub(crate) whole: usize,
    pub(crate) lost: usize,
    /// Records that came more than once, on whatever connections.
    pub(crate) doubled: usize,
    /// Lines that are no record that was sent: cut, or changed.
    pub(crate) wrong: usize,
    /// Records that were not sent to the undisturbed place; there are some if the program is
    /// killed.
    pub(crate) unknown: usize,
    /// Places within a file where the next record is a later one than the next that was sent.
    pub(crate) gaps: usize,
    /// Places within a file where the next record is not a later one.
    pub(crate) backward: usize,
    /// Whether the last record that was sent is there.
    pub(crate) has_last: bool,
}

impl Sent {
    /// Reads what the runs of the program have written.
    pub(crate) fn read(paths: &[PathBuf]) -> io::Result<Self> {
        let mut sent = Self::default();
        for path in paths {
            sent.begins.insert(sent.places.len());
            each(path, |record| {
                if let Some(Record { id, hash }) = record {
                    let place = sent.places.len();
                    sent.places.insert(id, (place, hash));
                }
            })?;
        }
        Ok(sent)
    }

    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Compares with what is in these files.
    pub(crate) fn compare(&self, paths: &[PathBuf]) -> io::Result<Received> {
        let mut received = Received::default();
        let mut seen = HashSet::new();
        for path in paths {
            let mut last = None;
            each(path, |record| {
                let Some(record) = record else {
                    received.wrong += 1;
                    return;
                };
                let Some(&(place, hash)) = self.places.get(&record.id) else {
                    received.unknown += 1;
                    return;
                };
                received.wrong += usize::from(hash != record.hash);
                let next = last.map_or(place, |last: usize| last + 1);
                let is_begin = self.begins.contains(&place);
                received.gaps += usize::from(place > next && !is_begin);
                received.backward += usize::from(place < next && !is_begin);
                received.doubled += usize::from(!seen.insert(place));
                last = Some(place);
            })?;
        }
        received.whole = seen.len();
        received.lost = self.count() - seen.len();
        received.has_last = self.count().checked_sub(1).is_some_and(|last| seen.contains(&last));
        Ok(received)
    }
}

/// The id of the record in a line.
pub(crate) fn id(line: &[u8]) -> Option<u128> {
    const KEY: &[u8] = b"\"message_id\":\"";
    let at = line.windows(KEY.len()).position(|part| part == KEY)? + KEY.len();
    let text = str::from_utf8(line.get(at..at + 36)?).ok()?;
    u128::from_str_radix(&text.replace('-', ""), 16).ok()
}

/// Calls `with` for the record of each whole line; a line without one gives `None`. The last line
/// may be torn: its writer was killed.
fn each(path: &Path, mut with: impl FnMut(Option<Record>)) -> io::Result<()> {
    let mut lines = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        lines.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Ok(());
        }
        with(id(&line).map(|id| {
            let mut hasher = DefaultHasher::new();
            line.trim_ascii().hash(&mut hasher);
            Record { id, hash: hasher.finish() }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(number: usize) -> String {
        format!("{{\"message_id\":\"019a0ad4-c259-7000-8000-{number:012x}\",\"n\":{number}}}\n")
    }

    #[test]
    fn each_loss_is_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("the folder has room");
            path
        };
        let lines = |numbers: &[usize]| numbers.iter().map(|number| line(*number)).collect();
        let text: String = lines(&[0, 1, 2, 3, 4]);
        let truth = [write("a", &text), write("b", &lines(&[5, 6, 7]))];
        let sent = Sent::read(&truth).expect("the files can be read");
        assert_eq!(sent.count(), 8);
        let check = |texts: &[String], expected: Received| {
            let write = |(number, text): (usize, &String)| write(&format!("x{number}"), text);
            let paths: Vec<_> = texts.iter().enumerate().map(write).collect();
            assert_eq!(sent.compare(&paths).expect("the files can be read"), expected, "{texts:?}");
        };
        let all = Received { whole: 8, has_last: true, ..Received::default() };
        check(&[lines(&[0, 1, 2, 3, 4, 5, 6, 7])], all);
        check(&[lines(&[0, 1, 2]), lines(&[3, 4, 5, 6, 7]) + "{\"mess"], all);
        let doubled = Received { doubled: 1, ..all };
        check(&[lines(&[0, 1, 2]), lines(&[2, 3, 4, 5, 6, 7])], doubled);
        check(&[lines(&[0, 1, 2, 2, 3, 4, 5, 6, 7])], Received { backward: 1, ..doubled });
        // The end of the first run is lost, and then something within the second.
        let lost = Received { whole: 5, lost: 3, gaps: 1, ..all };
        check(&[lines(&[0, 1, 2, 5, 7])], lost);
        let end = Received { whole: 7, lost: 1, has_last: false, ..all };
        check(&[lines(&[0, 1, 2, 3, 4, 5, 6])], end);
        let cut = lines(&[0, 1, 2, 3, 4, 5, 6]) + &line(7).replace("\"n\":7", "") + "{}\n";
        check(&[cut + &line(8)], Received { wrong: 2, unknown: 1, ..all });
    }
}
