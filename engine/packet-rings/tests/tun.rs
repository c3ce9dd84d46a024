//! Packets of a tunnel interface, which have no link layer.
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(unsafe_code, reason = "an ioctl makes the interface")]

mod common;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use common::{all, enter_namespace, ip, options, started};

/// `struct ifreq` with flags (`include/uapi/linux/if_tun.h`).
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// Makes an interface whose packets this program reads and writes.
fn tunnel() -> File {
    let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags, rest: [0; 22] };
    request.name[..4].copy_from_slice(b"tun0");
    // SAFETY: the request is live and has the layout and the length of `struct ifreq`.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    assert_eq!(result, 0);
    ip("link set tun0 up");
    file
}

#[test]
fn packets_of_a_tunnel_begin_with_their_ip_header() {
    if !enter_namespace() {
        return;
    }
    let mut file = tunnel();
    let mut interface = started(&options("tun0"));
    let mut any = started(&options("any"));
    assert_eq!(interface.link(), 101);
    // An echo request of ICMP, and UDP over IPv6 (RFC 792, RFC 8200); nobody answers.
    let mut first = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    first.extend([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let mut second = vec![0x60, 0, 0, 0, 0, 9, 17, 64];
    second.extend([0x20; 32]);
    second.extend([0, 1, 0, 2, 0, 9, 0, 0, 7]);
    let sent = [first, second];
    for packet in &sent {
        assert_eq!(file.write(packet).unwrap(), packet.len());
    }
    let expected: Vec<_> =
        sent.iter().map(|packet| (packet.clone(), packet.len() as u32)).collect();
    assert_eq!(all(&mut interface), expected);

    // ARPHRD_NONE, no address, and the protocol.
    let cooked = |kind: [u8; 2], packet: &[u8]| {
        [&[0, 0, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &kind[..], packet].concat()
    };
    let expected = [cooked([8, 0], &sent[0]), cooked([0x86, 0xdd], &sent[1])];
    let seen = all(&mut any);
    assert_eq!(seen.iter().map(|(bytes, _)| bytes.clone()).collect::<Vec<_>>(), expected);
}
