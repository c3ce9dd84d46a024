//! Carries out a request with the engine: the only file here that knows the engine.
//!
//! Every function takes one checked, typed request and where to write; none of them reads
//! arguments, the environment or a configuration.

use std::io::Write;
use std::sync::Arc;

use panoptes_engine::limits;
use panoptes_sinks::schema::{record_schema, scan_schema};

use crate::config::Limits;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::{
    ProfileBuildRequest, ProfileShowRequest, ProfileVerifyRequest, ScanRequest, WatchRequest,
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

/// Makes a profile.
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

/// The JSON Schema of every record, or that of scan lines.
pub fn schema(scan: bool) -> String {
    let mut text = if scan { scan_schema() } else { record_schema() };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

impl From<&Limits> for limits::Limits {
    fn from(limits: &Limits) -> Self {
        // Containers are counted nowhere yet (`cli::Kind::is_built`).
        let Limits {
            string_length,
            processes,
            threads,
            file_descriptors,
            vmas,
            connections,
            containers: _,
        } = *limits;
        Self { processes, threads, file_descriptors, vmas, connections, string_length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_are_those_of_the_engine() {
        assert_eq!(limits::Limits::from(&Limits::default()), limits::Limits::default());
    }
}
