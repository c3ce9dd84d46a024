//! `argus.conf`: the same settings as on the command line, one `NAME=value` a line.
//!
//! The facts are those of argus.conf(5) and of `ArgusParseResourceFile` (`argus/argus.c` of argus
//! 3.0.8). Each mistake is reported with its line. A variable that is not known, or that asks for
//! something that is not built, has no effect: argus ignores what it does not know, and files of
//! its newer versions must start this sensor, too. A warning tells so, with the line.

use std::path::Path;

use panoptes_flow::identity::FlowIdentity;

use super::request::FlowRequest;
use super::values::{mistake, number, source_id};
use super::{control, devices};
use crate::config::LogLevel;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// Names begin with this.
const PREFIX: &str = "ARGUS_";
/// Bytes that a value may have.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Variables by which argus is tuned. Records are the same whatever they say.
const TUNING: &[&str] =
    &["HASHTABLE_SIZE", "INTERFACE_SCAN_INTERVAL", "LOG_DISPLAY_PRIORITY", "PCAP_DISPATCH_NUM"];

/// Variables that have no effect here: other values than these ask for something that is not
/// built.
const WITHOUT_EFFECT: &[(&str, &[&str])] = &[
    ("GENERATE_START_RECORDS", &["no", "yes"]),
    ("GENERATE_RESPONSE_TIME_DATA", &["no", "yes"]),
    ("GENERATE_TCP_PERF_METRIC", &["yes"]),
    ("GENERATE_BIDIRECTIONAL_TIMESTAMPS", &["no"]),
    ("PACKET_CAPTURE_FILE", &[""]),
    ("PACKET_CAPTURE_ON_ERROR", &["no"]),
    ("MIN_SSF", &["", "0"]),
    ("MAX_SSF", &["", "0"]),
    ("COLLECTOR", &["no", ""]),
    ("SELF_SYNCHRONIZE", &["no", "yes"]),
    ("EVENT_DATA", &[""]),
    ("JITTER_HISTOGRAM", &["no"]),
    ("KEYSTROKE", &["no"]),
    ("KEYSTROKE_CONF", &[""]),
    ("TRACK_DUPLICATES", &["no", "yes"]),
    ("ENV", &[""]),
    ("GENERATE_HASH_METRICS", &["no"]),
    ("OS_FINGERPRINTING", &["no"]),
    ("PACKET_SIZE_HISTOGRAM", &["no"]),
];

/// Reads a configuration if it exists.
pub(super) fn read_if_there(path: &str, request: &mut FlowRequest) -> Result<(), Failure> {
    if Path::new(path).exists() { read(path, request) } else { Ok(()) }
}

/// Reads a configuration into the request.
pub(super) fn read(path: &str, request: &mut FlowRequest) -> Result<(), Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::io(&error, Exit::Source, format_args!("cannot read {path}")))?;
    let known = request.warnings.len();
    let mistakes = apply(&text, request);
    for warning in &mut request.warnings[known..] {
        *warning = format!("{path}:{warning}");
    }
    let lines: Vec<_> =
        mistakes.iter().map(|(line, mistake)| format!("{path}:{line}: {mistake}")).collect();
    let Some((last, others)) = lines.split_last() else { return Ok(()) };
    let messages = Messages::on_stderr(LogLevel::default());
    for line in request.warnings.drain(known..) {
        messages.warning(line);
    }
    for line in others {
        messages.error(line);
    }
    Err(Failure::new(Exit::Configuration, last))
}

/// The mistakes of an `argus.conf` and then its warnings, each with its line, from 1 on. Names of
/// hosts are looked up.
pub fn argus_conf_remarks(text: &str) -> Vec<(usize, String)> {
    let mut request = FlowRequest::default();
    let mut remarks = apply(text, &mut request);
    remarks.extend(request.warnings.iter().filter_map(|warning| {
        let (line, text) = warning.split_once(": ")?;
        Some((line.parse().ok()?, text.to_owned()))
    }));
    remarks
}

/// Applies a configuration; the mistakes, with their lines. Warnings of the request begin with the
/// line, too.
fn apply(text: &str, request: &mut FlowRequest) -> Vec<(usize, String)> {
    let mut mistakes = Vec::new();
    let mut replaced = (false, false);
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        // A backslash at the end continues a filter in the next line.
        while whole.ends_with('\\') && whole.len() < VALUE_BYTES_MAX {
            whole.pop();
            let Some((_, more)) = lines.next() else { break };
            whole.push_str(more.trim());
        }
        let known = request.warnings.len();
        let result = split(&whole).and_then(|(name, value)| {
            let Some(short) = name.strip_prefix(PREFIX) else {
                request.warnings.push(unknown(name));
                return Ok(());
            };
            set(short, value, request, &mut replaced).map_err(|failure| failure.message)
        });
        for warning in &mut request.warnings[known..] {
            *warning = format!("{}: {warning}", index + 1);
        }
        if let Err(text) = result {
            mistakes.push((index + 1, text));
        }
    }
    mistakes
}

fn unknown(name: &str) -> String {
    format!("`{name}` is no variable of argus.conf; it has no effect")
}

/// The name and the value, which may be in double quotes and may have a comment behind it.
fn split(line: &str) -> Result<(&str, ArgusConfValue<'_>), String> {
    let (name, value) = line.split_once('=').ok_or("a line is NAME=value")?;
    let value = if let Some(quoted) = value.strip_prefix('"') {
        let (text, _) = quoted.split_once('"').ok_or("a double quote is missing")?;
        ArgusConfValue { text, is_quoted: true }
    } else {
        let end = [" //", "\t//"].iter().filter_map(|comment| value.find(comment)).min();
        ArgusConfValue { text: value[..end.unwrap_or(value.len())].trim(), is_quoted: false }
    };
    Ok((name, value))
}

/// A value, and whether it was in double quotes.
#[derive(Clone, Copy, Debug)]
struct ArgusConfValue<'a> {
    text: &'a str,
    is_quoted: bool,
}

impl ArgusConfValue<'_> {
    fn is_yes(self, name: &str) -> Result<bool, Failure> {
        match &self.text.to_ascii_lowercase()[..] {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(mistake(format!("{PREFIX}{name} is `yes` or `no`, not `{}`", self.text))),
        }
    }
}

/// Sets one variable. `replaced` tells whether the file has named interfaces and outputs already.
fn set(
    name: &str,
    value: ArgusConfValue<'_>,
    request: &mut FlowRequest,
    replaced: &mut (bool, bool),
) -> Result<(), Failure> {
    let what = &format!("{PREFIX}{name}");
    let text = value.text;
    match name {
        "DAEMON" => request.process.is_daemon = value.is_yes(name)?,
        "MONITOR_ID" if value.is_quoted => {
            // Longer texts are cut, as argus does.
            let end = (0..=text.len().min(4)).rev().find(|end| text.is_char_boundary(*end));
            let id = format!("\"{}\"", &text[..end.unwrap_or(0)]);
            request.records.options.source_id = source_id(what, &id)?;
        }
        "MONITOR_ID" => request.set_source_id(what, text)?,
        // argus 5: a name stands for `yes`.
        "MONITOR_ID_INCLUDE_INF" => {
            request.records.names_interfaces = !text.eq_ignore_ascii_case("no")
        }
        "ACCESS_PORT" => request.set_port(what, text)?,
        "BIND_IP" => request.add_bind(what, text)?,
        "INTERFACE" => {
            if !std::mem::replace(&mut replaced.0, true) {
                request.interfaces.streams.clear();
            }
            request.interfaces.streams.extend(devices::parse(what, text)?);
        }
        "OUTPUT_FILE" | "OUTPUT_STREAM" => {
            if !std::mem::replace(&mut replaced.1, true) {
                request.outputs.clear();
            }
            let (to, filter) = text.split_once(' ').map_or((text, None), |(to, filter)| {
                (to, Some(filter.trim().trim_matches('\'')).filter(|filter| !filter.is_empty()))
            });
            request.add_output(what, to, filter)?;
        }
        "SET_PID" => request.process.has_pid_file = value.is_yes(name)?,
        "PID_PATH" => request.process.pid_folder = text.into(),
        "GO_PROMISCUOUS" => request.interfaces.is_promiscuous = value.is_yes(name)?,
        "FLOW_STATUS_INTERVAL" => request.set_interval(what, text)?,
        "MAR_STATUS_INTERVAL" => request.set_management(what, text)?,
        "CAPTURE_DATA_LEN" => request.set_user_bytes(what, text)?,
        "FLOW_TYPE" => set_flow_type(what, text, request)?,
        "FLOW_KEY" => request.flows.identity = identity(what, text)?,
        "CAPTURE_FULL_CONTROL_DATA" => {
            if value.is_yes(name)? {
                request.keep_control();
            }
        }
        "CONTROLPLANE_PROTO" => request.flows.control_ports = Some(control::ports(what, text)?),
        "GENERATE_JITTER_DATA" => request.records.has_jitter = value.is_yes(name)?,
        "GENERATE_MAC_DATA" => request.records.options.hardware = value.is_yes(name)?,
        "GENERATE_APPBYTE_METRIC" => {
            request.records.options.application_bytes = value.is_yes(name)?
        }
        "GENERATE_PACKET_SIZE" => request.records.options.packet_sizes = value.is_yes(name)?,
        "DEBUG_LEVEL" => request.process.debug_level = number(what, text, 0, 8)? as u8,
        "FILTER_OPTIMIZER" => request.input.optimises = value.is_yes(name)?,
        "FILTER" => request.input.filter = Some(text.to_owned()).filter(|text| !text.is_empty()),
        "CHROOT_DIR" => request.process.root = Some(text.into()),
        "SETUSER_ID" => request.process.user = Some(text.to_owned()),
        "SETGROUP_ID" => request.process.group = Some(text.to_owned()),
        "TUNNEL_DISCOVERY" => request.flows.discovers_tunnels = value.is_yes(name)?,
        "PCAP_BUF_SIZE" => request.interfaces.ring_bytes = bytes(what, text)?,
        _ => set_timeout(name, what, text, request)?,
    }
    Ok(())
}

/// Sets the type of flows. Letters behind `uni` or `bi` do not matter, as for argus.
fn set_flow_type(what: &str, text: &str, request: &mut FlowRequest) -> Result<(), Failure> {
    let text = text.to_ascii_lowercase();
    request.flows.is_unidirectional = text.starts_with("uni");
    if request.flows.is_unidirectional || text.starts_with("bi") {
        return Ok(());
    }
    Err(mistake(format!("{what} is `Bidirectional` or `Unidirectional`, not `{text}`")))
}

fn identity(what: &str, text: &str) -> Result<FlowIdentity, Failure> {
    match &text.to_ascii_uppercase()[..] {
        "CLASSIC_5_TUPLE" => Ok(FlowIdentity::Conversation),
        "LAYER_3_MATRIX" => Ok(FlowIdentity::Layer3),
        "LAYER_2_MATRIX" => Ok(FlowIdentity::Layer2),
        _ => Err(Failure::not_built(format!("{what}={text}"))),
    }
}

fn set_timeout(
    name: &str,
    what: &str,
    text: &str,
    request: &mut FlowRequest,
) -> Result<(), Failure> {
    let timeouts = &mut request.flows.timeouts;
    let timeout = match name {
        // argus has one for IGMP, too; here it is that of IP.
        "IP_TIMEOUT" | "IGMP_TIMEOUT" => &mut timeouts.ip_ns,
        "TCP_TIMEOUT" => &mut timeouts.tcp_ns,
        // 0 is argus's own: it forgets idle connections.
        "TCP_FALLOW_TIMEOUT" => {
            timeouts.tcp_fallow_ns = number(what, text, 0, 65_534)? as i64 * 1_000_000_000;
            return Ok(());
        }
        "ICMP_TIMEOUT" => &mut timeouts.icmp_ns,
        "FRAG_TIMEOUT" => &mut timeouts.fragment_ns,
        "ARP_TIMEOUT" => &mut timeouts.arp_ns,
        "OTHER_TIMEOUT" => &mut timeouts.other_ns,
        _ => return without_effect(name, what, text, request),
    };
    *timeout = number(what, text, 1, 65_534)? as i64 * 1_000_000_000;
    Ok(())
}

fn without_effect(
    name: &str,
    what: &str,
    text: &str,
    request: &mut FlowRequest,
) -> Result<(), Failure> {
    if TUNING.contains(&name) {
        return Ok(());
    }
    let Some((_, values)) = WITHOUT_EFFECT.iter().find(|(known, _)| *known == name) else {
        request.warnings.push(unknown(what));
        return Ok(());
    };
    if values.contains(&&text.to_ascii_lowercase()[..]) {
        return Ok(());
    }
    if name == "MIN_SSF" {
        // Who asks for protection must not get a port without it.
        return Err(mistake(format!("{what}: SASL is not supported; set it to 0")));
    }
    request.warnings.push(format!("{what}={text} is not supported; it has no effect"));
    Ok(())
}

/// A size: a number and K, M or G, which are powers of 1000.
fn bytes(what: &str, text: &str) -> Result<usize, Failure> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1000),
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'G') => (&text[..text.len() - 1], 1_000_000_000),
        _ => (text, 1),
    };
    Ok(number(what, digits, 1, (4 << 30) / factor)? as usize * factor as usize)
}

#[cfg(test)]
mod tests {
    use panoptes_sinks::flow::argus::SourceId;

    use super::super::request::{FlowRecordForm, OutputRequest, Target};
    use super::*;

    #[test]
    fn variables_are_those_of_the_command_line() {
        let text = "# a comment\n! another\n   \nARGUS_FLOW_TYPE=\"Bidirectional\"\n\
            ARGUS_DAEMON=yes // in the background\nARGUS_MONITOR_ID=\"sensor\"\n\
            ARGUS_ACCESS_PORT=561\nARGUS_BIND_IP=\"::1,127.0.0.1\"\nARGUS_INTERFACE=ind:a/1,b/2\n\
            ARGUS_OUTPUT_FILE=\"/tmp/out icmp or arp\"\nARGUS_OUTPUT_STREAM=argus-udp://10.0.0.1\n\
            ARGUS_GO_PROMISCUOUS=no\nARGUS_FLOW_STATUS_INTERVAL=0.5\nARGUS_MAR_STATUS_INTERVAL=60\n\
            ARGUS_CAPTURE_DATA_LEN=32\nARGUS_GENERATE_JITTER_DATA=yes\n\
            ARGUS_GENERATE_MAC_DATA=yes\nARGUS_GENERATE_APPBYTE_METRIC=yes\n\
            ARGUS_GENERATE_PACKET_SIZE=yes\nARGUS_FILTER_OPTIMIZER=no\n\
            ARGUS_FILTER=\"ip and \\\n   not icmp\"\nARGUS_TCP_TIMEOUT=120\n\
            ARGUS_TCP_FALLOW_TIMEOUT=7200\n\
            ARGUS_PCAP_BUF_SIZE=2M\n\
            ARGUS_CHROOT_DIR=/srv\nARGUS_SETUSER_ID=nobody\nARGUS_SETGROUP_ID=nogroup\n\
            ARGUS_SET_PID=no\nARGUS_PID_PATH=/run\nARGUS_DEBUG_LEVEL=2\n\
            ARGUS_TUNNEL_DISCOVERY=yes\n";
        let mut request = FlowRequest::default();
        assert_eq!(apply(text, &mut request), []);
        let mut expected = FlowRequest {
            outputs: vec![
                OutputRequest {
                    to: Target::File("/tmp/out".into()),
                    form: FlowRecordForm::Argus,
                    filter: Some("icmp or arp".to_owned()),
                },
                OutputRequest {
                    to: Target::Datagrams(([10, 0, 0, 1], 561).into()),
                    form: FlowRecordForm::Argus,
                    filter: None,
                },
            ],
            ..FlowRequest::default()
        };
        expected.interfaces.streams = devices::parse("-i", "ind:a/1,b/2").expect("two");
        expected.records.status_interval_ns = 500_000_000;
        expected.records.management_interval_s = 60;
        expected.records.has_jitter = true;
        expected.records.user_bytes = 32;
        expected.interfaces.snap_length = 288;
        expected.flows.discovers_tunnels = true;
        expected.input.filter = Some("ip and not icmp".to_owned());
        expected.input.optimises = false;
        expected.interfaces.is_promiscuous = false;
        expected.interfaces.ring_bytes = 2_000_000;
        expected.clients.port = 561;
        expected.clients.bind =
            Some(vec![std::net::Ipv6Addr::LOCALHOST.into(), [127, 0, 0, 1].into()]);
        expected.process.is_daemon = true;
        expected.process.has_pid_file = false;
        expected.process.pid_folder = "/run".into();
        expected.process.root = Some("/srv".into());
        expected.process.user = Some("nobody".to_owned());
        expected.process.group = Some("nogroup".to_owned());
        expected.process.debug_level = 2;
        expected.flows.timeouts.tcp_ns = 120_000_000_000;
        expected.flows.timeouts.tcp_fallow_ns = 7_200_000_000_000;
        let records = &mut expected.records.options;
        records.source_id = SourceId::Text(*b"sens");
        (records.application_bytes, records.hardware, records.packet_sizes) = (true, true, true);
        assert_eq!(request, expected);
    }

    #[test]
    fn mistakes_have_their_lines() {
        let text = "ARGUS_DAEMON=perhaps\n\nARGUS_MONITOR_ID=\"a\nARGUS_MIN_SSF=40\nwords\n\
            ARGUS_TCP_TIMEOUT=0\nARGUS_FLOW_KEY=VLAN\n\
            ARGUS_TCP_FALLOW_TIMEOUT=65535\n";
        let mistakes = apply(text, &mut FlowRequest::default());
        let expected = [
            (1, "ARGUS_DAEMON is `yes` or `no`, not `perhaps`"),
            (3, "a double quote is missing"),
            (4, "ARGUS_MIN_SSF: SASL is not supported; set it to 0"),
            (5, "a line is NAME=value"),
            (6, "ARGUS_TCP_TIMEOUT needs a number from 1 to 65534, not `0`"),
            (7, "ARGUS_FLOW_KEY=VLAN is not built yet"),
            (8, "ARGUS_TCP_FALLOW_TIMEOUT needs a number from 0 to 65534, not `65535`"),
        ];
        assert_eq!(mistakes, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn what_has_no_effect_is_a_warning_with_its_line() {
        let text = "ARGUS_DEAMON=yes\nRA_FILTER=x\n\nARGUS_KEYSTROKE=tcp\nARGUS_ENV=\"A=1\"\n\
            ARGUS_HASHTABLE_SIZE=8192\nARGUS_GENERATE_HASH_METRICS=yes\nARGUS_KEYSTROKE=no\n";
        let mut request = FlowRequest::default();
        assert_eq!(apply(text, &mut request), []);
        let expected = [
            "1: `ARGUS_DEAMON` is no variable of argus.conf; it has no effect",
            "2: `RA_FILTER` is no variable of argus.conf; it has no effect",
            "4: ARGUS_KEYSTROKE=tcp is not supported; it has no effect",
            "5: ARGUS_ENV=A=1 is not supported; it has no effect",
            "7: ARGUS_GENERATE_HASH_METRICS=yes is not supported; it has no effect",
        ];
        assert_eq!(std::mem::take(&mut request.warnings), expected);
        assert_eq!(request, FlowRequest::default());
    }

    /// The file of the package.
    const EXAMPLE: &str = include_str!("../../../../packaging/flow/argus.conf");

    /// Names of the variables that this file reads: what is before `=>` in its own code.
    fn read_here() -> std::collections::BTreeSet<String> {
        let code = include_str!("configuration.rs");
        let arms = code.split("#[cfg(test)]").next().expect("code").lines().map(str::trim);
        let arms = arms.filter_map(|line| line.starts_with('"').then(|| line.split_once("=>"))?);
        let words = arms.flat_map(|(names, _)| names.split('"').skip(1).step_by(2));
        words
            .filter(|word| word.contains(|c: char| c.is_ascii_uppercase()))
            .filter(|word| !word.contains("TUPLE") && !word.contains("MATRIX"))
            .map(|name| format!("{PREFIX}{name}"))
            .collect()
    }

    #[test]
    fn the_example_is_accepted_with_each_of_its_variables() {
        assert_eq!(apply(EXAMPLE, &mut FlowRequest::default()), []);
        let shown: Vec<_> =
            EXAMPLE.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).collect();
        let variables = shown.into_iter().filter(|line| line.starts_with(PREFIX));
        let mut named = std::collections::BTreeSet::new();
        for line in variables {
            let line = line.replace("`hostuuid`", "7");
            let mut request = FlowRequest::default();
            assert_eq!(apply(&line, &mut request), [], "{line}");
            assert_eq!(request.warnings, [""; 0], "{line}");
            named.insert(line.split('=').next().expect("a name").to_owned());
        }
        let read = read_here();
        assert!(read.len() > 30, "{read:?}");
        let missing: Vec<_> = read.difference(&named).collect();
        assert!(missing.is_empty(), "the example does not show {missing:?}");
    }

    #[test]
    fn texts_of_any_length_are_ids() {
        for (text, id) in [("ab", *b"ab\0\0"), ("en0é5", *b"en0\0"), ("sensor", *b"sens")] {
            let mut request = FlowRequest::default();
            assert_eq!(apply(&format!("ARGUS_MONITOR_ID=\"{text}\""), &mut request), []);
            assert_eq!(request.records.options.source_id, SourceId::Text(id), "{text}");
        }
    }
}
