//! The system calls on sockets that no safe library has: packet(7), and recvmmsg(2).
#![allow(unsafe_code, reason = "setsockopt, getsockopt, bind, recvmmsg and ioctl take pointers")]

use std::ffi::{c_int, c_ulong};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use panoptes_decoders::packet::program::Instruction;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Commands of SIOCETHTOOL (`include/uapi/linux/ethtool.h`).
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GET_TS_INFO: u32 = 0x41;
/// The flag of a card that removes VLAN tags (`enum ethtool_flags`).
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// Datagrams that are received at once.
pub(crate) const DATAGRAMS: usize = 32;
/// Room for the control messages of one: a time takes half of it.
pub(crate) const CONTROL_BYTES: usize = 64;

/// What was received of a datagram.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Datagram {
    /// Its own length, even if there was less room for it.
    pub(crate) length: usize,
    /// Length of its control messages.
    pub(crate) control: usize,
}

/// A socket of AF_PACKET.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

/// What a network card can do with time (`struct ethtool_ts_info`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub(crate) struct TimeAbilities {
    command: u32,
    /// Bits of SOF_TIMESTAMPING_.
    pub(crate) sources: u32,
    /// Number of its clock, -1 without one.
    pub(crate) clock: i32,
    transmit_types: u32,
    transmit_reserved: [u32; 3],
    /// Bits by the numbers of HWTSTAMP_FILTER_.
    pub(crate) filters: u32,
    filter_reserved: [u32; 3],
}

/// Flags of a network card (`struct ethtool_value`).
#[repr(C)]
struct Flags {
    command: u32,
    flags: u32,
}

/// Queues of a network card (`struct ethtool_channels`): the most of each kind, and those in use.
#[derive(Default)]
#[repr(C)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    transmit: u32,
    other: u32,
    combined: u32,
}

/// The request for the hardware of an interface (`struct ifreq`, with an address).
#[repr(C)]
struct HardwareRequest {
    name: [u8; libc::IFNAMSIZ],
    hardware: u16,
    rest: [u8; 22],
}

/// The request of an ioctl for one interface (`struct ifreq`, with a pointer).
#[repr(C)]
struct InterfaceRequest<T> {
    name: [u8; libc::IFNAMSIZ],
    data: *mut T,
    rest: [u64; 2],
}

/// The kind of hardware of an interface: ARPHRD_ in `include/uapi/linux/if_arp.h`.
pub(crate) fn hardware(name: &str) -> io::Result<u16> {
    // Any socket serves.
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = HardwareRequest { name: field(name)?, hardware: 0, rest: [0; 22] };
    let number = libc::SIOCGIFHWADDR as _;
    // SAFETY: the request is live, and has the length and the layout of `struct ifreq`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), number, &raw mut request) };
    if result >= 0 { Ok(request.hardware) } else { Err(io::Error::last_os_error()) }
}

/// A name as requests have it: it ends with a zero.
fn field(name: &str) -> io::Result<[u8; libc::IFNAMSIZ]> {
    let mut field = [0; libc::IFNAMSIZ];
    let space = field[..libc::IFNAMSIZ - 1].get_mut(..name.len());
    space.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
    Ok(field)
}

/// Receives the datagrams that wait at a socket, each into its piece of `room` bytes; how many. It
/// never waits.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    room: usize,
    controls: &mut [[u8; CONTROL_BYTES]],
    datagrams: &mut [Datagram; DATAGRAMS],
) -> io::Result<usize> {
    let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut vectors = [none; DATAGRAMS];
    // SAFETY: zeros are valid headers.
    let mut headers: [libc::mmsghdr; DATAGRAMS] = unsafe { mem::zeroed() };
    let pieces = bytes.chunks_exact_mut(room.max(1)).zip(controls);
    let mut count = 0;
    for ((header, vector), (piece, control)) in headers.iter_mut().zip(&mut vectors).zip(pieces) {
        *vector = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() };
        let header = &mut header.msg_hdr;
        (header.msg_iov, header.msg_iovlen) = (vector, 1);
        header.msg_control = control.as_mut_ptr().cast();
        // The type of this length is the C library's choice.
        header.msg_controllen = control.len() as _;
        count += 1;
    }
    let (flags, wait) = (libc::MSG_DONTWAIT | libc::MSG_TRUNC, std::ptr::null_mut());
    // SAFETY: so many headers are live, and each has pointers to live memory of its own, with their
    // lengths. The kernel writes no more.
    let received = unsafe {
        libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags as _, wait)
    };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for (datagram, header) in datagrams.iter_mut().zip(&headers).take(received) {
        let length = header.msg_len as usize;
        let control: usize = header.msg_hdr.msg_controllen as _;
        *datagram = Datagram { length, control: control.min(CONTROL_BYTES) };
    }
    Ok(received)
}

/// The kernel's counter of datagrams that found no room at a socket; it wraps (`SK_MEMINFO_DROPS`
/// in `include/uapi/linux/sock_diag.h`).
pub(crate) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    const VALUES: usize = 9;
    let mut values = [0_u32; VALUES];
    let mut bytes = size_of_val(&values) as libc::socklen_t;
    let (value, length) = (values.as_mut_ptr().cast(), &raw mut bytes);
    let (level, option) = (libc::SOL_SOCKET, libc::SO_MEMINFO);
    // SAFETY: the pointers are to live values and their length; the kernel writes no more.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value, length) };
    if result == 0 { Ok(values[VALUES - 1]) } else { Err(io::Error::last_os_error()) }
}

/// Has a program choose to which of the sockets at a port each datagram comes: its number, in the
/// order in which they were bound.
pub(crate) fn choose_port_by(socket: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    set_program(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

/// Sets an option to a program. An error if the kernel finds it invalid.
fn set_program(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    program: &[Instruction],
) -> io::Result<()> {
    let of_kernel = |from: &Instruction| libc::sock_filter {
        code: from.code,
        jt: from.jump_true,
        jf: from.jump_false,
        k: from.constant,
    };
    let mut filter: Vec<_> = program.iter().map(of_kernel).collect();
    let len = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel reads the instructions that this points to, during the call.
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    set_at(socket, level, option, &program)
}

fn set_at<T: Copy>(
    socket: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: &T,
) -> io::Result<()> {
    let bytes = size_of::<T>() as libc::socklen_t;
    let (socket, value) = (socket.as_raw_fd(), (&raw const *value).cast());
    // SAFETY: the pointer is to a live value of this length, which the kernel only reads.
    let result = unsafe { libc::setsockopt(socket, level, option, value, bytes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl PacketSocket {
    /// A socket that receives nothing before [`Self::bind`]. A cooked one gives packets without
    /// their link layer.
    pub(crate) fn new(is_cooked: bool) -> io::Result<Self> {
        let kind = if is_cooked { SocketType::DGRAM } else { SocketType::RAW };
        // Protocol 0: no packet comes.
        Ok(Self(socket_with(AddressFamily::PACKET, kind, SocketFlags::CLOEXEC, None)?))
    }

    /// Sets an option of packet sockets (`include/uapi/linux/if_packet.h`).
    pub(crate) fn set<T: Copy>(&self, option: c_int, value: &T) -> io::Result<()> {
        set_at(self.0.as_fd(), libc::SOL_PACKET, option, value)
    }

    /// Has the kernel run a program over each packet. An error if the kernel finds it invalid.
    pub(crate) fn attach(&self, program: &[Instruction]) -> io::Result<()> {
        set_program(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
    }

    /// Has the kernel run no program.
    pub(crate) fn detach(&self) -> io::Result<()> {
        set_at(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0_i32)
    }

    /// Joins the group of sockets with this number, or begins one; its number. Each packet comes to
    /// one of them. The socket must be bound.
    pub(crate) fn join(&self, group: Option<u16>) -> io::Result<u16> {
        let kind = libc::PACKET_FANOUT_CBPF;
        let kind = if group.is_none() { kind | libc::PACKET_FANOUT_FLAG_UNIQUEID } else { kind };
        let mut value = u32::from(group.unwrap_or(0)) | kind << 16;
        self.set(libc::PACKET_FANOUT, &value)?;
        let mut bytes = size_of_val(&value) as libc::socklen_t;
        let (pointer, length) = ((&raw mut value).cast(), &raw mut bytes);
        let (socket, level, option) = (self.0.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT);
        // SAFETY: the pointers are to a live number and its length; the kernel writes no more.
        let result = unsafe { libc::getsockopt(socket, level, option, pointer, length) };
        if result == 0 { Ok(value as u16) } else { Err(io::Error::last_os_error()) }
    }

    /// Has a program choose the socket of the group to which each packet comes: its number, in the
    /// order in which they have joined.
    pub(crate) fn choose_by(&self, program: &[Instruction]) -> io::Result<()> {
        set_program(self.0.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, program)
    }

    /// Has an interface receive what is for others, as long as the socket is open.
    pub(crate) fn become_promiscuous(&self, index: u32) -> io::Result<()> {
        let membership = libc::packet_mreq {
            mr_ifindex: index as c_int,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// Begins to receive packets of a protocol (ETH_P_ in `include/uapi/linux/if_ether.h`) from the
    /// interface of this index, or from all if it is 0.
    pub(crate) fn bind(&self, index: u32, protocol: u16) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol.to_be(),
            sll_ifindex: index as c_int,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let bytes = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the pointer is to a live address of this length, which the kernel only reads.
        let result = unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), bytes) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The index of the interface; -1 once the interface was removed.
    pub(crate) fn bound_index(&self) -> io::Result<i32> {
        // SAFETY: zeros are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let mut bytes = size_of_val(&address) as libc::socklen_t;
        let (socket, length) = (self.0.as_raw_fd(), &raw mut bytes);
        // SAFETY: the pointers are to a live address and its length; the kernel writes no more.
        let result = unsafe { libc::getsockname(socket, (&raw mut address).cast(), length) };
        if result == 0 { Ok(address.sll_ifindex) } else { Err(io::Error::last_os_error()) }
    }

    /// Packets since the last call: those that passed the filter, and those of them that had no
    /// room in the ring.
    pub(crate) fn statistics(&self) -> io::Result<(u32, u32)> {
        // SAFETY: zeros are valid counters.
        let mut counters: libc::tpacket_stats_v3 = unsafe { mem::zeroed() };
        let mut bytes = size_of_val(&counters) as libc::socklen_t;
        let (value, length) = ((&raw mut counters).cast(), &raw mut bytes);
        let (socket, option) = (self.0.as_raw_fd(), libc::PACKET_STATISTICS);
        // SAFETY: the pointers are to live counters and their length; the kernel writes no more.
        let result = unsafe { libc::getsockopt(socket, libc::SOL_PACKET, option, value, length) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((counters.tp_packets, counters.tp_drops))
    }

    /// The error that is pending, for example that the interface is down. It is then forgotten.
    pub(crate) fn take_error(&self) -> io::Result<()> {
        Ok(socket_error(&self.0)??)
    }

    /// What the card of an interface can do with time.
    pub(crate) fn time_abilities(&self, name: &str) -> io::Result<TimeAbilities> {
        let mut abilities =
            TimeAbilities { command: ETHTOOL_GET_TS_INFO, clock: -1, ..TimeAbilities::default() };
        self.ask(name, libc::SIOCETHTOOL as c_ulong, &mut abilities)?;
        Ok(abilities)
    }

    /// How the card stamps packets now.
    pub(crate) fn stamping(&self, name: &str) -> io::Result<libc::hwtstamp_config> {
        let mut stamping = libc::hwtstamp_config { flags: 0, tx_type: 0, rx_filter: 0 };
        self.ask(name, libc::SIOCGHWTSTAMP, &mut stamping)?;
        Ok(stamping)
    }

    /// Changes how the card stamps packets; `stamping` then has what it does.
    pub(crate) fn set_stamping(
        &self,
        name: &str,
        stamping: &mut libc::hwtstamp_config,
    ) -> io::Result<()> {
        self.ask(name, libc::SIOCSHWTSTAMP, stamping)
    }

    /// Number of receive queues that are in use.
    pub(crate) fn receive_queues(&self, name: &str) -> io::Result<u32> {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        self.ask(name, libc::SIOCETHTOOL as c_ulong, &mut channels)?;
        Ok(channels.receive.saturating_add(channels.combined))
    }

    /// Whether the card removes the VLAN tags of what it receives.
    pub(crate) fn strips_tags(&self, name: &str) -> io::Result<bool> {
        let mut flags = Flags { command: ETHTOOL_GFLAGS, flags: 0 };
        self.ask(name, libc::SIOCETHTOOL as c_ulong, &mut flags)?;
        Ok(flags.flags & ETH_FLAG_RXVLAN != 0)
    }

    fn ask<T>(&self, name: &str, number: c_ulong, data: &mut T) -> io::Result<()> {
        let mut request = InterfaceRequest { name: field(name)?, data, rest: [0; 2] };
        // SAFETY: the request is at least as long as `struct ifreq`, and begins as it. It points
        // to live data of the type that belongs to the number, in each of its callers.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), number as _, &raw mut request) };
        if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
