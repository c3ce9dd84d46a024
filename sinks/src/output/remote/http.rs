//! Requests of HTTP/1.1 (RFC 9112), each with many records, and what receivers answer.
//!
//! One request is under way at a time. The receiver has its records when it answers 2xx.

use std::borrow::Cow;

use httparse::{EMPTY_HEADER, Header, Response, Status, parse_chunk_size};

use super::rejection::{Rejection, Unreadable};
use super::search::RefusalSearch;
use crate::output::form::otlp::Otlp;
use crate::output::form::{Envelope, Schema};

/// Makes requests for one receiver.
#[derive(Debug)]
pub struct Http {
    pub(super) body: Body,
    /// The text around each record, unless the body is that of OpenTelemetry.
    pub(super) envelope: Envelope,
    /// The head of a request, up to the length of its body.
    head: String,
    /// The number of the last request.
    request: u64,
    pub(super) search: RefusalSearch,
}

/// The body of a request.
#[derive(Debug)]
pub enum Body {
    /// Each record as a line of JSON.
    Lines,
    /// Each record as an event of a schema, a line each.
    Events(Schema),
    /// Logs of OpenTelemetry.
    Otlp(Otlp),
}

/// The longest number of a body's length, and what ends the head.
const LENGTH_BYTES: usize = 20;
const HEAD_END: &[u8] = b"\r\n\r\n";

impl Http {
    /// Requests to this host, with its port if that is not the usual one, and path. The fields are
    /// added to the head of each.
    pub fn new(host: &str, path: &str, fields: &[(String, String)], body: Body) -> Self {
        let content = match body {
            Body::Lines | Body::Events(_) => "application/x-ndjson",
            Body::Otlp(_) => "application/json",
        };
        let version = env!("CARGO_PKG_VERSION");
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("User-Agent")) {
            head.extend(["User-Agent: panoptes/", version, "\r\n"]);
        }
        for (name, value) in fields {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.extend(["Content-Type: ", content, "\r\nContent-Length: "]);
        let envelope = Envelope::None;
        Self { body, envelope, head, request: 0, search: RefusalSearch::new() }
    }

    /// The same, with this around each record.
    #[must_use]
    pub fn with_envelope(self, envelope: Envelope) -> Self {
        Self { envelope, ..self }
    }

    /// A request that has no records and changes nothing: the receiver says what may be done at
    /// this path (RFC 9110, 9.3.7).
    pub(super) fn inquiry(&self) -> String {
        let head = self.head.strip_prefix("POST").unwrap_or(&self.head);
        format!("OPTIONS{head}0\r\n\r\n")
    }

    /// Room for the head of a request.
    pub(super) fn head_bytes(&self) -> usize {
        self.head.len() + LENGTH_BYTES + HEAD_END.len()
    }

    /// Begins a request behind the room for its head; returns its number.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) -> u64 {
        out.resize(self.head_bytes(), 0);
        if let Body::Otlp(otlp) = &self.body {
            otlp.begin(out);
        }
        self.request += 1;
        self.request
    }

    /// Ends the request, and writes the head before its body. Returns where the request begins.
    pub(super) fn end(&self, out: &mut Vec<u8>) -> usize {
        if let Body::Otlp(_) = &self.body {
            Otlp::end(out);
        }
        let body = self.head_bytes();
        let mut at = body - HEAD_END.len();
        out[at..body].copy_from_slice(HEAD_END);
        let mut length = out.len() - body;
        loop {
            at -= 1;
            out[at] = b'0' + (length % 10) as u8;
            length /= 10;
            if length == 0 {
                break;
            }
        }
        let start = at - self.head.len();
        out[start..at].copy_from_slice(self.head.as_bytes());
        start
    }
}

/// What has arrived from the receiver and is not read.
#[derive(Debug)]
pub(super) struct ResponseBuffer {
    bytes: Vec<u8>,
    /// Whether each answer has the results of a bulk API.
    is_bulk: bool,
    /// Interim answers since the last answer.
    interim: u32,
}

/// The answer to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(super) struct ReceiverResponse {
    pub(super) status: u16,
    /// The status with the receiver's words for it.
    pub(super) text: String,
    /// How many of the records the receiver has not taken, though it took the others
    /// (OTLP, "Partial Success"; Elasticsearch's bulk API).
    pub(super) rejected: u64,
    /// Whether it wants some of them later (Elasticsearch's bulk API).
    is_busy: bool,
    /// Whether its results cannot be read, so that its records are unknown.
    is_unreadable: bool,
    /// Whether the answer is longer than what is read of one.
    is_cut: bool,
    /// `Retry-After`, in seconds.
    pub(super) retry_after: Option<u64>,
    /// Whether the connection takes no further request.
    pub(super) is_last: bool,
}

/// What an answer means for the records.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ResponseVerdict {
    /// The receiver has them.
    Taken,
    /// It wants none now.
    Busy,
    /// It does not take these together; it may take some of them.
    Refused,
    /// It takes none as things are.
    Failed,
}

/// The receiver does not speak HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("its answer is no HTTP; is this the port and the scheme of its URL?")]
pub(super) struct NoHttp;

/// A longer answer ends the connection.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const FIELDS_MAX: usize = 64;
/// The most interim answers before an answer: each costs time, and some receivers send one.
const INTERIM_MAX: u32 = 10;
/// So much of the words in an answer is shown.
const WORDS_BYTES_MAX: usize = 200;

impl ResponseBuffer {
    pub(super) fn new(envelope: Envelope) -> Self {
        Self { bytes: Vec::new(), is_bulk: envelope == Envelope::Elasticsearch, interim: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.interim = 0;
    }

    /// Takes what has arrived; returns an answer when it is there.
    pub(super) fn read(&mut self, arrived: &[u8]) -> Result<Option<ReceiverResponse>, NoHttp> {
        self.bytes.extend_from_slice(arrived);
        let mut begin = 0;
        // 100 Continue and the like come before the answer.
        while let Some(length) = interim_length(&self.bytes[begin..]) {
            begin += length;
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(NoHttp);
            }
        }
        self.bytes.drain(..begin);
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let Some((mut answer, length)) = answer(&self.bytes, self.is_bulk)? else {
            return Ok(None);
        };
        self.bytes.drain(..length);
        self.interim = 0;
        // What follows answers no request that was made, and must not answer the next one.
        answer.is_last |= self.bytes.iter().any(|byte| !b"\r\n".contains(byte));
        Ok(Some(answer))
    }
}

impl ReceiverResponse {
    /// OTLP has 429, 502, 503 and 504 tried again, and all else dropped. This keeps records for
    /// which the status does not blame the content: all requests have the same URL, the same
    /// credentials and the same head, and a server error may be over later.
    pub(super) fn verdict(&self) -> ResponseVerdict {
        match self.status {
            // A smaller request has a shorter answer.
            200..300 if self.is_unreadable && self.is_cut => ResponseVerdict::Refused,
            200..300 if self.is_unreadable => ResponseVerdict::Failed,
            200..300 if self.is_busy => ResponseVerdict::Busy,
            200..300 => ResponseVerdict::Taken,
            429 | 503 => ResponseVerdict::Busy,
            // RFC 9110: 400 (15.5.1), too large (15.5.14), a format that does not fit, as the
            // receiver may see from the data (15.5.16), content that cannot be processed (15.5.21).
            // A refusal "unrelated to the credentials" (15.5.4) is what firewalls answer that
            // look into requests.
            400 | 403 | 413 | 415 | 422 => ResponseVerdict::Refused,
            _ => ResponseVerdict::Failed,
        }
    }

    /// Whether the answer is the same for every record: it blames the token, or the URL.
    pub(super) const fn is_of_all(&self) -> bool {
        matches!(self.status, 300..=399 | 401 | 404 | 405)
    }

    /// Whether a smaller request with the same records may be taken.
    pub(super) const fn is_too_large(&self) -> bool {
        self.status == 413 || self.is_unreadable && self.is_cut
    }

    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self.status {
            200..300 if self.is_unreadable => "; its results cannot be read: is `address` right?",
            401 | 403 => "; is the token in `headers` right, such as {Authorization: file:/PATH}?",
            300..=399 | 404 | 405 => "; is the URL in `address` right?",
            415 => "; does it take this `format`?",
            429 | 503 => "; it is busy: raise its limits, or send fewer records",
            431 => "; are the fields in `headers` too long?",
            500..=599 => "; the receiver's own log may say why",
            _ => "",
        }
    }
}

/// The length of an interim answer at the beginning of these bytes, which has no body (RFC 9110
/// §15.2); `None` if there is none, or not all of it.
fn interim_length(bytes: &[u8]) -> Option<usize> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    match response.parse(bytes) {
        Ok(Status::Complete(length)) if response.code? < 200 => Some(length),
        _ => None,
    }
}

/// The answer at the beginning of these bytes, and its length; `None` if it is not complete.
fn answer(bytes: &[u8], is_bulk: bool) -> Result<Option<(ReceiverResponse, usize)>, NoHttp> {
    let mut fields = [EMPTY_HEADER; FIELDS_MAX];
    let mut response = Response::new(&mut fields);
    let head = match response.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() < ANSWER_BYTES_MAX => return Ok(None),
        Ok(Status::Partial) | Err(_) => return Err(NoHttp),
    };
    let status = response.code.ok_or(NoHttp)?;
    let body = &bytes[head..];
    let length = body_length(status, response.headers, body)?;
    let has_end = !matches!(length, Length::ToTheEnd);
    let length = match length {
        Length::Known(length) if length < ANSWER_BYTES_MAX => Some(length),
        Length::Partial if bytes.len() < ANSWER_BYTES_MAX => None,
        Length::Known(_) | Length::Partial | Length::ToTheEnd => Some(usize::MAX),
    };
    // The words in the body of another answer are of use, but the connection ends.
    let is_there = length.is_some_and(|length| length <= body.len());
    let is_endless = length == Some(usize::MAX);
    if !is_there && !is_endless && status / 100 == 2 {
        return Ok(None);
    }
    let is_close = field(response.headers, "Connection")
        .is_some_and(|value| value.to_ascii_lowercase().contains("close"));
    let is_last = is_close || is_endless || response.version == Some(0) || !is_there;
    let body = &body[..length.unwrap_or(usize::MAX).min(body.len())];
    let content = content(response.headers, body);
    let words =
        format!("{} {}", response.reason.unwrap_or_default(), String::from_utf8_lossy(&content));
    let text = format!("{status} {}", printable(&words)).trim_end().to_owned();
    let retry_after = field(response.headers, "Retry-After").and_then(|text| text.parse().ok());
    let used = head + length.unwrap_or(usize::MAX).min(body.len());
    let rejection = Rejection::read(&content, is_bulk);
    let is_unreadable = rejection == Err(Unreadable);
    let Rejection { records: rejected, is_busy } = rejection.unwrap_or_default();
    let is_cut = is_endless && has_end;
    let answer = ReceiverResponse {
        status,
        text,
        rejected,
        is_busy,
        is_unreadable,
        is_cut,
        retry_after,
        is_last,
    };
    Ok(Some((answer, used)))
}

/// How long a body is.
enum Length {
    Known(usize),
    /// It has not arrived, and its length is not known before that.
    Partial,
    /// Up to the end of the connection.
    ToTheEnd,
}

/// RFC 9112, 6.3.
fn body_length(status: u16, fields: &[Header<'_>], body: &[u8]) -> Result<Length, NoHttp> {
    if status < 200 || status == 204 || status == 304 {
        return Ok(Length::Known(0));
    }
    if field(fields, "Transfer-Encoding").is_some() {
        return if is_chunked(fields) { chunks_length(body) } else { Ok(Length::ToTheEnd) };
    }
    match field(fields, "Content-Length") {
        Some(length) => length.parse().map(Length::Known).or(Err(NoHttp)),
        None => Ok(Length::ToTheEnd),
    }
}

/// RFC 9112, 7.1.
fn chunks_length(body: &[u8]) -> Result<Length, NoHttp> {
    let mut at = 0;
    loop {
        match parse_chunk_size(&body[at..]) {
            Ok(Status::Complete((head, 0))) => {
                at += head;
                break;
            }
            Ok(Status::Complete((head, size))) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                at = at.saturating_add(head).saturating_add(size).saturating_add(2);
                if at > body.len() {
                    return Ok(Length::Partial);
                }
            }
            Ok(Status::Partial) => return Ok(Length::Partial),
            Err(_) => return Err(NoHttp),
        }
    }
    // Fields may follow, and then an empty line.
    while let Some(length) = body[at..].windows(2).position(|end| end == b"\r\n") {
        at += length + 2;
        if length == 0 {
            return Ok(Length::Known(at));
        }
    }
    Ok(Length::Partial)
}

fn is_chunked(fields: &[Header<'_>]) -> bool {
    field(fields, "Transfer-Encoding")
        .is_some_and(|coding| coding.to_ascii_lowercase().ends_with("chunked"))
}

/// What a body contains, without the sizes of its chunks.
fn content<'a>(fields: &[Header<'_>], body: &'a [u8]) -> Cow<'a, [u8]> {
    if !is_chunked(fields) {
        return Cow::Borrowed(body);
    }
    let (mut content, mut rest) = (Vec::with_capacity(body.len()), body);
    while let Ok(Status::Complete((head, size))) = parse_chunk_size(rest)
        && size > 0
    {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let chunk = &rest[head..];
        content.extend_from_slice(&chunk[..size.min(chunk.len())]);
        rest = chunk.get(size.saturating_add(2)..).unwrap_or_default();
    }
    Cow::Owned(content)
}

fn field<'a>(fields: &[Header<'a>], name: &str) -> Option<&'a str> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(field.value).ok().map(str::trim)
}

/// Text from the network, as one line of at most 200 characters, none of them a control character.
pub(super) fn printable(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    words.join(" ").chars().take(WORDS_BYTES_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_answer_causes_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for head in ["", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
                let bytes = [head.as_bytes(), &bytes].concat();
                let _ = ResponseBuffer::new(Envelope::None).read(&bytes);
            }
        }
    }

    fn read(text: &str) -> Result<Option<ReceiverResponse>, NoHttp> {
        ResponseBuffer::new(Envelope::None).read(text.as_bytes())
    }

    #[track_caller]
    fn answer_of(text: &str) -> ReceiverResponse {
        read(text).unwrap().expect("an answer")
    }

    #[test]
    fn a_request_has_its_fields_and_the_length_of_its_body() {
        let fields = [("Authorization".to_owned(), "Bearer x".to_owned())];
        let mut http = Http::new("a:4318", "/in", &fields, Body::Lines);
        let mut out = Vec::new();
        assert_eq!(http.begin(&mut out), 1);
        out.extend_from_slice(b"{\"a\":1}\n");
        let start = http.end(&mut out);
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "POST /in HTTP/1.1\r\nHost: a:4318\r\nUser-Agent: panoptes/{version}\r\n\
             Authorization: Bearer x\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: 8\r\n\r\n{{\"a\":1}}\n"
        );
        assert_eq!(str::from_utf8(&out[start..]).unwrap(), expected);
        assert_eq!(http.begin(&mut Vec::new()), 2);
        let inquiry = http.inquiry();
        assert!(inquiry.starts_with("OPTIONS /in HTTP/1.1\r\nHost: a:4318\r\n"), "{inquiry}");
        assert!(inquiry.ends_with("Content-Length: 0\r\n\r\n"), "{inquiry}");
    }

    /// Each costs little, and there are not many.
    #[test]
    fn interim_answers_without_end_are_refused() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let last = "HTTP/1.1 204 No Content\r\n\r\n";
        let few = [&interim.repeat(10), last].concat();
        assert_eq!(read(&few).unwrap().expect("an answer").status, 204);
        assert_eq!(read(&[&interim.repeat(11), last].concat()), Err(NoHttp));
        let mut answers = ResponseBuffer::new(Envelope::None);
        let flood = interim.repeat(4000);
        let refused = flood.as_bytes().chunks(8192).position(|some| answers.read(some).is_err());
        assert_eq!(refused, Some(0));
        // An answer ends the count.
        let mut answers = ResponseBuffer::new(Envelope::None);
        for _ in 0..30 {
            let answer = answers.read([&interim.repeat(3), last].concat().as_bytes()).unwrap();
            assert_eq!(answer.expect("an answer").status, 204);
        }
    }

    #[test]
    fn answers_end_where_their_bodies_end_however_they_arrive() {
        for answer in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}\n",
            "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
        ] {
            let mut answers = ResponseBuffer::new(Envelope::None);
            let last = answer.len() - 1;
            for byte in &answer.as_bytes()[..last] {
                assert_eq!(answers.read(&[*byte]), Ok(None), "of {answer}");
            }
            let read = answers.read(&answer.as_bytes()[last..]).unwrap().unwrap();
            assert_eq!(
                (read.verdict(), read.is_last),
                (ResponseVerdict::Taken, false),
                "of {answer}"
            );
            assert!(answers.bytes.is_empty());
        }
    }

    #[test]
    fn a_second_answer_is_none_to_the_next_request() {
        let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        for (more, is_last) in [("", false), ("\r\n", false), (ok, true), ("HTTP/1.1 4", true)] {
            let mut answers = ResponseBuffer::new(Envelope::None);
            let read = answers.read(format!("{ok}{more}").as_bytes()).unwrap().unwrap();
            assert_eq!(
                (read.verdict(), read.is_last),
                (ResponseVerdict::Taken, is_last),
                "{more:?}"
            );
        }
    }

    #[test]
    fn an_answer_says_whether_the_connection_goes_on() {
        for (answer, is_last) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n\r\nto the end", true),
            ("HTTP/1.1 400 No\r\nContent-Length: 3\r\n\r\nbad", false),
            ("HTTP/1.1 400 No\r\nContent-Length: 3\r\n\r\nba", true),
        ] {
            assert_eq!(answer_of(answer).is_last, is_last, "of {answer}");
        }
    }

    #[test]
    fn a_status_decides_about_the_records() {
        for (status, verdict) in [
            (200, ResponseVerdict::Taken),
            (299, ResponseVerdict::Taken),
            (301, ResponseVerdict::Failed),
            (400, ResponseVerdict::Refused),
            (401, ResponseVerdict::Failed),
            (403, ResponseVerdict::Refused),
            (404, ResponseVerdict::Failed),
            (408, ResponseVerdict::Failed),
            (413, ResponseVerdict::Refused),
            (415, ResponseVerdict::Refused),
            (422, ResponseVerdict::Refused),
            (429, ResponseVerdict::Busy),
            (431, ResponseVerdict::Failed),
            (500, ResponseVerdict::Failed),
            (502, ResponseVerdict::Failed),
            (503, ResponseVerdict::Busy),
            (504, ResponseVerdict::Failed),
        ] {
            let text = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(answer_of(&text).verdict(), verdict, "of {status}");
        }
        let answer =
            answer_of("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n\r\nlater,\x1b[1m\r\nplease");
        assert_eq!(answer.retry_after, Some(7));
        assert_eq!(answer.text, "429 Slow later,?[1m please");
    }

    #[test]
    fn what_a_receiver_rejects_of_a_request_is_read() {
        for (body, rejected) in [
            ("{}", 0),
            (r#"{"partialSuccess":{}}"#, 0),
            (r#"{"partialSuccess":{"rejectedLogRecords":"17","errorMessage":"old"}}"#, 17),
            (r#"{ "partialSuccess": { "rejectedLogRecords": 3 } }"#, 3),
            (r#"{"partialSuccess":{"rejectedLogRecords":-1}}"#, 0),
        ] {
            let length = body.len();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            assert_eq!(answer_of(&text).rejected, rejected, "of {body}");
        }
    }

    #[test]
    fn what_elasticsearch_rejects_of_a_request_is_counted_and_what_it_wants_later_is_not() {
        let item = |status: u32| format!(r#"{{"create":{{"status":{status}}}}}"#);
        for (errors, statuses, rejected, verdict) in [
            ("false", &[201, 201][..], 0, ResponseVerdict::Taken),
            ("true", &[201, 409], 0, ResponseVerdict::Taken),
            ("true", &[201, 400, 404, 409], 2, ResponseVerdict::Taken),
            ("true", &[201, 429, 400], 1, ResponseVerdict::Busy),
        ] {
            let items: Vec<String> = statuses.iter().map(|status| item(*status)).collect();
            let body = format!(r#"{{"errors":{errors},"items":[{}]}}"#, items.join(","));
            let length = body.len();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            let answer = answer_of(&text);
            assert_eq!((answer.rejected, answer.verdict()), (rejected, verdict), "of {body}");
        }
    }

    /// An answer with this body, in chunks of so many bytes.
    fn in_chunks(body: &str, size: usize) -> String {
        let mut text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
        for chunk in body.as_bytes().chunks(size) {
            let chunk = std::str::from_utf8(chunk).unwrap();
            text.extend([&format!("{:x}", chunk.len()), "\r\n", chunk, "\r\n"]);
        }
        text + "0\r\n\r\n"
    }

    #[test]
    fn what_a_receiver_rejects_is_counted_in_an_answer_of_chunks() {
        let bulk =
            r#"{"errors":true,"items":[{"create":{"status":400}},{"create":{"status":201}}]}"#;
        let otlp = r#"{"partialSuccess":{"rejectedLogRecords":"17"}}"#;
        for size in [1, 7, 40, 1000] {
            let answer = answer_of(&in_chunks(bulk, size));
            assert_eq!((answer.rejected, answer.verdict()), (1, ResponseVerdict::Taken), "{size}");
            assert!(answer.text.starts_with("200 OK {\"errors\":true,"), "{}", answer.text);
            assert_eq!(answer_of(&in_chunks(otlp, size)).rejected, 17, "{size}");
        }
    }

    #[test]
    fn results_that_cannot_be_read_confirm_no_record() {
        let read = |envelope, text: &str| {
            ResponseBuffer::new(envelope).read(text.as_bytes()).unwrap().expect("an answer")
        };
        let with = |body: &str| {
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let torn = with("{\"errors\":true,\"items\":[7,");
        for envelope in [Envelope::None, Envelope::Elasticsearch] {
            let answer = read(envelope, &torn);
            assert_eq!(answer.verdict(), ResponseVerdict::Failed);
            assert!(answer.hint().contains("cannot be read"));
        }
        for body in ["", "<html>", "[]", "{\"errors\":true}"] {
            let of = |envelope| read(envelope, &with(body)).verdict();
            assert_eq!(of(Envelope::Elasticsearch), ResponseVerdict::Failed, "{body}");
            assert_eq!(of(Envelope::None), ResponseVerdict::Taken, "{body}");
        }
    }

    #[test]
    fn results_that_are_too_long_make_requests_smaller() {
        let item = r#"{"create":{"status":201}},"#;
        let items = item.repeat(2 * ANSWER_BYTES_MAX / item.len());
        let body = format!("{{\"errors\":true,\"items\":[{items}{{}}]}}");
        let length = body.len();
        let known = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        for text in [known, in_chunks(&body, 8000)] {
            let mut answers = ResponseBuffer::new(Envelope::Elasticsearch);
            let mut pieces = text.as_bytes().chunks(1000);
            let answer = pieces.find_map(|piece| answers.read(piece).unwrap()).expect("an answer");
            assert_eq!(answer.verdict(), ResponseVerdict::Refused);
            assert!(answer.is_too_large() && answer.is_last);
        }
    }

    #[test]
    fn what_is_no_http_is_refused() {
        assert_eq!(read("SSH-2.0-OpenSSH_9.2\r\n"), Err(NoHttp));
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), Err(NoHttp));
        assert_eq!(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz"), Err(NoHttp));
        let long = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(ANSWER_BYTES_MAX));
        assert_eq!(read(&long), Err(NoHttp));
    }
}
