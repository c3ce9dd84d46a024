//! The table of everything that Panoptes can report: name, type, severity, default, short id,
//! details.
//!
//! The guide is NVIDIA's *DOCA Argus Service Guide* (`docs/compatibility.md`, "The guide"). The 54
//! activities of its §10 come first, in its order; the activities that Panoptes adds follow. The
//! record header, the schema, the configuration and the syslog ids all read this one table, so an
//! activity is added in one place. When an activity is reported is the engine's policy and is not
//! decided here.

use crate::details_kind::DetailsKind;
use crate::dialect::Dialect;
use crate::words::words;

pub use crate::preset::Preset;

words! {
    /// The kind of message that reports an activity (`message_type`).
    pub enum MessageType {
        /// For situational awareness.
        Event = "EVENT",
        /// Needs attention.
        Alert = "ALERT",
        /// About Panoptes itself.
        SystemActivity = "SYSTEM_ACTIVITY",
    }
}

words! {
    /// The importance of an activity (`severity`), least first.
    pub enum Severity {
        Info = "INFO",
        /// Used by two of the guide's alerts, although its header table omits it.
        Low = "LOW",
        Warning = "WARNING",
        Medium = "MEDIUM",
        High = "HIGH",
        /// A failure of Panoptes.
        Error = "ERROR",
        /// Only for configurations; no activity has it by default.
        Critical = "CRITICAL",
    }
}

impl Severity {
    /// The severity with this word, as in a configuration.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|severity| severity.word() == word)
    }
}

/// The events of [`Preset::Security`], by name: of processes, programs, connections, containers,
/// shells, kernel modules and programs of eBPF, and how many of them were left out in a flood. A
/// connection's changes of state are not among them: its record at the end has what it was used
/// for.
const SECURITY: [&str; 17] = [
    "process_created",
    "process_executed",
    "process_terminated",
    "process_zombie",
    "network_connection_created",
    "network_connection_terminated",
    "container_started",
    "container_terminated",
    "shell_command_executed",
    "kernel_module_loaded",
    "kernel_module_unloaded",
    "kernel_module_changed",
    "ebpf_program_loaded",
    "ebpf_program_unloaded",
    "ebpf_program_attached",
    "ebpf_program_detached",
    "events_summed_up",
];

/// One row of the table of activities.
#[derive(Clone, Copy, Debug)]
pub struct ActivityInfo {
    /// `activity_data.name`.
    pub name: &'static str,
    /// `message_type`.
    pub message_type: MessageType,
    /// `severity`, unless the configuration overrides it.
    pub severity: Severity,
    /// Whether it is reported unless the configuration decides otherwise.
    pub default_on: bool,
    /// MSGID over syslog: at most 32 printable characters, unique.
    pub short_id: &'static str,
    /// The details object that every record of it has.
    pub own: DetailsKind,
    /// The details objects that may follow, in this order.
    pub parents: &'static [DetailsKind],
    /// `},"activity_data":{"name":"…"`: the text between the workload and the details.
    pub(crate) opening: &'static str,
}

const NONE: &[DetailsKind] = &[];
const PROCESS: &[DetailsKind] = &[DetailsKind::Process];
const HELD: &[DetailsKind] = &[DetailsKind::FileDescriptor, DetailsKind::Process];
/// The shell and the connection to its peer.
const SHELL: &[DetailsKind] = &[DetailsKind::Process, DetailsKind::NetworkConnection];

impl ActivityInfo {
    /// The details objects that may follow in records of a dialect, in this order.
    pub const fn parents_in(&self, dialect: Dialect) -> &'static [DetailsKind] {
        match (dialect, self.own) {
            (Dialect::DocaArgus, DetailsKind::ReverseShell) => SHELL,
            _ => self.parents,
        }
    }
}

macro_rules! short_id {
    ($name:literal) => {
        $name
    };
    ($name:literal $short:literal) => {
        $short
    };
}

macro_rules! default_on {
    () => {
        true
    };
    (off) => {
        false
    };
}

/// The activities by their details: own details and parents, then one line each with variant, name,
/// type and severity, and where needed a short id and `off`.
macro_rules! activities {
    ($($own:ident $parents:ident {$(
        $variant:ident $name:literal $message_type:ident $severity:ident
            $(= $short:literal)? $(, $off:ident)?;
    )*})*) => {
        /// Everything that Panoptes can report; [`Activity::info`] returns its row of the table.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[repr(u8)]
        pub enum Activity {
            $($(#[doc = concat!("`", $name, "`")] $variant,)*)*
        }

        impl Activity {
            /// Every activity in the table's order, which is that of the discriminants.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];
        }

        static TABLE: &[ActivityInfo] = &[$($(ActivityInfo {
            name: $name,
            message_type: MessageType::$message_type,
            severity: Severity::$severity,
            default_on: default_on!($($off)?),
            short_id: short_id!($name $($short)?),
            own: DetailsKind::$own,
            parents: $parents,
            opening: concat!("},\"activity_data\":{\"name\":\"", $name, "\""),
        },)*)*];
    };
}

activities! {
    // 10.1 processes
    Process NONE {
        ProcessCreated "process_created" Event Info;
        ProcessTerminated "process_terminated" Event Info;
        ProcessZombie "process_zombie" Event Warning;
        ProcessHidden "process_hidden" Alert High;
    }
    // 10.2 network connections
    NetworkConnection HELD {
        NetworkConnectionCreated "network_connection_created" Event Info;
        NetworkConnectionTerminated "network_connection_terminated" Event Info;
        TcpConnectionExcessiveData "tcp_connection_excessive_data" Alert Low;
        TcpLongLastingConnection "tcp_long_lasting_connection" Alert Low;
        TcpNetworkConnectionStateChange "tcp_network_connection_state_change" Event Info
            = "tcp_connection_state_change";
        TcpNetworkConnectionStatus "tcp_network_connection_status" Event Info, off;
    }
    // 10.3 reverse shell
    ReverseShell NONE {
        ReverseShellDetected "reverse_shell_detected" Alert High;
    }
    // 10.4 attestation
    ElfFile PROCESS {
        ForeignBinaryExecuted "foreign_binary_executed" Alert High;
        BinaryExecutedNotAsIntended "binary_executed_not_as_intended" Alert High;
        ForeignBinaryExecutedFileSizeMismatch "foreign_binary_executed_file_size_mismatch"
            Alert High = "foreign_binary_size_mismatch";
        ForeignLibraryLoaded "foreign_library_loaded" Alert High;
        ForeignLibraryLoadedFileSizeMismatch "foreign_library_loaded_file_size_mismatch" Alert High
            = "foreign_library_size_mismatch";
    }
    // 10.5 process memory
    ProcessMemory PROCESS {
        ProcessMemoryCreated "process_memory_created" Event Info, off;
        ProcessMemoryTerminated "process_memory_terminated" Event Info, off;
        NewExecutableAnonymousMemoryMapped "new_executable_anonymous_memory_mapped" Event Warning
            = "new_exec_anonymous_memory_mapped";
        ExecutablePermissionsAdded "executable_permissions_added" Alert Medium;
        ExecutablePermissionsRemoved "executable_permissions_removed" Alert Medium;
        NewFileMapped "new_file_mapped" Event Info;
        FileUnmapped "file_unmapped" Event Info;
    }
    // 10.6 file descriptors
    FileDescriptor PROCESS {
        FileDescriptorOpen "file_descriptor_open" Event Info;
        FileDescriptorClose "file_descriptor_close" Event Info;
        FileDescriptorFileContentChange "file_descriptor_file_content_change" Alert Medium
            = "fd_file_content_change";
    }
    // 10.7 threads
    Thread PROCESS {
        ThreadCreated "thread_created" Event Info;
        ThreadTerminated "thread_terminated" Event Info;
    }
    // 10.8 containers
    Container PROCESS {
        ContainerStarted "container_started" Event Info;
        ContainerTerminated "container_terminated" Event Info;
    }
    // 10.9 shell history
    ShellHistory PROCESS {
        ShellCommandExecuted "shell_command_executed" Event Info;
        ShellHistoryCleared "shell_history_cleared" Alert High;
        ShellHistoryDisabled "shell_history_disabled" Alert High;
    }
    // 10.10 system events
    SystemActivity NONE {
        ServiceInitializationStarted "service_initialization_started" SystemActivity Info;
        ServiceInitializationSuccessful "service_initialization_successful" SystemActivity Info
            = "service_init_successful";
        ServiceInitializationFailed "service_initialization_failed" SystemActivity Error;
        ServiceRuntimeFailure "service_runtime_failure" SystemActivity Error;
        ServiceGracefullyShutdown "service_gracefully_shutdown" SystemActivity Info;
        DetailsGatheringFailed "details_gathering_failed" SystemActivity Error;
        HostInitializationStarted "host_initialization_started" SystemActivity Info;
        HostInitializationSuccessful "host_initialization_successful" SystemActivity Info;
        HostInitializationFailed "host_initialization_failed" SystemActivity Error;
        OsIdentifierFound "os_identifier_found" SystemActivity Info;
        OsIdentifierDiscoveryExtended "os_identifier_discovery_extended" SystemActivity Info;
        LoadingProfileCandidate "loading_profile_candidate" SystemActivity Info;
        ProfileVerificationSuccessful "profile_verification_successful" SystemActivity Info;
        ProfileVerificationFailed "profile_verification_failed" SystemActivity Error;
        ProfileParsingFailed "profile_parsing_failed" SystemActivity Error;
        NoMatchingProfileFound "no_matching_profile_found" SystemActivity Error;
        UnableToDetermineTargetOs "unable_to_determine_target_os" SystemActivity Error;
        ProcessLimitReached "process_limit_reached" SystemActivity Medium;
        FileHandlesLimitReached "file_handles_limit_reached" SystemActivity Medium;
        ProcessMemoryLimitReached "process_memory_limit_reached" SystemActivity Medium;
        ThreadsLimitReached "threads_limit_reached" SystemActivity Medium;
    }
    // Additions of Panoptes, of the same kind.
    SystemActivity NONE {
        NetworkConnectionsLimitReached "network_connections_limit_reached" SystemActivity Medium
            = "connections_limit_reached";
        ContainersLimitReached "containers_limit_reached" SystemActivity Medium;
        FlowsLimitReached "flows_limit_reached" SystemActivity Medium;
        LimitCleared "limit_cleared" SystemActivity Info;
        RecordsDropped "records_dropped" SystemActivity Medium;
        CoverageReport "coverage_report" SystemActivity Info;
        CoverageDegraded "coverage_degraded" SystemActivity Medium;
        CoverageRestored "coverage_restored" SystemActivity Info;
        LoadMemRegionsFailed "load_mem_regions_failed" SystemActivity Error;
        LoadMemRegionsSuccessful "load_mem_regions_successful" SystemActivity Info;
        InvalidSbomConfigurationFile "invalid_sbom_configuration_file" SystemActivity Error;
        InvalidSbomConfigurationFolder "invalid_sbom_configuration_folder" SystemActivity Error
            = "invalid_sbom_config_folder";
        SystemStalled "system_stalled" SystemActivity Medium;
        ClockTampered "clock_tampered" Alert High;
        ConfigurationReloaded "configuration_reloaded" SystemActivity Info;
        ConfigurationRefused "configuration_refused" SystemActivity Error;
        TestAlert "test_alert" Alert High;
    }
    ProcessExecuted PROCESS {
        ProcessExecuted "process_executed" Event Info;
    }
    Package PROCESS {
        PackageFilesChanged "package_files_changed" Event Info;
    }
    File NONE {
        FileContentChange "file_content_change" Alert Medium;
        FilePermissionsChanged "file_permissions_changed" Alert Medium;
    }
    NetworkConnection NONE {
        HiddenConnectionDetected "hidden_connection_detected" Alert High;
        HiddenListenerDetected "hidden_listener_detected" Alert High;
    }
    SystemActivity PROCESS {
        EventsSummedUp "events_summed_up" Event Info;
    }
    // It has the severity of what it sums up, and at least this one.
    SystemActivity NONE {
        AlertsSummedUp "alerts_summed_up" Alert Low;
    }
    KernelModule PROCESS {
        KernelModuleLoaded "kernel_module_loaded" Event Info;
        KernelModuleUnloaded "kernel_module_unloaded" Event Info;
        KernelModuleChanged "kernel_module_changed" Event Info;
    }
    KernelModule NONE {
        KernelModuleHidden "kernel_module_hidden" Alert High;
    }
    KernelCode NONE {
        KernelHookDetected "kernel_hook_detected" Alert High;
        KernelCodeWithoutOwner "kernel_code_without_owner" Alert High;
        KernelTextModified "kernel_text_modified" Alert High;
    }
    EbpfProgram PROCESS {
        EbpfProgramLoaded "ebpf_program_loaded" Event Info;
        EbpfProgramUnloaded "ebpf_program_unloaded" Event Info;
        EbpfProgramAttached "ebpf_program_attached" Event Info;
        EbpfProgramDetached "ebpf_program_detached" Event Info;
        EbpfProgramHidden "ebpf_program_hidden" Alert High;
        EbpfProgramDangerous "ebpf_program_dangerous" Alert Medium;
    }
}

impl Activity {
    /// The activity's row of the table.
    pub fn info(self) -> &'static ActivityInfo {
        &TABLE[self as usize]
    }

    /// `activity_data.name`.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The smallest preset that contains the activity.
    pub fn preset(self) -> Preset {
        match self.info().message_type {
            MessageType::Alert | MessageType::SystemActivity => Preset::Alerts,
            MessageType::Event if SECURITY.contains(&self.name()) => Preset::Security,
            MessageType::Event => Preset::Everything,
        }
    }

    /// What ends the object that it reports as new, in words for the schema; `None` if it reports
    /// no new object of a process. One rule holds for all of them: they end with the process, which
    /// has no record for each.
    pub const fn end(self) -> Option<&'static str> {
        match self {
            Self::FileDescriptorOpen => Some(
                "`file_descriptor_close`, or the end of its process. A descriptor in a table that \
                 one thread has alone may end with the thread",
            ),
            Self::NewFileMapped => Some(
                "`file_unmapped`, another mapping in its place, or an exec or the end of its \
                 process",
            ),
            Self::ProcessMemoryCreated => Some(
                "`process_memory_terminated`, another mapping in its place, or an exec or the \
                     end of its process",
            ),
            Self::NewExecutableAnonymousMemoryMapped => Some(
                "`process_memory_terminated` if that is enabled, or an exec or the end of its \
                 process",
            ),
            Self::ThreadCreated => Some("`thread_terminated`, or the end of its process"),
            _ => None,
        }
    }

    /// Whether its records can be alerts or events, by what they are about
    /// ([`Weight`](crate::record::header::Weight)).
    pub const fn is_weighed(self) -> bool {
        matches!(
            self,
            Self::FileDescriptorFileContentChange
                | Self::FileContentChange
                | Self::FilePermissionsChanged
        )
    }

    /// The smallest preset that contains its records of a kind: alerts of an activity may be in a
    /// smaller one than its events. `preset` is that of the activity.
    pub(crate) fn preset_of_kind(self, message_type: MessageType, preset: Preset) -> Preset {
        match (self, message_type) {
            (Self::FilePermissionsChanged, MessageType::Event) => Preset::Everything,
            _ => preset,
        }
    }

    /// Whether its records can have another severity than the configuration gives it.
    pub const fn has_own_severity(self) -> bool {
        self.is_weighed() || matches!(self, Self::AlertsSummedUp)
    }

    /// The activity with this name, as in a record or a configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|activity| activity.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The activities of guide §10; Panoptes adds the rest.
    const GUIDE_COUNT: usize = 54;

    #[test]
    fn the_guide_has_54_activities_of_which_19_are_events_and_14_alerts() {
        let count = |message_type| {
            Activity::ALL[..GUIDE_COUNT]
                .iter()
                .filter(|activity| activity.info().message_type == message_type)
                .count()
        };
        assert_eq!(count(MessageType::Event), 19);
        assert_eq!(count(MessageType::Alert), 14);
        assert_eq!(count(MessageType::SystemActivity), 21);
        assert_eq!(Activity::ALL.len(), GUIDE_COUNT + 38);
    }

    #[test]
    fn every_name_is_found_and_unique() {
        for (index, &activity) in Activity::ALL.iter().enumerate() {
            assert_eq!(activity as usize, index);
            assert_eq!(Activity::from_name(activity.name()), Some(activity));
        }
        assert_eq!(Activity::from_name("process_create"), None);
    }

    #[test]
    fn short_ids_fit_syslog_and_are_unique() {
        let mut seen = HashSet::new();
        for activity in Activity::ALL {
            let id = activity.info().short_id;
            assert!(id.len() <= 32 && !id.is_empty(), "{id}");
            assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
            assert!(seen.insert(id), "{id}");
        }
    }

    #[test]
    fn only_the_guides_three_are_off_by_default() {
        let off: Vec<_> = Activity::ALL
            .iter()
            .filter(|activity| !activity.info().default_on)
            .map(|activity| activity.name())
            .collect();
        assert_eq!(
            off,
            [
                "tcp_network_connection_status",
                "process_memory_created",
                "process_memory_terminated"
            ]
        );
    }

    #[test]
    fn the_events_of_the_preset_security_exist() {
        let is_event = |name: &str| {
            let activity = Activity::from_name(name);
            activity.is_some_and(|one| one.info().message_type == MessageType::Event)
        };
        assert!(SECURITY.iter().all(|name| is_event(name)));
    }

    #[test]
    fn alerts_and_what_concerns_panoptes_are_in_every_preset() {
        for activity in Activity::ALL {
            let is_event = activity.info().message_type == MessageType::Event;
            assert_eq!(activity.preset() > Preset::Alerts, is_event, "{}", activity.name());
        }
    }

    #[test]
    fn events_of_permissions_are_in_no_preset_of_alerts() {
        let activity = Activity::FilePermissionsChanged;
        let of = |message_type| activity.preset_of_kind(message_type, activity.preset());
        assert_eq!(of(MessageType::Alert), Preset::Alerts);
        assert_eq!(of(MessageType::Event), Preset::Everything);
    }

    #[test]
    fn the_schema_says_what_ends_each_object_of_a_process() {
        let schema = crate::schema::record_schema(Dialect::Panoptes);
        for activity in [
            Activity::FileDescriptorOpen,
            Activity::NewFileMapped,
            Activity::ProcessMemoryCreated,
            Activity::NewExecutableAnonymousMemoryMapped,
            Activity::ThreadCreated,
        ] {
            let (name, end) = (activity.name(), activity.end().unwrap());
            assert!(end.contains("the end of its process"), "{end}");
            let own = end.split('`').nth(1).unwrap();
            assert!(Activity::from_name(own).is_some(), "{own}");
            assert!(schema.contains(&format!("What `{name}` reports ends with {end}.")), "{name}");
        }
    }

    #[test]
    fn every_severity_is_found_by_its_word() {
        for &severity in Severity::ALL {
            assert_eq!(Severity::from_word(severity.word()), Some(severity));
        }
        assert_eq!(Severity::from_word("info"), None);
    }
}
