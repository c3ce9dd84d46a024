//! Executes requests with the engine, and converts settings to the engine's types.
//!
//! Every function takes one checked, typed request and a writer. None of them reads arguments, the
//! environment or a configuration.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use panoptes_engine::containers::{ContainerConfig, Glob, Images};
use panoptes_engine::limits;
use panoptes_engine::policy::PolicyConfig;
use panoptes_engine::state::ConnectionThresholds;
use panoptes_sinks::schema::{record_schema, scan_schema};

use crate::config::{ContainerFilter, Events, Limits, Thresholds};
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::{
    ProfileBuildRequest, ProfileShowRequest, ProfileVerifyRequest, SbomBuildRequest, ScanRequest,
    Schema, WatchRequest,
};

/// Prints one snapshot of a system.
pub fn scan(
    request: &ScanRequest,
    out: &mut dyn Write,
    messages: &Arc<Messages>,
) -> Result<Exit, Failure> {
    crate::scan::scan(request, out, messages)
}

/// Watches systems until stopped.
pub fn watch(request: &WatchRequest, messages: &Arc<Messages>) -> Result<Exit, Failure> {
    crate::watch::watch(request, messages)
}

/// Makes a profile of a kernel.
pub fn profile_build(
    request: &ProfileBuildRequest,
    out: &mut dyn Write,
    messages: &Arc<Messages>,
) -> Result<Exit, Failure> {
    crate::profile::build(request, out, messages)
}

/// Shows a profile.
pub fn profile_show(
    request: &ProfileShowRequest,
    out: &mut dyn Write,
    messages: &Arc<Messages>,
) -> Result<Exit, Failure> {
    crate::profile::show(request, out, messages)
}

/// Checks a profile against memory.
pub fn profile_verify(
    request: &ProfileVerifyRequest,
    out: &mut dyn Write,
    messages: &Arc<Messages>,
) -> Result<Exit, Failure> {
    crate::profile::verify(request, out, messages)
}

/// Makes a bill of materials.
pub fn sbom_build(
    request: &SbomBuildRequest,
    out: &mut dyn Write,
    messages: &Arc<Messages>,
) -> Result<Exit, Failure> {
    crate::sbom::build(request, out, messages)
}

/// The text of a JSON Schema, which ends with a line feed.
pub fn schema(of: Schema) -> String {
    let mut text = match of {
        Schema::Records => record_schema(),
        Schema::Scan => scan_schema(),
        Schema::Sbom => panoptes_reference::format::SCHEMA.to_owned(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

impl From<&ContainerFilter> for ContainerConfig {
    fn from(filter: &ContainerFilter) -> Self {
        let globs = |patterns: &[String]| patterns.iter().map(|glob| Glob::new(glob)).collect();
        let images = filter.images.iter().map(|(glob, image)| (glob.as_str(), image.as_str()));
        Self {
            include: globs(&filter.include),
            exclude: globs(&filter.exclude),
            images: Images::new(images),
        }
    }
}

impl From<&Events> for PolicyConfig {
    fn from(events: &Events) -> Self {
        let mut policy = Self::default();
        for (activity, setting) in events.iter() {
            policy.set_enabled(activity, setting.enabled);
        }
        policy.thresholds = (&events.thresholds).into();
        policy
    }
}

impl Events {
    /// The programs whose purpose is to give shells to their peers.
    pub(crate) fn login_servers(&self) -> Vec<Glob> {
        self.login_servers.iter().map(|path| Glob::new(&path.0)).collect()
    }
}

impl From<&Thresholds> for ConnectionThresholds {
    fn from(thresholds: &Thresholds) -> Self {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            bytes_in: thresholds.bytes_in.0,
            bytes_out: thresholds.bytes_out.0,
            duration_ns: nanoseconds(thresholds.duration),
            status_period_ns: Some(nanoseconds(thresholds.period)),
        }
    }
}

impl From<&Limits> for limits::Limits {
    fn from(limits: &Limits) -> Self {
        let Limits {
            string_length,
            processes,
            threads,
            file_descriptors,
            vmas,
            connections,
            containers,
        } = *limits;
        Self { processes, threads, file_descriptors, vmas, connections, containers, string_length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_thresholds_are_those_of_the_engine() {
        let policy = PolicyConfig::from(&Events::default());
        assert_eq!(policy.wanted(policy.thresholds), ConnectionThresholds::default());
        assert_eq!(policy.thresholds.status_period_ns, Some(60_000_000_000));
    }

    #[test]
    fn the_default_limits_are_those_of_the_engine() {
        assert_eq!(limits::Limits::from(&Limits::default()), limits::Limits::default());
    }
}
