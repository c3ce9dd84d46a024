//! What watching a system needs beside its memory: for `watch` and `run`, for the alerts of `scan`,
//! and for `flow --system`.

use std::sync::Arc;

use panoptes_engine::container_config::ContainerConfig;
use panoptes_engine::policy::exceptions::Exceptions;
use panoptes_engine::walk::MemoryCopyMode;
use panoptes_engine::watch::{MachineIdentity, Setup};
use panoptes_profiles::Profile;
use panoptes_records::record::header::RecordHeader;
use panoptes_sources::AnySource;

use crate::config::System;
use crate::random;
use crate::record_header::os_version;

/// The setup for the settings of a system: without SBOM contents, and for a machine that runs.
pub(crate) fn setup<'a>(
    system: &System,
    header: RecordHeader,
    exceptions: Arc<Exceptions>,
    profile: &'a Profile,
) -> Setup<'a> {
    let settings = &system.settings;
    let policy = settings.events.policy(exceptions, None);
    Setup {
        limits: settings.limits,
        key: random::hash_key(),
        message_ids: random::key(),
        policy: policy.config,
        login_servers: policy.login_servers,
        content_rules: policy.content_rules,
        containers: Arc::new(ContainerConfig::from(&settings.containers)),
        exceptions: policy.exceptions,
        header,
        identity: MachineIdentity {
            name: system.name.clone(),
            os_version: os_version(&profile.release),
            boot_uuid: [0; 16],
        },
        report_existing: false,
        waits_for_clock: false,
        profile,
        shipped: Arc::default(),
    }
}

/// Whether a source is a copy of memory, and which one. Hypervisors stop a machine whose state they
/// save, at the latest for its last part; other formats do not tell.
pub(crate) fn kind_of_copy(source: &AnySource) -> MemoryCopyMode {
    match source {
        AnySource::File(file) if file.is_of_one_moment() => MemoryCopyMode::AtOnce,
        AnySource::File(file) if file.is_still() => MemoryCopyMode::PageByPage,
        _ => MemoryCopyMode::No,
    }
}
