//! Receivers that users have, and what they do not take: a mistake that shows before the first
//! record is refused. A path or a port proves nothing about a receiver, so it is doubted only.
//!
//! Facts: the documentation of each receiver. Not for: whether a receiver is there.

use panoptes_sinks::output::form::Envelope;

use super::{TelemetryAddress, TelemetryFormat, TelemetryTransport, Url};
use crate::config::problem::printable;
use crate::config::section::nearest;

/// Where the bridges to what is not spoken are described.
pub(super) const PAGE: &str = "docs/telemetry.md, \"What is not spoken\"";

/// Schemes of URLs of what is not spoken.
const SCHEMES: [(&str, &str); 23] = [
    ("kafka", "Kafka"),
    ("nats", "NATS"),
    ("tls+nats", "NATS"),
    ("redis", "Redis"),
    ("rediss", "Redis"),
    ("s3", "S3"),
    ("gs", "Google Cloud Storage"),
    ("azblob", "Azure Blob Storage"),
    ("amqp", "AMQP"),
    ("amqps", "AMQP"),
    ("mqtt", "MQTT"),
    ("mqtts", "MQTT"),
    ("pulsar", "Pulsar"),
    ("grpc", "gRPC"),
    ("gelf", "GELF"),
    ("ws", "WebSocket"),
    ("wss", "WebSocket"),
    ("redpanda", "Kafka"),
    ("rabbitmq", "AMQP"),
    ("kinesis", "Kinesis"),
    ("sqs", "SQS"),
    ("eventhub", "Event Hubs"),
    ("eventhubs", "Event Hubs"),
];

/// The same where no bridge is known.
const SCHEMES_ALONE: [(&str, &str); 7] = [
    ("smtp", "SMTP"),
    ("smtps", "SMTP"),
    ("mailto", "SMTP"),
    ("ftp", "FTP"),
    ("ftps", "FTP"),
    ("sftp", "SFTP"),
    ("zmq", "ZeroMQ"),
];

/// Schemes of other programs for what other keys say here, and what to write.
const SCHEMES_OF_KEYS: [(&[&str], &str); 11] = [
    (&["syslog"], "write `address: HOST:PORT` with `format: syslog`"),
    (&["tcp"], "write `address: HOST:PORT` with `transport: tcp`"),
    (&["tls", "ssl"], "write `address: HOST:PORT` with `transport: tls`"),
    (&["udp"], "write `address: HOST:PORT` with `transport: udp`"),
    (&["unix"], "write `address: /PATH` with `transport: unix`"),
    (&["file"], "`output.log_folder` names the folder of the logs"),
    (&["otlp"], "write `address: http://HOST:4318` with `transport: http` and `format: otlp`"),
    (
        &["loki"],
        "write `address: http://HOST:3100/otlp/v1/logs` with `transport: http` and `format: otlp`",
    ),
    (
        &["elasticsearch", "opensearch", "elastic"],
        "docs/telemetry.md, \"Elasticsearch and OpenSearch\", has what to write",
    ),
    (&["splunk", "hec"], "docs/telemetry.md, \"Splunk\", has what to write"),
    (
        &["fluentd", "fluent", "fluentbit", "fluent-bit", "forward"],
        "write `address: HOST:PORT` with `format: forward`",
    ),
];

/// Ports on which receivers listen that take something else.
const PORTS: [(u16, &str); 10] = [
    (1883, "MQTT"),
    (4222, "NATS"),
    (4317, "OTLP over gRPC"),
    (5044, "the Beats protocol"),
    (5672, "AMQP"),
    (6379, "Redis"),
    (6650, "Pulsar"),
    (9092, "Kafka"),
    (9093, "Alertmanager or Kafka"),
    (12201, "GELF"),
];

/// Hosts of services that take messages of a form of their own.
const HOSTS: [(&str, &str); 9] = [
    ("hooks.slack.com", "Slack"),
    ("webhook.office.com", "Microsoft Teams"),
    ("discord.com", "Discord"),
    ("events.pagerduty.com", "PagerDuty"),
    ("events.eu.pagerduty.com", "PagerDuty"),
    ("api.opsgenie.com", "Opsgenie"),
    ("api.telegram.org", "Telegram"),
    ("chat.googleapis.com", "Google Chat"),
    ("ods.opinsights.azure.com", "Azure's Log Analytics"),
];

/// Why an address with another scheme than http:// and https:// cannot be one.
pub(super) fn refuse_scheme(text: &str) -> Result<(), String> {
    let Some((scheme, _)) = text.split_once("://") else { return Ok(()) };
    let scheme = scheme.to_ascii_lowercase();
    if ["http", "https"].contains(&&*scheme) {
        return Ok(());
    }
    let of = |schemes: &[(&str, &'static str)]| {
        schemes.iter().find(|(known, _)| *known == scheme).map(|(_, name)| *name)
    };
    let of_key = SCHEMES_OF_KEYS.iter().find(|(schemes, _)| schemes.contains(&&*scheme));
    Err(if let Some(name) = of(&SCHEMES) {
        format!("is {name}, which Panoptes does not speak; {}", bridge())
    } else if let Some(name) = of(&SCHEMES_ALONE) {
        format!("is {name}, which Panoptes does not speak ({PAGE})")
    } else if let Some((_, what)) = of_key {
        format!("has the scheme `{scheme}`, which Panoptes does not have; {what}")
    } else if let Some(near) = nearest(&scheme, &["http", "https"]) {
        format!("starts with `{}://`; did you mean `{near}://`?", printable(&scheme))
    } else {
        let scheme = printable(&scheme);
        format!(
            "has the unknown scheme `{scheme}`; write host:port, or an http:// URL with \
             `transport: http`"
        )
    })
}

fn bridge() -> String {
    format!("send to Fluent Bit, Vector or an OpenTelemetry Collector, which do ({PAGE})")
}

/// What speaks against a receiver's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Objection {
    /// The receiver would refuse every record.
    Mistake(&'static str, String),
    /// The receiver may.
    Doubt(&'static str, String),
}

/// Compares what is known of an address with what would be sent there.
pub(super) fn objection(
    address: &TelemetryAddress,
    transport: TelemetryTransport,
    format: TelemetryFormat,
    envelope: Envelope,
) -> Option<Objection> {
    let at = match address {
        TelemetryAddress::Unix(_) => return None,
        TelemetryAddress::Network(at) => at,
        TelemetryAddress::Url(url) => {
            if let Some(why) = of_service(url) {
                return Some(Objection::Mistake("address", why));
            }
            let path = Path::of(url);
            let doubt = path.of_one_form();
            let doubt = doubt.or_else(|| path.of_otlp(format)).or_else(|| path.of_bulk(envelope));
            if let Some((key, why)) = doubt.or_else(|| path.of_splunk(envelope)) {
                return Some(Objection::Doubt(key, why));
            }
            if url.address.port == 8123 && !url.path.contains("query=") {
                let why = "8123 is the usual port of ClickHouse, which wants the statement in the \
                           URL (docs/telemetry.md, \"ClickHouse\")";
                return Some(Objection::Doubt("address", why.to_owned()));
            }
            &url.address
        }
    };
    let (port, name) = PORTS.iter().find(|(port, _)| *port == at.port)?;
    let more = match (port, transport) {
        (4317, _) => "; with `transport: http` its port is usually 4318",
        (5044, _) => "; Logstash takes `format: json` with an input `tcp` or `http`",
        _ => "",
    };
    let why = format!("is the usual port of {name}, which Panoptes does not speak ({PAGE}){more}");
    Some(Objection::Doubt("address", format!("{port} {why}")))
}

/// A service with messages of its own form.
fn of_service(url: &Url) -> Option<String> {
    let host = url.address.host.to_ascii_lowercase();
    let is_at = |known: &str| host == known || host.ends_with(&format!(".{known}"));
    let (_, name) = HOSTS.iter().find(|(known, _)| is_at(known))?;
    Some(format!("{name} takes messages of its own form only; {}", bridge()))
}

/// A key with what speaks against its value.
type Doubt = Option<(&'static str, String)>;

/// The path of a URL, which usually belongs to some receiver.
#[derive(Clone, Copy, Debug)]
struct Path<'a> {
    host: &'a str,
    path: &'a str,
}

impl<'a> Path<'a> {
    fn of(url: &'a Url) -> Self {
        let path = url.path.split('?').next().unwrap_or_default().trim_end_matches('/');
        Self { host: &url.address.host, path }
    }

    fn ends(self, ends: &[&str]) -> bool {
        ends.iter().any(|end| self.path.ends_with(end))
    }

    /// Receivers with a form that Panoptes does not have.
    fn of_one_form(self) -> Doubt {
        let is_azure = self.host.to_ascii_lowercase().ends_with(".logic.azure.com");
        let why = if self.ends(&["/loki/api/v1/push", "/api/prom/push"]) {
            "Loki's push API takes a form that Panoptes does not have; write the path \
             /otlp/v1/logs with `format: otlp`"
                .to_owned()
        } else if self.ends(&["/api/v2/alerts", "/api/v1/alerts"]) {
            self.own_form("Alertmanager")
        } else if is_azure && self.path.contains("/workflows/") {
            self.own_form("a workflow of Teams or Azure")
        } else if self.is_mattermost() {
            self.own_form("a webhook of Mattermost")
        } else if self.ends(&["/gelf"]) {
            self.own_form("Graylog's input for GELF")
        } else if self.path.contains("/topics/") {
            self.own_form("Kafka's REST Proxy")
        } else {
            return None;
        };
        Some(("address", why))
    }

    fn own_form(self, name: &str) -> String {
        let path = printable(self.path);
        format!("{path} looks like {name}, which takes a form of its own only; {}", bridge())
    }

    /// The key of a webhook has 26 letters and digits (Mattermost, "Incoming webhooks").
    fn is_mattermost(self) -> bool {
        let key = self.path.rsplit_once("/hooks/").map_or("", |(_, key)| key);
        key.len() == 26 && key.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }

    /// Paths of OTLP/HTTP.
    fn of_otlp(self, format: TelemetryFormat) -> Doubt {
        if self.ends(&["/v1/traces", "/v1/metrics"]) {
            let why = "receivers of OpenTelemetry take no logs there; write a path that ends in \
                       /v1/logs";
            return Some(("address", why.to_owned()));
        }
        let is_doubtful = self.ends(&["/v1/logs"]) && format != TelemetryFormat::Otlp;
        let why =
            "at /v1/logs is usually a receiver of OpenTelemetry; write `format: otlp` for one";
        is_doubtful.then(|| ("format", why.to_owned()))
    }

    /// Elasticsearch's and OpenSearch's.
    fn of_bulk(self, envelope: Envelope) -> Doubt {
        let is_envelope = envelope == Envelope::Elasticsearch;
        if self.ends(&["/_doc", "/_create"]) {
            let why = "Elasticsearch takes one document a request there; write a path that ends in \
                       /_bulk with `envelope: elasticsearch`";
            return Some(("address", why.to_owned()));
        }
        if self.ends(&["/_bulk"]) && !is_envelope {
            let why = "Elasticsearch's bulk API wants an action before each record; write \
                       `envelope: elasticsearch` with `format: ecs` or json";
            return Some(("address", why.to_owned()));
        }
        let why = "`envelope: elasticsearch` is for the bulk API, whose path ends in /_bulk";
        (is_envelope && !self.ends(&["/_bulk"])).then(|| ("envelope", why.to_owned()))
    }

    /// The HTTP Event Collector's.
    fn of_splunk(self, envelope: Envelope) -> Doubt {
        const EVENTS: [&str; 3] =
            ["/services/collector", "/services/collector/event", "/services/collector/event/1.0"];
        let is_envelope = envelope == Envelope::Splunk;
        if self.ends(&EVENTS) && !is_envelope {
            let why = "Splunk's HTTP Event Collector wants an object around each event there; \
                       write `envelope: splunk`";
            return Some(("address", why.to_owned()));
        }
        let is_raw = self.ends(&["/services/collector/raw", "/services/collector/raw/1.0"]);
        let why = "/services/collector/raw takes records without an envelope; leave `envelope` \
                   out, or write /services/collector/event";
        (is_raw && is_envelope).then(|| ("envelope", why.to_owned()))
    }
}
