//! Overlays: networks with numbers, in which any addresses may be used.

use super::*;

const UDP: [u8; 8] = [0, 9, 0, 10, 0, 8, 0, 0];
const ANSWER: [u8; 8] = [0, 10, 0, 9, 0, 8, 0, 0];

impl Wire {
    /// A sensor to which the number of the overlay belongs to what identifies a flow.
    fn of_tenants(capacity: usize) -> Self {
        let settings = FlowTableSettings {
            capacity,
            status_interval_ns: 5 * SECOND_NS,
            has_overlays: true,
            ..FlowTableSettings::default()
        };
        let mut wire = Self::new(capacity);
        wire.flows = Flows::new(&settings, HashKey::new(7));
        wire
    }

    /// A question in one overlay, and the answer in another one.
    fn exchange(&mut self, vnis: [Option<u32>; 2]) {
        self.send_in(vnis[0], ip(0, protocol::UDP, &UDP));
        self.send_in(vnis[1], ip(1, protocol::UDP, &ANSWER));
    }
}

/// Packets of both ends, and their overlays.
fn summaries(records: &[FlowRecord]) -> Vec<([u64; 2], [Option<u32>; 2])> {
    let packets = |record: &FlowRecord| [record.source.packets, record.destination.packets];
    records.iter().map(|record| (packets(record), record.vnis)).collect()
}

#[test]
fn both_ends_have_the_numbers_of_their_overlays() {
    let mut wire = Wire::new(8);
    wire.exchange([Some(0), Some(0xff_ffff)]);
    assert_eq!(summaries(&wire.finish()), [([1, 1], [Some(0), Some(0xff_ffff)])]);
    let mut wire = Wire::new(8);
    wire.exchange([None, Some(7)]);
    assert_eq!(summaries(&wire.finish()), [([1, 1], [None, Some(7)])]);
}

#[test]
fn equal_addresses_of_two_tenants_are_two_flows_if_asked_for() {
    let tenants = [Some(0), Some(7), Some(8), None];
    let mut wire = Wire::of_tenants(8);
    for vni in tenants.into_iter().chain(tenants) {
        wire.exchange([vni; 2]);
    }
    let expected = tenants.map(|vni| ([2, 2], [vni; 2]));
    assert_eq!(summaries(&wire.finish()), expected);
    // The addresses alone decide by default.
    let mut wire = Wire::new(8);
    for vni in tenants {
        wire.exchange([vni; 2]);
    }
    assert_eq!(summaries(&wire.finish()), [([4, 4], [Some(8); 2])]);
}

/// Two routers that each have a number for a way (EVPN, symmetric IRB): leave the option off.
#[test]
fn directions_in_different_overlays_are_two_flows_then() {
    let mut wire = Wire::of_tenants(8);
    wire.exchange([Some(7), Some(8)]);
    let expected = [([1, 0], [Some(7), None]), ([1, 0], [Some(8), None])];
    assert_eq!(summaries(&wire.finish()), expected);
}

#[test]
fn what_belongs_to_a_flow_is_in_its_overlay() {
    let fragment = |offset: u16, more: bool| Some(Fragment { offset, more, id: 77 });
    let quoted = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &UDP];
    let error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted.concat()].concat();
    let mut wire = Wire::of_tenants(16);
    let tenants = [7, 8].map(Some);
    for vni in tenants {
        let packet = ip(0, protocol::UDP, &UDP);
        wire.send_in(vni, Ip { fragment: fragment(0, true), ..packet });
    }
    wire.send_in(tenants[1], Ip { fragment: fragment(8, false), ..ip(0, protocol::UDP, &UDP) });
    wire.send_in(tenants[1], ip(1, protocol::ICMP, &error));
    let records = wire.finish();
    let of = |vni: Option<u32>| {
        let is_wanted = |one: &&FlowRecord| one.key.kind == FlowKeyKind::Ipv4 && one.vnis[0] == vni;
        let record = records.iter().find(is_wanted).expect("a record");
        (record.source.packets, record.error.is_some())
    };
    assert_eq!([of(tenants[0]), of(tenants[1])], [(1, false), (2, true)]);
}

/// A connection of a tenant is followed, restarted and turned round in its overlay.
#[test]
fn connections_of_two_tenants_do_not_touch() {
    let mut wire = Wire::of_tenants(8);
    let mut send = |vni: u32, end: u32, numbers: (u32, u32), flags: u8| {
        let bytes = segment(end, numbers, flags, b"");
        wire.send_in(Some(vni), ip(end, protocol::TCP, &bytes));
    };
    for turn in 0..2 {
        for vni in [7, 8] {
            let (client, server) = (1000 * vni + turn, 9000 * vni + turn);
            send(vni, 1, (server, client + 1), flag::SYN | flag::ACK);
            send(vni, 0, (client, 0), flag::SYN);
            send(vni, 0, (client + 1, server + 1), flag::ACK);
            send(vni, 0, (client + 1, server + 1), flag::RST);
        }
    }
    let records = wire.finish();
    assert_eq!(records.len(), 4, "{:?}", summaries(&records));
    for record in &records {
        assert!(record.vnis[0].is_some());
        assert_eq!(record.overlay, record.vnis[0].map_or(0, |vni| vni + 1));
        let bits = tcp(record).status;
        assert_ne!(bits & tcp_status::RESET, 0);
    }
}
