//! Time stamps that a network card makes.
//!
//! Cards stamp packets with their own clock. Its time is only of use if a program (ptp4l, phc2sys)
//! keeps it at the time of this machine, so the two are compared first. Nothing of an interface is
//! changed if its card cannot stamp all packets, or has another time.

use std::fs::File;
use std::os::fd::AsFd as _;

use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};

use crate::socket::PacketSocket;

/// Largest difference between the two clocks.
const DIFFERENCE_NS_MAX: i128 = 100_000;
/// Times that they are compared; the fastest comparison counts.
const COMPARISONS: usize = 5;
/// HWTSTAMP_FILTER_ALL (`include/uapi/linux/net_tstamp.h`).
const FILTER_ALL: libc::c_int = libc::HWTSTAMP_FILTER_ALL as libc::c_int;

/// Has the card of an interface stamp all packets that it receives; `false` if that cannot be.
pub(crate) fn use_hardware(socket: &PacketSocket, name: &str) -> bool {
    let Ok(abilities) = socket.time_abilities(name) else { return false };
    let can_stamp = abilities.sources & libc::SOF_TIMESTAMPING_RAW_HARDWARE != 0
        && abilities.filters & 1 << FILTER_ALL != 0;
    if !can_stamp || !is_right(abilities.clock) || !stamp_all(socket, name) {
        return false;
    }
    socket.set(libc::PACKET_TIMESTAMP, &libc::SOF_TIMESTAMPING_RAW_HARDWARE).is_ok()
}

/// Switches the stamps on, and leaves alone what else is set.
fn stamp_all(socket: &PacketSocket, name: &str) -> bool {
    let Ok(mut stamping) = socket.stamping(name) else { return false };
    if stamping.rx_filter == FILTER_ALL {
        return true;
    }
    stamping.rx_filter = FILTER_ALL;
    socket.set_stamping(name, &mut stamping).is_ok() && stamping.rx_filter == FILTER_ALL
}

/// Whether the card's clock has the time of this machine.
fn is_right(clock: i32) -> bool {
    let Ok(clock) = File::open(format!("/dev/ptp{clock}")) else { return false };
    let compare = || {
        let before = now();
        let card = clock_gettime_dynamic(DynamicClockId::Dynamic(clock.as_fd())).ok()?;
        let after = now();
        let card = nanoseconds(card.tv_sec, card.tv_nsec);
        Some((after - before, (card - i128::midpoint(before, after)).abs()))
    };
    let best = (0..COMPARISONS).filter_map(|_| compare()).min();
    best.is_some_and(|(_, difference)| difference <= DIFFERENCE_NS_MAX)
}

fn now() -> i128 {
    let now = clock_gettime(ClockId::Realtime);
    nanoseconds(now.tv_sec, now.tv_nsec)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
