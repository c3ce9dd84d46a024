//! Several tables that divide flows between them.

use super::*;
use crate::identity;

/// Settings of one of two tables.
fn part(number: u32) -> Flows {
    let settings = FlowTableSettings {
        capacity: 8,
        status_interval_ns: 5 * SECOND_NS,
        timeouts: Timeouts::default(),
        part: (number, 2),
        ..FlowTableSettings::default()
    };
    Flows::new(&settings, HashKey::new(7))
}

fn packet(ip: Ip<'_>) -> Packet<'_> {
    let ether = Some(Ether { kind: 0x800, ..Ether::default() });
    Packet { ether, network: Network::Ip(ip), ..Packet::default() }
}

#[test]
fn flows_of_several_tables_have_different_numbers() {
    let mut numbers = Vec::new();
    for number in 0..2 {
        let (mut flows, mut kept) = (part(number), Kept::default());
        for port in 0..3 {
            let udp = [0, port, 0, 9, 0, 8, 0, 0];
            flows.packet(&packet(ip(0, protocol::UDP, &udp)), BEGIN_NS, 42, &mut kept);
        }
        flows.finish(&mut kept);
        numbers.extend(kept.0.iter().map(|(record, _)| record.sequence));
    }
    assert_eq!(numbers, [1, 3, 5, 2, 4, 6]);
}

#[test]
fn an_error_message_may_be_about_a_flow_of_another_table() {
    let udp = [0, 7, 0, 9, 0, 8, 0, 0];
    let quoted = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &udp];
    // From a router, that the time is exceeded.
    let error = [&[11, 0, 0, 0, 0, 0, 0, 0][..], &quoted.concat()].concat();
    let message = packet(Ip { source: 99, destination: 1, ..ip(0, protocol::ICMP, &error) });
    assert_eq!(identity::quoted_addresses(&message), Some((1, 2)));
    let datagram = packet(ip(0, protocol::UDP, &udp));
    assert_eq!(identity::quoted_addresses(&datagram), None);

    let (mut flows, mut kept) = (part(0), Kept::default());
    flows.packet(&datagram, BEGIN_NS, 42, &mut kept);
    flows.error_message(&message, BEGIN_NS + 1_000_000);
    // It is about nothing that this table has.
    flows.error_message(&datagram, BEGIN_NS);
    flows.finish(&mut kept);
    let [(record, _)] = &kept.0[..] else { panic!("one flow: {kept:?}") };
    assert_eq!(record.error.expect("a message").kind, 11);
    assert_eq!((record.source.packets, record.source.last_ns), (1, BEGIN_NS + 1_000_000));
    assert_eq!((flows.counts().packets, flows.counts().flows), (1, 1));
}
