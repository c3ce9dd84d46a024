//! Records as events of the Open Cybersecurity Schema Framework (OCSF 1.8.0).
//!
//! An alert is a *Detection Finding* whose evidence is what it is about. Each other record is an
//! event of the class that has most of its values. `parts` has what goes where; the rest goes under
//! `unmapped`.

use std::io::Write;

use super::mapping::{Part, Values, top_value};
use super::syslog::About;
use crate::activities::{Activity, Severity};
use crate::json::time::Timestamp;

mod parts;

/// Classes of events, by their numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Base = 0,
    File = 1001,
    Memory = 1004,
    Process = 1007,
    Script = 1009,
    Finding = 2004,
    Network = 4001,
    Lifecycle = 6002,
    Error = 6008,
}

/// `activity_id` of what no other number says.
const OTHER: u32 = 99;

/// The class of an activity's events, and the number of the activity in it.
const fn row(activity: Activity) -> (Class, u32) {
    use Activity as A;
    match activity {
        A::ProcessCreated | A::ProcessExecuted => (Class::Process, 1),
        A::ProcessTerminated => (Class::Process, 2),
        A::ProcessZombie | A::ThreadCreated | A::ThreadTerminated => (Class::Process, OTHER),
        A::NetworkConnectionCreated => (Class::Network, 1),
        A::NetworkConnectionTerminated => (Class::Network, 2),
        A::TcpNetworkConnectionStatus => (Class::Network, 6),
        A::TcpNetworkConnectionStateChange => (Class::Network, OTHER),
        A::ProcessMemoryCreated | A::NewExecutableAnonymousMemoryMapped => (Class::Memory, 1),
        A::ProcessMemoryTerminated => (Class::Memory, 3),
        A::NewFileMapped => (Class::Memory, 9),
        A::FileUnmapped => (Class::Memory, OTHER),
        A::FileDescriptorOpen => (Class::File, 14),
        A::FileDescriptorClose => (Class::File, OTHER),
        A::FileDescriptorFileContentChange | A::FileContentChange => (Class::File, 3),
        A::ShellCommandExecuted => (Class::Script, 1),
        A::ProcessHidden
        | A::TcpConnectionExcessiveData
        | A::TcpLongLastingConnection
        | A::ReverseShellDetected
        | A::ForeignBinaryExecuted
        | A::BinaryExecutedNotAsIntended
        | A::ForeignBinaryExecutedFileSizeMismatch
        | A::ForeignLibraryLoaded
        | A::ForeignLibraryLoadedFileSizeMismatch
        | A::ExecutablePermissionsAdded
        | A::ExecutablePermissionsRemoved
        | A::ShellHistoryCleared
        | A::ShellHistoryDisabled
        | A::ClockTampered => FINDING,
        A::ContainerStarted
        | A::ServiceInitializationStarted
        | A::ServiceInitializationSuccessful
        | A::HostInitializationStarted
        | A::HostInitializationSuccessful => (Class::Lifecycle, 3),
        A::ContainerTerminated | A::ServiceGracefullyShutdown => (Class::Lifecycle, 4),
        A::PackageFilesChanged => (Class::Lifecycle, 8),
        A::ServiceInitializationFailed
        | A::ServiceRuntimeFailure
        | A::DetailsGatheringFailed
        | A::HostInitializationFailed
        | A::ProfileVerificationFailed
        | A::ProfileParsingFailed
        | A::NoMatchingProfileFound
        | A::UnableToDetermineTargetOs
        | A::LoadMemRegionsFailed
        | A::InvalidSbomConfigurationFile
        | A::InvalidSbomConfigurationFolder
        | A::ConfigurationRefused => (Class::Error, 1),
        A::OsIdentifierFound
        | A::OsIdentifierDiscoveryExtended
        | A::LoadingProfileCandidate
        | A::ProfileVerificationSuccessful
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
        | A::LoadMemRegionsSuccessful
        | A::SystemStalled
        | A::ConfigurationReloaded => (Class::Lifecycle, OTHER),
        A::EventsSummedUp => (Class::Base, OTHER),
    }
}

/// An alert, which is a finding that was created.
const FINDING: (Class, u32) = (Class::Finding, 1);

/// `severity_id`
pub(super) const fn severity_number(severity: Severity) -> u32 {
    match severity {
        Severity::Info => 1,
        Severity::Low | Severity::Warning => 2,
        Severity::Medium => 3,
        Severity::High | Severity::Error => 4,
        Severity::Critical => 5,
    }
}

impl Class {
    /// What of the record goes where.
    fn parts(self, activity: Activity) -> &'static [Part] {
        match self {
            Self::Base | Self::Error => parts::BASE,
            Self::File => parts::FILE,
            Self::Memory => parts::MEMORY,
            Self::Process => parts::PROCESS,
            Self::Script => parts::SCRIPT,
            Self::Finding => parts::FINDING,
            Self::Network => parts::NETWORK,
            Self::Lifecycle => match activity {
                Activity::ContainerStarted | Activity::ContainerTerminated => parts::CONTAINER,
                Activity::PackageFilesChanged => parts::PACKAGE,
                _ => parts::SERVICE,
            },
        }
    }
}

/// Appends a record as an event; `None` if it cannot be read.
pub(super) fn append(about: &About<'_>, record: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let is_alert = top_value(record, "message_type").ok()? == Some("\"ALERT\"");
    let (class, activity) = if is_alert { FINDING } else { row(about.activity) };
    let (seconds, nanoseconds) = Timestamp::parse(about.time)?.parts();
    let time = seconds * 1000 + i64::from(nanoseconds / 1_000_000);
    let class_uid = class as u32;
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "{{\"time\":{time},\"class_uid\":{class_uid},\"category_uid\":{},\
         \"activity_id\":{activity},\
         \"type_uid\":{},\"severity_id\":{}",
        class_uid / 1000,
        class_uid * 100 + activity,
        severity_number(about.severity),
    );
    if activity == OTHER {
        let _ = write!(out, ",\"activity_name\":\"{}\"", about.activity.name());
    }
    if is_alert {
        out.extend_from_slice(b",\"is_alert\":true");
    }
    let mut values = Values::read(record, class.parts(about.activity)).ok()?;
    if about.activity == Activity::ReverseShellDetected {
        values.read_lists("reverse_shell_details").ok()?;
    }
    values.write(None, "unmapped", out).ok()?;
    out.push(b'}');
    Some(())
}
