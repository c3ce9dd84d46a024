//! The columns: the keys of the JSON line, in its order.

use crate::flow::column_type::ParquetColumnSpec;
use crate::flow::column_type::ParquetColumnType::{Flag, Fraction, List, Number, Text, Time};
use crate::flow::json::APPLICATION_COLUMNS;

/// Columns of the flow itself.
const FLOW_COLUMNS: &[ParquetColumnSpec] = &[
    ("kind", Text, false),
    ("source_id", Text, false),
    ("sequence", Number, false),
    ("cause", Text, false),
    ("first_time", Time, false),
    ("last_time", Time, false),
    ("duration_us", Fraction, false),
    ("protocol", Text, false),
    ("protocol_number", Number, false),
    ("address", Text, true),
    ("arp_asker", Text, false),
    ("port", Number, true),
    ("dns_id", Number, false),
    ("igmp_type", Number, false),
    ("igmp_code", Number, false),
    ("fragment_id", Number, false),
    ("spi", Number, false),
    ("sap", Number, true),
    ("community_id", Text, false),
    ("direction", Text, false),
    ("state", Text, false),
    ("packets", Number, true),
    ("bytes", Number, true),
    ("application_bytes", Number, true),
    ("first_time", Time, true),
    ("last_time", Time, true),
    ("packet_size_min", Number, true),
    ("packet_size_max", Number, true),
    ("packet_size_mean", Fraction, true),
    ("packet_size_deviation", Fraction, true),
    ("ttl", Number, true),
    ("tos", Number, true),
    ("ip_id", Number, true),
    ("ip_options", List, true),
    ("fragments", Flag, true),
    ("encapsulation", List, true),
    ("vni", Number, true),
    ("vlan", Number, true),
    ("vlan_priority", Number, true),
    ("mpls_label", Number, true),
    ("mpls_depth", Number, true),
    ("several_paths", Flag, true),
    ("jitter_active_count", Number, true),
    ("jitter_active_min_us", Number, true),
    ("jitter_active_mean_us", Fraction, true),
    ("jitter_active_deviation_us", Fraction, true),
    ("jitter_active_max_us", Number, true),
    ("jitter_idle_count", Number, true),
    ("jitter_idle_min_us", Number, true),
    ("jitter_idle_mean_us", Fraction, true),
    ("jitter_idle_deviation_us", Fraction, true),
    ("jitter_idle_max_us", Number, true),
    ("user_data", Text, true),
    ("tcp_state", Text, false),
    ("tcp_options", List, false),
    ("syn_ack_us", Number, false),
    ("ack_data_us", Number, false),
    ("round_trip_us", Number, false),
    ("tcp_flags", Text, true),
    ("window", Number, true),
    ("tcp_sequence_base", Number, true),
    ("tcp_sequence", Number, true),
    ("tcp_acknowledged", Number, true),
    ("tcp_bytes", Number, true),
    ("tcp_in_flight", Number, true),
    ("retransmissions", Number, true),
    ("out_of_order", Flag, true),
    ("window_closed", Flag, true),
    ("reset", Flag, true),
    ("congested", Flag, true),
    ("icmp_type", Number, false),
    ("icmp_code", Number, false),
    ("icmp_id", Number, false),
    ("icmp_sequence", Number, false),
    ("quoted_source_address", Text, false),
    ("quoted_destination_address", Text, false),
    ("gateway_address", Text, false),
    ("error_icmp_type", Number, false),
    ("error_icmp_code", Number, false),
    ("error_sender_address", Text, false),
    ("error_gateway_address", Text, false),
    ("esp_sequence", Number, false),
    ("esp_lost", Number, false),
    ("application", Text, false),
    ("lost_packets", Number, true),
    ("arp_responder", Text, false),
    ("hardware_address", Text, true),
    ("ethernet_type", Number, false),
    ("process_process_id", Number, true),
    ("process_process_name", Text, true),
    ("process_process_real_user_id", Number, true),
    ("process_process_container_id", Text, true),
];

/// Columns behind those of applications.
const LAST_COLUMNS: &[ParquetColumnSpec] = &[("labels", List, false)];

/// All columns, in their order.
pub(super) fn columns() -> impl Iterator<Item = &'static ParquetColumnSpec> {
    FLOW_COLUMNS.iter().chain(APPLICATION_COLUMNS).chain(LAST_COLUMNS)
}

/// The names of a column or of two.
pub(super) fn names(column: &ParquetColumnSpec) -> impl Iterator<Item = String> {
    let (name, _, is_pair) = *column;
    let ends: &[&str] = if is_pair { &["source_", "destination_"] } else { &[""] };
    ends.iter().map(move |end| format!("{end}{name}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use panoptes_records::flow::application::ApplicationProtocol;

    use super::*;

    /// Keys without a column: lists of objects and of pairs.
    const LEFT_OUT: [&str; 2] = ["dns_answers", "packet_sequence"];

    #[test]
    fn there_is_a_column_for_each_documented_key() {
        let documentation = include_str!("../../../../docs/flow-record.md");
        let flows = documentation.split("## Sensors").next().expect("a part");
        let keys = flows.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys = keys.map(|key| key.replace('.', "_"));
        let expected: BTreeSet<String> =
            keys.filter(|key| !LEFT_OUT.contains(&key.as_str())).collect();
        // A row of the tables stands for both ends.
        let of_source = |name: &str| !name.starts_with("destination_");
        let columns = columns().flat_map(names).filter(|name| of_source(name));
        let columns = columns.map(|name| match name.find("_active_").or(name.find("_idle_")) {
            Some(at) => {
                let end = at + 1 + name[at + 1..].find('_').unwrap_or_default();
                name[..end].to_owned()
            }
            None if name.contains("_process_process_") => "source_process".to_owned(),
            None => name,
        });
        assert_eq!(columns.collect::<BTreeSet<_>>(), expected, "(left: columns)");
    }

    #[test]
    fn each_application_has_columns() {
        for protocol in ApplicationProtocol::ALL {
            let start = format!("{}_", protocol.name());
            let mut names = APPLICATION_COLUMNS.iter().map(|(name, ..)| *name);
            assert!(names.any(|name| name.starts_with(&start)), "{start}");
        }
    }
}
