//! Filters of records: any text is compiled or refused, and what is compiled ends and can be
//! reversed.
//!
//! The first byte of the input is the kind of the record that the filter is applied to.
#![cfg_attr(fuzzing, no_main)]

use panoptes_fuzz::fuzz_target;
use panoptes_records::flow::{
    Arp, Cause, Detail, Esp, Extra, FlowKey, FlowKeyKind, FlowRecord, FlowSide, Icmp, Jitter, Tcp,
};
use panoptes_sinks::flow::argus::SourceId;
use panoptes_sinks::flow::filter::{EXPRESSION_BYTES_MAX, NameSource, RecordFilter};

fn record(kind: u8) -> FlowRecord {
    let (kind, protocol, detail) = match kind % 7 {
        0 => (FlowKeyKind::Ipv4, 6, Detail::Tcp(Tcp::default())),
        1 => (FlowKeyKind::Ipv6, 17, Detail::None),
        2 => (FlowKeyKind::Icmp, 0, Detail::Icmp(Icmp::default())),
        3 => (FlowKeyKind::EspV6, 50, Detail::Esp(Esp::default())),
        4 => (FlowKeyKind::Arp, 0, Detail::Arp(Arp::default())),
        5 => (FlowKeyKind::FragmentV4, 17, Detail::None),
        _ => (FlowKeyKind::Ethernet, 0, Detail::None),
    };
    let side =
        FlowSide { packets: 3, bytes: 200, first_ns: 1, last_ns: 1 << 30, ..FlowSide::default() };
    FlowRecord {
        key: FlowKey { kind, protocol, ..FlowKey::default() },
        source: side,
        destination: side,
        detail,
        ..FlowRecord::default()
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let filter = match RecordFilter::parse(&text, NameSource::BuiltIn) {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.at <= text.len());
            assert_eq!(error.to_string().lines().count(), 1, "one line");
            return;
        }
    };
    assert!(text.len() <= EXPRESSION_BYTES_MAX);
    let (record, jitter) = (record(*kind), Jitter::default());
    let extra = Extra { jitter: Some(&jitter), ..Extra::default() };
    let matches = |filter: &RecordFilter| {
        let source = SourceId::Number(7);
        [filter.matches(&record, &extra, source), filter.matches_management(source, Cause::Stop)]
    };
    // It may be too long, or too deep, or empty.
    if let Ok(reversed) = RecordFilter::parse(&format!("not ({text})"), NameSource::BuiltIn) {
        assert_eq!(matches(&reversed), matches(&filter).map(|is_match| !is_match));
    }
});
