//! What receives the packets of an interface: a ring of the kernel's, or XDP.

use std::os::fd::{AsFd as _, BorrowedFd};

use panoptes_capture::Frame;
use panoptes_interface::{Interface, InterfaceError, Losses, Options, XdpInterface};

use super::filter::PacketFilters;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// An open interface.
#[derive(Debug)]
pub(super) enum Receiver {
    Ring(Interface),
    Xdp(XdpInterface),
}

impl Receiver {
    /// Opens an interface, without receiving from it yet.
    pub(super) fn open(options: &Options, by_xdp: bool) -> Result<Self, InterfaceError> {
        if by_xdp {
            return XdpInterface::open(options).map(Self::Xdp);
        }
        Interface::open(options).map(Self::Ring)
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
        }
    }

    /// Begins to receive; the inner error is that of an interface that is down.
    pub(super) fn start(
        &mut self,
        filters: &mut PacketFilters,
        snap_length: u32,
    ) -> Result<Result<(), InterfaceError>, Failure> {
        let started = match self {
            Self::Ring(ring) => ring.start(filters.of_interface(ring.link(), snap_length)?),
            // Its frames are whole, as those of a capture.
            Self::Xdp(xdp) => xdp.start(filters.of_captures(xdp.link())?),
        };
        match started {
            Err(error @ InterfaceError::Down { .. }) => Ok(Err(error)),
            result => result.map(Ok).map_err(|error| failure(&error)),
        }
    }

    /// Reports how it receives, if there is something to know.
    pub(super) fn report(&self, name: &str, messages: &Messages) {
        let Self::Xdp(xdp) = self else { return };
        messages.info(format_args!("{name}: XDP in {}", xdp.mode()));
        if xdp.loses_tags() {
            messages.warning(format_args!(
                "{name}: the card may remove VLAN tags, which XDP loses then: \
                 `ethtool -K {name} rxvlan off` keeps them"
            ));
        }
    }

    /// Passes up to so many packets on. Whether there was one.
    #[inline]
    pub(super) fn read(&mut self, most: u32, mut pass: impl FnMut(&Frame<'_>)) -> bool {
        let mut has_read = false;
        for _ in 0..most {
            let frame = match self {
                Self::Ring(ring) => ring.next(),
                Self::Xdp(xdp) => xdp.next(),
            };
            let Some(frame) = frame else { break };
            has_read = true;
            pass(&frame);
        }
        has_read
    }

    /// Whether the interface is still there and up. Each change is reported once.
    pub(super) fn check(&mut self) -> Result<(), InterfaceError> {
        match self {
            Self::Ring(ring) => ring.check(),
            Self::Xdp(xdp) => xdp.check(),
        }
    }

    pub(super) fn losses(&mut self) -> Losses {
        match self {
            Self::Ring(ring) => ring.losses(),
            Self::Xdp(xdp) => xdp.losses(),
        }
    }

    /// The LINKTYPE_ number of its packets.
    pub(super) fn link(&self) -> u16 {
        match self {
            Self::Ring(ring) => ring.link(),
            Self::Xdp(xdp) => xdp.link(),
        }
    }

    /// What is to be polled for reading.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Ring(ring) => vec![ring.as_fd()],
            Self::Xdp(xdp) => xdp.descriptors().collect(),
        }
    }
}

/// The failure for an interface that cannot be opened.
pub(super) fn failure(error: &InterfaceError) -> Failure {
    let exit = match error {
        InterfaceError::Permission { .. } | InterfaceError::XdpPermission { .. } => {
            Exit::Permission
        }
        _ => Exit::Source,
    };
    Failure::new(exit, error.to_string())
}
