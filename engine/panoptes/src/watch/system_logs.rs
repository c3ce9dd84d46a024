//! An event log for each system, beside the common one (`output.log_per_system`): a system that
//! writes much rotates only its own.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use panoptes_sinks::filter::Filter;
use panoptes_sinks::output::file::FileOptions;
use panoptes_sinks::output::folder::FolderLock;
use panoptes_sinks::writer::OutputChange;

use super::outputs::{Recipe, Watched};
use crate::message::Messages;

/// The folder of these logs, in the folder of all logs.
const FOLDER: &str = "systems";
/// The maximum length of a folder's name, in bytes. The kernel's is 255 (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 200;

/// The logs of all systems that are or were seen.
#[derive(Debug)]
pub(super) struct SystemLogs {
    folder: PathBuf,
    /// The file name of each.
    name: &'static str,
    lock: Arc<FolderLock>,
    options: FileOptions,
    changes: Sender<OutputChange>,
    messages: Arc<Messages>,
    /// By name of a system, the number of its log; `None` if the log could not be opened.
    numbers: HashMap<String, Option<u32>>,
    next: u32,
    /// Logs that were opened since the last call of [`Self::opened`].
    opened: Vec<Watched>,
}

impl SystemLogs {
    /// Logs of this name below `folder`, which `lock` locks. The writer at the other end of
    /// `changes` writes them.
    pub(super) fn new(
        (folder, lock): (PathBuf, Arc<FolderLock>),
        name: &'static str,
        options: FileOptions,
        changes: Sender<OutputChange>,
        messages: Arc<Messages>,
    ) -> Self {
        let (numbers, opened) = (HashMap::new(), Vec::new());
        Self { folder, name, lock, options, changes, messages, numbers, next: 0, opened }
    }

    /// The number of a system's log, which is opened if it is not open.
    pub(super) fn number_of(&mut self, system: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(system) {
            return *number;
        }
        let path = self.folder.join(FOLDER).join(folder_name(system)).join(self.name);
        let number = match self.open(&path) {
            Ok(number) => Some(number),
            Err(error) => {
                let path = path.display();
                let message = format_args!("{system}: cannot write to {path}: {error}");
                self.messages.warning(message);
                None
            }
        };
        self.numbers.insert(system.to_owned(), number);
        number
    }

    fn open(&mut self, path: &Path) -> io::Result<u32> {
        let number = self.next;
        let filter = Filter { system: Some(number), ..self.options.filter };
        let options = FileOptions { filter, ..self.options };
        let lock = Some(Arc::clone(&self.lock));
        let recipe = Recipe::File { path: path.to_owned(), options, lock };
        let output = recipe.open()?;
        let counters = Arc::clone(output.counters());
        self.opened.push(Watched { name: path.display().to_string(), counters, recipe });
        self.next += 1;
        // Without a writer, the program ends.
        let _ = self.changes.send(OutputChange::Add(output));
        Ok(number)
    }

    /// Ends the log of a system that is gone. If the system comes back, the log goes on.
    pub(super) fn close(&mut self, system: &str) {
        if let Some(Some(number)) = self.numbers.remove(system) {
            let _ = self.changes.send(OutputChange::End(number));
        }
    }

    /// The logs that were opened since the last call.
    pub(super) fn opened(&mut self) -> Vec<Watched> {
        std::mem::take(&mut self.opened)
    }
}

/// A folder's name for a system. A guest's owner chooses its name, which may be that of any path.
fn folder_name(system: &str) -> String {
    let mut name = String::new();
    for (at, byte) in system.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if is_plain || byte == b'.' && at > 0 {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "%{byte:02X}");
        }
    }
    if name.len() > NAME_BYTES_MAX {
        let mut hasher = DefaultHasher::new();
        system.hash(&mut hasher);
        name.truncate(NAME_BYTES_MAX);
        let _ = write!(name, "-{:016x}", hasher.finish());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_system_leaves_its_folder() {
        let names = [
            ("web-1.example_com", "web-1.example_com"),
            ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd"),
            (".", "%2E"),
            ("..", "%2E."),
            ("a/b\n", "a%2Fb%0A"),
            ("host:", "host%3A"),
        ];
        for (name, expected) in names {
            assert_eq!(folder_name(name), expected);
        }
        let long = ["x".repeat(300), "x".repeat(299) + "y"].map(|name| folder_name(&name));
        assert!(long.iter().all(|name| name.len() < 255));
        assert_ne!(long[0], long[1]);
    }
}
