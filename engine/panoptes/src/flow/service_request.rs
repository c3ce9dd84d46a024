//! What the sensor of a service does, as its configuration has it.

use super::request::FlowRequest;
use super::service_output::QUEUE;
use super::tables::table_bytes;
use super::threads::batch_bytes;
use super::{applications, devices};
use crate::config::Flows;
use crate::exit::Failure;

/// The request for these settings, which are checked.
pub(super) fn request(flows: &Flows) -> Result<FlowRequest, Failure> {
    let seconds = flows.management_interval.as_secs();
    let mut request = FlowRequest::default();
    request.input.filter = flows.filter.as_ref().map(|filter| filter.0.clone());
    request.records.status_interval_ns =
        i64::try_from(flows.status_interval.as_nanos()).unwrap_or(i64::MAX);
    request.records.management_interval_s = u16::try_from(seconds).unwrap_or(u16::MAX);
    request.records.has_jitter = flows.jitter;
    request.flows.capacity = flows.flows as usize;
    request.interfaces.threads = flows.threads as usize;
    request.interfaces.is_promiscuous = flows.promiscuous;
    request.records.options.packet_sizes = flows.packet_sizes;
    request.records.options.hardware = flows.hardware_addresses;
    request.records.application.sequence_packets = flows.sequence.unwrap_or(0) as usize;
    for interfaces in &flows.interfaces {
        request.interfaces.streams.extend(devices::parse("interfaces", &interfaces.0)?);
    }
    for application in &flows.application {
        applications::set_protocols(&mut request, "--application", &application.word())?;
    }
    if let Some(bytes) = flows.user_data {
        request.set_user_bytes("user_data", &bytes.0.to_string())?;
    }
    Ok(request)
}

/// Bytes that the sensor needs: its tables, the rings of its interfaces, what its threads pass to
/// each other, and the queue of its records; `None` if they are not a number of 64 bits.
pub(crate) fn bytes_of_sensor(flows: &Flows) -> Option<u64> {
    if !flows.are_wanted() {
        return Some(0);
    }
    // Interfaces that cannot be read are refused elsewhere.
    let Ok(request) = request(flows) else { return Some(0) };
    let interfaces: usize =
        request.interfaces.streams.iter().map(|stream| stream.interfaces.len()).sum();
    let rings = interfaces.checked_mul(request.interfaces.ring_bytes)?;
    let queues =
        rings.checked_add(QUEUE.bytes())?.checked_add(batch_bytes(request.interfaces.threads))?;
    table_bytes(&request)?.checked_add(queues as u64)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::options::{ArgusCommand, parse};
    use super::*;
    use crate::config::{Mode, Overrides, read};

    /// What `panoptes flow` does with these options.
    fn of_command(line: &str) -> FlowRequest {
        let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
        match parse(&words, "/nonexistent") {
            Ok(ArgusCommand::Audit(request)) => FlowRequest { outputs: Vec::new(), ..*request },
            _ => panic!("{line}"),
        }
    }

    fn of_configuration(flows: &str) -> FlowRequest {
        let text = format!("flows: {{{flows}}}");
        let (configuration, problems) =
            read(&text, Path::new(""), Mode::Run, &Overrides::default());
        assert!(problems.is_empty(), "{problems:?}");
        request(&configuration.flows).unwrap_or_else(|failure| panic!("{failure}"))
    }

    #[test]
    fn the_sensor_needs_tables_rings_and_a_queue() {
        let bytes = |flows: &str| {
            let text = format!("flows: {{{flows}}}");
            let (configuration, _) = read(&text, Path::new(""), Mode::Run, &Overrides::default());
            bytes_of_sensor(&configuration.flows).unwrap()
        };
        assert_eq!(bytes(""), 0);
        let [one, two, joined] = ["[en0]", "[en0, en1]", "['dup:en0,en1']"]
            .map(|interfaces| bytes(&format!("interfaces: {interfaces}")) - QUEUE.bytes() as u64);
        let ring = FlowRequest::default().interfaces.ring_bytes as u64;
        assert_eq!((two, joined), (2 * one, one + ring));
        let many = bytes("interfaces: [en0], flows: 2000000") - QUEUE.bytes() as u64;
        assert!(one > ring && many > one, "{one} {many}");
        // Two threads divide the rings and the tables.
        let divided = bytes("interfaces: [en0], threads: 2") - QUEUE.bytes() as u64;
        assert!((one + (8 << 20)..2 * one).contains(&divided), "{one} {divided}");
    }

    #[test]
    fn keys_have_the_defaults_and_the_effects_of_the_options() {
        assert_eq!(of_configuration("interfaces: [en0]"), of_command("-i en0 -w a"));
        let keys = "interfaces: [en0, 'dup:en1,en2/7'], application: [dns, tls], sequence: 3, \
                    jitter: true, packet_sizes: true, hardware_addresses: true, user_data: 64, \
                    status_interval: 500ms, management_interval: 1m, flows: 5, promiscuous: false, \
                    threads: 2, filter: udp port 53";
        let options = "-i en0 -i dup:en1,en2/7 --application dns,tls --sequence 3 -J -Z -m -U 64 \
                       -S 0.5 -M 60 --flows 5 -p --threads 2 -w a - udp port 53";
        assert_eq!(of_configuration(keys), of_command(options));
        let longest = Duration::from_hours(18).as_secs();
        let request = of_configuration("interfaces: [any], management_interval: 18h");
        assert_eq!(u64::from(request.records.management_interval_s), longest);
    }
}
