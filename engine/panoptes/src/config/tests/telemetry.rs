//! Remote receivers: every key, what each mistake says, and what the receivers get.

use panoptes_records::activities::Preset;
use panoptes_records::filter::{Activities, Filter, FlowRecords};
use panoptes_sinks::output::form::Envelope;

use super::*;

/// The receivers of a file, which follow the line `before`, and its mistakes.
fn read_receivers(before: &str, receivers: &str) -> (Configuration, Vec<String>) {
    let (configuration, problems) =
        read_file(&format!("{before}\noutput:\n  telemetry:\n{receivers}"));
    (configuration, lines(problems))
}

/// The receivers of a file without mistakes.
#[track_caller]
fn receivers(receivers: &str) -> Vec<Telemetry> {
    let (configuration, problems) = read_receivers("", receivers);
    assert_eq!(problems, Vec::<String>::new(), "of {receivers}");
    configuration.output.telemetry
}

/// The only receiver; it has these keys.
#[track_caller]
fn receiver(keys: &str) -> Telemetry {
    let [receiver] = receivers(&format!("  - {{{keys}}}\n")).try_into().unwrap();
    receiver
}

/// The only mistake of a receiver with these keys. Its place is where `at` begins, or the receiver
/// if that is empty.
#[track_caller]
fn mistake(keys: &str, at: &str, expected: &str) {
    let (_, problems) = read_receivers("", &format!("  - {{{keys}}}\n"));
    let column = match at {
        "" => "  - {".len(),
        at => "  - {".len() + keys.rfind(at).unwrap() + 1,
    };
    assert_eq!(problems, [format!("4:{column}: {expected}")], "of {keys}");
}

#[test]
fn a_receiver_needs_only_an_address() {
    let network = NetworkAddress { host: "logs".to_owned(), port: 24224 };
    assert_eq!(
        receiver("address: 'logs:24224'"),
        Telemetry {
            address: TelemetryAddress::Network(network),
            transport: TelemetryTransport::Tcp,
            tls: None,
            tag: "panoptes".to_owned(),
            format: TelemetryFormat::Json,
            framing: SyslogFraming::OctetCounting,
            facility: Facility::LOCAL0,
            envelope: Envelope::None,
            headers: Vec::new(),
            backlog: Backlog { memory: ByteSize::mebibytes(16), disk: None },
            choice: RecordChoice {
                preset: Preset::Everything,
                severity: Severity::Info,
                activities: None,
                flows: true,
                systems: Vec::new(),
            },
            header: HeaderForm::Full,
        }
    );
}

#[test]
fn every_key_of_a_receiver_is_read() {
    let receiver = receiver(
        "address: 'logs.example.com:6514', transport: tls, tag: site-7, format: syslog, \
         tls: {ca: ca.pem, certificate: me.pem, key: /run/me.key, server_name: logs}, \
         framing: lf, facility: authpriv, backlog: {memory: 1MiB, disk: 2GiB}, \
         preset: security, severity: medium, activities: [process_hidden, process_created], \
         systems: ['web-*', db], header: compact",
    );
    let network = NetworkAddress { host: "logs.example.com".to_owned(), port: 6514 };
    assert_eq!(
        receiver,
        Telemetry {
            address: TelemetryAddress::Network(network),
            transport: TelemetryTransport::Tls,
            tls: Some(TelemetryTls {
                ca: AutoOr::Given("/etc/panoptes/ca.pem".into()),
                own: Some(("/etc/panoptes/me.pem".into(), "/run/me.key".into())),
                server_name: AutoOr::Given(HostName("logs".to_owned())),
            }),
            tag: "site-7".to_owned(),
            format: TelemetryFormat::Syslog,
            framing: SyslogFraming::LineFeed,
            facility: Facility(10),
            envelope: Envelope::None,
            headers: Vec::new(),
            backlog: Backlog { memory: ByteSize::mebibytes(1), disk: Some(ByteSize(2 << 30)) },
            choice: RecordChoice {
                preset: Preset::Security,
                severity: Severity::Medium,
                activities: Some(vec![Activity::ProcessHidden, Activity::ProcessCreated]),
                flows: false,
                systems: vec!["web-*".to_owned(), "db".to_owned()],
            },
            header: HeaderForm::Compact,
        }
    );
}

#[test]
fn a_receiver_on_this_host_reads_lines() {
    let receiver = receiver(
        "address: /dev/log, transport: unix, format: syslog, facility: 13, backlog: 64KiB",
    );
    assert_eq!(receiver.address, TelemetryAddress::Unix("/dev/log".into()));
    assert_eq!((receiver.framing, receiver.facility), (SyslogFraming::LineFeed, Facility(13)));
    assert_eq!(receiver.backlog, Backlog { memory: ByteSize(64 << 10), disk: None });
}

#[test]
fn a_url_says_whether_requests_are_encrypted_and_where_they_go() {
    let of = |keys: &str| {
        let receiver = receiver(&format!("transport: http, {keys}"));
        let TelemetryAddress::Url(url) = receiver.address else { panic!("{keys}") };
        assert_eq!(receiver.tls.is_some(), url.is_tls, "{keys}");
        (url.address.to_string(), url.path, receiver.headers)
    };
    let (address, path, headers) =
        of("address: 'http://[::1]:9/x', format: ecs, headers: {X-Site: seven, \
            Authorization: 'file:token'}");
    assert_eq!((address.as_str(), path.as_str()), ("[::1]:9", "/x"));
    let field = |name: &str, value| (FieldName(name.to_owned()), value);
    let (site, token) = ("seven".to_owned(), "/etc/panoptes/token".into());
    assert_eq!(
        headers,
        [field("X-Site", FieldValue::Text(site)), field("Authorization", FieldValue::File(token)),]
    );
    let (address, path, _) = of("address: 'https://otel.example.com', format: otlp");
    assert_eq!((address.as_str(), path.as_str()), ("otel.example.com:443", "/v1/logs"));
    let (address, path, _) = of("address: 'https://logs.example.com', tls: {ca: ca.pem}");
    assert_eq!((address.as_str(), path.as_str()), ("logs.example.com:443", "/"));
}

#[test]
fn a_wrong_value_of_a_receiver_is_named() {
    let check = |keys: &str, at: &str, key: &str, expected: &str| {
        let keys = format!("address: 'a:1', {keys}");
        mistake(&keys, at, &format!("`output.telemetry[0].{key}`{expected}"));
    };
    check("transport: ip", "ip", "transport", ": `ip` is not one of tcp, tls, udp, unix or http");
    let formats = "json, syslog, forward, otlp, ocsf or ecs";
    check("format: cef", "cef", "format", &format!(": `cef` is not one of {formats}"));
    check("tag: ''", "''", "tag", ": `` is empty");
    let expected = ": `nul` is not one of octet_counting or lf";
    check("format: syslog, framing: nul", "nul", "framing", expected);
    let expected = ": `24` is not a facility of syslog; write a name, such as local0 or authpriv, \
                    or a number from 0 to 23";
    check("format: syslog, facility: 24", "24", "facility", expected);
    let expected = " is 1KiB; it must be from 64KiB to 1TiB";
    check("backlog: 1KiB", "1KiB", "backlog", expected);
    check("backlog: {memory: 1KiB}", "1KiB", "backlog.memory", expected);
    let expected = " is 1KiB; it must be from 1MiB to 1024TiB";
    check("backlog: {disk: 1KiB}", "1KiB", "backlog.disk", expected);
    let expected = ": `all` is not one of alerts, security, everything or auto";
    check("preset: all", "all", "preset", expected);
    let expected = ": `debug` is not a severity; write INFO, LOW, WARNING, MEDIUM, HIGH, ERROR or \
                    CRITICAL";
    check("severity: debug", "debug", "severity", expected);
    let expected = ": `process_create` is no activity; did you mean `process_created`?";
    check("activities: [process_create]", "process_create", "activities", expected);
    check("systems: ['']", "''", "systems", ": `` is empty");
    check("header: none", "none", "header", ": `none` is not one of full or compact");
    let expected = "unknown key `backlogs` in `output.telemetry[0]`; did you mean `backlog`?";
    mistake("address: 'a:1', backlogs: 5", "backlogs", expected);
}

#[test]
fn a_wrong_address_of_a_receiver_says_what_to_write() {
    let check = |keys: &str, at: &str, expected: &str| {
        mistake(keys, at, &format!("`output.telemetry[0].address`{expected}"));
    };
    let url = "a URL such as https://collector.example.com:4318/v1/logs";
    check("tag: x", "", " is missing; write host:port");
    check("transport: unix", "", " is missing; write the path of a socket");
    check("transport: http", "", &format!(" is missing; write {url}"));
    let expected = ": `logs` is not host:port; write for example 127.0.0.1:24224, [::1]:24224 or \
                    collector.example.com:24224";
    check("address: logs", "logs", expected);
    let expected = ": `http://a/` is a URL, which needs `transport: http`; write host:port";
    check("address: 'http://a/'", "'http", expected);
    let expected = format!(": `logs:80` is not {url}");
    check("transport: http, address: logs:80", "logs", &expected);
    let expected = ": `http://me:word@logs/` contains a user; write `headers: {Authorization: …}` \
                    instead";
    check("transport: http, address: http://me:word@logs/", "http:", expected);
    let expected = ": `` is empty; a path is needed";
    check("transport: unix, address: ''", "''", expected);
}

#[test]
fn a_key_without_effect_is_a_mistake() {
    let check = |keys: &str, at: &str, what: &str| {
        let (_, key) = keys.rsplit_once(", ").unwrap();
        let (key, _) = key.split_once(':').unwrap();
        mistake(keys, at, &format!("`output.telemetry[0].{key}` is only for {what}"));
    };
    let tls = "`transport: tls`, and for http with an https:// URL";
    check("address: 'a:1', tls: {ca: x}", "{ca", tls);
    check("transport: http, address: 'http://a', tls: {ca: x}", "{ca", tls);
    let stream = "`format: syslog` on a stream";
    check("address: 'a:1', framing: lf", "lf", stream);
    check("address: 'a:1', transport: udp, format: syslog, framing: lf", "lf", stream);
    check("address: 'a:1', facility: user", "user", "`format: syslog`");
    check("address: 'a:1', headers: {A: b}", "{A", "`transport: http`");
    let record = "formats that have the record itself";
    check("address: 'a:1', format: ocsf, header: compact", "compact", record);
    check("address: 'a:1', format: ecs, header: full", "full", record);
}

/// The warnings about a receiver with these keys, which has no mistake.
#[track_caller]
fn warnings(keys: &str) -> Vec<String> {
    let (_, problems) = read_file(&format!("output:\n  telemetry:\n  - {{{keys}}}\n"));
    let warn = |problem: Problem| {
        assert_eq!(problem.weight, Weight::Warning, "of {keys}: {}", problem.message);
        problem.message
    };
    problems.into_iter().map(warn).collect()
}

#[test]
fn a_compact_header_of_requests_is_warned_of() {
    let http = "address: 'http://a', transport: http";
    let expected = "`output.telemetry[0].header: compact` has no effect with `transport: http`; \
                    leave it out";
    assert_eq!(warnings(&format!("{http}, header: compact")), [expected]);
    assert_eq!(warnings(&format!("{http}, format: otlp, header: compact")), [expected]);
    assert_eq!(warnings(&format!("{http}, header: full")), [""; 0]);
    assert_eq!(warnings("address: 'a:1', header: compact"), [""; 0]);
}

#[test]
fn the_path_of_a_socket_that_looks_like_a_host_is_warned_of() {
    let expected = "`output.telemetry[0].address`: `10.0.0.1:514` is host:port, which `transport: \
                    unix` takes for the path of a socket; write another `transport`, or \
                    ./10.0.0.1:514 for a socket of that name";
    assert_eq!(warnings("address: '10.0.0.1:514', transport: unix"), [expected]);
    for path in ["./10.0.0.1:514", "/run/log:514", "log", "log:x"] {
        assert_eq!(warnings(&format!("address: '{path}', transport: unix")), [""; 0], "{path}");
    }
}

#[test]
fn keys_of_a_receiver_must_fit_each_other() {
    let expected = "`format: forward` needs a stream; use `transport: tcp`, tls or unix";
    mistake("address: 'a:1', transport: udp, format: forward", "forward", expected);
    let expected = "`format: otlp` needs `transport: http`";
    mistake("address: 'a:1', format: otlp", "otlp", expected);
    let expected = "`format: syslog` is not for `transport: http`; use json, otlp, ocsf or ecs";
    mistake("address: 'http://a', transport: http, format: syslog", "syslog", expected);
    let (certificate, key) =
        ("`output.telemetry[0].tls.certificate`", "`output.telemetry[0].tls.key`");
    let tls = "address: 'a:1', transport: tls, tls:";
    let expected = format!("{certificate} needs {key}, too");
    mistake(&format!("{tls} {{certificate: me}}"), "me}", &expected);
    mistake(&format!("{tls} {{key: me}}"), "me}", &format!("{key} needs {certificate}, too"));
    let expected = "`output.telemetry[0].tls.server_name`: `a b` is not the name of a host, such \
                    as collector.example.com";
    mistake(&format!("{tls} {{server_name: a b}}"), "a b", expected);
    let many = "  - {address: 'a:1'}\n".repeat(64);
    let (_, problems) = read_receivers("", &many);
    assert_eq!(problems, ["4:5: `output.telemetry` has 64 receivers; there can be 63"]);
}

#[test]
fn fields_of_a_request_s_header_are_checked() {
    let check = |headers: &str, at: &str, expected: &str| {
        let keys = format!("address: 'http://a', transport: http, headers: {{{headers}}}");
        mistake(&keys, at, expected);
    };
    let of = "of `output.telemetry[0].headers` is";
    let expected = "the name of a header field, such as Authorization";
    check("a b: c", "a b", &format!("the key `a b` {of} not {expected}"));
    let expected = "a header field that panoptes writes itself";
    check("host: c", "host", &format!("the key `host` {of} {expected}"));
    let expected = "`output.telemetry[0].headers.A`: `é` has characters that a header field \
                    cannot have";
    check("A: é", "é", expected);
    let expected = "`output.telemetry[0].headers.A`: `b\\u{a}B: c` contains control characters";
    check("A: \"b\\nB: c\"", "\"b", expected);
}

#[test]
fn no_receiver_of_another_product_s_consumers_has_compact_headers() {
    let compatible = "service: {compatibility: doca_argus}";
    let expected = "`output.telemetry[0].header: compact` conflicts with \
                    `service.compatibility: doca_argus`";
    let (_, problems) = read_receivers(compatible, "  - {address: 'a:1', header: compact}\n");
    assert!(
        problems.iter().any(|line| line.starts_with(&format!("4:30: {expected}"))),
        "{problems:?}"
    );
}

#[test]
fn the_activities_of_a_receiver_narrow_its_preset() {
    let opened = "address: 'a:1', preset: security, activities: [file_descriptor_open]";
    let path = "`output.telemetry[0].activities`";
    let expected = format!(
        "{path}: `file_descriptor_open` is not in the preset security; write `preset: \
         everything`, or enable it in `events`"
    );
    mistake(opened, "file_", &expected);
    let memory = "address: 'a:1', activities: [process_memory_created]";
    let expected = format!("{path}: `process_memory_created` is off; enable it in `events`");
    mistake(memory, "process_memory", &expected);
    for events in [
        "default: {events: {file_descriptor_open: true}}",
        "systems: {a: {system: 'file:/a', events: {file_descriptor_open: true}}}",
    ] {
        let (configuration, problems) = read_receivers(events, &format!("  - {{{opened}}}\n"));
        assert_eq!(problems, Vec::<String>::new());
        let filter = configuration.output.telemetry[0].choice.filter(0);
        let activities = Activities::of([Activity::FileDescriptorOpen]);
        assert_eq!(filter, Filter { activities, ..Filter::of_preset(Preset::Security) });
    }
}

#[test]
fn what_any_output_has_is_collected() {
    use Preset::{Alerts, Everything, Security};

    let check = |output: &str, expected, of_receivers: &[Preset]| {
        let system = "systems: {a: {system: 'file:/a'}}";
        let (configuration, problems) = read_receivers(system, output);
        assert_eq!(problems, Vec::<String>::new(), "of {output}");
        let events = [&configuration.systems[0].settings.events, &configuration.default.events];
        assert_eq!(events.map(|events| events.preset), [expected; 2], "of {output}");
        let presets = configuration.output.telemetry.iter().map(|one| one.choice.preset);
        assert_eq!(presets.collect::<Vec<_>>(), of_receivers, "of {output}");
    };
    let alerts = "  - {address: 'a:1', preset: alerts}\n";
    let security = "  - {address: 'b:1', preset: security}\n";
    let auto = "  - {address: 'c:1', preset: auto}\n";
    let log = "  preset: alerts\n";
    check(&format!("{alerts}{auto}"), Everything, &[Alerts, Everything]);
    check(&format!("{auto}{log}"), Alerts, &[Alerts]);
    check(&format!("{alerts}{security}{log}"), Security, &[Alerts, Security]);
    check(&format!("{alerts}{security}  log_folder: none\n"), Security, &[Alerts, Security]);
}

#[test]
fn a_receiver_s_filter_has_all_its_choices() {
    let of = |keys: &str| receiver(&format!("address: 'a:1'{keys}")).choice;
    assert_eq!(of("").filter(3), Filter { flows: FlowRecords::With, ..Filter::ALL });
    let choice = of(", preset: alerts, severity: HIGH, activities: [process_hidden], systems: [a]");
    assert_eq!(
        choice.filter(3),
        Filter {
            severity: Severity::High,
            activities: Activities::of([Activity::ProcessHidden]),
            receiver: Some(3),
            ..Filter::of_preset(Preset::Alerts)
        }
    );
}

/// Two receivers of one address, as for events and alerts under different tags.
#[test]
fn what_waits_on_disk_for_each_receiver_has_a_folder_of_its_own() {
    let system = "systems: {a: {system: 'file:/a'}}";
    let problems = |receivers: [&str; 2]| {
        let entry = |keys: &&str| format!("  - {{address: 'a:1'{keys}}}\n");
        let text: String = receivers.iter().map(entry).collect();
        read_receivers(system, &text).1
    };
    let disk = ", backlog: {disk: 1M}";
    let forward = format!("{disk}, format: forward");
    let alerts = format!("{forward}, tag: alerts");
    let others = ["format: syslog", "transport: tls"].map(|keys| format!("{disk}, {keys}"));
    for other in ["", &forward, &others[0], &others[1]] {
        assert_eq!(problems([disk, other]), Vec::<String>::new(), "{other}");
    }
    assert_eq!(problems([&forward, &alerts]), Vec::<String>::new());
    let expected = "5:47: `output.telemetry[1].backlog.disk` would be in the folder of an earlier \
                    receiver; receivers with a part of the backlog on disk need another address, \
                    format or tag each";
    assert_eq!(problems([disk, ", preset: alerts, backlog: {disk: 2M}"]), [expected]);
    assert_eq!(problems([&alerts, &alerts]).len(), 1);
}

#[test]
fn the_folder_of_what_waits_has_a_name_that_file_systems_take() {
    let folder = |tag: &str| {
        let entry = format!("  - {{address: 'a:1', format: forward, tag: '{tag}'}}\n");
        let (configuration, problems) = read_receivers("", &entry);
        assert_eq!(problems, Vec::<String>::new());
        configuration.output.telemetry[0].folder_name()
    };
    assert_eq!(folder("alerts"), "a_1_tcp_forward_alerts");
    let long = ["x", "y"].map(|end| folder(&("x".repeat(1000) + end)));
    assert!(long.iter().all(|name| name.len() <= 255), "{long:?}");
    assert_ne!(long[0], long[1]);
}

#[test]
fn what_is_not_spoken_is_named_with_the_page_about_bridges() {
    for (keys, name) in [
        ("address: 'nats://127.0.0.1:4222'", "NATS"),
        ("address: 'kafka://a:9092', transport: http", "Kafka"),
        ("address: 's3://bucket/logs', transport: http", "S3"),
        ("address: 'redis://a', transport: tcp", "Redis"),
    ] {
        let text = keys.split('\'').nth(1).unwrap();
        let expected = format!(
            "`output.telemetry[0].address`: `{text}` is {name}, which Panoptes does not speak; \
             send to Fluent Bit, Vector or an OpenTelemetry Collector, which do \
             (docs/telemetry.md, \"What is not spoken\")"
        );
        mistake(keys, &format!("'{text}"), &expected);
    }
}

#[test]
fn schemes_of_other_programs_say_what_to_write() {
    for (url, expected) in [
        (
            "syslog://a:514",
            "has the scheme `syslog`, which Panoptes does not have; write `address: HOST",
        ),
        ("TCP://a:1", "with `transport: tcp`"),
        ("tls://a:1", "with `transport: tls`"),
        ("udp://a:1", "with `transport: udp`"),
        ("unix:///run/x", "write `address: /PATH` with `transport: unix`"),
        ("file:///var/log/x", "`output.log_folder` names the folder of the logs"),
        ("otlp://a:4318", "`address: http://HOST:4318` with `transport: http` and `format: otlp`"),
        ("loki://a:3100", "/otlp/v1/logs` with `transport: http` and `format: otlp`"),
        ("elasticsearch://a:9200", "docs/telemetry.md, \"Elasticsearch and OpenSearch\""),
        ("splunk://a:8088", "docs/telemetry.md, \"Splunk\""),
        ("fluentd://a:24224", "with `format: forward`"),
        ("forward://a:24224", "with `format: forward`"),
        ("redpanda://a:9092", "is Kafka, which Panoptes does not speak; send to Fluent Bit"),
        ("kinesis://a", "is Kinesis, which Panoptes does not speak; send to Fluent Bit"),
        ("sqs://a", "is SQS, which Panoptes does not speak; send to Fluent Bit"),
        ("eventhubs://a", "is Event Hubs, which Panoptes does not speak; send to Fluent Bit"),
        ("rabbitmq://a", "is AMQP, which Panoptes does not speak; send to Fluent Bit"),
        ("smtp://a:25", "is SMTP, which Panoptes does not speak (docs/telemetry.md"),
        ("ftp://a/x", "is FTP, which Panoptes does not speak (docs/telemetry.md"),
        ("zmq://a:1", "is ZeroMQ, which Panoptes does not speak (docs/telemetry.md"),
        ("hhtp://a:1", "starts with `hhtp://`; did you mean `http://`?"),
        ("httpss://a:1", "did you mean `https://`?"),
        (
            "gopher://a:1",
            "has the unknown scheme `gopher`; write host:port, or an http:// URL with",
        ),
    ] {
        for transport in ["tcp", "udp", "tls", "http"] {
            let keys = format!("  - {{address: '{url}', transport: {transport}}}\n");
            let (_, problems) = read_receivers("", &keys);
            let [problem] = &problems[..] else { panic!("{url}: {problems:?}") };
            assert!(problem.contains(expected), "{url}: {problem}");
            let begin = format!("`output.telemetry[0].address`: `{url}` ");
            assert!(problem.contains(&begin), "{url}: {problem}");
        }
    }
}

#[test]
fn services_with_messages_of_their_own_form_are_refused() {
    for (host, name) in [
        ("hooks.slack.com/services/T/B/x", "Slack"),
        ("x.webhook.office.com/y", "Microsoft Teams"),
        ("chat.googleapis.com/v1/spaces/x", "Google Chat"),
        ("x.ods.opinsights.azure.com/api/logs", "Azure's Log Analytics"),
    ] {
        let keys = format!("  - {{address: 'https://{host}', transport: http}}\n");
        let (_, problems) = read_receivers("", &keys);
        let [problem] = &problems[..] else { panic!("{host}: {problems:?}") };
        let expected = format!("`output.telemetry[0].address`: {name} takes messages of its own");
        assert!(problem.contains(&expected), "{problem}");
    }
}

#[test]
fn paths_of_known_receivers_are_doubted_and_not_refused() {
    let doubted = |url: &str, more: &str, key: &str, why: &str| {
        let found = warnings(&format!("address: '{url}', transport: http{more}"));
        let [warning] = &found[..] else { panic!("{url}: {found:?}") };
        assert!(warning.starts_with(&format!("`output.telemetry[0].{key}`: ")), "{warning}");
        assert!(warning.contains(why), "{warning}");
    };
    doubted("http://loki:3100/loki/api/v1/push", "", "address", "Loki's push API");
    doubted("http://loki:3100/api/prom/push", "", "address", "Loki's push API");
    doubted("http://loki:3100/otlp/v1/logs", "", "format", "a receiver of OpenTelemetry");
    doubted("http://otel:4318/v1/traces", ", format: otlp", "address", "/v1/logs");
    doubted("https://es:9200/panoptes/_bulk", ", format: ecs", "address", "Elasticsearch's");
    doubted("https://es:9200/panoptes/_doc", ", format: ecs", "address", "one document a request");
    let splunk = "https://splunk:8088/services/collector";
    doubted(&format!("{splunk}/event"), "", "address", "Splunk's HTTP Event Collector");
    doubted(&format!("{splunk}/raw"), ", envelope: splunk", "envelope", "/services/collector/raw");
    doubted("https://es:9200/x", ", envelope: elasticsearch", "envelope", "`envelope: elastic");
    doubted("http://am:80/api/v2/alerts", "", "address", "looks like Alertmanager");
    doubted("https://x.logic.azure.com/workflows/1/y", "", "address", "a workflow of Teams");
    let mattermost = "https://m/hooks/abcdefghijklmnopqrstuvwxyz";
    doubted(mattermost, "", "address", "a webhook of Mattermost");
    doubted("http://graylog:12201/gelf", "", "address", "Graylog's input for GELF");
    doubted("http://kafka-rest:8082/topics/a", "", "address", "Kafka's REST Proxy");
    doubted("http://ch:8123/", "", "address", "8123 is the usual port of ClickHouse");
    for (url, more) in [
        ("http://loki:3100/otlp/v1/logs", "format: otlp"),
        ("https://es:9200/panoptes/_bulk?filter_path=errors", "envelope: elasticsearch"),
        ("https://splunk:8088/services/collector/event", "envelope: splunk"),
        ("https://splunk:8088/services/collector/raw?sourcetype=_json", "format: json"),
        ("http://clickhouse:8123/?query=INSERT", "format: json"),
        ("https://own/hooks/panoptes", "format: json"),
    ] {
        receiver(&format!("transport: http, address: '{url}', {more}"));
    }
}

#[test]
fn ports_of_what_is_not_spoken_are_doubted() {
    for (keys, why) in [
        ("address: 'kafka.example.com:9092'", "9092 is the usual port of Kafka"),
        ("address: 'http://otel:4317', transport: http, format: otlp", "usually 4318"),
    ] {
        let text = format!("output:\n  telemetry:\n  - {{{keys}}}\n");
        let (configuration, problems) = read_file(&text);
        assert_eq!(configuration.output.telemetry.len(), 1);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.weight, Weight::Warning);
        assert!(problem.message.contains(why), "{}", problem.message);
    }
}
