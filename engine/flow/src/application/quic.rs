//! The client's hello in the Initial packets of QUIC: RFC 9001 and RFC 9369.
//!
//! The keys of these packets derive from a connection id that everybody sees, so that anybody can
//! read them. The hello is in CRYPTO frames of some packets, whose offsets give their order.

use panoptes_decoders::application::quic::{LongHeader, VERSION_2};
use panoptes_decoders::application::tls::Ja4Transport;
use panoptes_records::flow::application::{Application, Quic};
use ring::aead::quic::{AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

use super::tls;

/// The salts of versions 1 (RFC 9001 §5.2) and 2 (RFC 9369 §3.3.1).
const SALT_1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
];
const SALT_2: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb,
    0xf9, 0xbd, 0x2e, 0xd9,
];
/// Lengths in bytes of the secret, of a key and of an initialisation vector.
const SECRET_BYTES: usize = 32;
const KEY_BYTES: usize = 16;
const IV_BYTES: usize = 12;
/// Where the sample for the mask of the header begins behind the header, and its length (RFC 9001
/// §5.4.2).
const SAMPLE_OFFSET: usize = 4;
const SAMPLE_BYTES: usize = 16;
/// The most bytes of a packet that is decrypted: more than any path carries without fragments.
pub(super) const PACKET_BYTES_MAX: usize = 2048;
/// The most frames of a packet that are looked at.
const FRAMES_MAX: usize = 256;

/// Types of frames (RFC 9000 §19).
mod frame {
    pub(super) const PADDING: u64 = 0;
    pub(super) const PING: u64 = 1;
    pub(super) const ACK: u64 = 2;
    pub(super) const ACK_ECN: u64 = 3;
    pub(super) const CRYPTO: u64 = 6;
}

/// A length that is asked of HKDF.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The keys of the client's Initial packets.
struct QuicInitialKeys {
    packet: LessSafeKey,
    header: HeaderProtectionKey,
    iv: [u8; IV_BYTES],
}

impl QuicInitialKeys {
    /// Those of a version and of the destination's id in the client's first packet.
    fn derive(version: u32, id: &[u8]) -> Option<Self> {
        let is_2 = version == VERSION_2;
        let salt = Salt::new(HKDF_SHA256, if is_2 { &SALT_2 } else { &SALT_1 });
        let initial = salt.extract(id);
        let secret: [u8; SECRET_BYTES] = expand(&initial, b"client in")?;
        let secret = Prk::new_less_safe(HKDF_SHA256, &secret);
        let labels: [&[u8]; 3] = if is_2 {
            [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"]
        } else {
            [b"quic key", b"quic iv", b"quic hp"]
        };
        let key: [u8; KEY_BYTES] = expand(&secret, labels[0])?;
        let header: [u8; KEY_BYTES] = expand(&secret, labels[2])?;
        Some(Self {
            packet: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?),
            header: HeaderProtectionKey::new(&AES_128, &header).ok()?,
            iv: expand(&secret, labels[1])?,
        })
    }

    /// Decrypts a packet in place. Its frames; `None` if its keys are others.
    fn open<'a>(&self, header_length: usize, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let begin = header_length + SAMPLE_OFFSET;
        let sample = packet.get(begin..begin + SAMPLE_BYTES)?;
        let mask = self.header.new_mask(sample).ok()?;
        let (header, rest) = packet.split_at_mut_checked(header_length)?;
        header[0] ^= mask[0] & 0x0f;
        let number_length = usize::from(header[0] & 3) + 1;
        for (byte, mask) in rest.iter_mut().take(number_length).zip(&mask[1..]) {
            *byte ^= mask;
        }
        let number = rest.get(..number_length)?;
        let number = number.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
        let mut nonce = self.iv;
        for (byte, number) in nonce.iter_mut().rev().zip(number.to_le_bytes()) {
            *byte ^= number;
        }
        let (header, encrypted) = packet.split_at_mut(header_length + number_length);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let frames = self.packet.open_in_place(nonce, Aad::from(&*header), encrypted).ok()?;
        Some(frames)
    }
}

/// HKDF-Expand-Label of TLS 1.3 without a context (RFC 8446 §7.1).
fn expand<const N: usize>(secret: &Prk, label: &[u8]) -> Option<[u8; N]> {
    let length = (N as u16).to_be_bytes();
    let label_length = [label.len() as u8 + 6];
    let info = [&length[..], &label_length, b"tls13 ", label, &[0]];
    let mut out = [0; N];
    secret.expand(&info, Length(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

/// Decrypts a packet of the client, whose first packet was to `id`. Its frames; `None` if it is not
/// the client's, or not whole.
pub(super) fn open<'a>(
    header: &LongHeader<'_>,
    packet: &[u8],
    id: &[u8],
    room: &'a mut [u8; PACKET_BYTES_MAX],
) -> Option<&'a [u8]> {
    if header.missing > 0 {
        return None;
    }
    let length = header.header_length + header.payload.len();
    let room = room.get_mut(..length)?;
    room.copy_from_slice(packet.get(..length)?);
    QuicInitialKeys::derive(header.version, id)?.open(header.header_length, room)
}

/// Takes the hello at the beginning of a connection's stream. Whether it is whole.
pub(super) fn read(stream: &[u8], version: u32, application: &mut Application) -> bool {
    let mut quic = match *application {
        Application::Unknown => Quic::default(),
        Application::Quic(quic) => quic,
        _ => return true,
    };
    quic.version = version;
    quic.client = tls::hello(stream, Ja4Transport::Quic);
    *application = Application::Quic(quic);
    let Some(&[_, high, middle, low]) = stream.first_chunk() else { return false };
    stream.len() - 4 >= u32::from_be_bytes([0, high, middle, low]) as usize
}

/// Gives the pieces of the hello and their offsets to `take`.
pub(super) fn pieces(frames: &[u8], mut take: impl FnMut(usize, &[u8])) {
    // Nothing needs to know how the frames ended.
    let _ = read_frames(frames, &mut take);
}

/// Finds the CRYPTO frames; ends at a frame that has no place in an Initial packet.
fn read_frames(mut rest: &[u8], take: &mut impl FnMut(usize, &[u8])) -> Option<()> {
    for _ in 0..FRAMES_MAX {
        let padding = rest.iter().take_while(|byte| u64::from(**byte) == frame::PADDING).count();
        rest = &rest[padding..];
        match number(&mut rest)? {
            frame::PING => {}
            kind @ (frame::ACK | frame::ACK_ECN) => {
                // The largest one, the delay, the number of ranges, the first range.
                let [_, _, ranges, _] = numbers(&mut rest)?;
                let more = if kind == frame::ACK_ECN { 3 } else { 0 };
                // Each number has a byte at least, so this ends with the packet.
                for _ in 0..ranges.saturating_mul(2).saturating_add(more) {
                    number(&mut rest)?;
                }
            }
            frame::CRYPTO => {
                let [offset, length] = numbers(&mut rest)?;
                let (data, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                take(usize::try_from(offset).ok()?, data);
                rest = after;
            }
            _ => return None,
        }
    }
    None
}

fn numbers<const N: usize>(rest: &mut &[u8]) -> Option<[u64; N]> {
    let mut all = [0; N];
    for one in &mut all {
        *one = number(rest)?;
    }
    Some(all)
}

/// Reads a number of 1, 2, 4 or 8 bytes: RFC 9000 §16.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let (&first, after) = rest.split_first()?;
    let (bytes, after) = after.split_at_checked((1 << (first >> 6)) - 1)?;
    *rest = after;
    Some(bytes.iter().fold(u64::from(first & 0x3f), |all, byte| all << 8 | u64::from(*byte)))
}
