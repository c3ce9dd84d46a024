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
