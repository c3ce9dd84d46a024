//! `panoptes flow`, also when the program is called `argus`: the network flow auditor.
//!
//! It has the options of argus(8). This version reads capture files and writes argus records to
//! files or to standard output. An option that argus has and this version has not ends the program
//! with one line.

mod captures;
mod options;
mod output;

use std::ffi::OsString;
use std::time::SystemTime;

use panoptes_capture::Skipped;
use panoptes_decoders::packet::{self, Tunnels};
use panoptes_flow::{Counts, Flows, Settings, Timeouts};
use panoptes_sinks::flow::argus::{Interim, Management};

use self::captures::{Captures, failure};
pub(crate) use self::options::HELP;
use self::options::{Asked, Request};
use self::output::Outputs;
use crate::config::LogLevel;
use crate::exit::{Exit, Failure, print};
use crate::message::Messages;
use crate::random;

/// The beginning of the help text.
const USAGE: &str = "\
Audit network flows: packets in, argus records out, with the options of argus(8)

Usage: panoptes flow [OPTIONS] -r FILE... -w FILE

";

/// Runs the auditor with the arguments behind its name.
pub(crate) fn run(arguments: &[OsString]) -> Result<Exit, Failure> {
    match options::parse(arguments)? {
        Asked::Help => print(USAGE.as_bytes()).and_then(|_| print(HELP.as_bytes())),
        Asked::Audit(request) => audit(&request),
    }
}

fn audit(request: &Request) -> Result<Exit, Failure> {
    let begin_ns = now_ns();
    let mut captures = Captures::new(request)?;
    // Opened first, so that a mistake in its name leaves no output behind.
    let mut next = captures.open()?;
    let management = Management {
        source_id: request.records.source_id,
        begin_ns,
        link: 0,
        flow_interval_s: whole_seconds(request.status_interval_ns),
        interval_s: request.management_interval_s,
        user_bytes: request.user_bytes as u16,
    };
    let mut outputs = Outputs::open(request, management)?;
    let settings = Settings {
        capacity: request.capacity,
        status_interval_ns: request.status_interval_ns,
        timeouts: Timeouts::default(),
        has_jitter: request.has_jitter,
        user_bytes: request.user_bytes,
    };
    let mut flows = Flows::new(&settings, random::hash_key());
    let (first, last) = request.packets;
    let mut number = 0;
    while let Some(mut capture) = next {
        while let Some(frame) = capture.next().map_err(|error| failure(&error))? {
            number += 1;
            if number > last || outputs.has_ended() {
                break;
            }
            if number < first {
                continue;
            }
            // Some captures have a length on the wire that is too small.
            let length = frame.wire_length.max(frame.bytes.len() as u32);
            let packet = packet::decode(frame.link, frame.bytes, length, Tunnels::Declared);
            flows.packet(&packet, frame.time_ns, length, &mut outputs);
        }
        captures.close(&capture);
        let has_ended = number >= last || outputs.has_ended();
        next = if has_ended { None } else { captures.open()? };
    }
    flows.finish(&mut outputs);
    let counts = flows.counts();
    let narrow = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let exit = outputs.finish(&Interim {
        since_ns: begin_ns,
        now_ns: now_ns(),
        sequence: flows.last_sequence(),
        packets: counts.packets,
        bytes: counts.bytes,
        records: narrow(counts.records),
        flows: narrow(counts.flows),
        dropped: 0,
        tracked: narrow(counts.tracked),
        clients: 0,
    })?;
    report_losses(captures.skipped(), counts);
    Ok(exit)
}

/// Reports on stderr what no record has.
fn report_losses(skipped: Skipped, counts: Counts) {
    let messages = Messages::on_stderr(LogLevel::default());
    let warn = |count: u64, what: &str| {
        if count > 0 {
            messages.warning(format_args!("{count} {what}"));
        }
    };
    warn(skipped.cut_bytes, "bytes at the ends of captures are no whole packets");
    warn(skipped.unknown_records, "records of unknown types were skipped");
    warn(skipped.oversized_packets, "packets of more than 256 KiB were skipped");
    warn(skipped.damaged_packets, "packets with contradictory lengths were skipped");
    if skipped.is_compression_cut {
        messages.warning("a compressed capture ends too early");
    }
    if counts.unaccounted > 0 {
        let (count, all) = (counts.unaccounted, counts.packets);
        messages.warning(format_args!(
            "{count} of {all} packets are in no record: no known link layer, or no room"
        ));
    }
    if counts.evicted > 0 {
        let count = counts.evicted;
        messages.warning(format_args!(
            "{count} flows were reported early because the table was full; see --flows"
        ));
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn whole_seconds(time_ns: i64) -> u16 {
    u16::try_from(time_ns / 1_000_000_000).unwrap_or(u16::MAX)
}
