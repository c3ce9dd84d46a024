//! Waiting for a socket.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Which of `wanted` is possible, now or within `wait`. An error or an end makes everything
/// possible: the operation will return it.
pub(super) fn ready(socket: &impl AsFd, wanted: PollFlags, wait: Duration) -> PollFlags {
    let wait = Timespec {
        tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    let mut sockets = [PollFd::new(socket, wanted)];
    match poll(&mut sockets, Some(&wait)) {
        Ok(1..) if sockets[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => wanted,
        Ok(1..) => sockets[0].revents(),
        _ => PollFlags::empty(),
    }
}
