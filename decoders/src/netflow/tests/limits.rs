//! Damaged datagrams, missing ones, and exporters that want too much.

use super::*;
use crate::netflow::table::{ExporterKey, ExporterTable};

/// A message of IPFIX of a domain, which defines a template or has a flow of it.
fn message(domain: u32, sequence: u32, set: &[u8]) -> Vec<u8> {
    let mut bytes = hex("000a");
    bytes.extend((16 + set.len() as u16).to_be_bytes());
    bytes.extend(hex("6553f104"));
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(domain.to_be_bytes());
    bytes.extend(set);
    bytes
}

/// A template of an address and a number of packets.
fn template(id: u16) -> Vec<u8> {
    let mut set = hex("0002 0010");
    set.extend(id.to_be_bytes());
    set.extend(hex("0002 0008 0004 0002 0004"));
    set
}

fn flow(id: u16) -> Vec<u8> {
    let mut set = id.to_be_bytes().to_vec();
    set.extend(hex("000c 0a000001 00000005"));
    set
}

#[test]
fn records_before_their_template_are_counted() {
    let (flows, counts) =
        decoded(&[message(1, 0, &flow(256)), message(1, 1, &[template(256), flow(256)].concat())]);
    assert_eq!(flows.len(), 1);
    assert_eq!((counts.sets_without_template, counts.malformed, counts.gaps), (1, 0, 0));
}

#[test]
fn templates_belong_to_their_exporter_and_domain() {
    let mut exporters = Exporters::default();
    add(&mut exporters, 1, &message(1, 0, &template(256)));
    assert_eq!(add(&mut exporters, 2, &message(1, 0, &flow(256))).len(), 0);
    assert_eq!(add(&mut exporters, 1, &message(2, 0, &flow(256))).len(), 0);
    assert_eq!(add(&mut exporters, 1, &message(1, 0, &flow(256))).len(), 1);
    assert_eq!(exporters.counts().sets_without_template, 2);
}

#[test]
fn an_exporter_cannot_evict_the_templates_of_another() {
    let mut exporters = Exporters::default();
    add(&mut exporters, 1, &message(1, 0, &template(256)));
    // One exporter with all ids and many domains, and then many exporters.
    for id in 256..=u16::MAX {
        add(&mut exporters, 2, &message(u32::from(id) % 999, 0, &template(id)));
    }
    for exporter in 3..2000 {
        add(&mut exporters, exporter, &message(1, 0, &template(256)));
    }
    assert_eq!(add(&mut exporters, 1, &message(1, 0, &flow(256))).len(), 1);
    let counts = exporters.counts();
    // The first one has one, the second as many as one may have.
    let left = (TEMPLATES_MAX - OWN_TEMPLATES_MAX - 1) as u64;
    assert_eq!(counts.templates_refused, 1997 - left);
    assert!(counts.not_followed > 0);
}

#[test]
fn an_exporter_with_too_many_templates_loses_the_one_unused_for_longest() {
    let mut table = ExporterTable::<u8, 8, 2>::new(0);
    let key = |exporter, template| ExporterKey { exporter, template, ..ExporterKey::default() };
    for (template, now_ns) in [(1, 10), (2, 20)] {
        table.put(&key(1, template), now_ns, template as u8);
    }
    assert_eq!(table.find(&key(1, 1), 30), Some(&mut 1));
    table.put(&key(1, 3), 40, 3);
    assert_eq!(table.find(&key(1, 2), 50), None);
    assert_eq!(table.find(&key(1, 1), 50), Some(&mut 1));
    assert_eq!(table.find(&key(1, 3), 50), Some(&mut 3));
}

#[test]
fn an_entry_unused_for_half_an_hour_gives_its_room() {
    let mut table = ExporterTable::<u8, 2, 1>::new(0);
    let key = |exporter| ExporterKey { exporter, ..ExporterKey::default() };
    let second_ns = 1_000_000_000;
    table.put(&key(1), 0, 1);
    table.put(&key(2), second_ns, 2);
    assert_eq!(table.put(&key(3), 1800 * second_ns, 3), None);
    assert_eq!(table.put(&key(3), 1800 * second_ns + 1, 3), Some(&mut 3));
    assert_eq!(table.find(&key(1), 0), None);
    assert_eq!(table.find(&key(2), 0), Some(&mut 2));
}

#[test]
fn unusable_templates_are_refused() {
    let many = |count: u16| {
        let mut set = hex("0002");
        set.extend((8 + 4 * count).to_be_bytes());
        set.extend(hex("0100"));
        set.extend(count.to_be_bytes());
        set.extend((0..count).flat_map(|_| hex("00020001")));
        set
    };
    // As many fields as are kept, one more, a record of no bytes, an id of a set.
    let sets = [
        (many(128), 1),
        (many(129), 0),
        (hex("0002000c 0100 0001 0002 0000"), 0),
        (hex("0002000c 00ff 0001 0002 0004"), 0),
    ];
    for (set, accepted) in sets {
        let (_, counts) = decoded(&[message(1, 0, &set)]);
        assert_eq!((counts.templates, counts.templates_refused), (accepted, 1 - accepted));
        assert_eq!(counts.malformed, 0);
    }
}

#[test]
fn gaps_in_the_sequence_are_counted() {
    let lost = |datagrams: &[Vec<u8>]| {
        let (_, counts) = decoded(datagrams);
        (counts.gaps, counts.lost_records, counts.lost_datagrams)
    };
    // IPFIX counts records: a template has none, and three flows are missing. Then it begins anew.
    let one = [template(256), flow(256), flow(256)].concat();
    let ipfix = [message(1, 0, &one), message(1, 5, &flow(256)), message(1, 0, &flow(256))];
    assert_eq!(lost(&ipfix), (2, 3, 0));
    // Versions 5 to 8 count flows, and the number begins anew after 2^32.
    let v5 = |sequence: u32| {
        let mut datagram = hex("0005 0002 00000000 6553f104 00000000");
        datagram.extend(sequence.to_be_bytes());
        datagram.extend([0; 4 + 96]);
        datagram
    };
    assert_eq!(lost(&[v5(u32::MAX), v5(1), v5(13)]), (1, 10, 0));
    // Version 9 counts datagrams.
    let v9 = |sequence: u32| {
        let mut datagram = hex("0009 0000 00000000 6553f104");
        datagram.extend(sequence.to_be_bytes());
        datagram.extend(hex("00000001"));
        datagram
    };
    assert_eq!(lost(&[v9(7), v9(8), v9(11)]), (1, 0, 2));
}

#[test]
fn what_is_no_export_is_left_out() {
    // A DNS query with id 5; a text; nothing; version 2; sFlow of version 4.
    let query =
        hex("0005 0100 0001 0000 0000 0000 0377 7777 0765 7861 6d70 6c65 0363 6f6d 0000 0100 \
        0100 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000");
    for (payload, is_known) in [
        (query, true),
        (b"hello".to_vec(), false),
        (Vec::new(), false),
        (hex("0002 0001"), false),
        (hex("00000004 00000001"), false),
    ] {
        let (flows, counts) = decoded(&[payload]);
        assert_eq!(flows.len(), 0);
        assert_eq!((counts.malformed, counts.others), (is_known.into(), (!is_known).into()));
    }
}

#[test]
fn records_that_a_capture_has_cut_are_read_as_far_as_they_are_there() {
    let mut payload = hex("0005 0003 00000000 6553f104 00000000 00000000 00000000");
    payload.extend([1; 3 * 48]);
    for (length, count) in [(24 + 48, 1), (24 + 100, 2), (24 + 143, 2)] {
        let mut exporters = Exporters::default();
        let datagram = Datagram {
            exporter: 1,
            received_ns: NOW_NS,
            payload: &payload[..length],
            wire_length: payload.len() as u32,
        };
        let mut flows = 0;
        decode(&datagram, &mut exporters, |_| flows += 1);
        assert_eq!((flows, exporters.counts().malformed), (count, 1));
    }
}

#[test]
fn damaged_sets_end_a_datagram() {
    let damaged = [
        // A set that is shorter than its header; longer than the message; a template cut off.
        hex("0100 0003 0000"),
        hex("0100 00ff 0a000001 00000005"),
        hex("0002 000c 0100 0009 0008 0004"),
    ];
    for set in damaged {
        let (_, counts) = decoded(&[message(1, 0, &template(256)), message(1, 0, &set)]);
        assert_eq!(counts.malformed, 1, "{set:x?}");
    }
}
