//! `file_descriptor_file_content_change`: records of files whose content may have changed while
//! they were open.

#[cfg(test)]
mod tests;

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_records::activities::{Activity, MessageType, Severity};
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::file_descriptor::FileDescriptorDetails;
use panoptes_records::record::header::Weight;
use panoptes_records::record::value::Hash;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::describe;
use super::evidence::AlertEvidence;
use super::last_contents::ChangedContent;
use super::subject_names::{PATH_BYTES_MAX, PROCESS_BYTES_MAX, path, process};
use super::techniques::{CONTENT, CONTENT_SET_ID};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::file_content::ContentChange;
use crate::detect::file_content::paths::is_set_id;
use crate::state::ScanContext;
use crate::state::facts::FileName;

/// Maximum length of the reason in bytes: two paths, a process, four numbers of 20 digits, two
/// ids, two times and the text between.
const REASON_BYTES: usize = 2 * PATH_BYTES_MAX + PROCESS_BYTES_MAX + 520;

impl Reporter<'_> {
    /// Reports a file whose content may have changed.
    pub(super) fn file_content(
        &mut self,
        cx: &ScanContext<'_>,
        change: &ContentChange<'_>,
    ) -> Acceptance {
        let activity = Activity::FileDescriptorFileContentChange;
        let process = describe::process(&change.process, cx.snapshot.machine.tsc_khz);
        let hashes = change.hashes;
        let details = FileDescriptorDetails {
            file_descriptor_previous_name: change.previous.map(Text::from),
            file_descriptor_inode_hash_sha1: hashes.map(|hashes| Hash(hashes.sha1)),
            file_descriptor_inode_hash_sha256: hashes.map(|hashes| Hash(hashes.sha256)),
            file_descriptor_inode_hash_md5: hashes.map(|hashes| Hash(hashes.md5)),
            ..describe::file_descriptor(&change.descriptor)
        };
        let size = change.descriptor.inode.map_or(0, |inode| inode.size);
        let mode = change.descriptor.inode.map_or(0, |inode| inode.mode);
        let is_set_id = is_set_id(mode);
        let has_other_size = size != change.opened.size;
        let reason = reason(change);
        let evidence = AlertEvidence {
            reason: &reason,
            techniques: if is_set_id { CONTENT_SET_ID } else { CONTENT },
            // The new content may equal the old one.
            confidence: if has_other_size { Confidence::High } else { Confidence::Medium },
            since_ns: change.since_ns,
            scans: 1,
            cause: self.cause().of_content(change),
        };
        let parents = [Details::Process(&process)];
        let record = Record::new(activity, Details::FileDescriptor(&details));
        let record = Record { weight: weight(change), ..record.with_parents(&parents) };
        let inode = change.descriptor.inode.unwrap_or_default();
        let content = ChangedContent {
            path: text_of(change.descriptor.name),
            others: None,
            size: inode.size,
            modify_time_ns: inode.modify_time_ns,
            hashes,
            act: self.cause().of_contents(change),
        };
        let subject = EventSubject::process(&change.process).with_content(content);
        if change.matters {
            return self.alert(cx, subject, &record, evidence);
        }
        let detection = evidence.detection();
        self.try_write(cx, subject, &Record { detection: Some(&detection), ..record })
    }
}

/// Type and severity, if they are not those of the activity: changes of files that do not matter
/// are events.
fn weight(change: &ContentChange<'_>) -> Option<Weight> {
    if change.matters {
        let message_type = MessageType::Alert;
        return change.severity.map(|severity| Weight { message_type, severity });
    }
    let severity = change.severity.unwrap_or(Severity::Info);
    Some(Weight { message_type: MessageType::Event, severity })
}

fn text_of(name: Option<FileName<'_>>) -> Option<&[u8]> {
    match name {
        Some(FileName::Text(name)) => Some(name),
        Some(FileName::Numbered(..)) | None => None,
    }
}

fn reason(change: &ContentChange<'_>) -> ArrayString<REASON_BYTES> {
    let mut reason = ArrayString::new();
    let Some(inode) = change.descriptor.inode else { return reason };
    let opened = &change.opened;
    let (before, after) = (
        Timestamp::from_ns(opened.modify_time_ns).text(),
        Timestamp::from_ns(inode.modify_time_ns).text(),
    );
    let text = |bytes| str::from_utf8(bytes).unwrap_or_default();
    let (before, after) = (text(&before), text(&after));
    let (file, writer) = (
        path(text_of(change.descriptor.name)),
        process(change.process.name, change.process.process_id),
    );
    // Text that does not fit is cut off: the sentence begins with the most important part.
    let _ = if opened.size == inode.size && opened.modify_time_ns == inode.modify_time_ns {
        write!(
            reason,
            "{file} was closed by {writer} with {} bytes, modified at {after}, when it had only \
             just been opened",
            inode.size
        )
    } else {
        write!(
            reason,
            "{file} was closed by {writer} after it was modified: {} bytes, modified at {after}; \
             when it was first seen open, {} bytes, modified at {before}",
            inode.size, opened.size
        )
    };
    describe::add_set_id(&mut reason, inode.mode, (inode.uid, inode.gid));
    if let Some(previous) = change.previous {
        describe::add_previous(&mut reason, previous);
    }
    if let Some(partial) = change.partial {
        describe::add_partial(&mut reason, partial);
    } else if change.hashes.is_none() {
        let _ = write!(reason, "; no hashes: it is not in memory, or was still being written");
    }
    reason
}
