//! [`Interface`]: packets of a network interface, as they come.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use panoptes_decoders::packet::link_type::COOKED;
use panoptes_decoders::packet::program::Instruction;
use panoptes_packet_files::{Frame, PACKET_BYTES_MAX};

use crate::block::{BlockCursor, BlockPacket, LinkHeaderKind, TAG_BYTES};
use crate::clock;
use crate::devices;
use crate::division::{Division, Group};
use crate::error::InterfaceError;
use crate::filter::{self, Filter};
use crate::link::{self, ARPHRD_LOOPBACK};
use crate::ring::BlockRing;
use crate::socket::PacketSocket;

/// Name that stands for all interfaces.
pub(crate) const ANY: &str = "any";
/// Largest number of captured bytes of one packet.
const SNAP_BYTES_MAX: u32 = PACKET_BYTES_MAX as u32;
/// A block holds the longest packet that the kernel makes of many segments, 64 KiB, and more.
const BLOCK_BYTES_MIN: usize = 128 << 10;
const BLOCK_BYTES_MAX: usize = 1 << 20;
/// A ring has at least so many blocks: the kernel fills one while another is read.
const BLOCKS_MIN: usize = 2;
/// A ring has about so many blocks of less than [`BLOCK_BYTES_MAX`]. The kernel closes a block that
/// is not full after [`InterfaceOptions::block_timeout`], so few packets fill a ring as well. This
/// many blocks last for 2.5 s of an interface that is not read.
const BLOCKS: usize = 256;
/// What the kernel divides blocks by in its checks; packets of TPACKET_V3 have any length.
const FRAME_BYTES: usize = 2048;
const _: () = {
    assert!(BLOCK_BYTES_MIN > 64 << 10 && BLOCK_BYTES_MIN <= BLOCK_BYTES_MAX);
    assert!(BLOCK_BYTES_MIN.is_multiple_of(FRAME_BYTES), "the kernel refuses other blocks");
};

/// What to capture, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InterfaceOptions {
    /// Name of an interface; `any` stands for all, also for those that come later.
    pub name: String,
    /// Also receive what is addressed to others. Not for `any`.
    pub promiscuous: bool,
    /// Number of bytes of each packet that are captured.
    pub snap_length: u32,
    /// Memory for packets that are not read yet, rounded to blocks of 128 KiB to 1 MiB.
    pub ring_bytes: usize,
    /// How long a packet waits at most until it can be read, to the millisecond.
    pub block_timeout: Duration,
    /// Take the time from the network card, if it stamps all packets and has the right time.
    pub hardware_time: bool,
}

impl Default for InterfaceOptions {
    fn default() -> Self {
        Self {
            name: ANY.to_owned(),
            promiscuous: true,
            snap_length: SNAP_BYTES_MAX,
            ring_bytes: 32 << 20,
            block_timeout: Duration::from_millis(10),
            hardware_time: false,
        }
    }
}

/// Packets that the kernel counted, since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Packets that passed the filter, lost ones included.
    pub received: u64,
    /// Packets that had no room in the ring.
    pub dropped: u64,
}

/// Packets of a network interface, as they come.
///
/// [`Self::open`] prepares all, so that the link type is known; [`Self::start`] sets the filter and
/// begins. [`Self::next`] never waits: when it has no packet, poll(2) waits for some. When poll(2)
/// reports an error, [`Self::check`] tells which.
#[derive(Debug)]
pub struct Interface {
    name: String,
    index: u32,
    link: u16,
    form: LinkHeaderKind,
    snap_length: u32,
    is_promiscuous: bool,
    has_hardware_time: bool,
    /// The filter, if it is run here and not by the kernel.
    filter: Option<Filter>,
    ring: BlockRing,
    /// The place in the current block; `None` before the block is begun.
    cursor: Option<BlockCursor>,
    losses: Losses,
    /// [`Self::check`] has reported that the interface was removed.
    is_removed: bool,
    /// After the ring: the kernel frees it with the socket, once it is not mapped.
    socket: PacketSocket,
}

impl Interface {
    /// Opens an interface, without receiving from it yet.
    pub fn open(options: &InterfaceOptions) -> Result<Self, InterfaceError> {
        let name = options.name.as_str();
        let failed = |what| move |error| InterfaceError::of_call(name, what, error);
        let (index, hardware) = if name == ANY {
            (0, None)
        } else {
            let devices = devices::all().map_err(failed("list the interfaces"))?;
            let device = devices.into_iter().find(|device| device.name == name);
            let missing = || InterfaceError::Missing { name: name.to_owned() };
            let device = device.ok_or_else(missing)?;
            (device.index, Some(device.hardware))
        };
        let link = hardware.map_or(COOKED, link::of_hardware);
        let form = LinkHeaderKind::of_link(link);
        let socket =
            PacketSocket::new(form == LinkHeaderKind::Cooked).map_err(failed("open a socket"))?;
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        socket.set(libc::PACKET_VERSION, &version).map_err(failed("choose TPACKET_V3"))?;
        let room = TAG_BYTES as libc::c_uint;
        socket.set(libc::PACKET_RESERVE, &room).map_err(failed("reserve room for tags"))?;
        if hardware == Some(ARPHRD_LOOPBACK) {
            // Saves room in the ring, from Linux 4.20 on. `is_wanted` is for all.
            let _ = socket.set(libc::PACKET_IGNORE_OUTGOING, &1_i32);
        }
        let has_hardware_time =
            options.hardware_time && index > 0 && clock::use_hardware(&socket, name);
        let ring = ring(&socket, options)?;
        Ok(Self {
            name: options.name.clone(),
            index,
            link,
            form,
            snap_length: options.snap_length.clamp(1, SNAP_BYTES_MAX),
            is_promiscuous: options.promiscuous && index > 0,
            has_hardware_time,
            filter: None,
            ring,
            cursor: None,
            losses: Losses::default(),
            is_removed: false,
            socket,
        })
    }

    /// Begins to receive the packets that a filter accepts; an empty one accepts all. To be called
    /// once.
    ///
    /// The kernel runs the filter, over packets without the outer VLAN tag: it has removed the tag
    /// by then, as for libpcap. So a filter for a port also finds tagged packets, and one for VLANs
    /// finds none. Run such a filter on what [`Self::next`] returns. A filter that the kernel
    /// refuses is run here.
    ///
    /// No packet from before the start comes. After [`InterfaceError::Down`] packets come as soon
    /// as the interface is up.
    pub fn start(&mut self, filter: &[Instruction]) -> Result<(), InterfaceError> {
        self.set_filter(filter)?;
        self.become_promiscuous()?;
        self.bind()?;
        self.check()
    }

    /// The same for one of several that share an interface: this one has a part of its packets. To
    /// be called for one part after the other, as [`Group::has_place_for`] has it.
    ///
    /// The kernel may choose another part than the division: see [`Division`]. While not all parts
    /// have joined, packets come to those that have. An interface that is down is an error here,
    /// and must be opened again.
    pub fn start_part(
        &mut self,
        filter: &[Instruction],
        (division, part): (&Division, usize),
        group: &Group,
    ) -> Result<(), InterfaceError> {
        let name = self.name.clone();
        let failed = |what| {
            let name = &name;
            move |error| InterfaceError::of_call(name, what, error)
        };
        // Before it has joined, the others have its packets.
        self.socket.attach(&[filter::REJECT]).map_err(failed("run a filter"))?;
        self.bind()?;
        self.check()?;
        self.become_promiscuous()?;
        let id = self.socket.join(group.id_for(part)).map_err(failed("divide the packets"))?;
        if part == 0 {
            let chosen = self.socket.choose_by(&division.of_interface());
            chosen.map_err(failed("divide the packets"))?;
        }
        group.add(part, id);
        if !self.set_filter(filter)? {
            self.socket.detach().map_err(failed("run the filter"))?;
        }
        Ok(())
    }

    /// Has the kernel run a filter, or else this program. Whether the kernel does.
    fn set_filter(&mut self, filter: &[Instruction]) -> Result<bool, InterfaceError> {
        let program = filter::for_kernel(filter, self.link, self.snap_length);
        let is_attached = program.is_some_and(|program| self.socket.attach(&program).is_ok());
        if !is_attached {
            let failed = |error| InterfaceError::of_call(&self.name, "run the filter", error);
            self.filter = filter::own(filter).map_err(failed)?;
        }
        Ok(is_attached)
    }

    /// Receives also what is for others, if that was asked for.
    fn become_promiscuous(&self) -> Result<(), InterfaceError> {
        if !self.is_promiscuous {
            return Ok(());
        }
        let joined = self.socket.become_promiscuous(self.index);
        let what = "receive what is for others";
        joined.map_err(|error| InterfaceError::of_call(&self.name, what, error))
    }

    fn bind(&self) -> Result<(), InterfaceError> {
        let bound = self.socket.bind(self.index, libc::ETH_P_ALL as u16);
        bound.map_err(|error| InterfaceError::of_call(&self.name, "bind the socket", error))
    }

    /// The next packet, if there is one. It never waits, and makes no system call.
    ///
    /// [`Frame::interface`] is the kernel's number of the interface.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "the frame borrows the ring")]
    pub fn next(&mut self) -> Option<Frame<'_>> {
        let found = self.find()?;
        let block = self.ring.block()?;
        let length = found.length.min(self.snap_length as usize);
        Some(Frame {
            time_ns: found.time_ns,
            link: self.link,
            wire_length: found.wire_length,
            bytes: block.get(found.start..)?.get(..length)?,
            interface: found.index,
        })
    }

    /// The next packet that is wanted. Each turn uses up a packet or a block.
    #[inline]
    fn find(&mut self) -> Option<BlockPacket> {
        loop {
            let block = self.ring.block()?;
            let cursor = self.cursor.get_or_insert_with(|| BlockCursor::begin(block));
            match cursor.next(block, self.form) {
                Some(found) if is_wanted(&found, block, self.filter.as_ref()) => {
                    return Some(found);
                }
                Some(_) => {}
                None => {
                    // Packets are left only if a length in the block is wrong.
                    self.losses.dropped += u64::from(cursor.left());
                    self.cursor = None;
                    self.ring.release();
                }
            }
        }
    }

    /// What the kernel counted up to now.
    pub fn losses(&mut self) -> Losses {
        // It always succeeds on a packet socket; reading resets the counters.
        if let Ok((received, dropped)) = self.socket.statistics() {
            self.losses.received += u64::from(received);
            self.losses.dropped += u64::from(dropped);
        }
        self.losses
    }

    /// Whether the interface is still there and up. Each change is reported once, as
    /// [`InterfaceError::Down`] or [`InterfaceError::Removed`].
    ///
    /// Call it when poll(2) reports an error, and now and then. Packets from before a change can
    /// still be read.
    pub fn check(&mut self) -> Result<(), InterfaceError> {
        let pending = self.socket.take_error();
        if self.is_removed {
            return Ok(());
        }
        let failed = |error| InterfaceError::of_call(&self.name, "receive", error);
        if self.socket.bound_index().map_err(failed)? < 0 {
            self.is_removed = true;
            return Err(InterfaceError::Removed { name: self.name.clone() });
        }
        pending.map_err(failed)
    }

    /// The LINKTYPE_ number of all its packets. `any` and unusual hardware have
    /// LINKTYPE_LINUX_SLL (113).
    pub fn link(&self) -> u16 {
        self.link
    }

    /// Whether the network card stamps the packets that it receives. Those that this machine sends
    /// have the time of the machine's clock.
    pub fn has_hardware_time(&self) -> bool {
        self.has_hardware_time
    }
}

impl AsFd for Interface {
    /// To be polled for reading.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Gives a socket its ring.
fn ring(socket: &PacketSocket, options: &InterfaceOptions) -> Result<BlockRing, InterfaceError> {
    let (blocks, block_bytes) = geometry(options.ring_bytes);
    let number = |number: usize| number as libc::c_uint;
    let timeout = options.block_timeout.as_millis().clamp(1, 10_000);
    let request = libc::tpacket_req3 {
        tp_block_size: number(block_bytes),
        tp_block_nr: number(blocks),
        tp_frame_size: number(FRAME_BYTES),
        tp_frame_nr: number(blocks * (block_bytes / FRAME_BYTES)),
        tp_retire_blk_tov: timeout as libc::c_uint,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    let name = options.name.as_str();
    let made = socket.set(libc::PACKET_RX_RING, &request);
    let ring = made.and_then(|()| BlockRing::new(socket, blocks, block_bytes));
    ring.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            InterfaceError::Memory { name: name.to_owned(), ring_bytes: blocks * block_bytes }
        }
        _ => InterfaceError::of_call(name, "make a ring", error),
    })
}

/// Number and length of the blocks of a ring.
fn geometry(ring_bytes: usize) -> (usize, usize) {
    let block_bytes = (ring_bytes / BLOCKS).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
    // The greatest power of two that is not greater.
    let block_bytes = 1 << block_bytes.ilog2();
    // The kernel's fields have 32 bits.
    let blocks_max = u32::MAX as usize / block_bytes;
    ((ring_bytes / block_bytes).clamp(BLOCKS_MIN, blocks_max), block_bytes)
}

/// Whether a packet passes the filter. The loopback's packets come as sent and as received: only
/// the received ones pass, as for libpcap.
#[inline]
fn is_wanted(found: &BlockPacket, block: &[u8], filter: Option<&Filter>) -> bool {
    if found.packet_type == libc::PACKET_OUTGOING && found.hardware == ARPHRD_LOOPBACK {
        return false;
    }
    let Some(filter) = filter else { return true };
    let bytes = block.get(found.start..).and_then(|rest| rest.get(..found.length));
    bytes.is_some_and(|bytes| filter.run(bytes, found.wire_length) > 0)
}
