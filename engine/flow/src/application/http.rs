//! The first request of HTTP/1 and the status of its response.

use panoptes_decoders::application::http::{
    METHOD_LENGTH_MAX, METHODS, Request, Response, is_token_byte,
};
use panoptes_records::flow::application::{Application, ApplicationProtocol, Http};

use super::stream::{StreamDemand, StreamReader};

/// The beginning of a response.
const VERSION: &[u8] = b"HTTP/1.";

pub(super) const READER: StreamReader = StreamReader {
    protocol: ApplicationProtocol::Http,
    may_begin,
    begins: is_head,
    read: |stream, _, application| read(stream, application),
};

/// Whether a stream may begin as a request or a response. Each token may be a method; those that
/// are known begin with a letter.
fn may_begin(stream: &[u8]) -> bool {
    let start = &stream[..stream.len().min(METHOD_LENGTH_MAX + 1)];
    let length = start.iter().take_while(|byte| is_token_byte(**byte)).count();
    let is_method = start.first().is_some_and(u8::is_ascii_alphabetic)
        && length <= METHOD_LENGTH_MAX
        && start.get(length).is_none_or(|byte| *byte == b' ');
    let length = stream.len().min(VERSION.len());
    is_method || stream[..length] == VERSION[..length]
}

/// Whether data are a head, or as much of its first line as a short segment has.
fn is_head(data: &[u8]) -> bool {
    let is_prefix = |whole: &[u8]| whole.starts_with(data);
    is_prefix(VERSION)
        || METHODS.into_iter().any(is_prefix)
        || Response::decode(data).is_some()
        || Request::decode(data).is_some()
}

/// Takes the head at the beginning of a stream.
fn read(stream: &[u8], application: &mut Application) -> StreamDemand {
    let mut http = match *application {
        Application::Unknown => Http::default(),
        Application::Http(http) => http,
        _ => return StreamDemand::Done,
    };
    let has_end = |end: &[u8]| stream.windows(end.len()).any(|bytes| bytes == end);
    let wait = StreamDemand::Wait(stream.len() + 1);
    if let Some(response) = Response::decode(stream) {
        http.status = response.status;
        *application = Application::Http(http);
        return StreamDemand::Done;
    }
    if let Some(request) = Request::decode(stream) {
        http.method = request.method.into();
        http.target = request.target.into();
        http.host = request.host().map(Into::into);
        http.user_agent = request.user_agent().map(Into::into);
        *application = Application::Http(http);
        return if has_end(b"\n\r\n") || has_end(b"\n\n") { StreamDemand::Done } else { wait };
    }
    // A whole line that is neither is of something else.
    if stream.contains(&b'\n') { StreamDemand::Done } else { wait }
}
