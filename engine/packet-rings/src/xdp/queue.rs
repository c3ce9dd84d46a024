//! The AF_XDP socket of one receive queue.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{socket_error, xdp_options, xdp_statistics};
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags, XdpOptionsFlags};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use super::rings::Rings;

/// The kernel frees a queue some time after its socket was closed (net/xdp/xsk_buff_pool.c,
/// `xp_put_pool`). So an occupied one is tried again for this long.
const RELEASE_TIME: Duration = Duration::from_millis(500);
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// A socket and its memory.
#[derive(Debug)]
pub(super) struct XdpQueue {
    pub(super) rings: Rings,
    socket: OwnedFd,
}

impl XdpQueue {
    /// A socket with so many chunks, a power of two; it receives nothing yet.
    pub(super) fn new(count: u32) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { rings: Rings::new(&socket, count)?, socket })
    }

    /// Chooses the queue of an interface. The driver writes frames into the chunks itself if it
    /// can, unless they are to be copied.
    pub(super) fn bind(&self, interface: u32, number: u32, is_copied: bool) -> io::Result<()> {
        let mut flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        flags.set(SocketAddrXdpFlags::XDP_COPY, is_copied);
        let begin = Instant::now();
        loop {
            match bind(&self.socket, &SocketAddrXdp::new(flags, interface, number)) {
                Err(Errno::BUSY) if begin.elapsed() < RELEASE_TIME => thread::sleep(RETRY_INTERVAL),
                bound => return Ok(bound?),
            }
        }
    }

    /// Whether the driver writes frames into the chunks itself.
    pub(super) fn is_zero_copy(&self) -> bool {
        xdp_options(&self.socket)
            .is_ok_and(|options| options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
    }

    /// Frames that found no chunk or no place in the ring, or were longer than a chunk. A frame
    /// without a chunk is in `rx_dropped` and in `rx_fill_ring_empty_descs` (`xsk_rcv_check`,
    /// `__xsk_rcv` and `__xp_alloc` in `net/xdp/`), so the latter would count it twice.
    pub(super) fn lost(&self) -> u64 {
        // It always succeeds on such a socket.
        let Ok(counted) = xdp_statistics(&self.socket) else { return 0 };
        counted.rx_dropped + counted.rx_ring_full.unwrap_or(0)
    }

    /// Returns what was read, and looks for new frames, up to `most`. Their number.
    pub(super) fn renew(&mut self, most: u32) -> u32 {
        let known = self.rings.renew(most);
        if known == 0 && self.rings.needs_wake() {
            // It receives no bytes, and does not wait (`xsk_recvmsg`). An error is one of the
            // interface, which `check` finds.
            let _ = recv(&self.socket, &mut [0_u8; 0], RecvFlags::DONTWAIT);
        }
        known
    }

    /// The error that is pending: the interface was removed. It is then forgotten.
    pub(super) fn take_error(&self) -> io::Result<()> {
        Ok(socket_error(&self.socket)??)
    }
}

impl AsFd for XdpQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
