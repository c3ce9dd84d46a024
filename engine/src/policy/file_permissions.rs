//! Records of files and folders with other permissions, or another owner, than before.

#[cfg(test)]
mod tests;

use core::fmt::Write as _;

use arrayvec::{ArrayString, ArrayVec};
use panoptes_decoders::kernel::cred::CAPABILITIES;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_records::activities::{Activity, MessageType, Severity};
use panoptes_records::json::text::Text;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::file::FileDetails;
use panoptes_records::record::header::Weight;
use panoptes_records::record::value::Permissions;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::describe;
use super::evidence::AlertEvidence;
use super::subject_names::{PATH_BYTES_MAX, path};
use super::techniques::{PERMISSIONS, SET_ID};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::file_content::paths::{GrantedAccess, PermissionChange};
use crate::state::ScanContext;

/// Maximum length of the reason in bytes: two paths, four ids of 10 digits, two modes and the text
/// between; or a path and the names of all capabilities.
const REASON_BYTES: usize = 2 * PATH_BYTES_MAX + 800;

impl Reporter<'_> {
    /// Reports a file or folder with other permissions than before.
    pub(super) fn permission_change(
        &mut self,
        cx: &ScanContext<'_>,
        change: &PermissionChange<'_>,
    ) -> Acceptance {
        let (inode, before) = (&change.attributes, change.before);
        let owner = before.and_then(|before| before.owner);
        let mut names = ArrayVec::<Text<'_>, { CAPABILITIES.len() }>::new();
        if let GrantedAccess::Capabilities(all) = change.what {
            names.extend(capabilities(all).map(|name| Text::from(name.as_bytes())));
        }
        let details = FileDetails {
            file_previous_path: change.previous.map(Text::from),
            file_previous_inode_number: before.map(|before| before.number),
            file_previous_inode_permissions: before.map(|before| Permissions(before.permissions)),
            file_previous_inode_uid: owner.map(|owner| owner.uid),
            file_previous_inode_gid: owner.map(|owner| owner.gid),
            file_capabilities: (!names.is_empty()).then_some(&names),
            ..describe::named_file(change.path, inode, change.device)
        };
        let is_elevation = !matches!(change.what, GrantedAccess::OpenFolder | GrantedAccess::Other);
        let reason = reason(change);
        let evidence = AlertEvidence {
            reason: &reason,
            techniques: if is_elevation { SET_ID } else { PERMISSIONS },
            confidence: Confidence::High,
            since_ns: change.since_ns,
            scans: 1,
            cause: self.cause().of_access(change),
        };
        let record = Record::new(Activity::FilePermissionsChanged, Details::File(&details));
        let record = Record { weight: weight(change), ..record };
        if change.what != GrantedAccess::Other {
            return self.alert(cx, EventSubject::default(), &record, evidence);
        }
        if !self.is_wanted(record.activity) {
            return Acceptance::Yes;
        }
        let detection = evidence.detection();
        self.try_write(
            cx,
            EventSubject::default(),
            &Record { detection: Some(&detection), ..record },
        )
    }
}

/// Type and severity, if they are not those of the activity: what gives nobody further rights is an
/// event.
fn weight(change: &PermissionChange<'_>) -> Option<Weight> {
    if change.what == GrantedAccess::Other {
        return Some(Weight { message_type: MessageType::Event, severity: Severity::Info });
    }
    let message_type = MessageType::Alert;
    change.severity.map(|severity| Weight { message_type, severity })
}

/// The names of capabilities.
fn capabilities(all: u64) -> impl Iterator<Item = &'static str> {
    (0..).zip(CAPABILITIES).filter(move |(number, _)| all >> number & 1 != 0).map(|(_, name)| name)
}

fn reason(change: &PermissionChange<'_>) -> ArrayString<REASON_BYTES> {
    let mut reason = ArrayString::new();
    let Attributes { uid, gid, .. } = change.attributes;
    let permissions = change.attributes.mode & 0o7777;
    let subject = path(Some(change.path));
    // Text that does not fit is cut off: the sentence begins with the most important part.
    let _ = match change.what {
        GrantedAccess::SetUid => {
            write!(
                reason,
                "{subject} became set-uid: every user who starts it gets the rights of user {uid}"
            )
        }
        GrantedAccess::SetGid => {
            write!(
                reason,
                "{subject} became set-gid: every user who starts it gets the rights of group {gid}"
            )
        }
        GrantedAccess::Capabilities(all) => {
            let text = "gives capabilities to every user who starts it:";
            let begun = write!(reason, "{subject} {text}");
            (0..).zip(capabilities(all)).fold(begun, |_, (at, name)| {
                let comma = if at == 0 { "" } else { "," };
                write!(reason, "{comma} {name}")
            })
        }
        GrantedAccess::OpenFolder => write!(
            reason,
            "{subject} became writable for all, without the sticky bit: anyone may replace what is \
             in it"
        ),
        GrantedAccess::Other => write!(reason, "{subject} has other permissions or another owner"),
    };
    let _ = write!(reason, "; permissions {permissions:04o}, user {uid}, group {gid}");
    let _ = match change.before {
        None if matches!(change.what, GrantedAccess::Capabilities(_)) => Ok(()),
        None => reason.write_str("; before, not known"),
        Some(before) => match before.owner {
            None => write!(reason, "; before, {:04o}", before.permissions),
            Some(owner) => write!(
                reason,
                "; before, {:04o}, user {}, group {}",
                before.permissions, owner.uid, owner.gid
            ),
        },
    };
    if let Some(previous) = change.previous {
        describe::add_previous(&mut reason, previous);
    }
    reason
}
