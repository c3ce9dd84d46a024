//! Records as events of the Elastic Common Schema (ECS 9.4.0).
//!
//! All events have the same fields, as far as their values are known; `parts` has what goes where.
//! The rest goes under `panoptes`.

use std::io::Write;

use super::mapping::{Part, Values, top_value};
use super::ocsf::severity_number;
use super::syslog::About;
use crate::activities::Activity;

mod parts;

/// `event.category` and `event.type`, as JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Row(&'static str, &'static str);

/// What an activity is.
const fn row(activity: Activity) -> Row {
    use Activity as A;
    match activity {
        A::ProcessCreated | A::ProcessExecuted | A::ContainerStarted => {
            Row("\"process\"", "\"start\"")
        }
        A::ProcessTerminated | A::ContainerTerminated => Row("\"process\"", "\"end\""),
        A::ProcessZombie => Row("\"process\"", "\"change\""),
        A::ThreadCreated
        | A::ThreadTerminated
        | A::ShellCommandExecuted
        | A::ProcessMemoryCreated
        | A::ProcessMemoryTerminated => Row("\"process\"", "\"info\""),
        A::NewExecutableAnonymousMemoryMapped => Row("\"process\"", "\"change\",\"info\""),
        A::ProcessHidden => Row("\"process\",\"intrusion_detection\"", "\"info\""),
        A::ExecutablePermissionsAdded
        | A::ExecutablePermissionsRemoved
        | A::ShellHistoryCleared
        | A::ShellHistoryDisabled => {
            Row("\"process\",\"intrusion_detection\"", "\"change\",\"info\"")
        }
        A::ForeignBinaryExecuted
        | A::BinaryExecutedNotAsIntended
        | A::ForeignBinaryExecutedFileSizeMismatch => {
            Row("\"process\",\"intrusion_detection\"", "\"start\",\"info\"")
        }
        A::ForeignLibraryLoaded | A::ForeignLibraryLoadedFileSizeMismatch => {
            Row("\"library\",\"intrusion_detection\"", "\"start\",\"info\"")
        }
        A::NetworkConnectionCreated => Row("\"network\"", "\"connection\",\"start\""),
        A::NetworkConnectionTerminated => Row("\"network\"", "\"connection\",\"end\""),
        A::TcpNetworkConnectionStateChange | A::TcpNetworkConnectionStatus => {
            Row("\"network\"", "\"connection\",\"info\"")
        }
        A::TcpConnectionExcessiveData | A::TcpLongLastingConnection => {
            Row("\"network\",\"intrusion_detection\"", "\"connection\",\"info\"")
        }
        A::ReverseShellDetected => {
            Row("\"process\",\"network\",\"intrusion_detection\"", "\"info\"")
        }
        A::NewFileMapped | A::FileUnmapped => Row("\"file\",\"process\"", "\"info\""),
        A::FileDescriptorOpen => Row("\"file\"", "\"access\""),
        A::FileDescriptorClose => Row("\"file\"", "\"info\""),
        A::FileDescriptorFileContentChange | A::FileContentChange => Row("\"file\"", "\"change\""),
        A::PackageFilesChanged => Row("\"package\"", "\"change\""),
        A::ClockTampered => Row("\"host\",\"intrusion_detection\"", "\"change\",\"info\""),
        A::ConfigurationReloaded => Row("\"configuration\"", "\"change\""),
        A::ConfigurationRefused => Row("\"configuration\"", "\"info\""),
        A::ServiceInitializationStarted
        | A::ServiceInitializationSuccessful
        | A::HostInitializationStarted
        | A::HostInitializationSuccessful => Row("\"host\"", "\"start\""),
        A::ServiceGracefullyShutdown => Row("\"host\"", "\"end\""),
        A::ServiceInitializationFailed
        | A::ServiceRuntimeFailure
        | A::DetailsGatheringFailed
        | A::HostInitializationFailed
        | A::OsIdentifierFound
        | A::OsIdentifierDiscoveryExtended
        | A::LoadingProfileCandidate
        | A::ProfileVerificationSuccessful
        | A::ProfileVerificationFailed
        | A::ProfileParsingFailed
        | A::NoMatchingProfileFound
        | A::UnableToDetermineTargetOs
        | A::ProcessLimitReached
        | A::FileHandlesLimitReached
        | A::ProcessMemoryLimitReached
        | A::ThreadsLimitReached
        | A::NetworkConnectionsLimitReached
        | A::ContainersLimitReached
        | A::LimitCleared
        | A::RecordsDropped
        | A::CoverageReport
        | A::CoverageDegraded
        | A::CoverageRestored
        | A::LoadMemRegionsFailed
        | A::LoadMemRegionsSuccessful
        | A::InvalidSbomConfigurationFile
        | A::InvalidSbomConfigurationFolder
        | A::SystemStalled
        | A::EventsSummedUp => Row("\"host\"", "\"info\""),
    }
}

/// Appends a record as an event; `None` if it cannot be read.
pub(super) fn append(about: &About<'_>, record: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let is_alert = top_value(record, "message_type").ok()? == Some("\"ALERT\"");
    let Row(category, kind) = row(about.activity);
    let time = std::str::from_utf8(about.time).ok()?;
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "{{\"@timestamp\":\"{time}\",\"ecs\":{{\"version\":\"9.4.0\"}},\"event\":{{\
         \"kind\":\"{}\",\"category\":[{category}],\"type\":[{kind}],\"severity\":{},\
         \"module\":\"panoptes\"",
        if is_alert { "alert" } else { "event" },
        severity_number(about.severity),
    );
    let parts: &'static [Part] = parts::PARTS;
    let mut values = Values::read(record, parts).ok()?;
    if about.activity == Activity::ReverseShellDetected {
        values.read_lists("reverse_shell_details").ok()?;
    }
    values.write(Some("event"), "panoptes", out).ok()?;
    out.push(b'}');
    Some(())
}
