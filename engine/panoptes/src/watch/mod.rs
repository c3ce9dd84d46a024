//! `panoptes watch` and `panoptes run`: systems watched until somebody says stop.
//!
//! Three kinds of thread. This one, the control thread, finds guests and kernels, hands systems to the scanners
//! and hears signals; it may allocate and wait. A [`scanner`] thread a core scans its systems in turn and
//! does neither. The writer's thread brings records to the outputs ([`outputs`]).
//!
//! Not for: what a scan does (`panoptes_engine::watch`).

mod announce;
mod control;
mod finder;
mod losses;
mod outputs;
mod pulse;
mod scanner;
mod signals;

use std::sync::Arc;
use std::time::Instant;

use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::request::WatchRequest;

/// Watches until stopped.
pub fn watch(request: &WatchRequest, messages: &Arc<Messages>) -> Result<Exit, Failure> {
    // Before any thread is made: all of them inherit what is blocked.
    let signals = signals::Signals::take()?;
    let start = Instant::now();
    control::Control::new(request, messages, start)?.run(&signals)
}
