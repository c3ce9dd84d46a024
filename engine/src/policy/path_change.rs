//! Records of paths that name another content than before.

#[cfg(test)]
mod tests;

use core::fmt::Write as _;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::kernel::inode::mode;
use panoptes_records::activities::{Activity, MessageType};
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::file::FileDetails;
use panoptes_records::record::header::Weight;
use panoptes_records::record::value::Hash;
use panoptes_records::record::{Details, Record};
use panoptes_tables::StringId;

use super::Reporter;
use super::describe;
use super::evidence::AlertEvidence;
use super::last_contents::ChangedContent;
use super::subject_names::{PATH_BYTES_MAX, path};
use super::techniques::{CLEAR_HISTORY, CONTENT, CONTENT_SET_ID};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::file_content::paths::{HistoryLoss, NAMES_MAX, PathChange, is_set_id};
use crate::state::ScanContext;

/// Maximum length of the reason in bytes: two paths, four numbers of 20 digits, two ids, two times
/// and the text between.
const REASON_BYTES: usize = 2 * PATH_BYTES_MAX + 440;

impl Reporter<'_> {
    /// Reports a path that names another content than before.
    pub(super) fn path_change(
        &mut self,
        cx: &ScanContext<'_>,
        change: &PathChange<'_>,
    ) -> Acceptance {
        let inode = &change.attributes;
        let (hashes, before) = (change.hashes, change.before);
        let others = &change.others;
        let text = |id: &StringId| others.strings.map(|strings| strings.get(*id).into());
        let names: ArrayVec<Text<'_>, NAMES_MAX> = others.paths.iter().filter_map(text).collect();
        let hashes_before = before.and_then(|before| before.hashes);
        let is = match change.history {
            // The path has no file any more.
            Some(HistoryLoss::Removed) => {
                FileDetails { file_path: change.path.into(), ..FileDetails::default() }
            }
            _ => describe::named_file(change.path, inode, change.device),
        };
        let details = FileDetails {
            file_previous_path: change.previous.map(Text::from),
            file_inode_hash_sha1: hashes.map(|hashes| Hash(hashes.sha1)),
            file_inode_hash_sha256: hashes.map(|hashes| Hash(hashes.sha256)),
            file_inode_hash_md5: hashes.map(|hashes| Hash(hashes.md5)),
            file_previous_inode_number: before.map(|before| before.number),
            file_previous_inode_size_bytes: before.map(|before| before.size),
            file_previous_inode_modify_time_iso_8601_ns: before
                .map(|before| Timestamp::from_ns(before.modify_time_ns)),
            file_previous_inode_hash_sha1: hashes_before.map(|hashes| Hash(hashes.sha1)),
            file_previous_inode_hash_sha256: hashes_before.map(|hashes| Hash(hashes.sha256)),
            file_previous_inode_hash_md5: hashes_before.map(|hashes| Hash(hashes.md5)),
            file_new_names_count: (others.count > 0).then_some(others.count as u64 + 1),
            file_new_names: (others.count > 0).then_some(&names),
            ..is
        };
        let has_other_size = before.is_none_or(|before| before.size != inode.size);
        let evidence = AlertEvidence {
            reason: &reason(change),
            techniques: match change.history {
                Some(_) => CLEAR_HISTORY,
                None if is_set_id(inode.mode) => CONTENT_SET_ID,
                None => CONTENT,
            },
            // The new content may equal the old one.
            confidence: if has_other_size { Confidence::High } else { Confidence::Medium },
            since_ns: change.since_ns,
            scans: 1,
            cause: self.cause().of_path(change),
        };
        let message_type = MessageType::Alert;
        let weight = change.severity.map(|severity| Weight { message_type, severity });
        let record = Record::new(Activity::FileContentChange, Details::File(&details));
        let content = ChangedContent {
            path: Some(change.path),
            others: Some(others),
            size: inode.size,
            modify_time_ns: inode.mtime_ns,
            hashes,
            act: self.cause().of_paths(change),
        };
        let subject = EventSubject::default().with_content(content);
        self.alert(cx, subject, &Record { weight, ..record }, evidence)
    }
}

fn reason(change: &PathChange<'_>) -> ArrayString<REASON_BYTES> {
    let mut reason = ArrayString::new();
    let is = &change.attributes;
    let time = |ns| {
        let text = Timestamp::from_ns(ns).text();
        ArrayString::<64>::from(str::from_utf8(&text).unwrap_or_default()).unwrap_or_default()
    };
    let file = path(Some(change.path));
    // Text that does not fit is cut off: the sentence begins with the most important part.
    if let (Some(loss), Some(was)) = (change.history, change.before) {
        let what = match loss {
            HistoryLoss::Emptied => "is empty",
            HistoryLoss::Linked => "is a symbolic link",
            HistoryLoss::Replaced => "is no file any more",
            HistoryLoss::Removed => "was removed",
        };
        let _ = write!(
            reason,
            "{file}, a history of a shell, {what}: before, inode {} of {} bytes, modified at {}",
            was.number,
            was.size,
            time(was.modify_time_ns),
        );
        return reason;
    }
    let _ = match change.before {
        Some(was) if was.is_same_file => write!(
            reason,
            "{file} has {} bytes, modified at {}; before, {} bytes, modified at {}",
            is.size,
            time(is.mtime_ns),
            was.size,
            time(was.modify_time_ns),
        ),
        Some(was) => write!(
            reason,
            "{file} names another file: inode {} of {} bytes; before, inode {} of {} bytes",
            is.ino, is.size, was.number, was.size,
        ),
        None if is.kind() == mode::S_IFLNK => {
            write!(reason, "{file}, a symbolic link, is new since {}", time(is.ctime_ns))
        }
        None => write!(
            reason,
            "{file}, a file of {} bytes, modified at {}, is new since {}",
            is.size,
            time(is.mtime_ns),
            time(is.ctime_ns),
        ),
    };
    if change.others.count > 0 {
        let kind = if is.kind() == mode::S_IFLNK { "links" } else { "files" };
        let count = change.others.count;
        let _ = write!(reason, ", as are {count} other names of {kind} in its folder");
    }
    let _ = reason.try_push_str("; no descriptor was seen that wrote it");
    if is.kind() == mode::S_IFREG {
        describe::add_set_id(&mut reason, is.mode, (is.uid, is.gid));
    }
    if let Some(previous) = change.previous {
        describe::add_previous(&mut reason, previous);
    }
    if let Some(partial) = change.partial {
        describe::add_partial(&mut reason, partial);
    }
    reason
}
