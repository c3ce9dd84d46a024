//! `panoptes flow`, also when the program is called `argus`: the network flow auditor.
//!
//! It has the options of argus(8) and reads its `argus.conf`. An option that argus has and this
//! version has not ends the program with one line.
//!
//! `options` and `configuration` make a `FlowRequest` by the table of `settings`. `captures` or
//! `live` passes packets to the `Auditor`, which has the flows. Their records go to `outputs`.
//!
//! `panoptes run` has the same sensor on a thread of its own (`sensor`), whose records go through
//! the service's writer (`service_output`).

mod alerts;
mod applications;
mod audit;
mod auditor;
mod captures;
mod clients;
mod clocks;
mod configuration;
mod control;
mod devices;
mod feed;
mod figures;
mod filter;
mod forms;
mod gaps;
mod interfaces;
mod labels;
mod limit;
mod links;
mod live;
mod live_output;
mod needs;
mod open_output;
mod opening;
mod options;
mod origin;
mod outputs;
mod part;
mod patience;
mod process;
mod receiver;
mod request;
mod rotation;
mod sensor;
mod sensor_records;
mod service_output;
mod service_request;
mod settings;
mod signals;
mod system;
mod tables;
mod thread_counts;
mod threads;
mod values;

use std::ffi::OsString;
use std::time::SystemTime;

use panoptes_decoders::netflow;
use panoptes_decoders::packet::link_type::ETHERNET;
use panoptes_flow::FlowTableCounts;
use panoptes_packet_files::SkippedCounts;
use sd_notify::NotifyState;

use self::audit::PacketSourceLosses;
use self::auditor::{Auditor, management};
use self::captures::{Captures, OpenCaptureReader};
pub use self::configuration::argus_conf_remarks;
use self::filter::PacketFilters;
use self::links::UnreadLinks;
pub(crate) use self::needs::Needs;
use self::options::ArgusCommand;
use self::outputs::Outputs;
use self::process::{RunAsIdentity, SystemLog};
use self::request::FlowRequest;
pub(crate) use self::settings::help;
pub use self::settings::{FlowSettingText, flow_setting_texts};
use self::signals::Signals;
use crate::exit::{Exit, Failure, print};
use crate::message::Messages;
use crate::sandbox::Role;

pub(crate) use self::figures::{OutputFigures, SensorFigures};
pub(crate) use self::gaps::key_of as key_of_gap;
pub(crate) use self::sensor::{OpenSensor, Ports, Sensor, ServiceLink};
pub(crate) use self::service_output::{QUEUE, SensorEvent};
pub(crate) use self::service_request::bytes_of_sensor;
pub(crate) use self::system::SharedSystem;

/// The beginning of the help text.
const USAGE: &str = "\
Audit network flows: packets in, argus(8) records out, with the options of argus(8)

Usage: panoptes flow [OPTIONS] [-i NAME... | -r FILE...] [-w TO [FILTER]] [- FILTER]

";
/// The configuration that is read by default.
const CONFIGURATION: &str = "/etc/argus.conf";

/// Runs the auditor with the arguments behind its name. `is_argus`: it was called so.
pub(crate) fn run(arguments: &[OsString], is_argus: bool) -> Result<Exit, Failure> {
    let mut request = match options::parse(arguments, CONFIGURATION)? {
        ArgusCommand::Help => {
            return print(USAGE.as_bytes()).and_then(|_| print(help().as_bytes()));
        }
        ArgusCommand::Audit(request) => request,
    };
    request.is_argus = is_argus;
    if request.input.prints_filter {
        return print_filter(&request);
    }
    if request.process.is_daemon && !process::is_daemon() {
        return process::start_daemon();
    }
    let level = signals::level(request.process.debug_level);
    // A daemon has no reader of messages, and keeps nothing open of its parent's. An endpoint
    // has no memory for more.
    let is_plain = request.reads_captures() || request.process.is_daemon || request.is_endpoint;
    let messages = if is_plain {
        Messages::on_stderr(level)
    } else {
        // Packets wait for no reader of messages.
        Messages::of_watch_on_stderr(level)
    };
    if request.process.is_daemon {
        process::leave_session();
    }
    for warning in &request.warnings {
        messages.warning(warning);
    }
    let signals = Signals::take(request.process.debug_level, &messages)?;
    if request.reads_captures() {
        audit_captures(&request, &signals, &messages)
    } else {
        live::audit(&request, &signals, &messages)
    }
}

/// Prints the program of the filter of packets for the first capture, or for Ethernet.
fn print_filter(request: &FlowRequest) -> Result<Exit, Failure> {
    let mut link = ETHERNET;
    let messages = Messages::on_stderr(signals::level(request.process.debug_level));
    let mut captures = Captures::new(request, &messages)?;
    let reader = captures.open()?.map(|source| source.reader);
    if let Some(OpenCaptureReader::File(mut file)) = reader {
        let first = file.next().map_err(|error| opening::failure(&error))?;
        link = first.map_or(ETHERNET, |frame| frame.link);
    }
    print(PacketFilters::new(request).text(link)?.as_bytes())
}

/// Reports that everything is open: notifies the service manager, and lets the starter of a daemon
/// end. The daemon's messages go to the system's log from then on.
fn go_on(request: &FlowRequest, messages: &Messages) -> Result<(), Failure> {
    // Without a manager, nothing is sent.
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        messages.debug(format_args!("the service manager was not notified: {error}"));
    }
    if request.process.is_daemon {
        process::report_ready()?;
        if let Some(log) = SystemLog::open() {
            messages.redirect(Box::new(log));
        }
    }
    Ok(())
}

fn audit_captures(
    request: &FlowRequest,
    signals: &Signals,
    messages: &Messages,
) -> Result<Exit, Failure> {
    let begin_ns = now_ns();
    let mut captures = Captures::new(request, messages)?;
    let mut filters = PacketFilters::new(request);
    filters.check()?;
    tables::check_room(request)?;
    let identity = RunAsIdentity::find(request)?;
    let clients = clients::listen(request, messages)?;
    // Opened first, so that a mistake in its name leaves no output behind.
    let mut next = captures.open()?;
    let attached = system::attach_beside(request, messages)?;
    let role = Role::Captures { from_files: request.reads_files() };
    identity.assume(role, attached.as_ref(), messages)?;
    let management = management(request, begin_ns, 0);
    let outputs = Outputs::open(request, management, clients, attached, (signals, messages))?;
    go_on(request, messages)?;
    let mut auditor = Auditor::new(request, outputs, begin_ns);
    role.enter(messages);
    // What was read before a failure has its records all the same.
    let mut failure = None;
    while let Some(source) = next.take() {
        let read = captures.read(source, &mut auditor, &mut filters, signals);
        match read.and_then(|goes_on| if goes_on { captures.open() } else { Ok(None) }) {
            Ok(source) => next = source,
            Err(error) => failure = Some(error),
        }
    }
    let exports = auditor.exporters();
    let (wrong_times, unread) = (auditor.wrong_times(), auditor.unread());
    let (counts, exit) = auditor.finish(PacketSourceLosses::NOTHING);
    report_losses(captures.skipped(), (counts, wrong_times, &unread), messages);
    report_exports(exports, messages);
    let is_unread = counts.packets > 0 && unread.of_unknown_types() == counts.packets;
    if is_unread && failure.is_none() {
        let (count, names) = (counts.packets, unread.names());
        let message = format!("none of {count} packets could be read: {names}");
        failure = Some(Failure::new(Exit::NoKernel, message));
    } else {
        report_unread(&unread, messages);
    }
    let Some(failure) = failure else { return exit };
    // The exit code is that of the first failure, and each has its line.
    if let Err(later) = exit {
        messages.error(later);
    }
    Err(failure)
}

/// Reports what no record has.
fn report_losses(
    skipped: SkippedCounts,
    (counts, wrong_times, unread): (FlowTableCounts, u64, &UnreadLinks),
    messages: &Messages,
) {
    let warn = |count: u64, what: &str| {
        if count > 0 {
            messages.warning(format_args!("{count} {what}"));
        }
    };
    warn(skipped.cut_bytes, "bytes at the ends of captures are no whole packets");
    warn(skipped.unknown_records, "records of unknown types were skipped");
    warn(skipped.oversized_packets, "packets of more than 256 KiB were skipped");
    warn(skipped.damaged_packets, "packets with contradictory lengths were skipped");
    warn(wrong_times, "packets have impossible times; flows did not wait by them");
    if skipped.is_compression_cut {
        messages.warning("a compressed capture ends too early");
    }
    warn(
        counts.unaccounted.saturating_sub(unread.total()),
        "packets are in no record, as the table of flows had no room",
    );
    if counts.given_up > 0 {
        let count = counts.given_up;
        messages.warning(format_args!(
            "{count} beginnings of streams were not read, as too many others came in pieces"
        ));
    }
    warn(
        counts.resolutions_overflowed,
        "times, answers of DNS were written early: too many differ",
    );
    warn(counts.lost_user_bytes, "bytes of control-plane protocols had no room");
    warn(
        counts.forgotten,
        "idle connections were forgotten early because the table was full; see --flows",
    );
    if counts.evicted > 0 {
        let count = counts.evicted;
        messages.warning(format_args!(
            "{count} flows were reported early because the table was full; see --flows"
        ));
    }
}

/// Reports packets whose link layer could not be read.
fn report_unread(unread: &UnreadLinks, messages: &Messages) {
    for line in unread.lines() {
        messages.warning(line);
    }
}

/// Reports what exporters have sent and no record has.
fn report_exports(counts: netflow::ExporterCounts, messages: &Messages) {
    for (count, what) in [
        (counts.others, "datagrams are no export of flows"),
        (counts.malformed, "exports end too early or contradict themselves"),
        (counts.sets_without_template, "sets of exported flows came before their template"),
        (counts.templates_refused, "templates of exporters were refused"),
        (counts.lost_records, "exported flows are missing, by their numbers"),
        (counts.lost_datagrams, "exports are missing, by their numbers"),
        (counts.not_followed, "exports are of more exporters than can be followed"),
    ] {
        if count > 0 {
            messages.warning(format_args!("{count} {what}"));
        }
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
