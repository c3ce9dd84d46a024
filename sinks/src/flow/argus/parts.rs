//! The parts of a flow record, in the order in which argus 3 writes them.

use panoptes_records::flow::{
    Detail, Exporter, Extra, FlowKey, FlowKeyKind, FlowRecord, FlowSide, Icmp, Interval, Jitter,
    Labels, Rtp, Tcp, TcpSide, TcpState, USER_BYTES_MAX, header, status,
};

use super::words::ArgusWordWriter;
use super::{ArgusOptions, SourceId, Version};

/// Codes of the parts (`include/argus_def.h`).
mod code {
    pub(super) const TRANSPORT: u8 = 0x01;
    pub(super) const FLOW: u8 = 0x02;
    pub(super) const TIME: u8 = 0x03;
    pub(super) const METER: u8 = 0x10;
    pub(super) const PACKET_SIZE: u8 = 0x12;
    pub(super) const ENCAPSULATION: u8 = 0x20;
    pub(super) const NETWORK: u8 = 0x30;
    pub(super) const AUTONOMOUS_SYSTEMS: u8 = 0x32;
    pub(super) const ICMP: u8 = 0x34;
    pub(super) const VLAN: u8 = 0x40;
    pub(super) const HARDWARE: u8 = 0x42;
    /// A code of argus 5.
    pub(super) const VXLAN: u8 = 0x43;
    pub(super) const MPLS: u8 = 0x44;
    pub(super) const JITTER: u8 = 0x46;
    pub(super) const IP_ATTRIBUTES: u8 = 0x48;
    pub(super) const DATA: u8 = 0x50;
    pub(super) const LABEL: u8 = 0x66;
}

pub(super) fn write(
    words: &mut ArgusWordWriter<'_>,
    options: &ArgusOptions,
    record: &FlowRecord,
    extra: &Extra<'_>,
) {
    // The source of what an exporter tells is the exporter.
    let source_id = match extra.exporter {
        Some(Exporter { address: address @ 1.., .. }) => SourceId::Address(address),
        _ => options.source_id,
    };
    transport(words, source_id, options.interface, record.sequence);
    flow(words, &record.key);
    time(words, record);
    meter(words, record, options.application_bytes);
    network(words, record);
    vlan(words, record);
    vxlan(words, record);
    mpls(words, record);
    if let Some(jitter) = extra.jitter {
        write_jitter(words, jitter);
    }
    ip_attributes(words, record);
    if options.packet_sizes {
        packet_sizes(words, record);
    }
    user(words, 0x90, extra.user[0]);
    user(words, 0xa0, extra.user[1]);
    // An exporter's interfaces are in the place of these addresses.
    if options.hardware || extra.exporter.is_some() {
        hardware(words, record);
    }
    if let Some(exporter) = &extra.exporter {
        autonomous_systems(words, exporter);
    }
    if let Some(error) = &record.error {
        error_of(words, error);
    }
    words.bytes(&[code::ENCAPSULATION, 0, 0, 3]);
    for side in [&record.source, &record.destination] {
        words.number(encapsulation(words.version(), side.encapsulation));
    }
    if !extra.labels.is_empty() {
        labels(words, &extra.labels);
    }
}

/// The headers around packets as a version has them: bits of `include/argus_encapsulations.h`. What
/// has none there is what the protocol below it is: IP in IP, or GRE.
const fn encapsulation(version: Version, bits: u32) -> u32 {
    /// IP in IP, and ERSPAN of argus 3.
    const IN_IP: u32 = 0x100;
    const ERSPAN_3: u32 = 0x400_0000;
    let (in_ip, kept) = match version {
        Version::Three => (header::VXLAN | header::GENEVE | header::GTP_USER, 0x3ff_ffff),
        Version::Five => (header::GTP_USER, 0x1fff_ffff),
    };
    let mut written = bits & kept;
    if bits & in_ip != 0 {
        written |= IN_IP;
    }
    if bits & header::ERSPAN != 0 && matches!(version, Version::Three) {
        written |= ERSPAN_3;
    }
    written
}

/// Writes the source id, with the interface in version 5, and the number of the flow.
fn transport(
    words: &mut ArgusWordWriter<'_>,
    source_id: SourceId,
    interface: [u8; 4],
    sequence: u32,
) {
    if words.version() == Version::Five {
        let (kind, id, length) = source_id.code_5();
        let has_interface = source_id != SourceId::None && interface != [0; 4];
        // Without a kind, there is no id.
        let subtype = if source_id == SourceId::None { 0x02 } else { 0x03 };
        let interface_bit = if has_interface { 0x10 } else { 0 };
        let at = words.begin(code::TRANSPORT, subtype | interface_bit, kind | interface_bit);
        if source_id != SourceId::None {
            words.bytes(&id[..length]);
        }
        if has_interface {
            words.bytes(&interface);
        }
        words.number(sequence);
        words.end(at);
    } else {
        let (kind, id) = source_id.code();
        words.bytes(&[code::TRANSPORT, 0x03, kind, 3]);
        words.bytes(&id);
        words.number(sequence);
    }
}

/// What identifies the flow.
fn flow(words: &mut ArgusWordWriter<'_>, key: &FlowKey) {
    match key.kind {
        FlowKeyKind::Ipv4
        | FlowKeyKind::Icmp
        | FlowKeyKind::Igmp
        | FlowKeyKind::EspV4
        | FlowKeyKind::FragmentV4 => {
            flow_v4(words, key);
        }
        FlowKeyKind::Ipv6 | FlowKeyKind::Icmpv6 | FlowKeyKind::EspV6 | FlowKeyKind::FragmentV6 => {
            flow_v6(words, key);
        }
        FlowKeyKind::Arp => {
            // Ethernet, IPv4, lengths 6 and 4, a request.
            let at = words.begin(code::FLOW, 0x06, 0x04);
            words.bytes(&[0, 1, 8, 0, 6, 4, 0, 1]);
            words.number(key.source.v4());
            words.number(key.destination.v4());
            let asker = if key.source.0[0] == 0 { key.destination } else { key.source };
            words.bytes(&asker.hardware_in(0));
            words.end(at);
        }
        FlowKeyKind::Rarp => {
            let at = words.begin(code::FLOW, 0x06, 0x05);
            words.bytes(&[0, 1, 8, 0, 6, 4, 0, 3]);
            words.number(0);
            words.bytes(&key.source.hardware_in(1));
            words.bytes(&key.destination.hardware_in(1));
            words.end(at);
        }
        FlowKeyKind::Ethernet | FlowKeyKind::Llc => {
            let at = words.begin(code::FLOW, 0x01, 0x03);
            words.bytes(&key.destination.hardware_in(1));
            words.bytes(&key.source.hardware_in(1));
            words.short(key.extra);
            words.bytes(&[key.destination_port as u8, key.source_port as u8]);
            words.end(at);
        }
        FlowKeyKind::Wireless => {
            // `struct ArgusWlanFlow` of `include/argus_out.h`: also the access point and its name,
            // which are not kept.
            let at = words.begin(code::FLOW, 0x01, 0x08);
            words.bytes(&key.destination.hardware_in(1));
            words.bytes(&key.source.hardware_in(1));
            words.bytes(&[0; 6 + 32]);
            words.end(at);
        }
    }
}

fn flow_v4(words: &mut ArgusWordWriter<'_>, key: &FlowKey) {
    let [kind, icmp_code] = key.source_port.to_be_bytes();
    // Without the bit 0x40, clients overwrite the upper half of an SPI; with it, its zero bytes.
    let qualifier = match key.kind {
        FlowKeyKind::EspV4 => 0x41,
        FlowKeyKind::FragmentV4 => 0x81,
        _ => 0x01,
    };
    let at = words.begin(code::FLOW, 0x01, qualifier);
    words.number(key.source.v4());
    words.number(key.destination.v4());
    match key.kind {
        FlowKeyKind::Icmp => {
            words.bytes(&[1, key.protocol, kind, icmp_code]);
            words.short(key.destination_port);
            words.short(key.extra);
        }
        FlowKeyKind::Igmp => {
            words.bytes(&[key.protocol, 0, kind, icmp_code, 0, 0]);
            words.short(key.extra);
        }
        FlowKeyKind::EspV4 => {
            words.bytes(&[key.protocol, 0, 0, 0]);
            words.number(key.number());
        }
        FlowKeyKind::FragmentV4 => {
            words.bytes(&[key.protocol, 0, 0, 0, 0, 0]);
            words.short(key.destination_port);
        }
        _ => {
            words.bytes(&[key.protocol, 0]);
            words.short(key.source_port);
            words.short(key.destination_port);
            // The bytes of the masks: argus has the id of a query of DNS there.
            words.short(key.extra);
        }
    }
    words.end(at);
}

fn flow_v6(words: &mut ArgusWordWriter<'_>, key: &FlowKey) {
    let qualifier = if key.kind == FlowKeyKind::FragmentV6 { 0x82 } else { 0x02 };
    let at = words.begin(code::FLOW, 0x01, qualifier);
    words.bytes(&key.source.v6());
    words.bytes(&key.destination.v6());
    words.number(u32::from(key.protocol) << 24);
    words.number(key.number());
    words.end(at);
}

/// The times of the first and of the last packet; one time if they are the same.
fn time(words: &mut ArgusWordWriter<'_>, record: &FlowRecord) {
    let (first, last) = record.times();
    // Microseconds or nanoseconds, in UTC.
    let unit = if words.version() == Version::Five { 0x19 } else { 0x18 };
    if first == last {
        let at = words.begin(code::TIME, 0x01, unit);
        words.time(first);
        words.end(at);
    } else {
        let at = words.begin(code::TIME, 0x02, unit);
        words.time(first);
        words.time(last);
        words.end(at);
    }
}

/// Packets and bytes of both ends, as wide as the largest number needs.
fn meter(words: &mut ArgusWordWriter<'_>, record: &FlowRecord, has_application: bool) {
    let of = |side: &FlowSide| [side.packets, side.bytes, side.application_bytes];
    let (source, destination) = (of(&record.source), of(&record.destination));
    let count = if has_application { 3 } else { 2 };
    let sides: &[[u64; 3]] = match (source[0], destination[0]) {
        (_, 0) => &[source],
        (0, _) => &[destination],
        _ => &[source, destination],
    };
    let largest = sides.iter().flat_map(|side| &side[..count]).max().copied().unwrap_or(0);
    let is_one_way = sides.len() == 1;
    // 0: one byte a number, 3: eight. One byte is not defined for one way without these bytes.
    let width = match largest {
        0..=0xff if !is_one_way || has_application => 0,
        0..0x1_0000 => 1,
        0x1_0000..=0xffff_ffff => 2,
        _ => 3,
    };
    let first = match (is_one_way, destination[0]) {
        (false, _) => 1,
        (true, 0) => 5,
        (true, _) => 9,
    };
    let at = words.begin(code::METER, if has_application { 4 } else { 1 }, first + width);
    for number in sides.iter().flat_map(|side| &side[..count]) {
        match width {
            0 => words.bytes(&[*number as u8]),
            1 => words.short(*number as u16),
            2 => words.number(*number as u32),
            _ => words.long(*number),
        }
    }
    words.end(at);
}

/// What the protocol of the flow adds.
fn network(words: &mut ArgusWordWriter<'_>, record: &FlowRecord) {
    match &record.detail {
        Detail::Rtp(rtp) if rtp.is_certain => rtp_words(words, rtp),
        Detail::None | Detail::Rtp(_) => words.bytes(&[code::NETWORK, 0, 0, 1]),
        Detail::Tcp(tcp) if tcp.has_continued => tcp_performance(words, tcp),
        Detail::Tcp(tcp) => {
            let side = if tcp.source.has_begun { &tcp.source } else { &tcp.destination };
            let at = words.begin(code::NETWORK, 0x03, tcp_format(words.version()));
            words.number(tcp.bits());
            words.number(side.sequence_base);
            words.number(tcp.options);
            words.short(side.window);
            words.bytes(&[side.flags, side.window_scale]);
            segment_size(words);
            words.end(at);
        }
        Detail::Icmp(icmp) => {
            let at = words.begin(code::NETWORK, 0x34, 0);
            icmp_words(words, icmp);
            words.end(at);
        }
        Detail::Esp(esp) => {
            let at = words.begin(code::NETWORK, 0x38, 0);
            words.number(esp.status);
            words.number(esp.spi);
            words.number(esp.last_sequence);
            words.number(esp.lost);
            words.end(at);
        }
        Detail::Arp(arp) => {
            let at = words.begin(code::NETWORK, 0x10, 0);
            words.bytes(&arp.responder);
            words.end(at);
        }
    }
}

/// Whether the parts of TCP have segment sizes.
const fn tcp_format(version: Version) -> u8 {
    match version {
        Version::Three => 0,
        Version::Five => 2,
    }
}

fn tcp_performance(words: &mut ArgusWordWriter<'_>, tcp: &Tcp) {
    let at = words.begin(code::NETWORK, 0x05, tcp_format(words.version()));
    words.number(tcp.bits());
    words.number(state(tcp.state));
    words.number(tcp.options);
    words.number(tcp.syn_ack_us);
    words.number(tcp.ack_data_us);
    for side in [&tcp.source, &tcp.destination] {
        tcp_side(words, side);
    }
    words.end(at);
}

/// The state of a connection. A closed one has that of one that closes, as after a reset in argus:
/// `ra` shows no losses in state 0.
const fn state(state: TcpState) -> u32 {
    match state {
        TcpState::Closed => TcpState::Closing as u32,
        state => state as u32,
    }
}

fn tcp_side(words: &mut ArgusWordWriter<'_>, side: &TcpSide) {
    words.time(side.last_ns);
    words.number(side.status);
    words.number(side.sequence_base);
    words.number(side.sequence);
    words.number(side.acknowledged);
    words.number(side.windows);
    words.number(side.bytes);
    words.number(side.retransmitted);
    // Bytes before the sequence number began anew: it is compared modulo 2^32 here.
    words.number(0);
    words.number(side.in_flight);
    words.short(side.window);
    words.bytes(&[side.flags, side.window_scale]);
    segment_size(words);
}

/// The largest segment that an end accepts, which is not known: version 5 has it.
fn segment_size(words: &mut ArgusWordWriter<'_>) {
    if words.version() == Version::Five {
        words.number(0);
    }
}

/// The latest headers, and missing packets.
fn rtp_words(words: &mut ArgusWordWriter<'_>, rtp: &Rtp) {
    let sides = [&rtp.source, &rtp.destination];
    let at = if rtp.is_control {
        let at = words.begin(code::NETWORK, 0x09, 0);
        for side in sides {
            words.bytes(&side.header[..8]);
        }
        at
    } else {
        let at = words.begin(code::NETWORK, 0x0a, 0);
        words.number(rtp.status);
        for side in sides {
            words.bytes(&side.header);
        }
        at
    };
    for side in sides {
        words.short(side.lost);
    }
    if !rtp.is_control {
        words.number(0); // Deviations, which argus does not compute, either.
    }
    words.end(at);
}

fn icmp_words(words: &mut ArgusWordWriter<'_>, icmp: &Icmp) {
    words.bytes(&[icmp.kind, icmp.code]);
    words.short(icmp.sequence);
    words.number(icmp.sender);
    words.number(icmp.receiver);
    words.number(icmp.quoted_source);
    words.number(icmp.quoted_destination);
    words.number(icmp.gateway);
}

/// What an error message says: 1 unreachable, 2 redirect, 4 time exceeded.
pub(in crate::flow) const fn error_group(icmp: &Icmp) -> u8 {
    // Destination unreachable and redirect of version 4; time exceeded of both. Of version 6,
    // types are below 3, and `sender` is 0.
    match (icmp.kind, icmp.sender) {
        (11, _) | (3, 0) => 4,
        (5, _) => 2,
        _ => 1,
    }
}

/// An error message that refers to this flow.
fn error_of(words: &mut ArgusWordWriter<'_>, icmp: &Icmp) {
    let at = words.begin(code::ICMP, 0, error_group(icmp));
    icmp_words(words, icmp);
    words.number(0);
    words.end(at);
}

fn vlan(words: &mut ArgusWordWriter<'_>, record: &FlowRecord) {
    let has = |side: &FlowSide| side.status & status::VLAN != 0;
    let qualifier = u8::from(has(&record.source)) | u8::from(has(&record.destination)) << 1;
    if qualifier != 0 {
        let at = words.begin(code::VLAN, 0, qualifier);
        words.short(record.source.vlan);
        words.short(record.destination.vlan);
        words.end(at);
    }
}

/// The numbers of VXLAN. Argus has no place for those of Geneve and others.
fn vxlan(words: &mut ArgusWordWriter<'_>, record: &FlowRecord) {
    let [source, destination] = record.vnis;
    let bits = record.source.encapsulation | record.destination.encapsulation;
    if words.version() != Version::Five || bits & header::VXLAN == 0 {
        return;
    }
    let qualifier = u8::from(source.is_some()) | u8::from(destination.is_some()) << 1;
    let at = words.begin(code::VXLAN, 0, qualifier);
    words.number(source.unwrap_or(0));
    words.number(destination.unwrap_or(0));
    words.end(at);
}

fn mpls(words: &mut ArgusWordWriter<'_>, record: &FlowRecord) {
    let has = |side: &FlowSide| u8::from(side.mpls_depth > 0);
    let [source, destination] = [&record.source, &record.destination].map(has);
    if source == 0 && destination == 0 {
        return;
    }
    // The number of labels that are written, not of those of the packet: clients change the byte
    // order of as many words.
    let at = words.begin(code::MPLS, source | destination << 1, source << 4 | destination);
    for side in [&record.source, &record.destination] {
        if side.mpls_depth > 0 {
            words.number(side.mpls);
        }
    }
    words.end(at);
}

fn write_jitter(words: &mut ArgusWordWriter<'_>, jitter: &Jitter) {
    let (source, destination) = (&jitter.source, &jitter.destination);
    let all = [source.active, source.idle, destination.active, destination.idle];
    let qualifier = (0..4).fold(0, |bits, at| bits | u8::from(all[at].count > 0) << at);
    if qualifier == 0 {
        return;
    }
    let at = words.begin(code::JITTER, 0, qualifier);
    for interval in all.iter().filter(|interval| interval.count > 0) {
        write_interval(words, interval);
    }
    words.end(at);
}

fn write_interval(words: &mut ArgusWordWriter<'_>, interval: &Interval) {
    words.number(interval.count);
    // Version 5 has nanoseconds.
    let scale = if words.version() == Version::Five { 1000.0 } else { 1.0 };
    let [min, max] = [interval.min, interval.max].map(f64::from);
    for number in [min, interval.mean(), interval.deviation(), max] {
        words.number(((number * scale) as f32).to_bits());
    }
    if words.version() == Version::Five {
        // A histogram, which is empty.
        words.long(0);
    }
}

fn ip_attributes(words: &mut ArgusWordWriter<'_>, record: &FlowRecord) {
    let sides = [&record.source, &record.destination];
    let has = |side: &FlowSide, bit: u8| side.status & bit != 0;
    if !sides.iter().any(|side| has(side, status::IP)) {
        return;
    }
    let mut qualifier = 0;
    for (side, shift) in sides.into_iter().zip([0, 1]) {
        // Bits for an end: it was seen (1, 2), it has options (4, 8), it has fragments (16, 32).
        qualifier |= u8::from(has(side, status::IP)) << shift;
        qualifier |= u8::from(side.ip_options != 0) << (2 + shift);
        qualifier |= u8::from(has(side, status::FRAGMENTS)) << (4 + shift);
    }
    let at = words.begin(code::IP_ATTRIBUTES, 0, qualifier);
    for side in sides {
        if has(side, status::IP) {
            words.bytes(&[side.ttl, side.tos]);
            words.short(side.ip_id);
        }
        if side.ip_options != 0 {
            words.number(side.ip_options);
        }
    }
    words.end(at);
}

fn packet_sizes(words: &mut ArgusWordWriter<'_>, record: &FlowRecord) {
    let sizes = |side: &FlowSide| (side.packets > 0).then_some([side.size_min, side.size_max]);
    let all = [sizes(&record.source), sizes(&record.destination)];
    let (ends, qualifier) = match all {
        [Some(_), Some(_)] => (3, 2),
        [Some(_), None] => (1, 6),
        [None, Some(_)] => (2, 10),
        [None, None] => return,
    };
    let subtype = if words.version() == Version::Five { ends } else { 0 };
    let at = words.begin(code::PACKET_SIZE, subtype, qualifier);
    for size in all.iter().flatten().flatten() {
        words.short(*size);
    }
    words.end(at);
}

/// The first bytes that an end has sent. This part alone has a length of 16 bits.
fn user(words: &mut ArgusWordWriter<'_>, subtype: u8, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let bytes = &bytes[..bytes.len().min(USER_BYTES_MAX)];
    let length = 2 + bytes.len().div_ceil(4) as u16;
    words.bytes(&[code::DATA, subtype]);
    words.short(length);
    words.short(bytes.len() as u16);
    words.short(bytes.len() as u16);
    words.bytes(bytes);
    words.pad();
}

fn hardware(words: &mut ArgusWordWriter<'_>, record: &FlowRecord) {
    if record.hardware == [[0; 6]; 2] && record.ethertype == 0 {
        return;
    }
    let has = |side: &FlowSide| side.status & status::SEVERAL_PATHS != 0;
    let qualifier = u8::from(has(&record.source)) | u8::from(has(&record.destination)) << 1;
    let at = words.begin(code::HARDWARE, 0, qualifier);
    words.bytes(record.hardware.as_flattened());
    words.short(record.ethertype);
    words.end(at);
}

fn autonomous_systems(words: &mut ArgusWordWriter<'_>, exporter: &Exporter) {
    if exporter.source_as == 0 && exporter.destination_as == 0 {
        return;
    }
    let at = words.begin(code::AUTONOMOUS_SYSTEMS, 0, 0);
    words.number(exporter.source_as);
    words.number(exporter.destination_as);
    words.end(at);
}

/// The labels with colons between them. Clients split the text there.
fn labels(words: &mut ArgusWordWriter<'_>, labels: &Labels<'_>) {
    let at = words.begin(code::LABEL, 0, 0);
    for (index, label) in labels.iter().enumerate() {
        if index > 0 {
            words.bytes(b":");
        }
        for byte in label.bytes() {
            words.bytes(&[if byte == b':' || byte.is_ascii_control() { b'_' } else { byte }]);
        }
    }
    words.end(at);
}
