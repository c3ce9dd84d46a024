//! Where bash would save its history, by the value of `HISTFILE`.

use panoptes_tables::HashKey;

use super::history_path::{FolderHash, HistoryFilePlace};
use super::variables::VariableValue;

/// The file of one shell's history.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HistoryFile {
    /// The folder of the first one that was seen.
    first: Option<FolderHash>,
    pub(super) place: HistoryFilePlace,
    /// Number of searches that found that a folder does not exist.
    absent: u8,
    /// Whether it is not in the folder of the first one.
    is_elsewhere: bool,
}

impl HistoryFile {
    /// Notes another value of `HISTFILE`.
    pub(super) fn set(&mut self, value: &VariableValue, key: HashKey) {
        self.absent = 0;
        self.is_elsewhere = false;
        self.place = match value {
            VariableValue::Set(text) if !text.bytes().is_empty() => {
                HistoryFilePlace::of(text.bytes(), true)
            }
            VariableValue::Long(true) => HistoryFilePlace::NoFile,
            VariableValue::Long(false) => HistoryFilePlace::File,
            VariableValue::Set(_) | VariableValue::Unset | VariableValue::Unknown => {
                HistoryFilePlace::Open
            }
        };
        let VariableValue::Set(text) = value else { return };
        if self.place != HistoryFilePlace::Open || text.bytes().is_empty() {
            return;
        }
        let first = self.first.get_or_insert_with(|| FolderHash::of_file(text.bytes(), key));
        self.is_elsewhere = !first.has(text.bytes(), key);
    }

    /// Notes the result of a search for its folder. A folder does not exist if two searches in a
    /// row have not found it.
    pub(super) fn found(&mut self, place: HistoryFilePlace) {
        let is_absent = place == HistoryFilePlace::NoFolder;
        self.absent = if is_absent { self.absent.saturating_add(1) } else { 0 };
        if !is_absent || self.absent > 1 {
            self.place = place;
        }
    }

    /// Whether `value` has to be searched for.
    pub(super) fn is_open(&self, value: &VariableValue) -> bool {
        self.place == HistoryFilePlace::Open && value.text().is_some_and(|text| !text.is_empty())
    }

    /// Whether the history is saved, but not where it was before.
    pub(super) const fn is_elsewhere(&self) -> bool {
        match self.place {
            HistoryFilePlace::File => self.is_elsewhere,
            HistoryFilePlace::Unnamed => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: HashKey = HashKey::new(1);

    fn elsewhere(values: &[&str], found: HistoryFilePlace) -> bool {
        let mut file = HistoryFile::default();
        for value in values {
            file.set(&VariableValue::of(value), KEY);
            file.found(found);
        }
        file.is_elsewhere()
    }

    #[test]
    fn another_folder_is_elsewhere() {
        let home = "/home/u/.bash_history";
        assert!(elsewhere(&[home, "/dev/shm/.x"], HistoryFilePlace::File));
        assert!(!elsewhere(&["/dev/shm/.x"], HistoryFilePlace::File));
        for other in ["/tmp/.x", "/home/u2/x", "/home/.x", "x", "/home/u/../v/x", "/home/user"] {
            assert!(elsewhere(&[home, other], HistoryFilePlace::File), "{other}");
        }
        for same in [home, "/home/u/x", "/home/u/.history/x", "//home/./u/x", "/home/u/a/../b"] {
            assert!(!elsewhere(&[home, same], HistoryFilePlace::File), "{same}");
        }
        assert!(!elsewhere(&[home, "/tmp/.x", home], HistoryFilePlace::File));
        // The first one is what it is, even in no home.
        assert!(!elsewhere(&["/tmp/.x"], HistoryFilePlace::File));
        assert!(!elsewhere(&["x", "x"], HistoryFilePlace::File));
        assert!(elsewhere(&["/.bash_history", "/tmp/x"], HistoryFilePlace::File));
        assert!(!elsewhere(&["/.bash_history", "/x"], HistoryFilePlace::File));
        // A value that keeps nothing is no first place.
        assert!(!elsewhere(&["/dev/null", "", "/home/u/x"], HistoryFilePlace::File));
        assert!(elsewhere(&[home, "/home/u/unknown/x"], HistoryFilePlace::Unnamed));
        assert!(!elsewhere(&[home, "/tmp/.x"], HistoryFilePlace::NoFolder));
    }

    #[test]
    fn a_folder_is_absent_if_two_searches_have_not_found_it() {
        let value = VariableValue::of("/nonexistent/x");
        let mut file = HistoryFile::default();
        file.set(&value, KEY);
        assert!(file.is_open(&value));
        file.found(HistoryFilePlace::NoFolder);
        assert!(file.is_open(&value));
        file.found(HistoryFilePlace::NoFolder);
        assert_eq!(file.place, HistoryFilePlace::NoFolder);
        assert!(!file.is_open(&value));
        file.set(&value, KEY);
        file.found(HistoryFilePlace::NoFolder);
        file.found(HistoryFilePlace::File);
        assert_eq!(file.place, HistoryFilePlace::File);
        assert!(!HistoryFile::default().is_open(&VariableValue::Unset));
        assert!(!HistoryFile::default().is_open(&VariableValue::of("")));
    }
}
