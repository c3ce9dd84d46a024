//! Receivers that users have, and what they do not take: a mistake that shows before the first
//! record is refused.
//!
//! Facts: the documentation of each receiver. Not for: whether a receiver is there.

use panoptes_sinks::output::form::Envelope;

use super::{TelemetryAddress, TelemetryFormat, Transport, Url};

/// Where the bridges to what is not spoken are described.
pub(super) const PAGE: &str = "docs/telemetry.md, \"What is not spoken\"";

/// Schemes of URLs of what is not spoken.
const SCHEMES: [(&str, &str); 17] = [
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
];

/// Ports on which receivers listen that take something else.
const PORTS: [(u16, &str); 9] = [
    (1883, "MQTT"),
    (4222, "NATS"),
    (4317, "OTLP over gRPC"),
    (5044, "the Beats protocol"),
    (5672, "AMQP"),
    (6379, "Redis"),
    (6650, "Pulsar"),
    (9092, "Kafka"),
    (9093, "Alertmanager or Kafka"),
];

/// Hosts of services that take messages of a form of their own.
const HOSTS: [(&str, &str); 7] = [
    ("hooks.slack.com", "Slack"),
    ("webhook.office.com", "Microsoft Teams"),
    ("discord.com", "Discord"),
    ("events.pagerduty.com", "PagerDuty"),
    ("events.eu.pagerduty.com", "PagerDuty"),
    ("api.opsgenie.com", "Opsgenie"),
    ("api.telegram.org", "Telegram"),
];

/// Why an address with this scheme cannot be one, if it is that of something known.
pub(super) fn refuse_scheme(text: &str) -> Result<(), String> {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let known = SCHEMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(scheme));
    known.map_or(Ok(()), |(_, name)| {
        Err(format!("is {name}, which Panoptes does not speak; {}", bridge()))
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
    transport: Transport,
    format: TelemetryFormat,
    envelope: Envelope,
) -> Option<Objection> {
    let at = match address {
        TelemetryAddress::Unix(_) => return None,
        TelemetryAddress::Network(at) => at,
        TelemetryAddress::Url(url) => {
            let why = of_service(url).or_else(|| of_path(url, format, envelope));
            if let Some((key, why)) = why {
                return Some(Objection::Mistake(key, why));
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
fn of_service(url: &Url) -> Option<(&'static str, String)> {
    let host = url.address.host.to_ascii_lowercase();
    let is_at = |known: &str| host == known || host.ends_with(&format!(".{known}"));
    let (_, name) = HOSTS.iter().find(|(known, _)| is_at(known))?;
    let why = format!("{name} takes messages of its own form only; {}", bridge());
    Some(("address", why))
}

/// A path that takes one form only.
fn of_path(
    url: &Url,
    format: TelemetryFormat,
    envelope: Envelope,
) -> Option<(&'static str, String)> {
    let path = url.path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let is_otlp = format == TelemetryFormat::Otlp;
    let ends = |end: &str| path.ends_with(end);
    let is_event = ends("/services/collector")
        || ends("/services/collector/event")
        || ends("/services/collector/event/1.0");
    if ends("/loki/api/v1/push") {
        let why = "Loki's push API takes a form that Panoptes does not have; write the path \
                   /otlp/v1/logs and `format: otlp`";
        return Some(("address", why.to_owned()));
    }
    if ends("/api/v2/alerts") || ends("/api/v1/alerts") {
        let why = format!("Alertmanager takes alerts of its own form only; {}", bridge());
        return Some(("address", why));
    }
    if ends("/v1/logs") && !is_otlp {
        let why = "a receiver of OpenTelemetry is at /v1/logs; write `format: otlp`";
        return Some(("format", why.to_owned()));
    }
    if ends("/_bulk") && envelope != Envelope::Elasticsearch {
        let why = "Elasticsearch's bulk API wants an action before each record; write `envelope: \
                   elasticsearch`, and `format: ecs` or json";
        return Some(("address", why.to_owned()));
    }
    if is_event && envelope != Envelope::Splunk {
        let why = "Splunk's HTTP Event Collector wants an object around each event there; write \
                   `envelope: splunk`";
        return Some(("address", why.to_owned()));
    }
    match envelope {
        Envelope::Elasticsearch if !ends("/_bulk") => Some((
            "envelope",
            "`envelope: elasticsearch` is for the bulk API; write a path that ends in /_bulk"
                .to_owned(),
        )),
        Envelope::Splunk if ends("/services/collector/raw") => Some((
            "envelope",
            "/services/collector/raw takes records without an envelope; leave `envelope` out, or \
             write /services/collector/event"
                .to_owned(),
        )),
        _ => None,
    }
}
