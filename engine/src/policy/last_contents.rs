//! The last contents of changed files whose alerts are counted, for the records that sum these up.
//!
//! What was written to a file is no part of a cause, so the alert of another content is counted,
//! too. The sum has the path, and what the file held at the last of its alerts.

use arrayvec::ArrayVec;
use panoptes_tables::room;

use super::repetitions::CauseKey;
use crate::page_cache::Hashes;

/// Maximum number of causes at a time. The sums of further ones name the last alert in full only.
const CONTENTS_MAX: usize = 16;
/// Maximum length of a path in bytes. A sum leaves out longer ones.
const PATH_BYTES_MAX: usize = 128;

/// A changed file as its alert shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangedContent<'a> {
    pub(super) path: Option<&'a [u8]>,
    pub(super) size: u64,
    pub(super) modify_time_ns: i64,
    pub(super) hashes: Option<Hashes>,
}

/// The last content of a changed file, as it is remembered.
#[derive(Clone, Debug)]
pub(super) struct LastContent {
    key: CauseKey,
    /// Empty if it is not known, or too long.
    path: ArrayVec<u8, PATH_BYTES_MAX>,
    pub(super) size: u64,
    pub(super) modify_time_ns: i64,
    pub(super) sha256: Option<[u8; 32]>,
}

impl LastContent {
    pub(super) fn path(&self) -> Option<&[u8]> {
        (!self.path.is_empty()).then_some(&self.path[..])
    }
}

/// The last contents of one machine's files.
#[derive(Debug)]
pub(super) struct LastContents {
    all: Vec<LastContent>,
}

impl LastContents {
    pub(super) fn new() -> Self {
        Self { all: room::list(CONTENTS_MAX) }
    }

    /// Notes the content at an alert that is counted.
    pub(super) fn note(&mut self, key: CauseKey, content: &ChangedContent<'_>) {
        let new = LastContent {
            key,
            path: content.path.unwrap_or_default().try_into().unwrap_or_default(),
            size: content.size,
            modify_time_ns: content.modify_time_ns,
            sha256: content.hashes.map(|hashes| hashes.sha256),
        };
        if let Some(known) = self.all.iter_mut().find(|it| it.key == key) {
            *known = new;
        } else if self.all.len() < CONTENTS_MAX {
            self.all.push(new);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn get(&self, key: CauseKey) -> Option<LastContent> {
        self.all.iter().find(|it| it.key == key).cloned()
    }

    /// Forgets the content of a cause: its sum was written.
    pub(super) fn forget(&mut self, key: CauseKey) {
        self.all.retain(|it| it.key != key);
    }
}
