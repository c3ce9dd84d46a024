//! `panoptes watch` and `panoptes run`: watches systems until a request to stop.
//!
//! There are four kinds of thread, one for metrics if they are wanted ([`metrics`]), one for the
//! packets of interfaces if `flows` is configured ([`crate::flow`]), and one for the status line on
//! a terminal ([`status_line`]).
//!
//! - This thread, the control thread, finds guests, passes systems to workers and scanners, and
//!   receives signals. It waits for nothing else.
//! - Workers search for kernels, read SBOMs and free memory. They may allocate and wait, and their
//!   number is bounded.
//! - [`scanner`] threads scan systems when they are due, each thread on its core. They neither
//!   allocate nor wait. One more of them, with a low priority, scans what costs too much.
//! - The writer's thread writes records to the outputs ([`outputs`]).
//!
//! Not for: the scan itself (`panoptes_engine::watch`).

mod balance;
mod clock_watch;
mod clocks;
mod control;
mod counters;
mod exceptions;
mod failed_start;
mod finder;
mod gap_messages;
mod metrics;
mod missing_facts;
mod notify;
mod outputs;
mod scanner;
mod signals;
mod status_line;
mod stopped_clock;
mod system_events;
mod system_logs;
mod telemetry;
mod test_alert;
mod threads;
mod unscanned;

use std::sync::Arc;
use std::time::Instant;

use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::WatchRequest;
use crate::sandbox::{Role, give_up_capabilities};

pub(crate) use telemetry::{check_files, files_of, name_of, probe};
pub(crate) use test_alert::test_alert;

/// Watches until stopped.
pub fn watch(request: &WatchRequest, messages: &Arc<Messages>) -> Result<Exit, Failure> {
    // Before any thread starts: threads inherit what this one may do.
    let given_up = give_up_capabilities(request.sources(), messages);
    // Before any thread starts: threads inherit the blocked signals.
    let signals = signals::Signals::take()?;
    let its = Arc::clone(messages);
    messages.isolate_debug_log(move || Role::Writer.enter(&its));
    let start = Instant::now();
    let control = control::ControlThread::new(request, messages, &signals, (start, given_up))
        .inspect_err(|failure| failed_start::report(request, failure, messages, &signals))?;
    let done = control.run(&signals);
    messages.end_status();
    done
}
