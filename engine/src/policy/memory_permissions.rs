//! `executable_permissions_added` and `executable_permissions_removed`: records of memory that
//! became executable, or no longer is.

use core::fmt::Write as _;

use arrayvec::ArrayString;
use panoptes_decoders::kernel::vm_area_struct::permissions;
use panoptes_records::activities::Activity;
use panoptes_records::record::detection::Confidence;
use panoptes_records::record::{Details, Record};

use super::Reporter;
use super::changes::{ProcessObject, describe_process};
use super::describe;
use super::evidence::AlertEvidence;
use super::subject_names::{PATH_BYTES_MAX, PROCESS_BYTES_MAX, path, process};
use super::techniques::{INJECTED, PATCHED};
use super::write::EventSubject;
use crate::detect::Acceptance;
use crate::detect::memory_permissions::JudgedAreaChange;
use crate::detect::memory_permissions::rule::{AreaKind, FindingKind, PermissionDirection};
use crate::state::ScanContext;

impl Reporter<'_> {
    /// Reports a change of the right to execute memory.
    pub(super) fn memory_permissions(
        &mut self,
        cx: &ScanContext<'_>,
        judged: &JudgedAreaChange<'_>,
    ) -> Acceptance {
        let Ok(what) = judged.verdict else {
            self.new_executable(cx, judged);
            return Acceptance::Yes;
        };
        let activity = match judged.direction {
            PermissionDirection::Added => Activity::ExecutablePermissionsAdded,
            PermissionDirection::Removed => Activity::ExecutablePermissionsRemoved,
        };
        if !self.admits(judged.process.key, activity) {
            return Acceptance::No;
        }
        let process = describe_process(cx, judged.process);
        let details = describe::memory(&judged.area);
        let reason = reason(judged, judged.process.facts(cx.strings).name, what);
        let evidence = AlertEvidence {
            reason: &reason,
            techniques: match what {
                FindingKind::Patched | FindingKind::TextOpened => PATCHED,
                _ => INJECTED,
            },
            confidence: confidence(what),
            since_ns: cx.now.real,
            scans: 1,
            cause: self.cause().of_permissions(cx, judged, what),
        };
        let parents = [Details::Process(&process)];
        let record = Record::new(activity, Details::ProcessMemory(&details));
        let record = record.with_parents(&parents);
        self.alert(cx, EventSubject::of(cx, judged.process), &record, evidence)
    }

    /// Reports memory without a file that became executable, if that is not a finding: a runtime
    /// makes its reserved space executable piece by piece.
    fn new_executable(&mut self, cx: &ScanContext<'_>, judged: &JudgedAreaChange<'_>) {
        let is_new = judged.before.is_some_and(|before| !before.was_executable);
        if is_new
            && judged.direction == PermissionDirection::Added
            && judged.backing == AreaKind::Anonymous
        {
            let activity = Activity::NewExecutableAnonymousMemoryMapped;
            self.object(cx, activity, judged.process, ProcessObject::Area(&judged.area));
        }
    }
}

fn confidence(what: FindingKind) -> Confidence {
    match what {
        FindingKind::Stack | FindingKind::Heap | FindingKind::Patched | FindingKind::Data => {
            Confidence::High
        }
        FindingKind::Written | FindingKind::Shared | FindingKind::TextOpened => Confidence::Medium,
        FindingKind::TakenBack | FindingKind::Claimed => Confidence::Low,
    }
}

/// Maximum length of the reason in bytes: a process, a path, and about 300 bytes of other text.
const REASON_BYTES: usize = PROCESS_BYTES_MAX + PATH_BYTES_MAX + 512;

/// One sentence: whose memory it is, its size and address, why it is reported, and its permissions
/// before and now. `name` is that of the process.
fn reason(
    judged: &JudgedAreaChange<'_>,
    name: &[u8],
    what: FindingKind,
) -> ArrayString<REASON_BYTES> {
    let area = &judged.area;
    let (start, end) =
        judged.before.map_or((area.start, area.end), |before| (before.start, before.end));
    let subject = match judged.backing {
        AreaKind::Stack => "of the stack",
        AreaKind::Heap => "of the heap",
        AreaKind::Anonymous => "of memory without a file",
        AreaKind::Shared => "of shared memory",
        AreaKind::File if area.is_main_executable => "of the program itself",
        AreaKind::File if area.file.is_some() => "of the mapped file",
        AreaKind::File => "of a mapped file",
    };
    let why = match what {
        FindingKind::Stack => "can be executed, and no mapped file asks for such a stack",
        FindingKind::Heap => "can be executed",
        FindingKind::Written => {
            "were written and can be executed now; they are no part of a runtime's \
             reserved code cache"
        }
        FindingKind::Claimed => {
            "were written and can be executed now, as in a runtime, but any user could have put \
             this program there"
        }
        FindingKind::Shared => "could be written and can be executed now",
        FindingKind::Patched => "are text that was written to and can be executed again",
        FindingKind::Data => {
            "were written and can be executed now, which the file does not say of them"
        }
        FindingKind::TakenBack => {
            "could be executed and cannot any more, while what is in them stays"
        }
        FindingKind::TextOpened => {
            "are text by the file's own headers and cannot be executed any more"
        }
    };
    let mut reason = ArrayString::new();
    let bytes = end.saturating_sub(start);
    // Text that does not fit is cut off: the sentence begins with the most important part.
    let owner = process(name, judged.process.process_id());
    let _ = write!(reason, "{owner}: {bytes} bytes {subject}");
    if let Some(file) = area.file
        && judged.backing == AreaKind::File
    {
        let _ = write!(reason, " {}", path(Some(file)));
    }
    let _ = write!(reason, " at {start:#x} {why}: ");
    let _ = match judged.before {
        Some(before) => write!(reason, "{} before, ", permissions(before.flags)),
        None => write!(reason, "not there in the scan before, "),
    };
    let _ = write!(reason, "{} now", permissions(area.flags));
    let returned = judged.before.is_some_and(|before| before.was_executable);
    if returned && judged.direction == PermissionDirection::Added {
        let _ = write!(reason, ", executable at an earlier time");
    }
    if judged.is_last {
        let _ = write!(reason, "; further changes of this program are reported now and then");
    }
    reason
}
