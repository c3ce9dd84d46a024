//! Records as events of the Open Cybersecurity Schema Framework (OCSF 1.8.0).
//!
//! An alert is a *Detection Finding* whose evidence is what it is about. Each other record is an
//! event of the class that has most of its values. `parts` has what goes where; the rest goes under
//! `unmapped`.

use std::io::Write;

use panoptes_records::activities::{Activity, Severity};
use panoptes_records::json::time::Timestamp;

use super::mapping::{MappedValues, ObjectMapping, top_value};
use super::syslog::{MessageSubject, RecordKind};

mod parts;

/// Classes of events, by their numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OcsfClass {
    Base = 0,
    File = 1001,
    KernelExtension = 1002,
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

macro_rules! rows {
    ($($activity:ident $class:ident $number:expr;)*) => {
        /// The class of an activity's events, and the number of the activity in it. An activity
        /// without a row is an alert.
        const fn row(activity: Activity) -> (OcsfClass, u32) {
            match activity {
                $(Activity::$activity => (OcsfClass::$class, $number),)*
                _ => FINDING,
            }
        }
    };
}

rows! {
    ProcessCreated Process 1;
    ProcessTerminated Process 2;
    ProcessZombie Process OTHER;
    NetworkConnectionCreated Network 1;
    NetworkConnectionTerminated Network 2;
    TcpNetworkConnectionStateChange Network OTHER;
    TcpNetworkConnectionStatus Network 6;
    ProcessMemoryCreated Memory 1;
    ProcessMemoryTerminated Memory 3;
    NewExecutableAnonymousMemoryMapped Memory 1;
    NewFileMapped Memory 9;
    FileUnmapped Memory OTHER;
    FileDescriptorOpen File 14;
    FileDescriptorClose File OTHER;
    FileDescriptorFileContentChange File 3;
    ThreadCreated Process OTHER;
    ThreadTerminated Process OTHER;
    ContainerStarted Lifecycle 3;
    ContainerTerminated Lifecycle 4;
    ShellCommandExecuted Script 1;
    ServiceInitializationStarted Lifecycle 3;
    ServiceInitializationSuccessful Lifecycle 3;
    ServiceInitializationFailed Error 1;
    ServiceRuntimeFailure Error 1;
    ServiceGracefullyShutdown Lifecycle 4;
    DetailsGatheringFailed Error 1;
    HostInitializationStarted Lifecycle 3;
    HostInitializationSuccessful Lifecycle 3;
    HostInitializationFailed Error 1;
    OsIdentifierFound Lifecycle OTHER;
    OsIdentifierDiscoveryExtended Lifecycle OTHER;
    LoadingProfileCandidate Lifecycle OTHER;
    ProfileVerificationSuccessful Lifecycle OTHER;
    ProfileVerificationFailed Error 1;
    ProfileParsingFailed Error 1;
    NoMatchingProfileFound Error 1;
    UnableToDetermineTargetOs Error 1;
    ProcessLimitReached Lifecycle OTHER;
    FileHandlesLimitReached Lifecycle OTHER;
    ProcessMemoryLimitReached Lifecycle OTHER;
    ThreadsLimitReached Lifecycle OTHER;
    NetworkConnectionsLimitReached Lifecycle OTHER;
    ContainersLimitReached Lifecycle OTHER;
    FlowsLimitReached Lifecycle OTHER;
    LimitCleared Lifecycle OTHER;
    RecordsDropped Lifecycle OTHER;
    CoverageReport Lifecycle OTHER;
    CoverageDegraded Lifecycle OTHER;
    CoverageRestored Lifecycle OTHER;
    LoadMemRegionsFailed Error 1;
    LoadMemRegionsSuccessful Lifecycle OTHER;
    InvalidSbomConfigurationFile Error 1;
    InvalidSbomConfigurationFolder Error 1;
    SystemStalled Lifecycle OTHER;
    ConfigurationReloaded Lifecycle OTHER;
    ConfigurationRefused Error 1;
    ProcessExecuted Process 1;
    PackageFilesChanged Lifecycle 8;
    FileContentChange File 3;
    FilePermissionsChanged File 7;
    EventsSummedUp Base OTHER;
    KernelModuleLoaded KernelExtension 1;
    KernelModuleUnloaded KernelExtension 2;
    KernelModuleChanged KernelExtension OTHER;
    EbpfProgramLoaded KernelExtension 1;
    EbpfProgramUnloaded KernelExtension 2;
    EbpfProgramAttached KernelExtension OTHER;
    EbpfProgramDetached KernelExtension OTHER;
}

/// An alert, which is a finding that was created.
const FINDING: (OcsfClass, u32) = (OcsfClass::Finding, 1);

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

impl OcsfClass {
    /// What of the record goes where.
    fn parts(self, activity: Activity) -> &'static [ObjectMapping] {
        match self {
            Self::Base | Self::Error => parts::BASE,
            Self::File => parts::FILE,
            Self::KernelExtension => parts::KERNEL_EXTENSION,
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
pub(super) fn append(about: &MessageSubject<'_>, record: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let is_alert = top_value(record, "message_type").ok()? == Some("\"ALERT\"");
    let RecordKind::Activity(subject) = about.kind else { return None };
    let (class, activity) = if is_alert { FINDING } else { row(subject) };
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
        let _ = write!(out, ",\"activity_name\":\"{}\"", subject.name());
    }
    if is_alert {
        out.extend_from_slice(b",\"is_alert\":true");
    }
    let mut values = MappedValues::read(record, class.parts(subject)).ok()?;
    if subject == Activity::ReverseShellDetected {
        values.read_lists("reverse_shell_details").ok()?;
    }
    values.write(None, "unmapped", out).ok()?;
    out.push(b'}');
    Some(())
}

#[cfg(test)]
mod tests {
    use panoptes_records::activities::MessageType;

    use super::*;

    #[test]
    fn each_activity_that_is_no_alert_has_a_class() {
        for &activity in Activity::ALL {
            let is_alert = activity.info().message_type == MessageType::Alert;
            assert!(is_alert || row(activity) != FINDING, "{}", activity.name());
        }
    }
}
