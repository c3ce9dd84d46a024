//! The memory of outputs, and of the sensor of flows that writes to them.

use panoptes_sinks::output::IsolatedOutput;
use panoptes_sinks::output::remote::RemoteOutput;
use panoptes_sinks::output::transport::TransportSettings;

use crate::config::{Configuration, OutputSettings};
use crate::flow::bytes_of_sensor;

/// Bytes for the sensor of flows and for its log.
pub(super) fn of_flows(configuration: &Configuration) -> Option<u64> {
    let has_log = configuration.flows.are_wanted() && configuration.output.log_folder.is_some();
    let log = if has_log { of_file() as u64 } else { 0 };
    bytes_of_sensor(&configuration.flows)?.checked_add(log)
}

/// Bytes for a log.
fn of_file() -> usize {
    let buffers = TransportSettings::default();
    buffers.buffers * buffers.buffer_bytes + IsolatedOutput::BYTES
}

/// Bytes for the outputs, without the logs of single systems.
pub(super) fn of_outputs(output: &OutputSettings) -> Option<u64> {
    let files = 2 * usize::from(output.log_folder.is_some());
    // Standard output has a thread, as files have, if it is a file.
    let first = ((usize::from(output.stdout) + files) * of_file()) as u64;
    output.telemetry.iter().try_fold(first, |sum, receiver| {
        let thread = if receiver.backlog.disk.is_some() { IsolatedOutput::BYTES as u64 } else { 0 };
        let bytes = receiver.backlog.memory.0.checked_add(RemoteOutput::BYTES + thread)?;
        bytes.checked_add(sum)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Mode;

    #[test]
    fn outputs_with_a_thread_of_their_own_need_its_memory() {
        let read = |output: &str| {
            let text = format!("service: {{state_dir: state}}\noutput: {{{output}}}");
            let path = Path::new("");
            let overrides = crate::config::Overrides::default();
            let (configuration, problems) = crate::config::read(&text, path, Mode::Run, &overrides);
            assert!(problems.is_empty(), "{problems:?}");
            of_outputs(&configuration.output).unwrap()
        };
        let receiver = |backlog| {
            read(&format!("stdout: false, telemetry: [{{address: 'a:1', backlog: {backlog}}}]"))
        };
        let thread = IsolatedOutput::BYTES as u64;
        assert_eq!(receiver("{disk: 16MiB, memory: 1MiB}") - receiver("{memory: 1MiB}"), thread);
        let settings = TransportSettings::default();
        let buffers = (settings.buffers * settings.buffer_bytes) as u64;
        let with = Configuration::defaults(Mode::Run).output;
        let with = OutputSettings { log_folder: Some("log".into()), ..with };
        let without = OutputSettings { log_folder: None, ..with.clone() };
        let files = of_outputs(&with).unwrap() - of_outputs(&without).unwrap();
        assert_eq!(files, 2 * (buffers + thread));
        let stdout = read("stdout: true") - read("stdout: false");
        assert_eq!(stdout, buffers + thread, "it may be a file");
    }
}
