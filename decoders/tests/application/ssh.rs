//! Banners of SSH.

use panoptes_decoders::application::ssh::Banner;

use super::recorded::data;

#[test]
fn the_banner_of_openssh_is_read() {
    let data = data("client");
    let banner = Banner::decode(&data).expect("a banner");
    assert_eq!(banner.text, b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u6");
    assert_eq!((banner.protocol, banner.software), (&b"2.0"[..], &b"OpenSSH_9.2p1"[..]));
    assert_eq!(banner.comments, Some(&b"Debian-2+deb12u6"[..]));
}

#[test]
fn lines_before_the_banner_are_skipped() {
    let banner = Banner::decode(b"Authorised use only\r\n\r\nSSH-1.99-Cisco-1.25\nrest");
    let banner = banner.expect("a banner");
    assert_eq!((banner.protocol, banner.software), (&b"1.99"[..], &b"Cisco-1.25"[..]));
    assert_eq!(banner.comments, None);
    assert!(Banner::decode(&[b"\n".repeat(31), b"SSH-2.0-x\n".to_vec()].concat()).is_some());
    assert_eq!(Banner::decode(&[b"\n".repeat(32), b"SSH-2.0-x\n".to_vec()].concat()), None);
}

/// RFC 4253 §4.2: 255 characters with CR and LF.
#[test]
fn a_banner_is_short_and_ends() {
    let of = |length: usize| [b"SSH-2.0-", &vec![b'x'; length - 10][..], b"\r\n"].concat();
    assert!(Banner::decode(&of(255)).is_some());
    assert_eq!(Banner::decode(&of(256)), None);
    assert_eq!(Banner::decode(b"SSH-2.0-OpenSSH"), None);
    assert_eq!(Banner::decode(b"SSH-2.0\r\n"), None);
    assert_eq!(Banner::decode(b"HTTP/1.1 200 OK\r\n"), None);
}
