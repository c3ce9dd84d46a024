//! The fingerprint JA4: examples of its authors, and what their program makes of recorded hellos.

use panoptes_decoders::application::tls::{ClientHello, Ja4, Ja4Transport};

use super::recorded::data;

/// What a hello contains.
#[derive(Clone, Copy)]
struct Hello<'a> {
    version: u16,
    versions: &'a [u16],
    name: Option<&'a str>,
    protocols: &'a [&'a [u8]],
    /// Numbers as in `JA4_ro`: ciphers, extensions and signature algorithms, in their order.
    raw: &'a str,
}

impl Hello<'_> {
    /// The handshake message.
    fn message(&self) -> Vec<u8> {
        let mut lists = self.raw.split('_').map(|list| {
            let numbers = list.split(',').filter(|number| !number.is_empty());
            numbers.map(|number| u16::from_str_radix(number, 16).expect("a number"))
        });
        let mut list = || lists.next().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        let (ciphers, extensions, algorithms) = (list(), list(), list());
        let mut body = [&self.version.to_be_bytes()[..], &[7; 32], &[0]].concat();
        body.extend(vector16(&numbers(&ciphers)));
        body.extend([1, 0]);
        let mut all = Vec::new();
        for number in extensions {
            let data = match number {
                0 => {
                    let name = vector16(self.name.unwrap_or_default().as_bytes());
                    vector16(&[&[0], &name[..]].concat())
                }
                13 => vector16(&numbers(&algorithms)),
                16 => {
                    let names = self.protocols.iter();
                    let names: Vec<u8> =
                        names.flat_map(|name| [&[name.len() as u8], *name].concat()).collect();
                    vector16(&names)
                }
                43 => {
                    let list = numbers(self.versions);
                    [&[list.len() as u8], &list[..]].concat()
                }
                _ => vec![1, 2, 3],
            };
            all.extend(number.to_be_bytes());
            all.extend(vector16(&data));
        }
        body.extend(vector16(&all));
        let length = (body.len() as u32).to_be_bytes();
        [&[1], &length[1..], &body[..]].concat()
    }

    fn ja4(&self, transport: Ja4Transport) -> String {
        let message = self.message();
        let hello = ClientHello::from_message(&message).expect("a hello");
        Ja4::of(&hello, transport).expect("a fingerprint").to_string()
    }
}

fn numbers(list: &[u16]) -> Vec<u8> {
    list.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn vector16(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u16).to_be_bytes()[..], data].concat()
}

/// The example in `technical_details/JA4.md`, with values of RFC 8701 among the numbers.
const EXAMPLE: Hello<'_> = Hello {
    version: 0x0303,
    versions: &[0x9a9a, 0x0304, 0x0303],
    name: Some("flow.example"),
    protocols: &[b"h2", b"http/1.1"],
    raw: "4a4a,1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035_\
          2a2a,001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015,\
          fafa_\
          0403,0804,0401,0503,0805,0501,0806,0601",
};

#[test]
fn the_example_of_the_description_has_its_fingerprint() {
    assert_eq!(EXAMPLE.ja4(Ja4Transport::Tcp), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    assert_eq!(EXAMPLE.ja4(Ja4Transport::Quic), "q13d1516h2_8daaf6152771_e5627efa2ab1");
}

/// The description also has the hash of the example's extensions without signature algorithms.
#[test]
fn no_signature_algorithms_leave_no_mark() {
    let raw = EXAMPLE.raw.rsplit_once('_').expect("three lists").0;
    let ja4 = Hello { raw, ..EXAMPLE }.ja4(Ja4Transport::Tcp);
    assert_eq!(ja4, "t13d1516h2_8daaf6152771_6d807ffa2a79");
}

/// `JA4_ro` and `JA4` of captures in FoxIO's repository (`python/test/testdata`).
#[test]
fn published_captures_have_their_fingerprints() {
    // https3-301-get.pcap
    let old = Hello {
        version: 0x0301,
        versions: &[],
        protocols: &[],
        raw: "0039,0038,0035,0016,0013,000a,0033,0032,002f,009a,0099,0096,0005,0004,0015,0012,\
              0009,0014,0011,0008,0006,0003,00ff_0000",
        ..EXAMPLE
    };
    assert_eq!(old.ja4(Ja4Transport::Tcp), "t10d230100_6a57a6f57151_000000000000");
    // tls-alpn-h2.pcap: more than 16 ciphers, and algorithms that look like RFC 8701's.
    let many = Hello {
        version: 0x0303,
        versions: &[],
        raw: "c030,c02c,c028,c024,c014,c00a,009f,006b,0039,cca9,cca8,ccaa,ff85,00c4,0088,0081,\
              009d,003d,0035,00c0,0084,c02f,c02b,c027,c023,c013,c009,009e,0067,0033,00be,0045,\
              009c,003c,002f,00ba,0041,c011,c007,0005,0004,c012,c008,0016,000a,00ff_\
              0000,000b,000a,000d,0010_\
              0601,0603,efef,0501,0503,0401,0403,eeee,eded,0301,0303,0201,0203",
        ..EXAMPLE
    };
    assert_eq!(many.ja4(Ja4Transport::Tcp), "t12d4605h2_85626a9a5f7f_aaf95bb78ec9");
    // macos_tcp_flags.pcap: an algorithm occurs twice.
    let twice = Hello {
        raw: "1301,1302,1303,c02c,c02b,c024,c023,c00a,c009,cca9,c030,c02f,c028,c027,c014,c013,\
              cca8,009d,009c,003d,003c,0035,002f,c008,c012,000a_\
              ff01,0000,0017,000d,0005,0012,0010,000b,0033,002d,002b,000a,0015_\
              0403,0804,0401,0503,0203,0805,0805,0501,0806,0601,0201",
        ..EXAMPLE
    };
    assert_eq!(twice.ja4(Ja4Transport::Tcp), "t13d2613h2_2802a3db6c62_845d286b0d67");
}

/// What FoxIO's `python/ja4.py` prints for the capture with these hellos.
#[test]
fn recorded_hellos_have_the_fingerprints_of_another_program() {
    for (name, expected) in [
        ("curl", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"),
        ("curl-1.2", "t12d2807h1_d943125447b4_a44c6288192a"),
        ("s_client", "t12i280600_d943125447b4_e7e480e5a997"),
        ("python", "t13d181100_85036bcba153_d41ae481755e"),
    ] {
        let data = data(name);
        let hello = ClientHello::decode(&data).expect("a hello");
        let ja4 = Ja4::of(&hello, Ja4Transport::Tcp).expect("a fingerprint");
        assert_eq!(ja4.as_str(), expected, "{name}");
        let cut = ClientHello::decode(&data[..data.len() - 1]).expect("a hello");
        assert_eq!(Ja4::of(&cut, Ja4Transport::Tcp), None, "{name}, cut");
    }
}

/// The table in the description.
#[test]
fn protocols_are_shown_by_two_characters() {
    for (name, expected) in [
        (&b"h2"[..], "h2"),
        (b"http/1.1", "h1"),
        (b"x", "xx"),
        (b"", "00"),
        (b"\xab", "ab"),
        (b"\x20", "20"),
        (b"\xab\xcd", "ad"),
        (b"\x20\x61", "21"),
        (b"\x30\xab", "3b"),
        (b"\x61\x20", "60"),
        (b"\x30\x31\xab\xcd", "3d"),
        (b"\x30\xab\xcd\x31", "01"),
    ] {
        let ja4 = Hello { protocols: &[name], ..EXAMPLE }.ja4(Ja4Transport::Tcp);
        assert_eq!(ja4[8..10], *expected, "{name:?}");
    }
    assert_eq!(Hello { protocols: &[], ..EXAMPLE }.ja4(Ja4Transport::Tcp)[8..10], *"00");
}

#[test]
fn versions_are_shown_by_two_characters() {
    for (version, expected) in
        [(0x0304, "13"), (0x0303, "12"), (0x0302, "11"), (0x0301, "10"), (0x0300, "s3"), (9, "00")]
    {
        let old = Hello { version, versions: &[], ..EXAMPLE }.ja4(Ja4Transport::Tcp);
        assert_eq!(old[1..3], *expected);
    }
}

#[test]
fn numbers_without_end_have_no_fingerprint() {
    let ciphers = |count: usize| format!("{}_0000", vec!["1301"; count].join(","));
    let hello = |raw: &str| Hello { raw, ..EXAMPLE }.message();
    assert_eq!(Hello { raw: &ciphers(99), ..EXAMPLE }.ja4(Ja4Transport::Tcp)[4..8], *"9901");
    assert_eq!(Hello { raw: &ciphers(512), ..EXAMPLE }.ja4(Ja4Transport::Tcp)[4..8], *"9901");
    assert_eq!(
        Hello { raw: "", ..EXAMPLE }.ja4(Ja4Transport::Tcp)[11..],
        *"000000000000_000000000000"
    );
    let message = hello(&ciphers(513));
    let too_many = ClientHello::from_message(&message).expect("a hello");
    assert_eq!(Ja4::of(&too_many, Ja4Transport::Tcp), None);
}
