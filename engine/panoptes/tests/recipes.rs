//! The recipes of docs/telemetry.md, as they are printed there, against receivers on this machine
//! that enforce the documented rules of each API: Splunk's HTTP Event Collector, Loki's OTLP
//! endpoint, ClickHouse's HTTP interface, and Elasticsearch's bulk API.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
use panoptes_bounded as bounded;
use serde_json::{Value, json};
use tempfile::TempDir;

const PAGE: &str = include_str!("../../../docs/telemetry.md");

/// What the files of tokens have in their first line.
const TOKENS: [(&str, &str); 3] = [
    ("splunk.token", "Splunk 12345678-1234-1234-1234-123456789abc"),
    ("clickhouse.token", "a password"),
    ("elasticsearch.token", "ApiKey VnVhQ2ZHY0JDZGJrUW0tZTVhT3g6dWkybHAyYXhUTm1zeWFrdzl0dk5udw=="),
];

#[derive(Clone, Debug)]
struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
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
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let field = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        };
        let fields: Vec<_> = lines.filter_map(field).collect();
        let mut request = Self { method, target, fields, body: String::new() };
        let length = request.field("content-length").map_or(0, |text| text.parse().unwrap_or(0));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        request.body = String::from_utf8(body).ok()?;
        Some(request)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    fn lines(&self) -> Result<Vec<Value>, serde_json::Error> {
        self.body.lines().map(serde_json::from_str).collect()
    }
}

/// The status line without its version, and the body.
type Answer = (&'static str, String);

/// How an answer says where its body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Length,
    Chunks,
}

impl Framing {
    fn answer(self, status: &str, body: &str) -> String {
        let length = body.len();
        if self == Self::Length {
            return format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        }
        let chunk =
            |chunk: &[u8]| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk));
        let chunks: String = body.as_bytes().chunks(16).map(chunk).collect();
        // RFC 9112, 6.1: an answer 204 has no such field.
        let field = if status.starts_with("204") { "" } else { "Transfer-Encoding: chunked\r\n" };
        let end = if field.is_empty() { "" } else { "0\r\n\r\n" };
        format!("HTTP/1.1 {status}\r\n{field}\r\n{chunks}{end}")
    }
}

/// A receiver that answers with `rules`; its address, and the requests that it took.
fn serve(
    rules: fn(&Request) -> Answer,
    framing: Framing,
) -> (SocketAddr, Arc<Mutex<Vec<Request>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it has an address");
    let taken = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&taken);
    thread::spawn(move || {
        for stream in bounded::incoming(&listener) {
            let Ok(mut stream) = stream.map(BufReader::new) else { return };
            while let Some(request) = Request::read(&mut stream) {
                let (status, body) = rules(&request);
                if status.starts_with('2') && request.method == "POST" {
                    all.lock().expect("no thread has panicked").push(request);
                }
                let answer = framing.answer(status, &body);
                if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    (address, taken)
}

/// Splunk: "Format events for HTTP Event Collector", "Possible error codes".
fn splunk(request: &Request) -> Answer {
    let refuse =
        |status, text: &str, code: u32| (status, json!({ "text": text, "code": code }).to_string());
    let Some(token) = request.field("authorization") else {
        return refuse("401 Unauthorized", "Token is required", 2);
    };
    if !token.starts_with("Splunk ") {
        return refuse("401 Unauthorized", "Invalid authorization", 3);
    }
    if token != TOKENS[0].1 {
        return refuse("403 Forbidden", "Invalid token", 4);
    }
    if request.method != "POST" {
        return ("200 OK", String::new());
    }
    if request.path() != "/services/collector/event" {
        return refuse("404 Not Found", "The requested URL was not found on this server.", 404);
    }
    // Objects follow each other, with or without white space.
    let events: Result<Vec<Value>, _> =
        serde_json::Deserializer::from_str(&request.body).into_iter().collect();
    let Ok(events) = events else { return refuse("400 Bad Request", "Invalid data format", 6) };
    if events.is_empty() {
        return refuse("400 Bad Request", "No data", 5);
    }
    let known = ["time", "host", "source", "sourcetype", "index", "fields", "event"];
    for event in &events {
        let Some(event) = event.as_object() else {
            return refuse("400 Bad Request", "Invalid data format", 6);
        };
        match event.get("event") {
            None => return refuse("400 Bad Request", "Event field is required", 12),
            Some(event) if event == "" => {
                return refuse("400 Bad Request", "Event field cannot be blank", 13);
            }
            Some(_) => {}
        }
        // Epoch time, in seconds.
        let is_time = event
            .get("time")
            .is_none_or(|time| time.as_f64().is_some_and(|seconds| (1e9..1e11).contains(&seconds)));
        if !is_time || event.keys().any(|key| !known.contains(&key.as_str())) {
            return refuse("400 Bad Request", "Invalid data format", 6);
        }
    }
    ("200 OK", json!({ "text": "Success", "code": 0 }).to_string())
}

/// Loki: "Ingest logs using OTLP", and the OTLP specification ("JSON Protobuf Encoding").
fn loki(request: &Request) -> Answer {
    if request.method != "POST" {
        return ("405 Method Not Allowed", String::new());
    }
    if request.path() != "/otlp/v1/logs" {
        return ("404 Not Found", "404 page not found".to_owned());
    }
    // It compares the whole text.
    if request.field("content-type") != Some("application/json") {
        return ("400 Bad Request", "content type is not supported".to_owned());
    }
    if request.field("x-scope-orgid").is_none() {
        return ("401 Unauthorized", "no org id".to_owned());
    }
    let text = |value: &Value| value.as_str().is_some_and(|text| text.parse::<u64>().is_ok());
    let is_attribute = |attribute: &Value| {
        let value = &attribute["value"];
        let is_number = value["intValue"].as_str().is_some_and(|it| it.parse::<i64>().is_ok());
        attribute["key"].is_string() && (value["stringValue"].is_string() || is_number)
    };
    let all = |value: &Value, check: &dyn Fn(&Value) -> bool| {
        value.as_array().is_some_and(|list| list.iter().all(check))
    };
    let is_log = |log: &Value| {
        // 64-bit integers are decimal strings.
        text(&log["timeUnixNano"])
            && log["severityNumber"].as_u64().is_some_and(|number| (1..=24).contains(&number))
            && log["body"]["stringValue"].is_string()
            && all(&log["attributes"], &is_attribute)
    };
    let is_scope = |scope: &Value| all(&scope["logRecords"], &is_log);
    let is_resource = |resource: &Value| {
        all(&resource["resource"]["attributes"], &is_attribute)
            && all(&resource["scopeLogs"], &is_scope)
    };
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    if !all(&body["resourceLogs"], &is_resource) {
        return ("400 Bad Request", "couldn't parse push request".to_owned());
    }
    ("204 No Content", String::new())
}

/// ClickHouse: "HTTP interface", "JSONEachRow", and the settings of formats.
fn clickhouse(request: &Request) -> Answer {
    let refuse = |status, code: u32, text: &str| (status, format!("Code: {code}. {text}"));
    let user = request.field("x-clickhouse-user");
    if user.is_none() || request.field("x-clickhouse-key") != Some(TOKENS[1].1) {
        return refuse("403 Forbidden", 516, "DB::Exception: Authentication failed");
    }
    if request.method != "POST" {
        return ("204 No Content", String::new());
    }
    let query = request.query("query").unwrap_or_default().replace("%20", " ");
    let mut words = query.split(' ');
    let is_insert = words.next() == Some("INSERT") && words.next() == Some("INTO");
    let table = words.next();
    if !is_insert || words.collect::<Vec<_>>() != ["FORMAT", "JSONEachRow"] {
        return refuse("400 Bad Request", 62, "DB::Exception: Syntax error");
    }
    if (request.query("database"), table) != (Some("security"), Some("panoptes")) {
        return refuse("404 Not Found", 60, "DB::Exception: Unknown table");
    }
    let Ok(rows) = request.lines() else {
        return refuse("400 Bad Request", 26, "DB::Exception: Cannot parse JSON");
    };
    let columns = columns();
    for row in &rows {
        let Some(row) = row.as_object() else {
            return refuse("400 Bad Request", 26, "DB::Exception: Cannot parse JSON");
        };
        let skips = request.query("input_format_skip_unknown_fields") == Some("1");
        if row.keys().any(|key| !columns.iter().any(|(name, _)| name == key)) && !skips {
            return refuse("400 Bad Request", 117, "DB::Exception: Unknown field");
        }
        for (name, kind) in &columns {
            let fits = match (row.get(name), kind.as_str()) {
                (None, _) => true,
                (Some(value), "JSON") => value.is_object(),
                // The basic format has neither `T` nor an offset.
                (Some(value), "DateTime64(9)") => {
                    value.is_string()
                        && request.query("date_time_input_format") == Some("best_effort")
                }
                (Some(value), "UUID") => value.as_str().is_some_and(|text| text.len() == 36),
                (Some(value), _) => value.is_string(),
            };
            if !fits {
                return refuse("400 Bad Request", 27, "DB::Exception: Cannot parse input");
            }
        }
    }
    ("200 OK", String::new())
}

/// The columns of the table that the page makes.
fn columns() -> Vec<(String, String)> {
    let (_, table) = PAGE.split_once("CREATE TABLE security.panoptes").expect("it has a table");
    let (table, _) = table.split_once(") ENGINE").expect("it has an engine");
    let lines = table.lines().map(str::trim).filter(|line| line.contains(' '));
    lines
        .filter_map(|line| line.trim_end_matches(',').split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.trim().to_owned()))
        .collect()
}

/// Elasticsearch: "Bulk API", "Data streams", "Common options".
fn elasticsearch(request: &Request) -> Answer {
    let refuse = |status, kind: &str, reason: &str| {
        (status, json!({ "error": { "type": kind, "reason": reason } }).to_string())
    };
    if request.field("authorization") != Some(TOKENS[2].1) {
        return refuse("401 Unauthorized", "security_exception", "missing credentials");
    }
    if request.method != "POST" {
        return ("200 OK", String::new());
    }
    if request.path() != "/logs-panoptes-default/_bulk" {
        return refuse("404 Not Found", "index_not_found_exception", "no such index");
    }
    let types = ["application/x-ndjson", "application/json"];
    if !request.field("content-type").is_some_and(|kind| types.contains(&kind)) {
        return refuse("406 Not Acceptable", "media_type_header_exception", "Content-Type");
    }
    if !request.body.ends_with('\n') {
        let reason = "The bulk request must be terminated by a newline [\\n]";
        return refuse("400 Bad Request", "illegal_argument_exception", reason);
    }
    let Ok(lines) = request.lines() else {
        return refuse("400 Bad Request", "x_content_parse_exception", "Malformed content");
    };
    if lines.len() % 2 != 0 {
        return refuse("400 Bad Request", "illegal_argument_exception", "no source");
    }
    let item = |pair: &[Value]| {
        let (action, document) = (&pair[0], &pair[1]);
        // A data stream takes `create` alone, and each document has a time.
        let is_create = action.as_object().is_some_and(|it| it.keys().eq(["create"]));
        let status = match (is_create, document["@timestamp"].is_string()) {
            (true, true) => 201,
            _ => 400,
        };
        json!({ "create": { "status": status } })
    };
    let items: Vec<Value> = lines.chunks(2).map(item).collect();
    let errors = items.iter().any(|item| item["create"]["status"] != 201);
    ("200 OK", json!({ "errors": errors, "items": items }).to_string())
}

/// The configuration of a recipe, for a receiver at this address.
fn recipe(name: &str, folder: &Path, address: SocketAddr) -> String {
    let (_, rest) = PAGE.split_once(&format!("### {name}\n")).expect("the page has the recipe");
    let (_, yaml) = rest.split_once("```yaml\n").expect("the recipe has a configuration");
    let (yaml, _) = yaml.split_once("```").expect("the block ends");
    for (file, token) in TOKENS {
        fs::write(folder.join(file), format!("{token}\n")).expect("there is room for a file");
    }
    let mut text = yaml.replace("file:/etc/panoptes/", &format!("file:{}/", folder.display()));
    let url = text.lines().find_map(|line| line.split_once("address: ")).expect("it has a URL").1;
    let (_, after) = url.split_once("://").expect("it is a URL");
    let authority = after.split('/').next().expect("it has a host").to_owned();
    for scheme in ["https", "http"] {
        text = text.replace(&format!("{scheme}://{authority}"), &format!("http://{address}"));
    }
    let line = "output:\n  log_folder: none\n";
    text.replacen("output:\n", line, 1)
}

struct Run {
    code: i32,
    out: String,
}

fn run(folder: &Path, arguments: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_panoptes"));
    command.args(arguments).args(["--config", "p.yaml"]).current_dir(folder);
    command.env("HOME", folder).env_remove("XDG_STATE_HOME").stdin(Stdio::null());
    let output = bounded::output(&mut command).expect("the program starts");
    let code = output.status.code().expect("it ends by itself");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Run { code, out: String::from_utf8_lossy(&output.stdout).into_owned() + &err }
}

fn folder_with(text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    fs::write(folder.path().join("p.yaml"), text).expect("there is room for a file");
    folder
}

/// Sends test alerts by a recipe to a receiver with these rules; returns the body of a request.
#[track_caller]
fn check(name: &str, rules: fn(&Request) -> Answer, answer: &str) -> String {
    check_framed(name, rules, answer, Framing::Length);
    check_framed(name, rules, answer, Framing::Chunks)
}

#[track_caller]
fn check_framed(
    name: &str,
    rules: fn(&Request) -> Answer,
    answer: &str,
    framing: Framing,
) -> String {
    let (address, taken) = serve(rules, framing);
    let folder = folder_with("");
    let text = recipe(name, folder.path(), address);
    fs::write(folder.path().join("p.yaml"), &text).expect("there is room for a file");
    let sent = run(folder.path(), &["test-alert"]);
    assert_eq!(sent.code, 0, "{name}: {}\n{text}", sent.out);
    assert!(sent.out.contains(answer), "{name}: {}", sent.out);
    let reached = run(folder.path(), &["doctor", "--receivers"]);
    assert!(reached.out.contains("an inquiry (OPTIONS) is answered "), "{}", reached.out);
    let taken = taken.lock().expect("no thread has panicked");
    let [request] = &taken[..] else { panic!("{name}: {} requests", taken.len()) };
    assert!(request.body.contains("test_alert"), "{}", request.body);
    request.body.clone()
}

#[test]
fn the_recipe_for_splunk_is_taken_by_its_event_collector() {
    let body = check("Splunk", splunk, "it answers 200 OK {\"code\":0,\"text\":\"Success\"}");
    let event: Value = serde_json::from_str(&body).expect("it is one event");
    assert_eq!(event["event"]["activity_data"]["name"], "test_alert");
    assert_eq!((&event["source"], &event["sourcetype"]), (&json!("panoptes"), &json!("_json")));
}

#[test]
fn the_recipe_for_loki_is_taken_by_its_otlp_endpoint() {
    check("Loki", loki, "it answers 204");
}

#[test]
fn the_recipe_for_clickhouse_fits_the_table_that_the_page_makes() {
    assert!(columns().len() > 5, "{:?}", columns());
    check("ClickHouse", clickhouse, "it answers 200 OK");
}

#[test]
fn the_recipe_for_elasticsearch_is_taken_by_its_bulk_api() {
    let body = check("Elasticsearch and OpenSearch", elasticsearch, "it answers 200 OK");
    let lines: Vec<Value> =
        body.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    assert_eq!(lines[0]["create"]["_id"], lines[1]["event"]["id"]);
}

#[test]
fn a_wrong_token_is_told_with_the_receivers_words() {
    let (address, taken) = serve(splunk, Framing::Length);
    let folder = folder_with("");
    let text = recipe("Splunk", folder.path(), address);
    fs::write(folder.path().join("p.yaml"), text).expect("there is room for a file");
    fs::write(folder.path().join("splunk.token"), "Splunk x\n").expect("there is room for a file");
    let sent = run(folder.path(), &["test-alert"]);
    assert_eq!(sent.code, 74, "{}", sent.out);
    assert!(
        sent.out.contains("403 Forbidden {\"code\":4,\"text\":\"Invalid token\"}"),
        "{}",
        sent.out
    );
    assert!(
        sent.out.contains("refuses every record; is the token in `headers` right"),
        "{}",
        sent.out
    );
    assert!(sent.out.contains("1 of 1 outputs failed"), "{}", sent.out);
    let reached = run(folder.path(), &["doctor", "--receivers", "--json"]);
    assert!(reached.out.contains("403 Forbidden"), "{}", reached.out);
    assert!(taken.lock().expect("no thread has panicked").is_empty());
}

/// A socket that has an address, where nobody listens; nobody else gets the port meanwhile.
fn deaf() -> (OwnedFd, SocketAddr) {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.expect("there is a socket");
    bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("there is a port");
    let address: SockaddrIn = getsockname(socket.as_raw_fd()).expect("it has an address");
    (socket, SocketAddrV4::from(address).into())
}

#[test]
fn one_marked_record_goes_through_every_output_whatever_that_takes() {
    let folder = folder_with("");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
    let unix = UnixListener::bind(folder.path().join("socket")).expect("there is a socket");
    let (_deaf, gone) = deaf();
    let of_tcp = tcp.local_addr().expect("it has an address");
    let of_udp = udp.local_addr().expect("it has an address");
    let text = format!(
        "output:\n  log_folder: log\n  stdout: true\n  telemetry:\n  \
         - {{address: '{of_tcp}', severity: CRITICAL}}\n  \
         - {{address: '{of_udp}', transport: udp, format: syslog}}\n  \
         - {{address: socket, transport: unix, format: ocsf, systems: [x]}}\n  \
         - {{address: '{gone}', activities: [process_hidden]}}\n"
    );
    fs::write(folder.path().join("p.yaml"), text).expect("there is room for a file");
    fs::create_dir(folder.path().join("log")).expect("there is room for a folder");
    let of_stream = thread::spawn(move || {
        let mut text = String::new();
        let mut stream = bounded::accept(&tcp).expect("it connects");
        stream.read_to_string(&mut text).expect("it sends text");
        text
    });
    let of_socket = thread::spawn(move || {
        let mut text = String::new();
        let mut stream = bounded::accept(&unix).expect("it connects");
        stream.read_to_string(&mut text).expect("it sends text");
        text
    });
    let sent = run(folder.path(), &["test-alert", "--json", "--severity", "medium"]);
    assert_eq!(sent.code, 74, "{}", sent.out);
    let answer: Value = serde_json::from_str(&sent.out).expect("it is one object");
    let id = answer["message_id"].as_str().expect("it has an id");
    let states: Vec<_> =
        answer["outputs"].as_array().expect("a list").iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["skipped", "ok", "ok", "ok", "ok", "ok", "failed"], "{}", sent.out);
    let message = answer["outputs"][6]["message"].as_str().expect("it has a reason");
    assert!(message.contains("Connection refused"), "{message}");
    let mut datagram = vec![0; 65_536];
    udp.set_read_timeout(Some(bounded::BOUND)).expect("it has a time");
    let length = udp.recv(&mut datagram).expect("a datagram has come");
    let log = |name: &str| {
        fs::read_to_string(folder.path().join("log").join(name)).expect("the log is there")
    };
    let all = [
        log("events.jsonl"),
        log("alerts.jsonl"),
        bounded::join(of_stream).expect("it has ended"),
        bounded::join(of_socket).expect("it has ended"),
        String::from_utf8_lossy(&datagram[..length]).into_owned(),
    ];
    for text in &all {
        assert!(text.contains(id) && text.contains("test_alert"), "{text}");
    }
    let record: Value = serde_json::from_str(&all[0]).expect("it is one record");
    assert_eq!((&record["message_type"], &record["severity"]), (&json!("ALERT"), &json!("MEDIUM")));
    let reason = record["detection"]["reason"].as_str().expect("it has a reason");
    assert!(reason.contains("nothing has happened"), "{reason}");
}

#[test]
fn doctor_reaches_receivers_without_a_record() {
    let folder = folder_with("");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let of_tcp = tcp.local_addr().expect("it has an address");
    let (_deaf, gone) = deaf();
    let text = format!(
        "auto_scan: false\nsystems: {{a: {{system: file:ram}}}}\n\
         output:\n  log_folder: none\n  \
         telemetry: [{{address: '{of_tcp}'}}, {{address: '{gone}'}}]\n"
    );
    fs::write(folder.path().join("p.yaml"), text).expect("there is room for a file");
    let of_stream = thread::spawn(move || {
        let mut text = String::new();
        let mut stream = bounded::accept(&tcp).expect("it connects");
        stream.read_to_string(&mut text).expect("it sends text");
        text
    });
    let reached = run(folder.path(), &["doctor", "--receivers"]);
    assert_eq!(reached.code, 1, "{}", reached.out);
    let accepts = format!("{of_tcp} (tcp): it accepts connections");
    let refuses = format!("cannot connect to {gone} (tcp): Connection refused");
    assert!(reached.out.contains(&accepts), "{}", reached.out);
    assert!(reached.out.contains(&refuses), "{}", reached.out);
    assert_eq!(bounded::join(of_stream).expect("it has ended"), "");
}
