//! Hellos of OpenSSL and Python. What tshark 4.0.17 shows of them is expected.

use panoptes_decoders::application::tls::{ClientHello, ServerHello, extension};

use super::recorded::{bytes, data};

const CIPHERS_1_2: [u16; 28] = [
    0xc02c, 0xc030, 0x009f, 0xcca9, 0xcca8, 0xccaa, 0xc02b, 0xc02f, 0x009e, 0xc024, 0xc028, 0x006b,
    0xc023, 0xc027, 0x0067, 0xc00a, 0xc014, 0x0039, 0xc009, 0xc013, 0x0033, 0x009d, 0x009c, 0x003d,
    0x003c, 0x0035, 0x002f, 0x00ff,
];
const ALGORITHMS: [u16; 20] = [
    0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0809, 0x080a, 0x080b, 0x0804, 0x0805, 0x0806, 0x0401,
    0x0501, 0x0601, 0x0303, 0x0301, 0x0302, 0x0402, 0x0502, 0x0602,
];

#[test]
fn a_hello_of_tls_1_3_is_read() {
    let data = data("curl");
    let hello = ClientHello::decode(&data).expect("a hello");
    assert_eq!(hello.server_name(), Some(&b"www.flow.example"[..]));
    assert_eq!(hello.protocols().collect::<Vec<_>>(), [&b"h2"[..], b"http/1.1"]);
    let versions: Vec<u16> = hello.versions().collect();
    assert_eq!(versions, [0x0304, 0x0303, 0x0302, 0x0301]);
    assert_eq!((hello.legacy_version, hello.version()), (0x0303, 0x0304));
    let ciphers: Vec<u16> = hello.ciphers.clone().collect();
    assert_eq!(ciphers, [&[0x1302, 0x1303, 0x1301][..], &CIPHERS_1_2].concat());
    let extensions: Vec<u16> = hello.extensions.clone().map(|(number, _)| number).collect();
    assert_eq!(extensions, [0, 11, 10, 16, 22, 23, 49, 13, 43, 45, 51, 21]);
    let groups: Vec<u16> = hello.groups().collect();
    assert_eq!(groups, [0x1d, 0x17, 0x1e, 0x19, 0x18, 0x100, 0x101, 0x102, 0x103, 0x104]);
    assert_eq!(hello.signature_algorithms().collect::<Vec<_>>(), ALGORITHMS);
    assert_eq!((hello.session_id.len(), hello.random[0], hello.missing), (32, 0xcc, 0));
}

#[test]
fn hellos_of_tls_1_2_are_read() {
    let data = data("curl-1.2");
    let hello = ClientHello::decode(&data).expect("a hello");
    assert_eq!(hello.server_name(), Some(&b"www.flow.example"[..]));
    assert_eq!(hello.protocols().collect::<Vec<_>>(), [b"http/1.1"]);
    assert_eq!((hello.versions().count(), hello.version()), (0, 0x0303));
    assert_eq!(hello.ciphers.collect::<Vec<_>>(), CIPHERS_1_2);

    let data = super::recorded::data("s_client");
    let hello = ClientHello::decode(&data).expect("a hello");
    assert_eq!((hello.server_name(), hello.protocols().count()), (None, 0));
    let extensions: Vec<u16> = hello.extensions.map(|(number, _)| number).collect();
    assert_eq!(extensions, [11, 10, 35, 22, 23, 13]);
}

#[test]
fn hellos_of_servers_are_read() {
    let answer = data("server-1.3");
    let hello = ServerHello::decode(&answer).expect("a hello");
    assert_eq!((hello.version(), hello.legacy_version, hello.cipher), (0x0304, 0x0303, 0x1302));
    assert_eq!((hello.protocol(), hello.is_retry(), hello.missing), (None, false, 0));
    assert_eq!((hello.session_id.len(), hello.random[0]), (32, 0xd2));

    let answer = data("server-1.2");
    let hello = ServerHello::decode(&answer).expect("a hello");
    assert_eq!((hello.version(), hello.cipher), (0x0303, 0xc030));
    assert_eq!(hello.protocol(), Some(&b"http/1.1"[..]));
    assert!(hello.extensions.find(extension::SUPPORTED_VERSIONS).is_none());

    assert_eq!(ClientHello::decode(&answer), None);
    assert_eq!(ServerHello::decode(&data("curl")), None);
}

/// RFC 8446 §4.1.3: SHA-256 of "HelloRetryRequest".
#[test]
fn a_request_for_another_hello_is_seen() {
    let mut answer = data("server-1.3");
    let random = "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c";
    answer[11..43].copy_from_slice(&bytes(random));
    assert!(ServerHello::decode(&answer).expect("a hello").is_retry());
}

#[test]
fn a_hello_that_is_cut_gives_what_is_there() {
    let whole = data("curl");
    let cut = |length: usize| ClientHello::decode(&whole[..length]);
    // The session id ends at 76, the ciphers at 140, the name's extension at 167.
    assert_eq!(cut(75), None);
    let hello = cut(76).expect("a hello");
    assert_eq!((hello.missing, hello.ciphers.count()), (whole.len() - 76, 0));
    let hello = cut(139).expect("a hello");
    assert_eq!((hello.ciphers.count(), hello.extensions.count()), (30, 0));
    let hello = cut(166).expect("a hello");
    assert_eq!((hello.server_name(), hello.ciphers.count()), (None, 31));
    let hello = cut(169).expect("a hello");
    assert_eq!(hello.server_name(), Some(&b"www.flow.example"[..]));
    assert_eq!(hello.missing, whole.len() - 169);
}

#[test]
fn a_name_follows_names_of_other_types() {
    let list = [&[9, 0, 1, b'x', 0, 0, 2][..], b"ab"].concat();
    let mut data = vec![0x00, 0x00, 0, list.len() as u8 + 2, 0, list.len() as u8];
    data.extend(list);
    let mut message = vec![1, 0, 0, 0, 3, 3];
    message.extend([7; 32]);
    message.extend([0, 0, 2, 0x13, 1, 1, 0, 0, data.len() as u8]);
    message.extend(data);
    message[3] = message.len() as u8 - 4;
    let hello = ClientHello::from_message(&message).expect("a hello");
    assert_eq!(hello.server_name(), Some(&b"ab"[..]));
}

#[test]
fn other_data_is_no_hello() {
    let whole = data("curl");
    let mut changed = whole.clone();
    changed[0] = 23;
    assert_eq!(ClientHello::decode(&changed), None, "application data");
    changed = whole.clone();
    changed[1] = 2;
    assert_eq!(ClientHello::decode(&changed), None, "SSL 2");
    changed = whole.clone();
    changed[3] = 0xff;
    assert_eq!(ClientHello::decode(&changed), None, "a record that is too long");
    changed = whole.clone();
    changed[76] = 0xff;
    assert_eq!(ClientHello::decode(&changed), None, "ciphers that leave the message");
    changed = whole.clone();
    changed[142] = 0xff;
    assert_eq!(ClientHello::decode(&changed), None, "extensions that leave the message");
    assert_eq!(ClientHello::decode(b"GET / HTTP/1.1\r\n\r\n"), None);
}
