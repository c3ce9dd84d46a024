//! The banners of SSH.

use panoptes_decoders::application::ssh::{BANNER_LENGTH_MAX, Banner};
use panoptes_records::flow::application::{Application, ApplicationProtocol, Ssh};

use super::stream::{STREAM_BYTES_MAX, StreamDemand, StreamReader};

/// What a banner begins with. Lines that a server may send before its banner are not skipped.
const BEGINNING: &[u8] = b"SSH-";
const _: () = assert!(BANNER_LENGTH_MAX <= STREAM_BYTES_MAX, "the longest banner is put together");

pub(super) const READER: StreamReader =
    StreamReader { protocol: ApplicationProtocol::Ssh, may_begin, begins: is_banner, read };

/// Whether a stream may begin with a banner.
fn may_begin(stream: &[u8]) -> bool {
    let length = stream.len().min(BEGINNING.len());
    stream[..length] == BEGINNING[..length]
}

/// Whether data are the beginning of a banner of a version that is in use.
fn is_banner(data: &[u8]) -> bool {
    [&b"SSH-2.0-"[..], b"SSH-1.99-"].iter().any(|start| data.starts_with(start))
}

/// Takes the banner at the beginning of a client's or of a server's stream.
fn read(stream: &[u8], is_client: bool, application: &mut Application) -> StreamDemand {
    let mut ssh = match *application {
        Application::Unknown => Ssh::default(),
        Application::Ssh(ssh) => ssh,
        _ => return StreamDemand::Done,
    };
    let Some(banner) = Banner::decode(stream) else {
        let is_over = stream.len() >= BANNER_LENGTH_MAX || stream.contains(&b'\n');
        return if is_over { StreamDemand::Done } else { StreamDemand::Wait(stream.len() + 1) };
    };
    let end = if is_client { &mut ssh.client } else { &mut ssh.server };
    *end = banner.text.into();
    *application = Application::Ssh(ssh);
    StreamDemand::Done
}
