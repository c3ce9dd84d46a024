//! `panoptes watch` and `panoptes run`: watches systems until a request to stop.
//!
//! There are four kinds of thread.
//!
//! - This thread, the control thread, finds guests, passes systems to workers and scanners, and
//!   receives signals. It waits for nothing else.
//! - Workers search for kernels, read SBOMs and free memory. They may allocate and wait, and their
//!   number is bounded.
//! - Each core has a [`scanner`] thread, which scans its systems in turn. It neither allocates nor
//!   waits.
//! - The writer's thread writes records to the outputs ([`outputs`]).
//!
//! Not for: the scan itself (`panoptes_engine::watch`).

mod clock_watch;
mod control;
mod finder;
mod losses;
mod outputs;
mod scanner;
mod signals;
mod skipped;
mod stall;
mod system_events;

use std::sync::Arc;
use std::time::Instant;

use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::WatchRequest;

/// Watches until stopped.
pub fn watch(request: &WatchRequest, messages: &Arc<Messages>) -> Result<Exit, Failure> {
    // Before any thread starts: threads inherit the blocked signals.
    let signals = signals::Signals::take()?;
    let start = Instant::now();
    control::Control::new(request, messages, &signals, start)?.run(&signals)
}
