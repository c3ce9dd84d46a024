//! Any bytes, and flows that an encoder of the test has written.

use proptest::prelude::*;

use super::*;

/// Elements of numbers, with the lengths in which they may come.
const NUMBERS: [(u16, u16); 16] = [
    (1, 8),
    (2, 8),
    (4, 1),
    (5, 1),
    (6, 2),
    (7, 2),
    (11, 2),
    (9, 1),
    (13, 1),
    (10, 4),
    (14, 4),
    (16, 4),
    (17, 4),
    (58, 2),
    (192, 1),
    (54, 4),
];

/// A field of a template: element, enterprise, length (`None`: each value has its own), value.
#[derive(Clone, Debug)]
struct Field {
    element: u16,
    enterprise: Option<u32>,
    length: Option<u16>,
    value: Vec<u8>,
}

fn field() -> impl Strategy<Value = Field> {
    let number = (0..NUMBERS.len(), any::<u64>(), any::<prop::sample::Index>()).prop_map(
        |(at, number, length)| {
            let (element, longest) = NUMBERS[at];
            let length = length.index(usize::from(longest)) as u16 + 1;
            let value = number.to_be_bytes()[8 - usize::from(length)..].to_vec();
            Field { element, enterprise: None, length: Some(length), value }
        },
    );
    let address = prop_oneof![Just((8, 4)), Just((12, 4)), Just((15, 4))];
    let address = (address, any::<[u8; 4]>()).prop_map(|((element, length), value)| Field {
        element,
        enterprise: None,
        length: Some(length),
        value: value.to_vec(),
    });
    let unknown = (82_u16..84, prop::option::of(1_u32..20_000), any::<bool>(), 0..300_usize)
        .prop_map(|(element, enterprise, is_variable, length)| Field {
            element,
            enterprise,
            length: (!is_variable).then_some(length as u16),
            value: std::vec![0x55; length],
        });
    prop_oneof![4 => number, 2 => address, 1 => unknown]
}

/// Fields of which no two have the same element, unless it is unknown.
fn fields() -> impl Strategy<Value = Vec<Field>> {
    prop::collection::vec(field(), 1..40).prop_map(|mut fields| {
        let mut seen = std::collections::BTreeSet::new();
        fields.retain(|field| matches!(field.element, 82..84) || seen.insert(field.element));
        fields
    })
}

/// The flow that these fields tell.
fn told(fields: &[Field]) -> NetFlow {
    let mut flow = NetFlow { sampling: 1, ..NetFlow::default() };
    for Field { element, enterprise, value, .. } in fields {
        if enterprise.is_some() {
            continue;
        }
        let number =
            value.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        match element {
            1 => flow.forward.bytes = number,
            2 => flow.forward.packets = number,
            4 => flow.protocol = number as u8,
            5 => flow.tos = number as u8,
            6 => flow.forward.tcp_flags = number as u8,
            7 => flow.source_port = number as u16,
            11 => flow.destination_port = number as u16,
            9 => flow.source_mask = number as u8,
            13 => flow.destination_mask = number as u8,
            10 => flow.input = number as u32,
            14 => flow.output = number as u32,
            16 => flow.source_as = number as u32,
            17 => flow.destination_as = number as u32,
            58 => flow.source_vlan = Some(number as u16).filter(|tag| *tag != 0),
            192 => flow.ttl = number as u8,
            54 => flow.ip_id = number as u16,
            8 => flow.source = number.into(),
            12 => flow.destination = number.into(),
            15 => flow.next_hop = number.into(),
            _ => {}
        }
    }
    if matches!(flow.protocol, 1 | 58) {
        flow.icmp = Some(flow.destination_port.to_be_bytes());
    }
    flow
}

/// A datagram with a template and records of it.
fn export(is_ipfix: bool, fields: &[Field], records: usize) -> Vec<u8> {
    let set = |id: u16, mut content: Vec<u8>| {
        while !is_ipfix && !content.len().is_multiple_of(4) {
            content.push(0);
        }
        let length = 4 + content.len() as u16;
        [&id.to_be_bytes()[..], &length.to_be_bytes(), &content].concat()
    };
    let mut template = [300_u16.to_be_bytes(), (fields.len() as u16).to_be_bytes()].concat();
    let mut record = Vec::new();
    for field in fields {
        let enterprise = field.enterprise.filter(|_| is_ipfix);
        let bit = if field.enterprise.is_some() { 0x8000 } else { 0 };
        template.extend((field.element | bit).to_be_bytes());
        template.extend(field.length.unwrap_or(0xffff).to_be_bytes());
        template.extend(enterprise.into_iter().flat_map(u32::to_be_bytes));
        if field.length.is_none() {
            match field.value.len() {
                length @ 0..255 => record.push(length as u8),
                length => record.extend([255, (length >> 8) as u8, length as u8]),
            }
        }
        record.extend(&field.value);
    }
    let sets =
        [set(if is_ipfix { 2 } else { 0 }, template), set(300, record.repeat(records))].concat();
    let head = if is_ipfix {
        [&hex("000a")[..], &(16 + sets.len() as u16).to_be_bytes(), &hex("6553f104 00000000")]
            .concat()
    } else {
        hex("0009 0000 00000000 6553f104 00000000")
    };
    [head, hex("00000000"), sets].concat()
}

/// Datagrams that pass the first checks.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let starts = ["0001", "0005", "0006", "0007", "0008", "0009", "000a", "00000005"];
    let start = (0..starts.len()).prop_map(move |at| hex(starts[at]));
    let small = prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], 0..400);
    (start, small).prop_map(|(start, rest)| [start, rest].concat())
}

proptest! {
    #[test]
    fn any_bytes_are_decoded(datagrams in prop::collection::vec(anything(), 1..8)) {
        let (flows, counts) = decoded(&datagrams);
        prop_assert_eq!(counts.flows + counts.samples, flows.len() as u64);
        prop_assert_eq!(counts.datagrams, datagrams.len() as u64);
        // No record is smaller than a byte.
        prop_assert!(flows.len() <= datagrams.iter().map(Vec::len).sum());
    }

    #[test]
    fn what_an_encoder_writes_is_read(
        fields in fields(),
        count in 1..4_usize,
        is_ipfix in any::<bool>(),
    ) {
        let mut expected = told(&fields);
        let length: usize = fields.iter().map(|field| 3 + field.value.len()).sum();
        // So that the length of the set fits, and padding is no record.
        prop_assume!(length * count < 60_000 && length >= 8);
        let least: u16 = fields.iter().map(|field| field.length.unwrap_or(1)).sum();
        prop_assume!(least >= 4);
        let (flows, counts) = decoded(&[export(is_ipfix, &fields, count)]);
        prop_assert_eq!((counts.malformed, counts.templates), (0, 1));
        expected.format = if is_ipfix { ExportFormat::Ipfix } else { ExportFormat::NetflowV9 };
        expected.exporter = 1;
        (expected.forward.first_ns, expected.forward.last_ns) = (NOW_NS, NOW_NS);
        if expected.forward.packets == 0 && expected.forward.bytes == 0 {
            prop_assert_eq!(counts.without_counters, count as u64);
        } else {
            let expected: Vec<_> = (0..count as u32)
                .map(|at| NetFlow { sequence: if is_ipfix { at } else { 0 }, ..expected })
                .collect();
            prop_assert_eq!(flows, expected);
        }
    }

    #[test]
    fn a_datagram_that_is_cut_gives_its_first_flows(
        fields in fields(),
        length in any::<prop::sample::Index>(),
    ) {
        let whole = export(true, &fields, 3);
        let (all, _) = decoded(std::slice::from_ref(&whole));
        let (some, _) = decoded(&[whole[..length.index(whole.len())].to_vec()]);
        prop_assert!(some.len() <= all.len());
        prop_assert_eq!(&some[..], &all[..some.len()]);
    }
}
