//! What the contract names and this version has, in one place.
//!
//! What is `false` here is still parsed and checked, so that its mistakes are found, and then
//! refused with one clear line. Whoever builds a thing flips its constant.

use panoptes_sinks::activities::Activity;

/// Whether an activity is reported by this version at all. One that is not is accepted in a configuration,
/// so that a file can name all of them, and counted as not reported by `panoptes check`.
pub const fn reports(activity: Activity) -> bool {
    !matches!(
        activity,
        Activity::TcpConnectionExcessiveData
            | Activity::TcpLongLastingConnection
            | Activity::TcpNetworkConnectionStatus
            | Activity::ReverseShellDetected
            | Activity::ForeignBinaryExecuted
            | Activity::BinaryExecutedNotAsIntended
            | Activity::ForeignBinaryExecutedFileSizeMismatch
            | Activity::ForeignLibraryLoaded
            | Activity::ForeignLibraryLoadedFileSizeMismatch
            | Activity::ExecutablePermissionsAdded
            | Activity::ExecutablePermissionsRemoved
            | Activity::FileDescriptorFileContentChange
            | Activity::ContainerStarted
            | Activity::ContainerTerminated
            | Activity::ContainersLimitReached
            | Activity::ShellCommandExecuted
            | Activity::ShellHistoryCleared
            | Activity::ShellHistoryDisabled
            | Activity::CoverageReport
            | Activity::InvalidSbomConfigurationFile
            | Activity::InvalidSbomConfigurationFolder
    )
}

/// `host:`.
pub const SYSTEM_HOST: bool = true;
/// `containers.include` and `containers.exclude`.
pub const CONTAINER_FILTER: bool = false;
/// `sbom`.
pub const SBOM: bool = false;
/// `output.telemetry`.
pub const TELEMETRY: bool = false;
/// `output.metrics`.
pub const METRICS: bool = false;
/// `service.compatibility: doca_argus`.
pub const COMPATIBILITY: bool = false;
