//! Records in requests of HTTP to receivers on this machine that take, refuse or delay them.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "../../engine/records/tests/common/mod.rs"]
mod common;
#[path = "common/receivers.rs"]
mod receivers;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use certificates::{Authority, Kind};
use panoptes_bounded as bounded;
use panoptes_sinks::output::form::Envelope;
use panoptes_sinks::output::form::otlp::Otlp;
use panoptes_sinks::output::remote::{Body, Http, Messages};
use panoptes_sinks::output::{OutputCounters, OutputKind};
use receivers::{
    KINDS, check_way, number, push, push_real, remote, remote_over, start, tcp, wait_for,
};
use rustls::version::TLS13;
use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

const TAKEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// A request: its head, and its body.
struct Request {
    head: String,
    body: String,
}

impl Request {
    fn read(stream: &mut impl BufRead) -> Option<Self> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        stream.read_exact(&mut body).ok()?;
        Some(Self { head, body: String::from_utf8(body).unwrap() })
    }

    fn numbers(&self) -> Vec<usize> {
        self.body.lines().map(number).collect()
    }
}

/// What a receiver has taken.
type Taken = Arc<Mutex<Vec<Request>>>;

/// A receiver that answers each request as `answer` says, which gets the request's number, too.
fn serve(
    mut answer: impl FnMut(usize, &Request) -> String + Send + 'static,
) -> (SocketAddr, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let all = Taken::default();
    let taken = Arc::clone(&all);
    thread::spawn(move || {
        let mut count = 0;
        for stream in bounded::incoming(&listener) {
            let stream = stream.unwrap();
            let mut reader = BufReader::new(&stream);
            while let Some(request) = Request::read(&mut reader) {
                let text = answer(count, &request);
                count += 1;
                if text.starts_with("HTTP/1.1 2") {
                    taken.lock().unwrap().push(request);
                }
                // The client closes the connection if it reads enough of a long answer.
                if (&stream).write_all(text.as_bytes()).is_err() || text.contains("close") {
                    break;
                }
            }
        }
    });
    (address, all)
}

fn lines() -> Messages {
    let fields = [("Authorization".to_owned(), "Bearer secret".to_owned())];
    Messages::Http(Http::new("a:80", "/in?x=1", &fields, Body::Lines))
}

/// Sends so many records, in parts with pauses; returns the counters at the end.
fn send(address: SocketAddr, kind: OutputKind, count: usize) -> Arc<OutputCounters> {
    let output = remote(tcp(address), lines(), kind, 64 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    for part in 0..4 {
        push(&mut producer, part * count / 4..(part + 1) * count / 4);
        thread::sleep(Duration::from_millis(20));
    }
    let counters = Arc::clone(&running.counters[0]);
    wait_for("end", || counters.records() + counters.dropped() == count as u64);
    drop(producer);
    running.end();
    counters
}

fn numbers(taken: &Taken) -> Vec<usize> {
    taken.lock().unwrap().iter().flat_map(Request::numbers).collect()
}

#[test]
fn a_receiver_gets_every_record_once_in_order_over_one_connection() {
    const COUNT: usize = 20_000;
    for kind in KINDS {
        let (address, taken) = serve(|_, _| TAKEN.to_owned());
        let counters = send(address, kind, COUNT);
        assert!(numbers(&taken).into_iter().eq(0..COUNT));
        assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
        assert_eq!((counters.connections(), counters.errors()), (1, 0));
        check_way(&counters, kind);
        let taken = taken.lock().unwrap();
        let head = &taken[0].head;
        assert!(head.starts_with("POST /in?x=1 HTTP/1.1\r\nHost: a:80\r\n"), "{head}");
        assert!(head.contains("\r\nAuthorization: Bearer secret\r\n"), "{head}");
        assert!(head.contains("\r\nContent-Type: application/x-ndjson\r\n"), "{head}");
    }
}

#[test]
fn a_receiver_may_end_the_connection_after_each_answer() {
    const COUNT: usize = 10_000;
    for end in ["Content-Length: 0\r\nConnection: close\r\n\r\n", "\r\nto the end, close"] {
        let (address, taken) = serve(move |_, _| format!("HTTP/1.1 200 OK\r\n{end}"));
        let counters = send(address, OutputKind::IoUring, COUNT);
        assert!(numbers(&taken).into_iter().eq(0..COUNT));
        assert_eq!(counters.connections(), taken.lock().unwrap().len() as u64);
        assert_eq!((counters.errors(), counters.dropped()), (0, 0));
    }
}

/// A server of HTTP ends connections that nobody uses, which is no failure.
#[test]
fn a_connection_that_ends_while_it_is_idle_is_no_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = remote(tcp(listener.local_addr().unwrap()), lines(), OutputKind::IoUring, 1 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    let counters = Arc::clone(&running.counters[0]);
    for part in 0..3 {
        push(&mut producer, part * 10..(part + 1) * 10);
        let stream = bounded::accept(&listener).unwrap();
        let mut got = Vec::new();
        while got.last() != Some(&(part * 10 + 9)) {
            got.extend(Request::read(&mut BufReader::new(&stream)).unwrap().numbers());
            (&stream).write_all(TAKEN.as_bytes()).unwrap();
        }
        wait_for("answer", || counters.records() == (part as u64 + 1) * 10);
        drop(stream);
        thread::sleep(Duration::from_millis(100));
    }
    drop(producer);
    running.end();
    assert_eq!((counters.errors(), counters.connections()), (0, 3));
}

#[test]
fn a_receiver_that_is_busy_is_left_alone_as_long_as_it_asks() {
    const COUNT: usize = 1000;
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let start = Instant::now();
        let (address, taken) = serve(move |number, _| {
            if number == 0 {
                return format!("HTTP/1.1 {status}\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
            }
            assert!(start.elapsed() >= Duration::from_secs(1));
            TAKEN.to_owned()
        });
        let counters = send(address, OutputKind::IoUring, COUNT);
        assert!(numbers(&taken).into_iter().eq(0..COUNT));
        assert_eq!((counters.errors(), counters.dropped()), (1, 0));
        let expected = format!(
            "cannot deliver records to {address} (tcp): it answers {status}; it is busy: raise its \
             limits, or send fewer records"
        );
        assert_eq!(counters.failure(), expected);
    }
}

#[test]
fn other_failures_are_tried_again() {
    const COUNT: usize = 1000;
    for (status, hint) in [
        ("500 Internal Server Error", "; the receiver's own log may say why"),
        (
            "401 Unauthorized",
            "; it refuses every record; is the token in `headers` right, such as {Authorization: \
             file:/PATH}?",
        ),
        ("404 Not Found", "; it refuses every record; is the URL in `address` right?"),
    ] {
        let (address, taken) = serve(move |number, _| match number {
            0..3 => format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"),
            _ => TAKEN.to_owned(),
        });
        let counters = send(address, OutputKind::IoUring, COUNT);
        assert!(numbers(&taken).into_iter().eq(0..COUNT));
        assert_eq!((counters.errors(), counters.dropped()), (3, 0));
        let failure = counters.failure();
        assert!(failure.ends_with(&format!("it answers {status}{hint}")), "{failure}");
    }
}

#[test]
fn a_request_that_is_too_large_comes_as_two_halves() {
    const COUNT: usize = 100;
    let (address, taken) = serve(|_, request| match request.numbers().len() {
        0..=50 => TAKEN.to_owned(),
        _ => "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n".to_owned(),
    });
    let output = remote(tcp(address), lines(), OutputKind::IoUring, 1 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    push(&mut producer, 0..COUNT);
    drop(producer);
    let counters = Arc::clone(&running.counters[0]);
    running.end();
    assert!(numbers(&taken).into_iter().eq(0..COUNT));
    assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
}

/// Each number as it came first: a record that a receiver took may come again as a sample.
fn once(taken: &Taken) -> Vec<usize> {
    let mut seen = HashSet::new();
    numbers(taken).into_iter().filter(|number| seen.insert(*number)).collect()
}

fn refusal(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\nno number")
}

/// Over one connection, and without a pause.
#[test]
fn a_record_that_is_refused_costs_itself_alone() {
    const COUNT: usize = 1000;
    const WRONG: usize = 321;
    for status in [
        "400 Bad Request",
        "403 Forbidden",
        "413 Content Too Large",
        "415 Unsupported Media Type",
        "422 Unprocessable Content",
    ] {
        let (address, taken) = serve(move |_, request| {
            if request.numbers().contains(&WRONG) { refusal(status) } else { TAKEN.to_owned() }
        });
        let counters = send(address, OutputKind::IoUring, COUNT);
        assert!(once(&taken).into_iter().eq((0..COUNT).filter(|number| *number != WRONG)));
        assert_eq!((counters.records(), counters.dropped()), (COUNT as u64 - 1, 1));
        assert_eq!((counters.refused(), counters.errors(), counters.connections()), (1, 0, 1));
        let failure = counters.failure();
        assert!(failure.contains(&format!("it answers {status} no number")), "{failure}");
    }
}

/// A watched system can make any number of such records.
#[test]
fn many_records_that_are_refused_cost_few_requests_each_and_no_pause() {
    const COUNT: usize = 1500;
    let is_wrong = |number: usize| (0..300).contains(&number) || number.is_multiple_of(10);
    let wrong = (0..COUNT).filter(|number| is_wrong(*number)).count();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let (address, taken) = serve(move |_, request| {
        count.fetch_add(1, Ordering::Relaxed);
        let is_refused = request.numbers().into_iter().any(is_wrong);
        if is_refused { refusal("400 Bad Request") } else { TAKEN.to_owned() }
    });
    let output = remote(tcp(address), lines(), OutputKind::IoUring, 16 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    push(&mut producer, 0..COUNT);
    let counters = Arc::clone(&running.counters[0]);
    wait_for("end", || counters.records() + counters.dropped() == COUNT as u64);
    drop(producer);
    running.end();
    let numbers = numbers(&taken);
    // The first one that is taken is a sample, before its time.
    assert!(once(&taken).len() == COUNT - wrong);
    let rest = (0..COUNT).filter(|number| !is_wrong(*number));
    let mut numbers = numbers.into_iter();
    assert!(rest.into_iter().all(|right| numbers.any(|number| number == right)));
    assert_eq!((counters.refused(), counters.errors()), (wrong as u64, 0));
    let requests = requests.load(Ordering::Relaxed);
    assert!(requests < 5 * wrong + 30, "{requests} requests for {wrong} records");
}

/// At its start, or from some time on, as one does that speaks another protocol now.
#[test]
fn a_receiver_that_refuses_everything_costs_nothing_and_gets_it_when_it_is_mended() {
    const COUNT: usize = 2000;
    for before in [0, 100] {
        let is_wrong = Arc::new(AtomicBool::new(before == 0));
        let refuses = Arc::clone(&is_wrong);
        let refused = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&refused);
        let (address, taken) = serve(move |_, _| {
            if !refuses.load(Ordering::Relaxed) {
                return TAKEN.to_owned();
            }
            count.fetch_add(1, Ordering::Relaxed);
            refusal("400 Bad Request")
        });
        let output = remote(tcp(address), lines(), OutputKind::IoUring, 16 << 20);
        let (mut producer, running) = start(vec![Box::new(output)]);
        let counters = Arc::clone(&running.counters[0]);
        push(&mut producer, 0..before);
        wait_for("first records", || counters.records() == before as u64);
        is_wrong.store(true, Ordering::Relaxed);
        push(&mut producer, before..COUNT);
        wait_for("failures", || counters.errors() >= 3);
        let failure = counters.failure();
        let words = "it answers 400 Bad Request no number; it refuses every record";
        assert!(failure.ends_with(words), "{failure}");
        // A search for the first record, and samples in each round.
        let refused = refused.load(Ordering::Relaxed);
        assert!(refused < 12 + 4 * 9, "{refused} requests");
        is_wrong.store(false, Ordering::Relaxed);
        wait_for("end", || counters.records() == COUNT as u64);
        drop(producer);
        running.end();
        assert!(once(&taken).into_iter().eq(0..COUNT));
        assert_eq!((counters.dropped(), counters.refused()), (0, 0));
    }
}

/// As a rate limiter before a receiver does.
#[test]
fn a_refused_record_is_found_though_the_receiver_asks_for_a_pause_between_requests() {
    let (address, taken) = serve(|count, request| match request.numbers() {
        _ if count.is_multiple_of(2) => refusal("503 Slow Down"),
        numbers if numbers.contains(&5) => refusal("400 Bad Request"),
        _ => TAKEN.to_owned(),
    });
    let output = remote(tcp(address), lines(), OutputKind::IoUring, 1 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    let counters = Arc::clone(&running.counters[0]);
    push(&mut producer, 0..8);
    wait_for("end", || counters.records() == 7);
    drop(producer);
    running.end();
    assert_eq!((counters.dropped(), counters.refused()), (1, 1));
    assert!(once(&taken).into_iter().eq([0, 1, 2, 3, 4, 6, 7]));
}

/// Nothing is known of such a receiver until something else waits.
#[test]
fn the_very_first_record_may_be_one_that_is_refused() {
    let (address, taken) = serve(|_, request| {
        if request.numbers().contains(&0) { refusal("400 Bad Request") } else { TAKEN.to_owned() }
    });
    let output = remote(tcp(address), lines(), OutputKind::IoUring, 1 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    let counters = Arc::clone(&running.counters[0]);
    push(&mut producer, 0..1);
    wait_for("failure", || counters.errors() > 0);
    assert_eq!(counters.dropped(), 0);
    push(&mut producer, 1..10);
    wait_for("end", || counters.records() == 9);
    drop(producer);
    running.end();
    assert_eq!((counters.dropped(), counters.refused()), (1, 1));
    assert!(numbers(&taken).ends_with(&[1, 2, 3, 4, 5, 6, 7, 8, 9]));
}

/// Nothing else wakes the writer meanwhile.
#[test]
fn a_receiver_that_takes_long_to_answer_gets_the_next_request_at_once() {
    const COUNT: usize = 7000;
    const TIME: Duration = Duration::from_millis(150);
    for kind in KINDS {
        let (address, taken) = serve(|_, _| {
            thread::sleep(TIME);
            TAKEN.to_owned()
        });
        let output = remote(tcp(address), lines(), kind, 16 << 20);
        let (mut producer, running) = start(vec![Box::new(output)]);
        let counters = Arc::clone(&running.counters[0]);
        let start = Instant::now();
        push(&mut producer, 0..COUNT);
        wait_for("end", || counters.records() == COUNT as u64);
        let elapsed = start.elapsed();
        drop(producer);
        running.end();
        let requests = taken.lock().unwrap().len() as u32;
        assert!(requests > 5, "{requests}");
        assert!(elapsed < 2 * requests * TIME, "{requests} requests in {elapsed:?}");
    }
}

#[test]
fn records_that_a_receiver_rejects_though_it_takes_others_are_counted() {
    const COUNT: usize = 1000;
    let (address, _) = serve(|number, _| match number {
        0 => {
            let body = r#"{"partialSuccess":{"rejectedLogRecords":"1"}}"#;
            let length = body.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
        }
        _ => TAKEN.to_owned(),
    });
    let counters = send(address, OutputKind::IoUring, COUNT);
    assert_eq!((counters.records(), counters.dropped()), (COUNT as u64 - 1, 1));
    assert_eq!((counters.connections(), counters.errors(), counters.refused()), (1, 0, 1));
    let failure = counters.failure();
    assert!(failure.contains("it answers 200 OK {\"partialSuccess\""), "{failure}");
}

/// An answer of a bulk API, in chunks: the document of this number is refused.
fn bulk_answer(request: &Request, refused: usize, more: usize) -> String {
    let is_document = |line: &&str| !line.starts_with("{\"create\"");
    let documents: Vec<&str> = request.body.lines().filter(is_document).collect();
    let item = |document: &&str| {
        let status = if number(document) == refused { 400 } else { 201 };
        format!(r#"{{"create":{{"status":{status},"pad":"{}"}}}}"#, "x".repeat(more))
    };
    let items: Vec<String> = documents.iter().map(item).collect();
    let body = format!(r#"{{"errors":true,"items":[{}]}}"#, items.join(","));
    let chunks = body.as_bytes().chunks(777).map(|chunk| {
        let chunk = str::from_utf8(chunk).unwrap();
        format!("{:x}\r\n{chunk}\r\n", chunk.len())
    });
    let chunks: String = chunks.collect();
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

#[test]
fn documents_that_a_bulk_api_refuses_are_counted_however_long_its_answer_is() {
    const COUNT: usize = 1000;
    // The answer to a whole request is too long in the second case.
    for more in [0, 2000] {
        let (address, taken) = serve(move |_, request| bulk_answer(request, 417, more));
        let http = Http::new("a:80", "/_bulk", &[], Body::Lines);
        let messages = Messages::Http(http.with_envelope(Envelope::Elasticsearch));
        let output = remote(tcp(address), messages, OutputKind::Plain, 64 << 20);
        let (mut producer, running) = start(vec![Box::new(output)]);
        push(&mut producer, 0..COUNT);
        let counters = Arc::clone(&running.counters[0]);
        wait_for("end", || counters.records() + counters.dropped() == COUNT as u64);
        drop(producer);
        running.end();
        assert_eq!((counters.records(), counters.dropped()), (COUNT as u64 - 1, 1), "{more}");
        assert_eq!((counters.errors(), counters.refused()), (0, 1), "{more}");
        assert!(more == 0 || taken.lock().unwrap().len() > 2, "{more}");
    }
}

#[test]
fn what_answers_no_http_is_named() {
    let (address, _) = serve(|_, _| "SSH-2.0-OpenSSH_9.2\r\n".to_owned());
    let output = remote(tcp(address), lines(), OutputKind::IoUring, 1 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    push(&mut producer, 0..10);
    let counters = Arc::clone(&running.counters[0]);
    wait_for("failure", || counters.errors() > 0);
    drop(producer);
    running.end();
    let failure = counters.failure();
    assert!(failure.contains("its answer is no HTTP; "), "{failure}");
    assert_eq!((counters.records(), counters.dropped()), (0, 10));
}

#[test]
fn receivers_of_opentelemetry_get_logs_over_https() {
    const COUNT: usize = 500;
    let authority = Authority::new("an authority");
    let config = authority.sign("otel.example.com", Kind::default()).server(&[&TLS13], None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reader = thread::spawn(move || {
        let connection = ServerConnection::new(config).unwrap();
        let stream = StreamOwned::new(connection, bounded::accept(&listener).unwrap());
        let mut stream = BufReader::new(stream);
        let mut requests = Vec::new();
        while let Some(request) = Request::read(&mut stream) {
            requests.push(request);
            stream.get_mut().write_all(TAKEN.as_bytes()).unwrap();
        }
        requests
    });
    let body = Body::Otlp(Otlp::new("sensor-1"));
    let messages = Messages::Http(Http::new("otel.example.com", "/v1/logs", &[], body));
    let tls = Some(authority.client("otel.example.com", None));
    let output = remote_over(tls, tcp(address), messages, OutputKind::IoUring, 16 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    push_real(&mut producer, COUNT);
    drop(producer);
    let counters = Arc::clone(&running.counters[0]);
    running.end();
    assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
    let mut ids = Vec::new();
    for request in reader.join().unwrap() {
        assert!(request.head.starts_with("POST /v1/logs HTTP/1.1\r\nHost: otel.example.com\r\n"));
        assert!(request.head.contains("\r\nContent-Type: application/json\r\n"));
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let logs = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
        for log in logs.as_array().unwrap() {
            let record = log["body"]["stringValue"].as_str().unwrap();
            let record: Value = serde_json::from_str(record).unwrap();
            ids.push(record["message_id"].as_str().unwrap().to_owned());
            let system = &log["attributes"][2];
            assert_eq!(
                (&system["key"], &system["value"]["stringValue"]),
                (&Value::from("system"), &Value::from("web-1"),)
            );
        }
    }
    assert_eq!(ids.len(), COUNT);
    assert!(ids.is_sorted_by(|left, right| left < right));
}
