//! Records as events of the Elastic Common Schema (ECS 9.4.0).
//!
//! All events have the same fields, as far as their values are known; `parts` has what goes where.
//! The rest goes under `panoptes`.

use std::io::Write;

use panoptes_records::activities::Activity;

use super::mapping::{MappedValues, ObjectMapping, top_value};
use super::ocsf::severity_number;
use super::syslog::{MessageSubject, RecordKind};

mod parts;

/// `event.category` and `event.type`.
type EcsCategories = (&'static [&'static str], &'static [&'static str]);

macro_rules! rows {
    ($($activity:ident [$($category:literal)*] [$($kind:literal)*];)*) => {
        /// What an activity is. One without a row is an alert.
        const fn row(activity: Activity) -> EcsCategories {
            match activity {
                $(Activity::$activity => (&[$($category),*], &[$($kind),*]),)*
                _ => ALERT,
            }
        }
    };
}

rows! {
    ProcessCreated ["process"] ["start"];
    ProcessTerminated ["process"] ["end"];
    ProcessZombie ["process"] ["change"];
    ProcessHidden ["process" "intrusion_detection"] ["info"];
    NetworkConnectionCreated ["network"] ["connection" "start"];
    NetworkConnectionTerminated ["network"] ["connection" "end"];
    TcpConnectionExcessiveData ["network" "intrusion_detection"] ["connection" "info"];
    TcpLongLastingConnection ["network" "intrusion_detection"] ["connection" "info"];
    TcpNetworkConnectionStateChange ["network"] ["connection" "info"];
    TcpNetworkConnectionStatus ["network"] ["connection" "info"];
    ReverseShellDetected ["process" "network" "intrusion_detection"] ["info"];
    ForeignBinaryExecuted ["process" "intrusion_detection"] ["start" "info"];
    BinaryExecutedNotAsIntended ["process" "intrusion_detection"] ["start" "info"];
    ForeignBinaryExecutedFileSizeMismatch ["process" "intrusion_detection"] ["start" "info"];
    ForeignLibraryLoaded ["library" "intrusion_detection"] ["start" "info"];
    ForeignLibraryLoadedFileSizeMismatch ["library" "intrusion_detection"] ["start" "info"];
    ProcessMemoryCreated ["process"] ["info"];
    ProcessMemoryTerminated ["process"] ["info"];
    NewExecutableAnonymousMemoryMapped ["process"] ["change" "info"];
    ExecutablePermissionsAdded ["process" "intrusion_detection"] ["change" "info"];
    ExecutablePermissionsRemoved ["process" "intrusion_detection"] ["change" "info"];
    NewFileMapped ["file" "process"] ["info"];
    FileUnmapped ["file" "process"] ["info"];
    FileDescriptorOpen ["file"] ["access"];
    FileDescriptorClose ["file"] ["info"];
    FileDescriptorFileContentChange ["file"] ["change"];
    ThreadCreated ["process"] ["info"];
    ThreadTerminated ["process"] ["info"];
    ContainerStarted ["process"] ["start"];
    ContainerTerminated ["process"] ["end"];
    ShellCommandExecuted ["process"] ["info"];
    ShellHistoryCleared ["process" "intrusion_detection"] ["change" "info"];
    ShellHistoryDisabled ["process" "intrusion_detection"] ["change" "info"];
    ServiceInitializationStarted ["host"] ["start"];
    ServiceInitializationSuccessful ["host"] ["start"];
    ServiceInitializationFailed ["host"] ["info"];
    ServiceRuntimeFailure ["host"] ["info"];
    ServiceGracefullyShutdown ["host"] ["end"];
    DetailsGatheringFailed ["host"] ["info"];
    HostInitializationStarted ["host"] ["start"];
    HostInitializationSuccessful ["host"] ["start"];
    HostInitializationFailed ["host"] ["info"];
    OsIdentifierFound ["host"] ["info"];
    OsIdentifierDiscoveryExtended ["host"] ["info"];
    LoadingProfileCandidate ["host"] ["info"];
    ProfileVerificationSuccessful ["host"] ["info"];
    ProfileVerificationFailed ["host"] ["info"];
    ProfileParsingFailed ["host"] ["info"];
    NoMatchingProfileFound ["host"] ["info"];
    UnableToDetermineTargetOs ["host"] ["info"];
    ProcessLimitReached ["host"] ["info"];
    FileHandlesLimitReached ["host"] ["info"];
    ProcessMemoryLimitReached ["host"] ["info"];
    ThreadsLimitReached ["host"] ["info"];
    NetworkConnectionsLimitReached ["host"] ["info"];
    ContainersLimitReached ["host"] ["info"];
    FlowsLimitReached ["host"] ["info"];
    LimitCleared ["host"] ["info"];
    RecordsDropped ["host"] ["info"];
    CoverageReport ["host"] ["info"];
    CoverageDegraded ["host"] ["info"];
    CoverageRestored ["host"] ["info"];
    LoadMemRegionsFailed ["host"] ["info"];
    LoadMemRegionsSuccessful ["host"] ["info"];
    InvalidSbomConfigurationFile ["host"] ["info"];
    InvalidSbomConfigurationFolder ["host"] ["info"];
    SystemStalled ["host"] ["info"];
    ClockTampered ["host" "intrusion_detection"] ["change" "info"];
    ConfigurationReloaded ["configuration"] ["change"];
    ConfigurationRefused ["configuration"] ["info"];
    ProcessExecuted ["process"] ["start"];
    PackageFilesChanged ["package"] ["change"];
    FileContentChange ["file"] ["change"];
    FilePermissionsChanged ["file"] ["change"];
    HiddenConnectionDetected ["network" "intrusion_detection"] ["connection" "info"];
    HiddenListenerDetected ["network" "intrusion_detection"] ["connection" "info"];
    EventsSummedUp ["host"] ["info"];
    KernelModuleLoaded ["driver"] ["start"];
    KernelModuleUnloaded ["driver"] ["end"];
    KernelModuleChanged ["driver"] ["change"];
    KernelModuleHidden ["driver" "intrusion_detection"] ["info"];
    KernelHookDetected ["host" "intrusion_detection"] ["info"];
    KernelCodeWithoutOwner ["host" "intrusion_detection"] ["info"];
    KernelTextModified ["host" "intrusion_detection"] ["info"];
    EbpfProgramLoaded ["driver"] ["start"];
    EbpfProgramUnloaded ["driver"] ["end"];
    EbpfProgramAttached ["driver"] ["change"];
    EbpfProgramDetached ["driver"] ["change"];
    EbpfProgramHidden ["driver" "intrusion_detection"] ["info"];
    EbpfProgramDangerous ["driver" "intrusion_detection"] ["info"];
}

/// An alert without a row of its own.
const ALERT: EcsCategories = (&["host", "intrusion_detection"], &["info"]);

/// Appends a record as an event; `None` if it cannot be read.
pub(super) fn append(about: &MessageSubject<'_>, record: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let is_alert = top_value(record, "message_type").ok()? == Some("\"ALERT\"");
    let RecordKind::Activity(activity) = about.kind else { return None };
    let (categories, kinds) = row(activity);
    let time = std::str::from_utf8(about.time).ok()?;
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "{{\"@timestamp\":\"{time}\",\"ecs\":{{\"version\":\"9.4.0\"}},\"event\":{{\
         \"kind\":\"{}\",\"severity\":{},\"module\":\"panoptes\"",
        if is_alert { "alert" } else { "event" },
        severity_number(about.severity),
    );
    for (key, words) in [("category", categories), ("type", kinds)] {
        let _ = write!(out, ",\"{key}\":[");
        for (index, word) in words.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(out, "{comma}\"{word}\"");
        }
        out.push(b']');
    }
    let parts: &'static [ObjectMapping] = parts::PARTS;
    let mut values = MappedValues::read(record, parts).ok()?;
    if activity == Activity::ReverseShellDetected {
        values.read_lists("reverse_shell_details").ok()?;
    }
    values.write(Some("event"), "panoptes", out).ok()?;
    out.push(b'}');
    Some(())
}

#[cfg(test)]
mod tests {
    use panoptes_records::activities::MessageType;

    use super::*;

    #[test]
    fn each_activity_that_is_no_alert_has_its_categories() {
        for &activity in Activity::ALL {
            let is_alert = activity.info().message_type == MessageType::Alert;
            assert!(is_alert || row(activity) != ALERT, "{}", activity.name());
        }
    }
}
