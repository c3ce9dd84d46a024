//! What ethtool(8) shows of an interface, asked by generic netlink: sizes of its rings, and which
//! features are on.
//!
//! Numbers are those of include/uapi/linux/{netlink,genetlink,ethtool_netlink}.h. Linux 5.7 has all
//! of it; drivers may refuse. No capability is needed.

use std::io::{self, Error, ErrorKind};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// The type of messages to the controller, and its command.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_RINGS_GET: u8 = 15;
const ETHTOOL_A_HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_RINGS_RX_MAX: u16 = 2;
const ETHTOOL_A_RINGS_RX: u16 = 6;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
/// Flags in the type of an attribute: nested, and in network order.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;
/// Lengths of `nlmsghdr`, of `genlmsghdr`, and of the header of an attribute, in bytes.
const HEADER_BYTES: usize = 16;
const GENERIC_BYTES: usize = 4;
const ATTRIBUTE_BYTES: usize = 4;
/// Replies are at most so long: `NLMSG_GOODSIZE` with some pages.
const REPLY_BYTES: usize = 64 << 10;

/// A connection to the kernel's ethtool.
#[derive(Debug)]
pub(super) struct Ethtool {
    socket: OwnedFd,
    family: u16,
}

impl Ethtool {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The kernel has no ethtool by netlink.
    pub(super) fn open() -> io::Result<Self> {
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let protocol = SockProtocol::NetlinkGeneric;
        let socket = socket(AddressFamily::Netlink, kind, flags, protocol)?;
        // The kernel answers within the call; a lost answer must not be waited for.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let mut name = Vec::new();
        add(&mut name, CTRL_ATTR_FAMILY_NAME, b"ethtool\0");
        let reply = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name)?;
        let family = find(&reply, CTRL_ATTR_FAMILY_ID).and_then(|bytes| bytes.try_into().ok());
        let family = family.map(u16::from_ne_bytes).ok_or(ErrorKind::InvalidData)?;
        Ok(Self { socket, family })
    }

    /// How many packets the receive ring of a card holds, and how many it could hold.
    pub(super) fn receive_ring(&self, interface: &str) -> io::Result<(u32, u32)> {
        let reply = self.ask(ETHTOOL_MSG_RINGS_GET, interface)?;
        ring(&reply).ok_or_else(|| ErrorKind::InvalidData.into())
    }

    /// The names of the features that are on.
    pub(super) fn features(&self, interface: &str) -> io::Result<Vec<String>> {
        Ok(active(&self.ask(ETHTOOL_MSG_FEATURES_GET, interface)?))
    }

    fn ask(&self, command: u8, interface: &str) -> io::Result<Vec<u8>> {
        let (mut name, mut header) = (Vec::new(), Vec::new());
        add(&mut name, ETHTOOL_A_HEADER_DEV_NAME, &[interface.as_bytes(), b"\0"].concat());
        add(&mut header, ETHTOOL_A_HEADER | NESTED, &name);
        ask(&self.socket, self.family, command, &header)
    }
}

/// Sends a request; the attributes of the reply.
fn ask(socket: &OwnedFd, kind: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let length = HEADER_BYTES + GENERIC_BYTES + attributes.len();
    let mut message = u32::try_from(length).map_err(Error::other)?.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Number and port: there is one request at a time.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut reply = vec![0; REPLY_BYTES];
    let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    reply.truncate(length);
    answered(&reply).map(<[u8]>::to_vec)
}

/// The attributes of a message, or the error that it tells.
fn answered(message: &[u8]) -> io::Result<&[u8]> {
    let (header, rest) = message.split_at_checked(HEADER_BYTES).ok_or(ErrorKind::InvalidData)?;
    if u16::from_ne_bytes([header[4], header[5]]) == NLMSG_ERROR {
        let code = rest.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        return Err(Error::from_raw_os_error(code.wrapping_neg()));
    }
    rest.get(GENERIC_BYTES..).ok_or_else(|| ErrorKind::InvalidData.into())
}

/// Adds an attribute.
fn add(to: &mut Vec<u8>, kind: u16, bytes: &[u8]) {
    let length = ATTRIBUTE_BYTES + bytes.len();
    to.extend((length as u16).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(bytes);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Iterates over attributes: their types and their bytes. It ends at the first that is not whole.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header: &[u8; ATTRIBUTE_BYTES] = bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

fn ring(reply: &[u8]) -> Option<(u32, u32)> {
    let number = |kind| find(reply, kind)?.try_into().ok().map(u32::from_ne_bytes);
    Some((number(ETHTOOL_A_RINGS_RX)?, number(ETHTOOL_A_RINGS_RX_MAX)?))
}

fn active(reply: &[u8]) -> Vec<String> {
    let set = find(reply, ETHTOOL_A_FEATURES_ACTIVE).unwrap_or_default();
    let bits = attributes(find(set, ETHTOOL_A_BITSET_BITS).unwrap_or_default());
    let bits = bits.filter(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS_BIT);
    let names = bits.filter_map(|(_, bit)| find(bit, ETHTOOL_A_BITSET_BIT_NAME));
    names.map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_and_features_are_read() {
        let mut rings = Vec::new();
        add(&mut rings, ETHTOOL_A_HEADER | NESTED, &[]);
        add(&mut rings, ETHTOOL_A_RINGS_RX_MAX, &4096_u32.to_ne_bytes());
        assert_eq!(ring(&rings), None);
        add(&mut rings, ETHTOOL_A_RINGS_RX, &256_u32.to_ne_bytes());
        assert_eq!(ring(&rings), Some((256, 4096)));
        let (mut bits, mut set, mut features) = (Vec::new(), Vec::new(), Vec::new());
        for name in ["rx-gro\0", "tx-lockless\0"] {
            let mut bit = Vec::new();
            add(&mut bit, 1, &7_u32.to_ne_bytes());
            add(&mut bit, ETHTOOL_A_BITSET_BIT_NAME, name.as_bytes());
            add(&mut bits, ETHTOOL_A_BITSET_BITS_BIT | NESTED, &bit);
        }
        add(&mut set, ETHTOOL_A_BITSET_BITS | NESTED, &bits);
        add(&mut features, ETHTOOL_A_FEATURES_ACTIVE | NESTED, &set);
        assert_eq!(active(&features), ["rx-gro", "tx-lockless"]);
        for end in 0..features.len() {
            assert!(active(&features[..end]).len() < 2);
        }
        assert_eq!(active(&[0; 64]), [""; 0]);
    }

    #[test]
    fn an_error_is_the_kernels() {
        let mut message = vec![0; HEADER_BYTES];
        message[4] = 2;
        message.extend((-19_i32).to_ne_bytes());
        let error = answered(&message).expect_err("it tells one");
        assert_eq!(error.raw_os_error(), Some(19));
        assert!(answered(&message[..9]).is_err());
    }

    #[test]
    fn the_kernel_answers() {
        // Kernels without ethtool by netlink, and sandboxes, refuse.
        let Ok(ethtool) = Ethtool::open() else { return };
        if let Ok(features) = ethtool.features("lo") {
            // The same of all kernels (`NETIF_F_LOOPBACK`, drivers/net/loopback.c).
            assert!(features.iter().any(|name| name == "loopback"), "{features:?}");
        }
        let error = ethtool.features("no-such-dev0").expect_err("it is not there");
        assert_eq!(error.raw_os_error(), Some(19));
    }
}
