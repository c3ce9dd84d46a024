//! `argus.conf`: the same settings as on the command line, one `NAME=value` a line.
//!
//! `settings` has the variables. Each mistake is reported with its line. A variable that is not
//! known, or that asks for something that is not built, has no effect: argus ignores what it does
//! not know, and files of its newer versions must start this sensor, too. A warning tells so, with
//! the line.

use std::path::Path;

use super::request::FlowRequest;
use super::settings::{self, FlowSettingEffect, OtherValues, PREFIX, ReplacedSettings};
use super::values::{mistake, source_id};
use crate::config::LogLevel;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// Bytes that a value may have.
const VALUE_BYTES_MAX: usize = 64 << 10;

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
    let mut replaced = ReplacedSettings::default();
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
    fn is_yes(self, what: &str) -> Result<bool, Failure> {
        match &self.text.to_ascii_lowercase()[..] {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(mistake(format!("{what} is `yes` or `no`, not `{}`", self.text))),
        }
    }
}

/// Sets one variable, whose name lacks [`PREFIX`]. `replaced` tells whether the file has named
/// interfaces and outputs already.
fn set(
    name: &str,
    value: ArgusConfValue<'_>,
    request: &mut FlowRequest,
    replaced: &mut ReplacedSettings,
) -> Result<(), Failure> {
    let what = &format!("{PREFIX}{name}");
    let text = value.text;
    let Some(setting) = settings::of_variable(name) else {
        return ignore(name, what, text, request);
    };
    match &setting.effect {
        FlowSettingEffect::Switch(_, place) => *place(request) = value.is_yes(what)?,
        FlowSettingEffect::Act(act) => {
            if value.is_yes(what)? {
                act(request);
            }
        }
        FlowSettingEffect::Text(set) => set(request, what, text)?,
        FlowSettingEffect::SensorId if value.is_quoted => {
            // Longer texts are cut, as argus does.
            let end = (0..=text.len().min(4)).rev().find(|end| text.is_char_boundary(*end));
            let id = format!("\"{}\"", &text[..end.unwrap_or(0)]);
            request.records.options.source_id = source_id(what, &id)?;
        }
        FlowSettingEffect::SensorId => request.set_source_id(what, text)?,
        FlowSettingEffect::Interfaces => replaced.add_interfaces(request, what, text)?,
        FlowSettingEffect::Output => {
            let (to, filter) = text.split_once(' ').map_or((text, None), |(to, filter)| {
                (to, Some(filter.trim().trim_matches('\'')).filter(|filter| !filter.is_empty()))
            });
            replaced.add_output(request, what, to, filter)?;
        }
        FlowSettingEffect::CommandLine(_) => request.warnings.push(unknown(what)),
    }
    Ok(())
}

/// Warns of a variable that changes nothing.
fn ignore(name: &str, what: &str, text: &str, request: &mut FlowRequest) -> Result<(), Failure> {
    let Some(variable) = settings::ignored(name) else {
        request.warnings.push(unknown(what));
        return Ok(());
    };
    if variable.values.contains(&&text.to_ascii_lowercase()[..]) {
        return Ok(());
    }
    match variable.others {
        OtherValues::Allowed => {}
        OtherValues::Warned => {
            request.warnings.push(format!("{what}={text} is not supported; it has no effect"));
        }
        OtherValues::Refused(why) => return Err(mistake(format!("{what}: {why}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use panoptes_sinks::flow::argus::SourceId;

    use super::super::devices;
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
        let texts = settings::flow_setting_texts();
        let changing = texts.into_iter().filter(|text| text.heading != settings::WITHOUT_EFFECT);
        let read: Vec<String> = changing.flat_map(|text| text.variables).collect();
        assert!(read.len() > 30, "{read:?}");
        let missing: Vec<_> = read.iter().filter(|name| !named.contains(*name)).collect();
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
