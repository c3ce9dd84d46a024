//! What receives the packets of an interface: a ring of the kernel's, XDP, or a port to which they
//! are mirrored.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use panoptes_decoders::packet::link_type::ETHERNET;
use panoptes_decoders::packet::mirror::{LINKS, Mirror, MirrorPacket};
use panoptes_packet_files::Frame;
use panoptes_packet_rings::{
    Division, Interface, InterfaceError, InterfaceOptions, Losses, MirrorOptions, MirrorPort,
    MirrorSocket, XdpInterface,
};

use super::devices::Means;
use super::filter::PacketFilters;
use super::part::InterfacePart;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// An open interface.
#[derive(Debug)]
pub(super) enum Receiver {
    Ring(Interface),
    Xdp(XdpInterface),
    Port(MirrorSocket),
}

impl Receiver {
    /// Opens an interface, without receiving from it yet.
    pub(super) fn open(options: &InterfaceOptions, means: Means) -> Result<Self, InterfaceError> {
        match means {
            Means::Ring => Interface::open(options).map(Self::Ring),
            Means::Xdp => XdpInterface::open(options).map(Self::Xdp),
            Means::Datagrams(mirror, address) => {
                MirrorSocket::open(&of_port(options, (mirror, address))).map(Self::Port)
            }
        }
    }

    /// Takes over a port from the receiver before, which leaves it.
    pub(super) fn take_over(
        options: &InterfaceOptions,
        (mirror, port): (Mirror, MirrorPort),
    ) -> Result<Self, InterfaceError> {
        let options = of_port(options, (mirror, port.address()));
        MirrorSocket::take_over(port, &options).map(Self::Port)
    }

    /// The port, for a receiver that takes it over; `None` for an interface.
    pub(super) fn port(&self, means: Means) -> Option<MirrorPort> {
        match (self, means) {
            // Without it, the next sensor finds the port in use.
            (Self::Port(port), Means::Datagrams(_, address)) => port.port(address).ok(),
            _ => None,
        }
    }

    /// Receives no more datagrams. Those that it has can still be read.
    pub(super) const fn leave(&mut self) {
        if let Self::Port(port) = self {
            port.leave();
        }
    }

    /// Opens an interface once for each part of a division.
    pub(super) fn open_parts(
        options: &InterfaceOptions,
        means: Means,
        division: &Division,
    ) -> Result<Vec<Self>, InterfaceError> {
        if let Means::Datagrams(mirror, address) = means {
            let parts = MirrorSocket::open_parts(&of_port(options, (mirror, address)), division)?;
            return Ok(parts.into_iter().map(Self::Port).collect());
        }
        (0..division.parts()).map(|_| Self::open(options, means)).collect()
    }

    /// Compiles the filter, so that its mistakes are known before packets are received.
    pub(super) fn compile(
        &self,
        filters: &mut PacketFilters,
        snap_length: u32,
    ) -> Result<(), Failure> {
        match self {
            Self::Ring(ring) => filters.of_interface(ring.link(), snap_length).map(drop),
            Self::Xdp(xdp) => filters.of_captures(xdp.link()).map(drop),
            Self::Port(_) => filters.of_captures(ETHERNET).map(drop),
        }
    }

    /// Begins to receive; the inner error is that of an interface that is down.
    pub(super) fn start(
        &mut self,
        filters: &mut PacketFilters,
        snap_length: u32,
        part: Option<&mut InterfacePart>,
    ) -> Result<Result<(), InterfaceError>, Failure> {
        let started = match self {
            Self::Ring(ring) => {
                let filter = filters.of_interface(ring.link(), snap_length)?;
                match part {
                    None => ring.start(filter),
                    Some(part) => part.start(ring, filter),
                }
            }
            // Its frames are whole, as those of a capture.
            Self::Xdp(xdp) => xdp.start(filters.of_captures(xdp.link())?),
            Self::Port(port) => {
                let mut programs: [Option<Vec<_>>; LINKS.len()] = Default::default();
                for (program, link) in programs.iter_mut().zip(LINKS) {
                    let compiled = filters.of_captures(link).map(<[_]>::to_vec);
                    // What has no meaning for the other link types matches none of them.
                    *program = if link == ETHERNET { Some(compiled?) } else { compiled.ok() };
                }
                port.start(|link| {
                    let at = LINKS.iter().position(|known| *known == link)?;
                    programs[at].as_deref()
                })
            }
        };
        match started {
            Err(error @ InterfaceError::Down { .. }) => Ok(Err(error)),
            result => result.map(Ok).map_err(|error| failure(&error)),
        }
    }

    /// Reports how it receives, if there is something to know.
    pub(super) fn report(&self, name: &str, messages: &Messages) {
        let xdp = match self {
            Self::Ring(_) => return,
            Self::Xdp(xdp) => xdp,
            Self::Port(port) => {
                let bytes = port.buffer_bytes();
                return messages.info(format_args!(
                    "{name}: the kernel keeps up to {bytes} bytes of datagrams that are not read \
                     yet"
                ));
            }
        };
        messages.info(format_args!("{name}: XDP in {}", xdp.mode()));
        if xdp.loses_tags() {
            messages.warning(format_args!(
                "{name}: the card may remove VLAN tags, which XDP loses then: \
                 `ethtool -K {name} rxvlan off` keeps them"
            ));
        }
    }

    /// Passes up to so many packets on, but for those of a port. Whether there was one.
    #[inline]
    pub(super) fn read(&mut self, most: u32, mut pass: impl FnMut(&Frame<'_>)) -> bool {
        let mut has_read = false;
        for _ in 0..most {
            let frame = match self {
                Self::Ring(ring) => ring.next(),
                Self::Xdp(xdp) => xdp.next(),
                Self::Port(_) => None,
            };
            let Some(frame) = frame else { break };
            has_read = true;
            pass(&frame);
        }
        has_read
    }

    /// The same for those of a port, with the times when they came in nanoseconds since 1970.
    pub(super) fn read_mirrored(
        &mut self,
        most: u32,
        mut pass: impl FnMut(i64, &MirrorPacket<'_>),
    ) -> bool {
        let Self::Port(port) = self else { return false };
        let mut has_read = false;
        for _ in 0..most {
            let Some((time_ns, mirrored)) = port.next() else { break };
            has_read = true;
            pass(time_ns, &mirrored);
        }
        has_read
    }

    /// Whether the interface is still there and up. Each change is reported once.
    pub(super) fn check(&mut self) -> Result<(), InterfaceError> {
        match self {
            Self::Ring(ring) => ring.check(),
            Self::Xdp(xdp) => xdp.check(),
            // It stays, whatever becomes of the interface with its address.
            Self::Port(_) => Ok(()),
        }
    }

    pub(super) fn losses(&mut self) -> Losses {
        match self {
            Self::Ring(ring) => ring.losses(),
            Self::Xdp(xdp) => xdp.losses(),
            Self::Port(port) => port.losses(),
        }
    }

    /// Datagrams that held no mirrored packet.
    pub(super) fn others(&self) -> u64 {
        match self {
            Self::Ring(_) | Self::Xdp(_) => 0,
            Self::Port(port) => port.others(),
        }
    }

    /// The LINKTYPE_ number of its packets.
    pub(super) fn link(&self) -> u16 {
        match self {
            Self::Ring(ring) => ring.link(),
            Self::Xdp(xdp) => xdp.link(),
            Self::Port(_) => ETHERNET,
        }
    }

    /// Returns the descriptors to poll for reading.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Ring(ring) => vec![ring.as_fd()],
            Self::Xdp(xdp) => xdp.descriptors().collect(),
            Self::Port(port) => vec![port.as_fd()],
        }
    }
}

/// The options of a port.
fn of_port(options: &InterfaceOptions, (mirror, address): (Mirror, SocketAddr)) -> MirrorOptions {
    MirrorOptions {
        name: options.name.clone(),
        mirror,
        address,
        snap_length: options.snap_length,
        buffer_bytes: options.ring_bytes,
    }
}

/// The failure for an interface that cannot be opened.
pub(super) fn failure(error: &InterfaceError) -> Failure {
    let exit = match error {
        InterfaceError::Permission { .. } | InterfaceError::XdpPermission { .. } => {
            Exit::Permission
        }
        InterfaceError::Datagrams { error, .. } => Exit::from_io(error, Exit::Source),
        _ => Exit::Source,
    };
    Failure::new(exit, error.to_string())
}
