//! RTP and RTCP (RFC 3550) in UDP: how they are recognised, and which packets are missing.
//!
//! No port announces RTP. argus takes the first packet of a flow for RTP if its first two bits are
//! those of version 2. Here a flow is RTP when two packets of one end have the same source and
//! sequence numbers that follow each other, so that other data are not mistaken for it.

use panoptes_records::flow::{Detail, FlowDirection, Rtp, RtpSide, rtp_status};

/// Ports below belong to other protocols.
const FIRST_PORT: u16 = 1024;
/// Length of the header of RTP, and of the beginning of each packet of RTCP.
const RTP_BYTES: usize = 12;
const RTCP_BYTES: usize = 8;
/// Types of packets of RTCP: sender reports and receiver reports, of which one is always first.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
/// The last type of packets of RTCP (RFC 5760), and the first one (RFC 2032).
const RTCP_TYPES: core::ops::RangeInclusive<u8> = 192..=213;
/// How far two packets may be apart that show that a flow is RTP.
const NEAR: u16 = 16;
/// How far a packet may be ahead or behind; otherwise the sender has begun again (RFC 3550 A.1).
const DROPOUT_MAX: u16 = 3000;

/// Follows a datagram. `data` is what was captured of it, `length` its length in bytes.
#[inline]
pub(crate) fn follow(
    detail: &mut Detail,
    direction: FlowDirection,
    ports: (u16, u16),
    data: &[u8],
    length: u32,
) {
    // Version 2.
    if data.first().is_none_or(|first| first >> 6 != 2) {
        return;
    }
    if ports.0 < FIRST_PORT || ports.1 < FIRST_PORT {
        return;
    }
    if let Some(rtp) = sides(detail, data, length) {
        let side = match direction {
            FlowDirection::FromSource => &mut rtp.source,
            FlowDirection::FromDestination => &mut rtp.destination,
        };
        let out_of_order = follow_side(side, data, rtp.is_control, &mut rtp.is_certain);
        if out_of_order {
            rtp.status |= match direction {
                FlowDirection::FromSource => rtp_status::OUT_OF_ORDER_SOURCE,
                FlowDirection::FromDestination => rtp_status::OUT_OF_ORDER_DESTINATION,
            };
        }
    }
}

/// Returns the flow's state of RTP, and begins it if needed. `None` if this datagram is not part of
/// it.
fn sides<'a>(detail: &'a mut Detail, data: &[u8], length: u32) -> Option<&'a mut Rtp> {
    let is_control = RTCP_TYPES.contains(data.get(1)?);
    match detail {
        // A report among RTP belongs to both (RFC 5761).
        Detail::Rtp(rtp) if rtp.is_certain && rtp.is_control != is_control => return None,
        Detail::None | Detail::Rtp(_) => {}
        _ => return None,
    }
    if is_control && !is_compound(data, length) || !is_control && data.len() < RTP_BYTES {
        return None;
    }
    let is_known = matches!(detail, Detail::Rtp(rtp) if rtp.is_control == is_control);
    if !is_known {
        *detail = Detail::Rtp(Rtp { is_control, is_certain: is_control, ..Rtp::default() });
    }
    match detail {
        Detail::Rtp(rtp) => Some(rtp),
        _ => None,
    }
}

/// Follows an end; whether the packet was overtaken.
fn follow_side(side: &mut RtpSide, data: &[u8], is_control: bool, is_certain: &mut bool) -> bool {
    let length = if is_control { RTCP_BYTES } else { RTP_BYTES };
    let Some(header) = data.get(..length) else { return false };
    let last = core::mem::replace(&mut side.header, [0; RTP_BYTES]);
    side.header[..length].copy_from_slice(header);
    if is_control || !core::mem::replace(&mut side.has_begun, true) {
        side.has_begun = true;
        return false;
    }
    let number = |header: &[u8; RTP_BYTES]| u16::from_be_bytes([header[2], header[3]]);
    let is_same_source = last[8..] == side.header[8..];
    let ahead = number(&side.header).wrapping_sub(number(&last));
    if !is_same_source {
        return false;
    }
    *is_certain |= (1..=NEAR).contains(&ahead);
    match ahead {
        1..DROPOUT_MAX => {
            side.lost = side.lost.saturating_add(ahead - 1);
            false
        }
        // One that was counted as lost, and was only overtaken.
        _ if ahead.wrapping_neg() < DROPOUT_MAX && ahead != 0 => {
            side.lost = side.lost.saturating_sub(1);
            side.header = last;
            true
        }
        _ => false,
    }
}

/// Whether a datagram is packets of RTCP one behind the other, of which the first one is a report
/// (RFC 3550 A.2).
fn is_compound(data: &[u8], length: u32) -> bool {
    let mut at = 0_usize;
    // The capture may end before the datagram.
    while let Some(&[first, kind, high, low]) = data.get(at..).and_then(|rest| rest.first_chunk()) {
        let is_report = matches!(kind, SENDER_REPORT | RECEIVER_REPORT);
        if first >> 6 != 2 || !RTCP_TYPES.contains(&kind) || at == 0 && !is_report {
            return false;
        }
        at += (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
    }
    at >= RTCP_BYTES && (at == length as usize || at >= data.len() && at <= length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTS: (u16, u16) = (40_000, 5004);

    fn packet(sequence: u16, source: u8) -> Vec<u8> {
        let mut data = vec![0x80, 0];
        data.extend(sequence.to_be_bytes());
        data.extend([0, 0, 0, 0, 1, 2, 3, source]);
        data.extend([7; 20]);
        data
    }

    /// Returns the state after packets with these sequence numbers.
    fn followed(sequences: &[u16]) -> Rtp {
        let mut detail = Detail::None;
        for sequence in sequences {
            let data = packet(*sequence, 1);
            follow(&mut detail, FlowDirection::FromSource, PORTS, &data, data.len() as u32);
        }
        match detail {
            Detail::Rtp(rtp) => rtp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn missing_numbers_are_lost() {
        let lost = |sequences: &[u16]| {
            let rtp = followed(sequences);
            assert!(rtp.is_certain, "{sequences:?}");
            (rtp.source.lost, rtp.status)
        };
        assert_eq!(lost(&[1, 2, 3]), (0, 0));
        assert_eq!(lost(&[1, 2, 5, 6]), (2, 0));
        assert_eq!(lost(&[65_534, 65_535, 0, 2]), (1, 0));
        assert_eq!(lost(&[1, 3, 2, 4]), (0, rtp_status::OUT_OF_ORDER_SOURCE));
        assert_eq!(lost(&[1, 2, 2, 3]), (0, 0));
        // The sender has begun again.
        assert_eq!(lost(&[1, 2, 30_000, 30_001]), (0, 0));
    }

    #[test]
    fn other_data_are_not_mistaken_for_rtp() {
        assert!(!followed(&[5]).is_certain, "one packet");
        assert!(!followed(&[5, 5, 5]).is_certain, "no sequence");
        assert!(!followed(&[5, 900, 3, 7000]).is_certain, "no sequence");
        for (data, ports) in [
            (packet(1, 1), (53, 40_000)),
            (vec![0x80; 11], PORTS),
            (vec![0x45; 40], PORTS),
            (Vec::new(), PORTS),
        ] {
            let mut detail = Detail::None;
            follow(&mut detail, FlowDirection::FromSource, ports, &data, data.len() as u32);
            assert!(matches!(detail, Detail::None), "{data:?} {ports:?}");
        }
        let mut detail = Detail::None;
        for source in 0..9 {
            let data = packet(u16::from(source), source);
            follow(&mut detail, FlowDirection::FromSource, PORTS, &data, data.len() as u32);
        }
        assert!(matches!(detail, Detail::Rtp(rtp) if !rtp.is_certain), "other sources");
    }

    #[test]
    fn reports_are_control() {
        // A receiver report without blocks, and a source description (RFC 3550 §6.4.2, §6.5).
        let mut data = vec![0x80, 201, 0, 1, 1, 2, 3, 4];
        data.extend([0x81, 202, 0, 3, 1, 2, 3, 4, 1, 2, b'a', b'b', 0, 0, 0, 0]);
        let mut detail = Detail::None;
        follow(&mut detail, FlowDirection::FromDestination, PORTS, &data, data.len() as u32);
        let Detail::Rtp(rtp) = detail else { panic!("{detail:?}") };
        assert!(rtp.is_control && rtp.is_certain);
        assert_eq!(rtp.destination.header[..8], data[..8]);
        // Cut by the capture.
        assert!(is_compound(&data[..12], data.len() as u32));
        // Lengths that contradict each other.
        let mut wrong = data.clone();
        wrong[11] = 4;
        assert!(!is_compound(&wrong, data.len() as u32));
        assert!(!is_compound(&data[8..], 16), "a description is not first");
    }
}
