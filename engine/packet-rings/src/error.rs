//! [`InterfaceError`]: why an interface gives no packets.

use std::io;

/// Why an interface gives no packets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    #[error("there is no network interface {name}: choose one that `ip link` lists")]
    Missing { name: String },
    #[error("no permission to capture on {name}: run as root, or with CAP_NET_RAW")]
    Permission { name: String },
    /// Packets come again when it is up.
    #[error("network interface {name} is down: `ip link set {name} up` starts it")]
    Down { name: String },
    /// A new interface of this name has to be opened again.
    #[error("network interface {name} was removed")]
    Removed { name: String },
    #[error("no memory for a ring of {ring_bytes} bytes for {name}: give it fewer")]
    Memory { name: String, ring_bytes: usize },
    #[error(
        "no permission for XDP on {name}: run as root, or with CAP_NET_RAW, CAP_NET_ADMIN and \
         CAP_BPF"
    )]
    XdpPermission { name: String },
    #[error("XDP needs one Ethernet interface, and {name} is none: leave out `xdp:`")]
    Unsuitable { name: String },
    #[error("another program receives from {name} by XDP: `ip link show {name}` has its id")]
    Occupied { name: String },
    #[error(
        "cannot receive from {name} by XDP: this needs Linux 5.9 with CONFIG_XDP_SOCKETS; leave \
         out `xdp:`"
    )]
    Unsupported { name: String },
    #[error("cannot receive datagrams at {name}: {error}")]
    Datagrams {
        name: String,
        #[source]
        error: io::Error,
    },
    /// A call that the kernel refused.
    #[error("cannot capture on {name}: {what}: {error}")]
    System {
        name: String,
        what: &'static str,
        #[source]
        error: io::Error,
    },
}

impl InterfaceError {
    /// The error of a call; `what` names the call.
    pub(crate) fn of_call(name: &str, what: &'static str, error: io::Error) -> Self {
        let name = name.to_owned();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Permission { name },
            Some(libc::ENODEV | libc::ENXIO) => Self::Missing { name },
            Some(libc::ENETDOWN) => Self::Down { name },
            _ => Self::System { name, what, error },
        }
    }
}
