//! [`XdpInterface`]: packets that XDP takes from a network interface before the kernel's stack.

mod bpf;
mod program;
mod queue;
mod rings;
mod time;

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use panoptes_decoders::packet::link_type::ETHERNET;
use panoptes_decoders::packet::program::Instruction;
use panoptes_packet_files::Frame;

use self::bpf::XdpAttachMode;
use self::queue::XdpQueue;
use self::rings::CHUNK_BYTES;
use self::time::Time;
use crate::devices;
use crate::error::InterfaceError;
use crate::filter::{self, Filter};
use crate::interface::{ANY, InterfaceOptions, Losses};
use crate::link;
use crate::socket::PacketSocket;

/// Calls that fail in kernels that are too old.
const MAKE_MAP: &str = "make a map of sockets";
const ATTACH: &str = "attach the program";
/// Frames of one queue that are read before the other queues are looked at again.
const BATCH: u32 = 64;
/// Chunks of a queue. The kernel's numbers have 32 bits, so 4 GiB are more than enough.
const CHUNKS_MIN: u32 = 64;
const CHUNKS_MAX: u32 = 1 << 20;
const _: () = {
    assert!(BATCH <= CHUNKS_MIN && CHUNKS_MIN <= CHUNKS_MAX);
    assert!(CHUNKS_MAX as u64 * CHUNK_BYTES as u64 <= 1 << u32::BITS, "places have 32 bits");
};

/// Where frames are taken from the kernel, from the slowest to the fastest.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum XdpMode {
    /// From the beginning of its stack, for drivers without XDP.
    Generic,
    /// From the driver, which copies them.
    Driver,
    /// From the network card, which writes them where they are read.
    ZeroCopy,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Generic => "generic mode",
            Self::Driver => "driver mode",
            Self::ZeroCopy => "zero-copy mode",
        })
    }
}

/// Packets that XDP takes from an Ethernet interface.
///
/// What an interface receives comes here, and to nobody else: the kernel's stack gets none of it
/// while this exists. So it is for ports of a mirror or of a tap. What the machine sends is not
/// seen. VLAN tags are where they were on the wire, unless the card has removed them
/// ([`Self::loses_tags`]).
///
/// It is used as [`Interface`](crate::Interface) is. It has a socket for each receive queue that
/// exists at [`Self::open`].
#[derive(Debug)]
pub struct XdpInterface {
    name: String,
    index: u32,
    snap_length: usize,
    is_promiscuous: bool,
    filter: Option<Filter>,
    /// The program while it is attached. It is the first to go, so that the stack has frames again.
    link: Option<OwnedFd>,
    program: OwnedFd,
    map: OwnedFd,
    queues: Vec<XdpQueue>,
    /// The queue that is read, and the stamp of the next frame of the others.
    current: usize,
    until_ns: u64,
    time: Time,
    mode: XdpMode,
    received: u64,
    /// Frames with a wrong place.
    damaged: u64,
    is_removed: bool,
    /// A packet socket, which knows how the interface is, and makes it promiscuous.
    watch: PacketSocket,
}

impl XdpInterface {
    /// Opens an interface by its name, without receiving from it yet.
    ///
    /// It needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF. `ring_bytes` are shared out among the
    /// queues, in chunks of 4096 bytes; a queue has at least 64. `block_timeout` and
    /// `hardware_time` have no meaning here.
    pub fn open(options: &InterfaceOptions) -> Result<Self, InterfaceError> {
        let name = options.name.as_str();
        if name == ANY {
            return Err(InterfaceError::Unsuitable { name: name.to_owned() });
        }
        let devices = devices::all();
        let devices = devices.map_err(|error| failure(name, "list the interfaces", error))?;
        let device = devices.into_iter().find(|device| device.name == name);
        let device = device.ok_or_else(|| InterfaceError::Missing { name: name.to_owned() })?;
        if link::of_hardware(device.hardware) != ETHERNET {
            return Err(InterfaceError::Unsuitable { name: name.to_owned() });
        }
        let watch = PacketSocket::new(false);
        let watch = watch.map_err(|error| failure(name, "open a packet socket", error))?;
        let queues = queue_count(&watch, name);
        let map = bpf::new_map(queues);
        let map = map.map_err(|error| failure(name, MAKE_MAP, error))?;
        let program = bpf::load(&program::program(map.as_raw_fd()));
        let program = program.map_err(|error| failure(name, "load a program", error))?;
        let chunks = chunk_count(options.ring_bytes, queues);
        let memory_failure = |error: io::Error| match error.raw_os_error() {
            // The latter is for memory that may not be locked.
            Some(libc::ENOMEM | libc::ENOBUFS) => InterfaceError::Memory {
                name: name.to_owned(),
                ring_bytes: chunks as usize * queues as usize * CHUNK_BYTES,
            },
            _ => failure(name, "open a socket", error),
        };
        let queues = (0..queues).map(|_| XdpQueue::new(chunks));
        let queues = queues.collect::<Result<_, _>>().map_err(memory_failure)?;
        Ok(Self {
            name: options.name.clone(),
            index: device.index,
            snap_length: options.snap_length.max(1) as usize,
            is_promiscuous: options.promiscuous,
            filter: None,
            link: None,
            program,
            map,
            queues,
            current: 0,
            until_ns: 0,
            time: Time::begin(),
            mode: XdpMode::Generic,
            received: 0,
            damaged: 0,
            is_removed: false,
            watch,
        })
    }

    /// Begins to receive the packets that a filter accepts; an empty one accepts all. To be called
    /// once.
    ///
    /// The filter is run here, over whole packets with their VLAN tags, as for a capture in a file.
    ///
    /// No packet from before the start comes. After [`InterfaceError::Down`] packets come as soon
    /// as the interface is up.
    pub fn start(&mut self, filter: &[Instruction]) -> Result<(), InterfaceError> {
        let name = self.name.clone();
        let failed = |what| {
            let name = &name;
            move |error| failure(name, what, error)
        };
        self.filter = filter::own(filter).map_err(failed("run the filter"))?;
        if self.is_promiscuous {
            let joined = self.watch.become_promiscuous(self.index);
            joined.map_err(failed("receive what is for others"))?;
        }
        // A driver may refuse, for example because the interface takes frames that are too long.
        let in_driver = bpf::attach(&self.program, self.index, XdpAttachMode::Driver);
        let is_final = |error: &io::Error| {
            let code = error.raw_os_error();
            matches!(code, Some(libc::EPERM | libc::EBUSY | libc::EEXIST | libc::ENODEV))
        };
        let (link, is_generic) = match in_driver {
            Err(error) if !is_final(&error) => {
                (bpf::attach(&self.program, self.index, XdpAttachMode::Stack), true)
            }
            link => (link, false),
        };
        self.link = Some(link.map_err(failed(ATTACH))?);
        self.time = Time::begin();
        for (number, queue) in (0..).zip(&self.queues) {
            let bound = queue.bind(self.index, number, is_generic);
            bound.map_err(failed("bind a socket to a queue"))?;
            let set = bpf::set_socket(&self.map, number, queue);
            set.map_err(failed("give a queue its socket"))?;
        }
        let is_zero_copy = !is_generic && self.queues.iter().all(XdpQueue::is_zero_copy);
        self.mode = match (is_generic, is_zero_copy) {
            (true, _) => XdpMode::Generic,
            (_, true) => XdpMode::ZeroCopy,
            _ => XdpMode::Driver,
        };
        // A protocol that nobody uses: the socket receives nothing.
        let watched = self.watch.bind(self.index, libc::ETH_P_LOOP as u16);
        watched.map_err(failed("watch the interface"))?;
        self.check()
    }

    /// The next packet, if there is one. It never waits. It makes no system call while there are
    /// packets, and none otherwise unless the driver asks for it.
    ///
    /// The time of a packet is that of the program, right behind the driver. Of drivers that leave
    /// no room for it, it is the time when up to 64 packets were found at once. Packets of several
    /// queues come in the order of their times, as far as they are known.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "the frame borrows a ring")]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        let number = self.find()?;
        let received = self.queues.get(number)?.rings.current()?;
        let length = received.bytes.len().min(self.snap_length);
        Some(Frame {
            time_ns: self.time.of(received.stamp_ns),
            link: ETHERNET,
            wire_length: received.bytes.len() as u32,
            bytes: received.bytes.get(..length)?,
            interface: self.index,
        })
    }

    /// The queue whose current frame is the next one that is wanted. Each turn uses up a frame.
    #[inline]
    fn find(&mut self) -> Option<usize> {
        loop {
            let number = self.choose()?;
            let rings = &mut self.queues.get_mut(number)?.rings;
            rings.advance();
            let Some(received) = rings.current() else {
                self.damaged += 1;
                continue;
            };
            let length = received.bytes.len() as u32;
            if self.filter.as_ref().is_none_or(|filter| filter.run(received.bytes, length) > 0) {
                self.received += 1;
                return Some(number);
            }
        }
    }

    /// The queue with the next frame.
    #[inline]
    fn choose(&mut self) -> Option<usize> {
        let next = self.queues.get(self.current)?.rings.next_stamp();
        if next.is_some_and(|stamp| stamp <= self.until_ns) {
            return Some(self.current);
        }
        self.choose_anew()
    }

    /// Looks at all queues. One of equal ones has its turn after the current one.
    #[inline(never)]
    fn choose_anew(&mut self) -> Option<usize> {
        let count = self.queues.len();
        let mut first: Option<(u64, usize)> = None;
        let (mut until_ns, mut is_new) = (u64::MAX, false);
        for step in 1..=count {
            let number = (self.current + step) % count;
            let queue = self.queues.get_mut(number)?;
            let mut next = queue.rings.next_stamp();
            if next.is_none() && queue.renew(BATCH) > 0 {
                is_new = true;
                next = queue.rings.next_stamp();
            }
            let Some(stamp) = next else { continue };
            match first {
                Some((least, _)) if least <= stamp => until_ns = until_ns.min(stamp),
                _ => {
                    until_ns = first.map_or(u64::MAX, |(least, _)| least);
                    first = Some((stamp, number));
                }
            }
        }
        if is_new {
            self.time.renew();
        }
        let (_, number) = first?;
        (self.current, self.until_ns) = (number, until_ns);
        Some(number)
    }

    /// What was counted up to now. Packets that were lost did not pass the filter before. Zero-copy
    /// drivers count packets of their own that find no chunk.
    pub fn losses(&self) -> Losses {
        let dropped = self.damaged + self.queues.iter().map(XdpQueue::lost).sum::<u64>();
        Losses { received: self.received + dropped, dropped }
    }

    /// Whether the interface is still there and up. Each change is reported once, as
    /// [`InterfaceError::Down`] or [`InterfaceError::Removed`].
    ///
    /// Call it when poll(2) reports an error, and now and then. Packets from before a change can
    /// still be read.
    pub fn check(&mut self) -> Result<(), InterfaceError> {
        let pending = self.watch.take_error();
        if self.is_removed {
            return Ok(());
        }
        let failed = |error| failure(&self.name, "receive", error);
        let is_unbound = self.queues.iter().any(|queue| queue.take_error().is_err());
        if is_unbound || self.watch.bound_index().map_err(failed)? < 0 {
            self.is_removed = true;
            return Err(InterfaceError::Removed { name: self.name.clone() });
        }
        pending.map_err(failed)
    }

    /// The LINKTYPE_ number of all its packets: Ethernet.
    pub fn link(&self) -> u16 {
        ETHERNET
    }

    /// How frames are taken, once it was started.
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// Whether the card removes the VLAN tags of frames: XDP cannot get them then.
    pub fn loses_tags(&self) -> bool {
        self.watch.strips_tags(&self.name).unwrap_or(false)
    }

    /// Descriptors to poll for reading.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queues.iter().map(|queue| queue.as_fd()).chain([self.watch.as_fd()])
    }
}

/// Number of receive queues of an interface.
fn queue_count(socket: &PacketSocket, name: &str) -> u32 {
    // Not all drivers can tell. `/sys` may be that of another network namespace.
    let of_driver = socket.receive_queues(name).ok();
    let of_kernel = || {
        let queues = std::fs::read_dir(format!("/sys/class/net/{name}/queues")).ok()?;
        let is_receive = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b"rx-");
        Some(queues.flatten().filter(|queue| is_receive(&queue.file_name())).count() as u32)
    };
    of_driver.filter(|count| *count > 0).or_else(of_kernel).unwrap_or(1).max(1)
}

/// Chunks of each queue: a power of two.
fn chunk_count(ring_bytes: usize, queues: u32) -> u32 {
    let count = ring_bytes / CHUNK_BYTES / queues.max(1) as usize;
    let count = u32::try_from(count).unwrap_or(u32::MAX).clamp(CHUNKS_MIN, CHUNKS_MAX);
    1 << count.ilog2()
}

/// The error of a call; `what` names the call.
fn failure(name: &str, what: &'static str, error: io::Error) -> InterfaceError {
    let name = name.to_owned();
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => InterfaceError::XdpPermission { name },
        Some(libc::EBUSY | libc::EEXIST) => InterfaceError::Occupied { name },
        Some(libc::ENOSYS | libc::EAFNOSUPPORT) => InterfaceError::Unsupported { name },
        // The kernel knows no such map, or, before v5.9, no such link.
        Some(libc::EINVAL) if [MAKE_MAP, ATTACH].contains(&what) => {
            InterfaceError::Unsupported { name }
        }
        _ => InterfaceError::of_call(&name, what, error),
    }
}
